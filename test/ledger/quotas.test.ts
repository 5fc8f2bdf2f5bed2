import type { QuotaLayer } from '../../contracts/quotas';
import { LedgerWorld, WIDE, type LedgerTenant } from './harness';
import { touches } from './touches';

let world: LedgerWorld;
const NOON = new Date('2025-03-10T12:00:00.000Z');

beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => world.setClock(NOON));

/** The tenant's layer, or that of whom it names. */
async function layer(tenant: LedgerTenant, limit: string, of = ''): Promise<QuotaLayer> {
  const state = await tenant.store.quotas();
  const found = state?.layers.find((each) => each.of === of && each.limit === limit);
  if (!found) throw new Error(`no layer ${of} ${limit}`);
  return found;
}

/** The rule that refuses a call now, or `admitted`. */
async function answerOf(tenant: LedgerTenant, runId: string, path: string): Promise<string> {
  const answer = await tenant.store.admit(tenant.admission(runId, path));
  return answer.answer === 'refused' ? answer.refusal.rule : answer.answer;
}

test('Q1 Q3 every layer is shown: its limit, what is used, what calls in flight hold of it, what is free, and when', async () => {
  const tenant = await world.tenant({
    toolCallsPerDay: 10,
    callsInFlight: 4,
    more: {
      spendMicroUsdPerDay: 1_000,
      activeSecondsPerDay: 3_600,
      callsPerMinute: 6,
      modelTokensPerMinute: 600,
    },
    perRun: { seconds: 60, spendMicroUsd: 500 },
    perAction: {
      'ticket.update': { callsInFlight: 2, toolCallsPerDay: 5 },
      'mail.send': { callsPerMinute: 1 },
    },
    perAgent: { support_triage: { spendMicroUsdPerDay: 300 } },
    timeZone: 'Europe/Berlin',
  });
  const runId = await tenant.run();
  const reserve = { toolCalls: 1, steps: 1, microUsd: 100, modelTokens: 60 } as const;
  const over = tenant.admission(runId, '1.1', { reserve });
  await tenant.store.admit(over);
  await tenant.store.admit(tenant.admission(runId, '1.2', { reserve }));
  await tenant.store.settle(
    tenant.settlement(over, { charge: { toolCalls: 1, microUsd: 40, modelTokens: 60 } }),
  );
  // Midnight in Berlin.
  const day = { freesAt: '2025-03-10T23:00:00.000000Z', freesInMs: 11 * 3_600_000 };
  expect(await layer(tenant, 'toolCallsPerDay')).toMatchObject({
    cap: 10,
    used: 2,
    reserved: 1,
    free: 8,
    ...day,
  });
  expect(await layer(tenant, 'spendMicroUsdPerDay')).toMatchObject({
    ...{ cap: 1_000, used: 140, reserved: 100, free: 860 },
    ...day,
  });
  expect(await layer(tenant, 'activeSecondsPerDay')).toMatchObject({ cap: 3_600, used: 10, reserved: 10 });
  expect(await layer(tenant, 'callsInFlight')).toMatchObject({
    cap: 4,
    used: 1,
    reserved: 1,
    free: 3,
    freesAt: null,
  });
  // Two of six a minute: the last of them has drained after twenty seconds.
  expect(await layer(tenant, 'callsPerMinute')).toMatchObject({ cap: 6, used: 2, freesInMs: 20_000 });
  expect(await layer(tenant, 'modelTokensPerMinute')).toMatchObject({
    cap: 600,
    used: 120,
    freesInMs: 12_000,
  });
  await world.setClock(new Date(NOON.getTime() + 10_000));
  expect(await layer(tenant, 'callsPerMinute')).toMatchObject({ used: 1, free: 5, freesInMs: 10_000 });
  // Without a limit it is counted where it can be, and has nothing to free.
  expect(await layer(tenant, 'highRiskWritesPerDay')).toMatchObject({ cap: null, free: null, freesAt: null });
  expect(await layer(tenant, 'stepsPerDay')).toMatchObject({
    cap: null,
    used: 2,
    reserved: 1,
    freesAt: null,
  });
  expect(await layer(tenant, 'callsInFlight', 'action:ticket.update')).toMatchObject({
    cap: 2,
    used: 1,
    free: 1,
  });
  expect(await layer(tenant, 'callsPerMinute', 'action:mail.send')).toMatchObject({
    cap: 1,
    used: 0,
    free: 1,
  });
  expect(await layer(tenant, 'spendMicroUsdPerDay', 'agent:support_triage')).toMatchObject({
    ...{ cap: 300, used: 140, reserved: 100, free: 160 },
    freesAt: day.freesAt,
  });
  expect(await layer(tenant, 'seconds', 'run')).toMatchObject({ cap: 60, used: null, free: null });
  expect(await layer(tenant, 'concurrentRuns')).toHaveProperty('cap');
  expect(await tenant.store.quotas()).toMatchObject({ timeZone: 'Europe/Berlin', quotaClass: 'standard' });
});

