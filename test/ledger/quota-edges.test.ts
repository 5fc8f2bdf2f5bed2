import type { RunId } from '../../contracts/ids';
import { undoPath } from '../../contracts/calls';
import type { AdmitRequest, SettleRequest } from '../../contracts/ledger';
import { digest, LEASE_MS, LedgerWorld, refusal, WIDE, type LedgerTenant } from './harness';
import { recount, type Amounts } from './recount';

/** What people try on limits, one by one; quota-model.test.ts mixes them. */
let world: LedgerWorld;
const NOON = Date.UTC(2025, 2, 10, 12);
const HOUR = 3_600_000;
const at = (time: number) => world.setClock(new Date(time));
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(NOON));

const RESERVE = { toolCalls: 1, steps: 1, microUsd: 0, modelTokens: 0 } as const;
const model = (modelTokens: number, microUsd = 0): Partial<AdmitRequest> => ({
  callClass: 'model',
  action: 'model.generate',
  reserve: { ...RESERVE, toolCalls: 0, microUsd, modelTokens },
});
const read = (change: Partial<AdmitRequest> = {}): Partial<AdmitRequest> => ({
  callClass: 'read',
  action: 'ticket.read',
  digest: digest('as before'),
  leaseMs: 1_000,
  ...change,
});

async function answerOf(tenant: LedgerTenant, request: AdmitRequest): Promise<string> {
  const answer = await tenant.store.admit(request);
  return answer.answer === 'refused' ? answer.refusal.rule : answer.answer;
}
async function claim(tenant: LedgerTenant, runId: RunId, path: string, change: Partial<AdmitRequest> = {}) {
  const request = tenant.admission(runId, path, change);
  expect(await tenant.store.admit(request)).toMatchObject({ answer: 'admitted' });
  return request;
}
const settle = (tenant: LedgerTenant, of: AdmitRequest, change: Partial<SettleRequest> = {}) =>
  tenant.store.settle(tenant.settlement(of, change));

interface Counters {
  own: { day: number; inflight: number; used: Amounts; tokens: number };
  named: Record<string, { day: number; inflight: number; used: Amounts }>;
  closed: Record<string, Amounts>;
}
async function counters(tenant: LedgerTenant): Promise<Counters> {
  const { rows } = await world.admin.query<Counters>(
    `select json_build_object('day', (meter).day, 'inflight', (meter).inflight, 'used', bulkhead.amounts_json((meter).used),
         'tokens', ((meter).model_tokens).level / 60000.0) as own,
       (select coalesce(json_object_agg(name, json_build_object('day', (meter).day, 'inflight', (meter).inflight, 'used', bulkhead.amounts_json((meter).used))), '{}')
         from bulkhead.meters where tenant_id = $1) as named,
       (select coalesce(json_object_agg(name || '@' || day, bulkhead.amounts_json(used)), '{}') from bulkhead.closed_days where tenant_id = $1) as closed
     from bulkhead.ledgers where tenant_id = $1`,
    [tenant.tenantId],
  );
  return rows[0]!;
}
const dayOf = (time: number): number => Math.floor(time / (24 * HOUR));

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

test('Q2 what is given back to a bucket frees what is in it, never more: it is not below empty', async () => {
  const tenant = await world.tenant({ more: { modelTokensPerMinute: 600 } });
  const runId = await tenant.run();
  const request = await claim(tenant, runId, '1.0', model(600));
  // All of it has drained by now.
  await at(NOON + 60_000);
  await claim(tenant, runId, '1.1', model(1));
  await settle(tenant, request, { result: 'failed', charge: { toolCalls: 0, microUsd: 0, modelTokens: 0 } });
  expect((await counters(tenant)).own.tokens).toBe(0);
  await claim(tenant, runId, '2.0', model(600));
  expect(await tenant.store.admit(tenant.admission(runId, '3.0', model(1)))).toMatchObject({
    refusal: { rule: 'model_tokens_per_minute', value: 600, used: 600, retryAfterMs: 100 },
  });
});

