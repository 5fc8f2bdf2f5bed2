import { decidedBy, LedgerWorld, refusal, WIDE } from './harness';

let world: LedgerWorld;
const NOON = new Date('2025-03-10T12:00:00.000Z');

beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => world.setClock(NOON));

test('Q3 Q4 calls in flight: the limit, its value, its use and when to ask again', async () => {
  const tenant = await world.tenant({ callsInFlight: 1 });
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({
    answer: 'refused',
    refusal: {
      kind: 'throttled',
      origin: 'tenant_cap',
      rule: 'calls_in_flight',
      rules: ['calls_in_flight'],
      value: 1,
      used: 1,
      retryAfterMs: 500,
      policyVersion: 1,
    },
  });
});

test('Q3 Q4 tool calls per day: free again at midnight UTC', async () => {
  const tenant = await world.tenant({ toolCallsPerDay: 1 });
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({
    refusal: {
      kind: 'throttled',
      origin: 'tenant_cap',
      rule: 'tool_calls_per_day',
      value: 1,
      used: 1,
      retryAfterMs: 12 * 3_600_000,
    },
  });
  const free = tenant.admission(runId, '1.0', {
    callClass: 'model',
    reserve: { toolCalls: 0, steps: 1, microUsd: 0, modelTokens: 0 },
  });
  expect(await tenant.store.admit(free)).toMatchObject({ answer: 'admitted' });
  await world.setClock(new Date('2025-03-11T00:00:00.000Z'));
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({ answer: 'admitted' });
});

test('Q3 Q4 steps of a run: used up for good', async () => {
  const tenant = await world.tenant({ perRunSteps: 1 });
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  const refused = await tenant.store.admit(tenant.admission(runId, '1.2'));
  expect(refused).toMatchObject({
    refusal: { kind: 'budget_exceeded', origin: 'tenant_cap', rule: 'per_run_steps', value: 1, used: 1 },
  });
  expect(refused).not.toHaveProperty('refusal.retryAfterMs');
});

test('Q2 a call settled after midnight is trued up in the day it reserved in', async () => {
  const tenant = await world.tenant({ toolCallsPerDay: 5 });
  const runId = await tenant.run();
  await world.setClock(new Date('2025-03-10T23:59:59.000Z'));
  const over = tenant.admission(runId, '1.1');
  await tenant.store.admit(over);
  await tenant.store.admit(tenant.admission(runId, '1.2'));
  await world.setClock(new Date('2025-03-11T00:00:01.000Z'));
  await tenant.store.admit(tenant.admission(runId, '1.3'));
  await tenant.store.settle(
    tenant.settlement(over, { result: 'failed', charge: { toolCalls: 0, microUsd: 0, modelTokens: 0 } }),
  );
  expect(await tenant.row()).toMatchObject({ tool_day_used: 1 });
  const closed = await world.admin.query(
    'select (used).tool_calls::int as used from bulkhead.closed_days where tenant_id = $1',
    [tenant.tenantId],
  );
  expect(closed.rows).toEqual([{ used: 1 }]);
});

test('Q2 a clock that steps back opens no day again', async () => {
  const tenant = await world.tenant({ toolCallsPerDay: 1 });
  const runId = await tenant.run();
  await world.setClock(new Date('2025-03-11T00:00:01.000Z'));
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  await world.setClock(NOON);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({
    refusal: { rule: 'tool_calls_per_day' },
  });
});

test('Q2 overage of a system’s own making is charged', async () => {
  const tenant = await world.tenant({ toolCallsPerDay: 1 });
  const runId = await tenant.run();
  const attempt = tenant.admission(runId, '1.1', {
    reserve: { toolCalls: 0, steps: 0, microUsd: 10, modelTokens: 0 },
  });
  await tenant.store.admit(attempt);
  await tenant.store.settle(
    tenant.settlement(attempt, { charge: { toolCalls: 1, microUsd: 70, modelTokens: 0 } }),
  );
  expect(await tenant.store.run(runId)).toMatchObject({ toolCalls: 1, spentMicroUsd: 70 });
  expect(await tenant.row()).toMatchObject({ tool_day_used: 1 });
});