test('Q6 a limit lowered below its use refuses what is new and takes back nothing; what frees is free again', async () => {
  const tenant = await world.tenant({ toolCallsPerDay: 10, callsInFlight: 10 });
  const runId = await tenant.run();
  const claims = ['1.1', '1.2', '1.3'].map((path) => tenant.admission(runId, path));
  for (const claim of claims) await tenant.store.admit(claim);
  await tenant.setLimits({ ...WIDE, toolCallsPerDay: 10, callsInFlight: 1 });
  expect(await layer(tenant, 'callsInFlight')).toMatchObject({ cap: 1, used: 3, free: 0 });
  expect(await answerOf(tenant, runId, '1.4')).toBe('calls_in_flight');
  for (const claim of claims)
    expect(await tenant.store.settle(tenant.settlement(claim))).toMatchObject({ answer: 'settled' });
  expect(await answerOf(tenant, runId, '1.4')).toBe('admitted');
  await tenant.setLimits({ ...WIDE, toolCallsPerDay: 2 });
  expect(await layer(tenant, 'toolCallsPerDay')).toMatchObject({ cap: 2, used: 4, free: 0 });
  expect(await tenant.store.admit(tenant.admission(runId, '1.5'))).toMatchObject({
    refusal: { rule: 'tool_calls_per_day', value: 2, used: 4, retryAfterMs: 12 * 3_600_000 },
  });
  await tenant.setLimits({ ...WIDE, toolCallsPerDay: 5 });
  expect(await answerOf(tenant, runId, '1.5')).toBe('admitted');
});

test('Q1 zero is a limit like any other, and nothing waits for what it can never have', async () => {
  const tenant = await world.tenant({ more: { highRiskWritesPerDay: 0, modelTokensPerMinute: 100 } });
  const runId = await tenant.run();
  const risky = await tenant.store.admit(tenant.admission(runId, '1.1', { callClass: 'high_risk_write' }));
  expect(risky).toMatchObject({
    refusal: { kind: 'throttled', origin: 'tenant_cap', rule: 'high_risk_writes_per_day', value: 0, used: 0 },
  });
  expect(risky).not.toHaveProperty('refusal.retryAfterMs');
  expect(await answerOf(tenant, runId, '1.2')).toBe('admitted');
  const large = { toolCalls: 0, steps: 1, microUsd: 0, modelTokens: 101 } as const;
  const asked = await tenant.store.admit(
    tenant.admission(runId, '2.0', { callClass: 'model', reserve: large }),
  );
  expect(asked).toMatchObject({
    refusal: {
      rule: 'model_tokens_per_minute',
      message: expect.stringContaining(
        'this call may need more model tokens than this tenant may use in a minute',
      ),
    },
  });
  expect(asked).not.toHaveProperty('refusal.retryAfterMs');
});

test.each([
  // 23 hours: clocks go from 02:00 to 03:00.
  { what: 'forward', at: '2025-03-30T00:00:00.000Z', midnight: '2025-03-30T22:00:00.000Z' },
  // 25 hours: clocks go from 03:00 back to 02:00.
  { what: 'back', at: '2025-10-26T00:00:00.000Z', midnight: '2025-10-26T23:00:00.000Z' },
])('Q1 a day on which clocks go $what ends at the tenant’s own midnight, once', async ({ at, midnight }) => {
  const tenant = await world.tenant({ toolCallsPerDay: 1, timeZone: 'Europe/Berlin' });
  await world.setClock(new Date(at));
  const runId = await tenant.run();
  expect(await answerOf(tenant, runId, '1.1')).toBe('admitted');
  const end = new Date(midnight).getTime();
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({
    refusal: { rule: 'tool_calls_per_day', retryAfterMs: end - new Date(at).getTime() },
  });
  expect(await layer(tenant, 'toolCallsPerDay')).toMatchObject({ freesInMs: end - new Date(at).getTime() });
  await world.setClock(new Date(end - 1));
  expect(await answerOf(tenant, runId, '1.2')).toBe('tool_calls_per_day');
  await world.setClock(new Date(end));
  expect(await layer(tenant, 'toolCallsPerDay')).toMatchObject({ used: 0, free: 1, freesAt: null });
  expect(await answerOf(tenant, runId, '1.2')).toBe('admitted');
  expect(await answerOf(tenant, runId, '1.3')).toBe('tool_calls_per_day');
});