test('Q2 an overshoot fills the bucket from when it is known: time that was over before drains none of it', async () => {
  const perAgent = { support_triage: { modelTokensPerMinute: 600 } };
  const tenant = await world.tenant({ more: { modelTokensPerMinute: 600 }, perAgent });
  const runId = await tenant.run();
  const request = await claim(tenant, runId, '1.0', { ...model(10), leaseMs: 300_000 });
  await at(NOON + 120_000);
  await settle(tenant, request, { charge: { toolCalls: 0, microUsd: 0, modelTokens: 1_210 } });
  expect((await counters(tenant)).own.tokens).toBe(1_200);
  expect(await tenant.store.admit(tenant.admission(runId, '2.0', model(600)))).toMatchObject({
    refusal: { rule: 'model_tokens_per_minute', used: 1_200, retryAfterMs: 120_000 },
  });
  await tenant.setLimits({ ...WIDE, perAgent });
  expect(await tenant.store.admit(tenant.admission(runId, '2.0', model(600)))).toMatchObject({
    refusal: { rule: 'agent:support_triage/model_tokens_per_minute', used: 1_200, retryAfterMs: 120_000 },
  });
});

test.each([
  ['tool_calls_per_day', { toolCallsPerDay: 0 }, {}],
  ['steps_per_day', { stepsPerDay: 0 }, {}],
  ['active_seconds_per_day', { activeSecondsPerDay: LEASE_MS / 1_000 - 1 }, {}],
  ['spend_micro_usd_per_day', { spendMicroUsdPerDay: 99 }, model(0, 100)],
  ['model_tokens_per_day', { modelTokensPerDay: 99 }, model(100)],
  ['high_risk_writes_per_day', { highRiskWritesPerDay: 0 }, { callClass: 'high_risk_write' }],
  ['calls_per_minute', { callsPerMinute: 0 }, {}],
  ['model_tokens_per_minute', { modelTokensPerMinute: 99 }, model(100)],
  ['model_tokens_per_minute', { modelTokensPerMinute: 99 }, model(Number.MAX_SAFE_INTEGER)],
] as const)('Q3 who asks for more than %s can ever have is told no time: %j', async (rule, more, change) => {
  const tenant = await world.tenant({ ...more, more: more });
  const runId = await tenant.run();
  const answer = await tenant.store.admit(tenant.admission(runId, '1.1', change));
  expect(answer).toMatchObject({
    answer: 'refused',
    refusal: { kind: 'throttled', origin: 'tenant_cap', rule },
  });
  expect(answer).not.toHaveProperty('refusal.retryAfterMs');
});

test.each([
  ['tool_calls_per_day', { toolCallsPerDay: 1 }, {}, 1, 12 * HOUR],
  ['steps_per_day', { more: { stepsPerDay: 1 } }, {}, 1, 12 * HOUR],
  ['active_seconds_per_day', { more: { activeSecondsPerDay: 15 } }, {}, 10, 12 * HOUR],
  ['spend_micro_usd_per_day', { more: { spendMicroUsdPerDay: 15 } }, model(0, 10), 10, 12 * HOUR],
  ['model_tokens_per_day', { more: { modelTokensPerDay: 15 } }, model(10), 10, 12 * HOUR],
  [
    'high_risk_writes_per_day',
    { more: { highRiskWritesPerDay: 1 } },
    { callClass: 'high_risk_write' },
    1,
    12 * HOUR,
  ],
  ['calls_per_minute', { more: { callsPerMinute: 1 } }, {}, 1, 60_000],
  // Five of ten tokens have to drain, at one each four seconds.
  ['model_tokens_per_minute', { more: { modelTokensPerMinute: 15 } }, model(10), 10, 20_000],
] as const)(
  'Q1 Q3 %s is used up by calls in flight, and frees when it says',
  async (rule, limits, change, used, frees) => {
    const tenant = await world.tenant(limits);
    const runId = await tenant.run();
    const asks = change as Partial<AdmitRequest>;
    await claim(tenant, runId, '1.1', asks);
    const second = tenant.admission(runId, '1.2', asks);
    expect(await tenant.store.admit(second)).toMatchObject({
      refusal: { kind: 'throttled', rule, used, retryAfterMs: frees },
    });
    await at(NOON + frees - 1);
    expect(await answerOf(tenant, second)).toBe(rule);
    await at(NOON + frees);
    expect(await answerOf(tenant, second)).toBe('admitted');
  },
);

