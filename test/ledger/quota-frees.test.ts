import type { AdmitRequest } from '../../contracts/ledger';
import { LEASE_MS, LedgerWorld, WIDE, type LedgerTenant } from './harness';
import { answerOf, claim, countersOf, HOUR, model, NOON, settle } from './quota-calls';

/** What is used up by each limit, and when it frees. */
let world: LedgerWorld;
const at = (time: number) => world.setClock(new Date(time));
const counters = (tenant: LedgerTenant) => countersOf(world, tenant);
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(NOON));

const UNUSED = { charge: { toolCalls: 0, microUsd: 0, modelTokens: 0 } } as const;

test('Q2 what is given back later than it has drained frees nothing of what others have reserved', async () => {
  const tenant = await world.tenant({ more: { modelTokensPerMinute: 600 } });
  const runId = await tenant.run();
  const early = await claim(tenant, runId, '1.0', model(600));
  // All of it has drained by now, and another call has the minute.
  await at(NOON + 60_000);
  await claim(tenant, runId, '1.1', model(600));
  await settle(tenant, early, UNUSED);
  expect((await counters(tenant)).own.tokens).toBe(600);
  expect(await tenant.store.admit(tenant.admission(runId, '2.0', model(1)))).toMatchObject({
    refusal: { rule: 'model_tokens_per_minute', value: 600, used: 600, retryAfterMs: 100 },
  });
});

test('Q2 what is given back frees what of that reservation has not drained: what came in first drains first', async () => {
  const perAgent = { support_triage: { modelTokensPerMinute: 600 } };
  const tenant = await world.tenant({ more: { modelTokensPerMinute: 600 }, perAgent });
  const runId = await tenant.run();
  const first = await claim(tenant, runId, '1.0', model(400));
  const second = await claim(tenant, runId, '1.1', model(200));
  await at(NOON + 30_000);
  // 300 of the first have drained, nothing of the second.
  await settle(tenant, second, UNUSED);
  expect((await counters(tenant)).own.tokens).toBe(100);
  const third = await claim(tenant, runId, '2.0', model(500));
  expect(await answerOf(tenant, tenant.admission(runId, '2.1', model(1)))).toBe('model_tokens_per_minute');
  await settle(tenant, first, UNUSED);
  // The room that the second made was made at the front: the last of the first has left with it.
  expect((await counters(tenant)).own.tokens).toBe(600);
  await settle(tenant, third, { charge: { toolCalls: 0, microUsd: 0, modelTokens: 200 } });
  expect((await counters(tenant)).own.tokens).toBe(300);
});

test('Q2 what was reserved while no limit was in force frees nothing once one is', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const early = await claim(tenant, runId, '1.0', model(600));
  await tenant.setLimits({ ...WIDE, more: { modelTokensPerMinute: 600 } });
  await claim(tenant, runId, '1.1', model(600));
  await settle(tenant, early, UNUSED);
  expect((await counters(tenant)).own.tokens).toBe(600);
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