test('Q1 Q6 a time zone that is changed live gives nobody a second day', async () => {
  const tenant = await world.tenant({ toolCallsPerDay: 1 });
  const limits = { ...WIDE, toolCallsPerDay: 1 };
  const runId = await tenant.run();
  expect(await answerOf(tenant, runId, '1.1')).toBe('admitted');
  // There it is tomorrow already: a new day, which then is the tenant's until tomorrow is over everywhere it goes.
  await tenant.setLimits({ ...limits, timeZone: 'Pacific/Kiritimati' });
  expect(await answerOf(tenant, runId, '1.2')).toBe('admitted');
  // Back again it is still yesterday: the day that was begun goes on until it ends there.
  await tenant.setLimits({ ...limits, timeZone: 'Pacific/Pago_Pago' });
  const refused = await tenant.store.admit(tenant.admission(runId, '1.3'));
  const end = new Date('2025-03-12T11:00:00.000Z').getTime() - NOON.getTime();
  expect(refused).toMatchObject({ refusal: { rule: 'tool_calls_per_day', retryAfterMs: end } });
  expect(await layer(tenant, 'toolCallsPerDay')).toMatchObject({ used: 1, free: 0, freesInMs: end });
  await world.setClock(new Date(NOON.getTime() + end));
  expect(await answerOf(tenant, runId, '1.3')).toBe('admitted');
});

describe('P9 refusals that hosts answered from memory', () => {
  const spam = (runId: string, count: number) => ({
    runId,
    action: 'ticket.update',
    count,
    refusal: {
      kind: 'throttled' as const,
      origin: 'tenant_cap' as const,
      rule: 'calls_in_flight',
      rules: ['calls_in_flight'],
      message: 'all taken',
      policyVersion: 1,
      value: 1,
      used: 1,
      retryAfterMs: 500,
    },
  });
  const counts = async (tenant: LedgerTenant) => {
    const facts = (await tenant.journal()).map((entry) => JSON.parse(entry.facts) as Record<string, unknown>);
    return {
      kept: facts.filter(({ kind }) => kind === 'refused').length,
      flooded: facts.filter(({ kind }) => kind === 'refusals').map(({ count }) => count),
    };
  };

  test('P9 they are counted exactly as if the ledger had been asked, over floods and minutes, with one update of its row', async () => {
    const tenant = await world.tenant({ callsInFlight: 1 });
    const runId = await tenant.run();
    await tenant.store.admit(tenant.admission(runId, '1.1'));
    for (const path of ['1.2', '1.3']) await tenant.store.admit(tenant.admission(runId, path));
    const before = await tenant.row();
    const touched = await touches(world.admin, tenant.tenantId, () =>
      tenant.store.countRefusals([spam(runId, 1_000)]),
    );
    expect(touched).toBe(1);
    // Three more of the first five, one by one.
    expect((await tenant.row()).journal_seq).toBe(before.journal_seq + 3);
    expect(await tenant.store.run(runId)).toMatchObject({ refusals: 1_002 });
    await tenant.store.countRefusals([spam(runId, 7)]);
    await world.setClock(new Date(NOON.getTime() + 60_000));
    await tenant.store.countRefusals([spam(runId, 2)]);
    // 2 asked, 1,000 and 7 counted: 5 of them one by one; and 2 of the next minute.
    expect(await counts(tenant)).toEqual({ kept: 7, flooded: [1_004] });
    expect(await tenant.verify()).toMatchObject({ intact: true });
  });

  test('P9 what was refused under a version that is over since is counted under that one', async () => {
    const tenant = await world.tenant();
    const runId = await tenant.run();
    await tenant.publish(2);
    await tenant.store.countRefusals([spam(runId, 9)]);
    const floods = await world.admin.query<{ policy_version: string; refusals: string }>(
      'select policy_version, refusals from bulkhead.refusal_floods where tenant_id = $1',
      [tenant.tenantId],
    );
    expect(floods.rows).toEqual([{ policy_version: '1', refusals: '9' }]);
    expect(await tenant.row()).toMatchObject({ policy_version: 2 });
  });
});