test.each([
  ['per_run_steps', { perRunSteps: 1 }, {}, 1],
  ['per_run_seconds', { perRun: { seconds: 15 } }, {}, 10],
  ['per_run_spend_micro_usd', { perRun: { spendMicroUsd: 15 } }, model(0, 10), 10],
] as const)('Q1 Q3 %s is used up for good, and for this run alone', async (rule, limits, change, used) => {
  const tenant = await world.tenant(limits);
  const runId = await tenant.run();
  const asks = change as Partial<AdmitRequest>;
  await claim(tenant, runId, '1.1', asks);
  const second = await tenant.store.admit(tenant.admission(runId, '1.2', asks));
  expect(second).toMatchObject({ refusal: { kind: 'budget_exceeded', origin: 'tenant_cap', rule, used } });
  expect(second).not.toHaveProperty('refusal.retryAfterMs');
  await claim(tenant, await tenant.run(), '1.1', asks);
});

test('Q2 each way a call ends has its price: unknown all of it, open what its provider bills, failed and succeeded the truth', async () => {
  const charge = { toolCalls: 0, microUsd: 3, modelTokens: 4 } as const;
  const steps = { steps: 1, activeMs: 2_000 };
  const prices = {
    unknown: { toolCalls: 1, steps: 1, activeMs: LEASE_MS, microUsd: 10, modelTokens: 20, highRiskWrites: 1 },
    open: { toolCalls: 0, steps: 0, activeMs: 0, microUsd: 3, modelTokens: 4, highRiskWrites: 0 },
    failed: { ...charge, ...steps, highRiskWrites: 1 },
    succeeded: { ...charge, ...steps, highRiskWrites: 1 },
  } as const;
  for (const result of ['unknown', 'open', 'failed', 'succeeded'] as const) {
    await at(NOON);
    const tenant = await world.tenant({ perAction: { 'ticket.update': { stepsPerDay: 9 } } });
    const runId = await tenant.run();
    const reserve = { toolCalls: 1, steps: 1, microUsd: 10, modelTokens: 20 } as const;
    const request = await claim(tenant, runId, '1.1', { callClass: 'high_risk_write', reserve });
    await at(NOON + 2_000);
    await settle(tenant, request, { result, charge });
    const { own, named } = await counters(tenant);
    expect({ result, ...own }).toMatchObject({ result, inflight: 0, used: prices[result] });
    expect(named['action:ticket.update']).toMatchObject({ inflight: 0, used: prices[result] });
    const { toolCalls, steps: stepped, microUsd } = prices[result];
    expect(await tenant.store.run(runId)).toMatchObject({
      toolCalls,
      steps: stepped,
      spentMicroUsd: microUsd,
    });
  }
});

test('Q2 a lost attempt costs all that it reserved until it reports, once, and its step for good', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const lost = await claim(tenant, runId, '1.1', read({ reserve: { ...RESERVE, microUsd: 10 } }));
  await at(NOON + 1_000);
  await world.platform.reapCalls(100);
  expect((await counters(tenant)).own).toMatchObject({
    inflight: 0,
    used: { steps: 1, microUsd: 10, activeMs: 1_000 },
  });
  const report = { result: 'open', charge: { toolCalls: 0, microUsd: 4, modelTokens: 0 } } as const;
  expect(await settle(tenant, lost, report)).toMatchObject({ answer: 'late' });
  expect((await counters(tenant)).own).toMatchObject({
    used: { steps: 1, toolCalls: 0, microUsd: 4, activeMs: 0 },
  });
  expect(await settle(tenant, lost, report)).toMatchObject({ answer: 'already' });
  const replaced = await claim(tenant, runId, '1.2', read());
  await at(NOON + 2_000);
  await claim(tenant, runId, '1.2', read());
  const both = (await counters(tenant)).own;
  expect(both).toMatchObject({ inflight: 1, used: { steps: 3, toolCalls: 2 } });
  for (let times = 0; times < 2; times += 1)
    expect(await settle(tenant, replaced, { result: 'open' })).toMatchObject({ answer: 'late' });
  expect((await counters(tenant)).own).toMatchObject({ inflight: 1, used: { steps: 3, toolCalls: 1 } });
});