test('Q6 limits change live, in both directions, and raise the control version', async () => {
  const tenant = await world.tenant({ callsInFlight: 1 });
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  const before = await tenant.row();
  await tenant.setLimits({ ...WIDE, callsInFlight: 2 });
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({ answer: 'admitted' });
  await tenant.setLimits({ ...WIDE, callsInFlight: 0 });
  expect(await tenant.store.admit(tenant.admission(runId, '1.3'))).toMatchObject({
    refusal: { value: 0, used: 2 },
  });
  expect((await tenant.row()).control_version).toBe(before.control_version + 2);
});

test('P10 a decision of another policy version is stale, even one that denies', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await tenant.publish(7);
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    answer: 'stale',
    policyVersion: 7,
  });
  const denied = { verdict: { effect: 'deny', refusal: refusal() } } as const;
  expect(await tenant.store.admit(tenant.admission(runId, '1.1', denied))).toMatchObject({ answer: 'stale' });
  const current = tenant.admission(runId, '1.1', { ...denied, decidedBy: decidedBy(7) });
  expect(await tenant.store.admit(current)).toMatchObject({ answer: 'refused', refusal: refusal() });
});

test('P7 P10 a decision from facts that a settlement has changed since is stale, a denial and a take-over too', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const setsFact = tenant.admission(runId, '1.1', { callClass: 'read' });
  const lost = tenant.admission(runId, '1.2', { leaseMs: 0 });
  await tenant.store.admit(setsFact);
  await tenant.store.admit(lost);
  const other = tenant.admission(await tenant.run(), '1.1');
  await tenant.store.settle(tenant.settlement(setsFact, { facts: { compliance: 'failed' } }));
  const denied = { verdict: { effect: 'deny', refusal: refusal() } } as const;
  const stale = { answer: 'stale', policyVersion: 1 };
  expect(await tenant.store.admit(tenant.admission(runId, '1.3'))).toMatchObject(stale);
  expect(await tenant.store.admit(tenant.admission(runId, '1.3', denied))).toMatchObject(stale);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject(stale);
  // Facts are a run's own: no other run's decision is stale by them.
  expect(await tenant.store.admit(other)).toMatchObject({ answer: 'admitted' });
  const decidedBy = (await tenant.context(runId)).versions;
  expect(await tenant.store.admit(tenant.admission(runId, '1.3', { decidedBy }))).toMatchObject({
    answer: 'admitted',
  });
});

test('Q4 a refusal claims nothing, and the first gate that refuses is the answer', async () => {
  const tenant = await world.tenant({ callsInFlight: 0, toolCallsPerDay: 0, perRunSteps: 0 });
  const runId = await tenant.run();
  const ask = async (change: Parameters<typeof tenant.admission>[2] = {}) => {
    const answer = await tenant.store.admit(tenant.admission(runId, '1.1', change));
    return answer.answer === 'refused' ? answer.refusal.rule : answer.answer;
  };
  const deny = { verdict: { effect: 'deny', refusal: refusal() } } as const;
  expect(await ask()).toBe('calls_in_flight');
  expect(await ask({ temporalRunId: 'reset' })).toBe('run_not_entered');
  expect(await ask({ temporalRunId: 'reset', ...deny })).toBe('no-mail');
  expect(await ask({ decidedBy: decidedBy(9), ...deny })).toBe('stale');
  await tenant.setLimits({ callsInFlight: 1, toolCallsPerDay: 0, perRunSteps: 0 });
  expect(await ask()).toBe('tool_calls_per_day');
  await tenant.setLimits({ callsInFlight: 1, toolCallsPerDay: 1, perRunSteps: 0 });
  expect(await ask()).toBe('per_run_steps');
  await tenant.store.kill({ reason: 'test', actor: 'op' });
  expect(await ask({ decidedBy: decidedBy(9), ...deny })).toBe('tenant_killed');
  expect(await ask({ decidedBy: decidedBy(9), ...deny, seenSeq: 1e9 })).toBe('ledger_rewound');
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 0 });
  expect(await tenant.claimed()).toBe(0);
});
