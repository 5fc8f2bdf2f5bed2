import { LEASE_MS, LedgerWorld, WIDE, type LedgerTenant } from './harness';
import { answerOf, claim, countersOf, dayOf, HOUR, NOON, read, settle } from './quota-calls';

/** Limits of a day, over midnights and from one time zone to another. */
let world: LedgerWorld;
const at = (time: number) => world.setClock(new Date(time));
const counters = (tenant: LedgerTenant) => countersOf(world, tenant);
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(NOON));

test.each([
  { timeZone: 'Asia/Tokyo', midnight: Date.UTC(2025, 2, 10, 15) },
  { timeZone: 'America/Los_Angeles', midnight: Date.UTC(2025, 2, 11, 7) },
])(
  'Q1 Q2 calls in flight over midnight in $timeZone count in the day that each reserved in',
  async ({ timeZone, midnight }) => {
    await at(midnight - 1_000);
    const tenant = await world.tenant({
      toolCallsPerDay: 2,
      timeZone,
      perAgent: { support_triage: { toolCallsPerDay: 2 } },
    });
    const runId = await tenant.run();
    const [first, second] = [await claim(tenant, runId, '1.1'), await claim(tenant, runId, '1.2')];
    expect(await tenant.store.admit(tenant.admission(runId, '1.3'))).toMatchObject({
      refusal: { rule: 'tool_calls_per_day', used: 2, retryAfterMs: 1_000 },
    });
    await at(midnight);
    const third = await claim(tenant, runId, '1.3');
    await settle(tenant, first, { result: 'open' });
    const { own, named, closed } = await counters(tenant);
    expect([own.used.toolCalls, named['agent:support_triage']?.used.toolCalls]).toEqual([1, 1]);
    expect(Object.entries(closed).map(([day, { toolCalls }]) => [day, toolCalls])).toEqual([
      [`@${own.day - 1}`, 1],
      [`agent:support_triage@${own.day - 1}`, 1],
    ]);
    // What the old day gave back is none of the new one's to use.
    await claim(tenant, runId, '1.4');
    expect(await answerOf(tenant, tenant.admission(runId, '1.5'))).toBe('tool_calls_per_day');
    await settle(tenant, second);
    await settle(tenant, third);
  },
);

test('Q2 a call that is settled after two days is trued up in the first of them, on each meter', async () => {
  const tenant = await world.tenant({ perAction: { 'ticket.update': { toolCallsPerDay: 9 } } });
  const runId = await tenant.run();
  const slow = await claim(tenant, runId, '1.1');
  for (const day of [1, 2]) {
    await at(NOON + day * 24 * HOUR);
    await settle(tenant, await claim(tenant, runId, `1.${day + 1}`));
  }
  await settle(tenant, slow, { result: 'failed', charge: { toolCalls: 0, microUsd: 7, modelTokens: 0 } });
  const { own, closed } = await counters(tenant);
  const first = dayOf(NOON);
  for (const name of ['', 'action:ticket.update']) {
    expect(closed[`${name}@${first}`]).toMatchObject({
      toolCalls: 0,
      steps: 1,
      microUsd: 7,
      activeMs: LEASE_MS,
    });
    expect(closed[`${name}@${first + 1}`]).toMatchObject({ toolCalls: 1, microUsd: 0, activeMs: 0 });
  }
  expect(own).toMatchObject({ day: first + 2, inflight: 0, used: { toolCalls: 1, microUsd: 0 } });
});

test('Q2 Q6 west again after a day that the east had begun: a limit that is named only then counts in the tenant’s day', async () => {
  const tenant = await world.tenant({ timeZone: 'Pacific/Kiritimati' });
  const runId = await tenant.run();
  const perAction = { 'ticket.update': { toolCallsPerDay: 1 } };
  await tenant.setLimits({ ...WIDE, timeZone: 'UTC', perAction });
  const request = await claim(tenant, runId, '1.1');
  // Until midnight of the tenant's own day, which is tomorrow's.
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({
    refusal: { rule: 'action:ticket.update/tool_calls_per_day', used: 1, retryAfterMs: 36 * HOUR },
  });
  expect(await settle(tenant, request, { result: 'open' })).toMatchObject({ answer: 'settled' });
  const { own, named } = await counters(tenant);
  expect(named['action:ticket.update']).toMatchObject({ day: own.day, inflight: 0, used: { toolCalls: 0 } });
});

test('Q2 Q6 east and west again: a limit that was named all along counts in the tenant’s day, too', async () => {
  const perAction = { 'ticket.update': { toolCallsPerDay: 1 } };
  const tenant = await world.tenant({ perAction });
  const runId = await tenant.run();
  await settle(tenant, await claim(tenant, runId, '1.1'));
  await tenant.setLimits({ ...WIDE, timeZone: 'Pacific/Kiritimati', perAction });
  // Begins the eastern day, by another action.
  await settle(tenant, await claim(tenant, runId, '1.2', read()));
  await tenant.setLimits({ ...WIDE, perAction });
  const request = await claim(tenant, runId, '1.3');
  expect(await settle(tenant, request)).toMatchObject({ answer: 'settled' });
  const { own, named, closed } = await counters(tenant);
  expect(named['action:ticket.update']).toMatchObject({ day: own.day, used: { toolCalls: 1 } });
  expect(closed[`action:ticket.update@${own.day - 1}`]).toMatchObject({ toolCalls: 1 });
});