test('Q1 active time is limited in seconds, counted in milliseconds of the ledger’s clock, and none beyond the lease', async () => {
  const tenant = await world.tenant({ more: { activeSecondsPerDay: 12 }, perRun: { seconds: 11 } });
  const runId = await tenant.run();
  const request = await claim(tenant, runId, '1.1');
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({
    refusal: { rule: 'active_seconds_per_day', value: 12, used: 10, retryAfterMs: 12 * HOUR },
  });
  await at(NOON + 1_001);
  await settle(tenant, request);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({
    refusal: { kind: 'budget_exceeded', rule: 'per_run_seconds', value: 11, used: 2 },
  });
  const late = await claim(tenant, runId, '1.3', { leaseMs: 9_999 });
  await at(NOON + 90_000);
  await settle(tenant, late);
  expect((await counters(tenant)).own.used.activeMs).toBe(11_000);
});

test('Q2 negative and absent amounts are refused, reserved or settled, in time or late, and move nothing', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const request = await claim(tenant, runId, '1.0', {
    ...model(50, 50),
    leaseMs: 1_000,
    digest: digest('a'),
  });
  const before = await counters(tenant);
  for (const part of ['toolCalls', 'steps', 'microUsd', 'modelTokens']) {
    for (const bad of [-1, null]) {
      const reserve = { ...RESERVE, [part]: bad } as AdmitRequest['reserve'];
      await expect(tenant.store.admit(tenant.admission(runId, '1.1', { reserve }))).rejects.toThrow();
    }
  }
  const bad = [-1, null].flatMap((amount) =>
    ['toolCalls', 'microUsd', 'modelTokens'].map(
      (part) =>
        ({ toolCalls: 0, microUsd: 0, modelTokens: 0, [part]: amount }) as unknown as SettleRequest['charge'],
    ),
  );
  for (const charge of bad) await expect(settle(tenant, request, { charge })).rejects.toThrow('never less');
  expect(await counters(tenant)).toEqual(before);
  // A lost attempt's report is believed no more than that.
  await at(NOON + 1_000);
  await claim(tenant, runId, '1.0', { ...model(50, 50), digest: digest('a') });
  const both = await counters(tenant);
  for (const charge of bad) await expect(settle(tenant, request, { charge })).rejects.toThrow('never less');
  expect(await counters(tenant)).toEqual(both);
});

test('Q2 an overshoot is charged in full and said to be one, and the next call meets the cap', async () => {
  const tenant = await world.tenant({ more: { spendMicroUsdPerDay: 100, modelTokensPerDay: 1_000 } });
  const runId = await tenant.run();
  const request = await claim(tenant, runId, '1.0', model(200, 40));
  await settle(tenant, request, { charge: { toolCalls: 0, microUsd: 130, modelTokens: 150 } });
  const facts = (await tenant.journal()).map(
    (entry) => JSON.parse(entry.facts) as { kind: string; overshoot?: unknown },
  );
  expect(facts.filter(({ kind }) => kind === 'settled')).toMatchObject([
    { overshoot: { microUsd: 90, modelTokens: 0 } },
  ]);
  expect(await tenant.store.admit(tenant.admission(runId, '2.0', model(1, 1)))).toMatchObject({
    refusal: { rule: 'spend_micro_usd_per_day', value: 100, used: 130, retryAfterMs: 12 * HOUR },
  });
  expect(recount(await tenant.journal())).toMatchObject({
    violations: [],
    days: { [dayOf(NOON)]: { microUsd: 130, modelTokens: 150 } },
  });
});

test('Q2 T5 an undo reserves nothing, and no limit refuses it: not in flight, not of a day, a minute or its run', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await settle(tenant, await claim(tenant, runId, '1.1'));
  const nothing = {
    toolCallsPerDay: 0,
    stepsPerDay: 0,
    activeSecondsPerDay: 0,
    spendMicroUsdPerDay: 0,
    modelTokensPerDay: 0,
  };
  const none = {
    ...nothing,
    highRiskWritesPerDay: 0,
    callsPerMinute: 0,
    modelTokensPerMinute: 0,
    callsInFlight: 0,
  };
  await tenant.setLimits({
    ...none,
    perRunSteps: 1,
    more: none,
    perRun: { seconds: 1, spendMicroUsd: 0 },
    perAction: { 'ticket.update': none },
    perAgent: { support_triage: none },
  });
  const before = await counters(tenant);
  await tenant.store.beginUndo({ runId, temporalRunId: `${runId}/1` });
  const reserve = { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 } as const;
  const undo = await claim(tenant, runId, undoPath('1.1'), {
    undoOf: '1.1',
    reserve,
    callClass: 'high_risk_write',
  });
  expect(await counters(tenant)).toEqual({ ...before, own: { ...before.own, inflight: 1 } });
  await at(NOON + 5_000);
  await settle(tenant, undo);
  expect(await counters(tenant)).toEqual(before);
});

test('Q2 Q4 a refusal moves no counter, whatever refuses it', async () => {
  const some = { toolCallsPerDay: 1, callsInFlight: 1 };
  const perRun = { steps: 1 };
  for (const limits of [
    { callsInFlight: 1 },
    { toolCallsPerDay: 1 },
    { more: { stepsPerDay: 1 } },
    { more: { callsPerMinute: 1 } },
    { more: { modelTokensPerMinute: 3 } },
    { perAction: { 'ticket.update': some } },
    { perAgent: { support_triage: some } },
    { perRunSteps: 1, perRun },
  ]) {
    const tenant = await world.tenant(limits);
    const runId = await tenant.run();
    const reserve = { ...RESERVE, modelTokens: 2 };
    await claim(tenant, runId, '1.1', { reserve });
    const before = await counters(tenant);
    const denied = { verdict: { effect: 'deny', refusal: refusal() } } as const;
    for (const change of [{}, denied]) {
      expect(await tenant.store.admit(tenant.admission(runId, '1.2', { reserve, ...change }))).toMatchObject({
        answer: 'refused',
      });
    }
    expect([limits, await counters(tenant)]).toEqual([limits, before]);
  }
});

test('Q2 a read that takes a lost one’s place has one slot, on each meter', async () => {
  const tenant = await world.tenant({ callsInFlight: 1, perAction: { 'ticket.read': { callsInFlight: 1 } } });
  const runId = await tenant.run();
  let last: AdmitRequest | undefined;
  for (const turn of [0, 1, 2]) {
    await at(NOON + turn * 1_000);
    last = await claim(tenant, runId, '1.1', read());
    const { own, named } = await counters(tenant);
    expect([own.inflight, named['action:ticket.read']?.inflight]).toEqual([1, 1]);
  }
  await settle(tenant, last!);
  expect(await counters(tenant)).toMatchObject({
    own: { inflight: 0 },
    named: { 'action:ticket.read': { inflight: 0 } },
  });
});

test('Q1 a reworded read that is another action now takes that action’s slot, or is refused', async () => {
  const tenant = await world.tenant({ perAction: { 'mail.read': { callsInFlight: 1 } } });
  const runId = await tenant.run();
  const mail = read({ action: 'mail.read', digest: digest('mail') });
  await claim(tenant, runId, '1.1', { ...mail, leaseMs: LEASE_MS });
  await claim(tenant, runId, '1.2', read());
  await at(NOON + 1_000);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2', mail))).toMatchObject({
    refusal: { rule: 'action:mail.read/calls_in_flight', value: 1, used: 1 },
  });
  // What was refused took no place away either.
  expect(await counters(tenant)).toMatchObject({
    own: { inflight: 2 },
    named: { 'action:mail.read': { inflight: 1 } },
  });
  expect(recount(await tenant.journal()).violations).toEqual([]);
});

test('Q6 a limit that is named while calls are in flight counts those that come after, and gives back theirs alone', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const [before, lost] = [await claim(tenant, runId, '1.1'), await claim(tenant, runId, '1.2', read())];
  const perAction = { 'ticket.update': { callsInFlight: 1 }, 'ticket.read': { callsInFlight: 0 } };
  await tenant.setLimits({ ...WIDE, perAction });
  const after = await claim(tenant, runId, '1.3');
  expect(await answerOf(tenant, tenant.admission(runId, '1.4'))).toBe('action:ticket.update/calls_in_flight');
  await settle(tenant, before);
  expect(await answerOf(tenant, tenant.admission(runId, '1.4'))).toBe('action:ticket.update/calls_in_flight');
  await at(NOON + 1_000);
  // It would take a place that nobody had when it was let in.
  expect(await answerOf(tenant, tenant.admission(runId, '1.2', read()))).toBe(
    'action:ticket.read/calls_in_flight',
  );
  await tenant.setLimits(WIDE);
  await settle(tenant, after);
  await settle(tenant, lost, { result: 'open' });
  expect(await counters(tenant)).toMatchObject({
    own: { inflight: 0 },
    named: { 'action:ticket.update': { inflight: 0 } },
  });
});
