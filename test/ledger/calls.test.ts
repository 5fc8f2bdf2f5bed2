import { randomUUID } from 'node:crypto';
import { digest, LEASE_MS, LedgerWorld, refusal } from './harness';

let world: LedgerWorld;
const NOON = new Date('2025-03-10T12:00:00.000Z');
const later = (ms: number) => new Date(NOON.getTime() + ms);

beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => world.setClock(NOON));

test('T2 a finished write answers its recorded outcome and is not run again', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const first = tenant.admission(runId, '1.1');
  expect(await tenant.store.admit(first)).toMatchObject({ answer: 'admitted', epoch: 0, attempt: 1 });
  const settled = await tenant.store.settle(
    tenant.settlement(first, {
      value: { tickets: 2 },
      payload: { kind: 'tool', outcome: 'done', action: 'ticket.update', result: { id: 'x' } },
      payloadDigest: digest('payload'),
    }),
  );
  expect(settled).toEqual({ answer: 'settled', reviewNo: null, seq: expect.any(Number) });
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    answer: 'replayed',
    outcome: {
      state: 'succeeded',
      ref: '1.1',
      digest: digest('payload'),
      refusal: null,
      value: { tickets: 2 },
    },
  });
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 1 });
});

test('T2 an acknowledgement that was lost is asked for again with the same token', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const attempt = tenant.admission(runId, '1.1');
  const answer = await tenant.store.admit(attempt);
  const before = await tenant.row();
  expect(await tenant.store.admit(attempt)).toEqual(answer);
  expect(await tenant.row()).toEqual(before);
});

test('T2 a second attempt waits while the first one may act', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  await world.setClock(later(LEASE_MS - 400));
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    answer: 'in_flight',
    retryAfterMs: 400,
  });
});

test.each(['claimed and over', 'succeeded', 'failed', 'open', 'unknown'] as const)(
  'T2 the same key with other arguments is a conflict and is never run (%s)',
  async (state) => {
    const tenant = await world.tenant();
    const runId = await tenant.run();
    const first = tenant.admission(runId, '1.1');
    await tenant.store.admit(first);
    if (state === 'claimed and over') await world.setClock(later(LEASE_MS));
    else await tenant.store.settle(tenant.settlement(first, { result: state }));
    const before = await tenant.row();
    const conflict = await tenant.store.admit(tenant.admission(runId, '1.1', { digest: digest('other') }));
    expect(conflict).toMatchObject({
      answer: 'refused',
      refusal: { kind: 'idempotency_conflict', origin: 'platform', rule: 'idempotency_conflict' },
    });
    const after = await tenant.row();
    const lost = state === 'claimed and over' ? 1 : 0;
    expect([after.inflight, after.tool_day_used]).toEqual([before.inflight - lost, before.tool_day_used]);
  },
);

test('T2 a reworded read is a new attempt, judged and charged anew', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const read = tenant.admission(runId, '1.1', { callClass: 'read' });
  await tenant.store.admit(read);
  await tenant.store.settle(tenant.settlement(read));
  const reworded = await tenant.store.admit(
    tenant.admission(runId, '1.1', { callClass: 'read', digest: digest('x') }),
  );
  expect(reworded).toMatchObject({ answer: 'admitted', attempt: 1 });
  expect(await tenant.row()).toMatchObject({ inflight: 1, tool_day_used: 2 });
});

test('T3 a write whose attempt vanished is taken over to be recovered, not admitted again', async () => {
  const tenant = await world.tenant({ callsInFlight: 1 });
  const runId = await tenant.run();
  const first = tenant.admission(runId, '1.1');
  await tenant.store.admit(first);
  await world.setClock(later(LEASE_MS));
  const second = tenant.admission(runId, '1.1');
  const recover = { answer: 'recover', lookupOnly: false, attempt: 2 };
  expect(await tenant.store.admit(second)).toMatchObject(recover);
  expect(await tenant.store.admit(second)).toMatchObject(recover);
  expect(await tenant.row()).toMatchObject({ inflight: 1, tool_day_used: 1 });
  // The first one wakes up and reports: evidence, nothing more.
  expect(await tenant.store.settle(tenant.settlement(first))).toMatchObject({ answer: 'late' });
  expect(await tenant.store.settle(tenant.settlement(second))).toMatchObject({ answer: 'settled' });
  expect(await tenant.store.settle(tenant.settlement(second))).toMatchObject({ answer: 'already' });
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 1 });
});

test.each(['killed', 'denied', 'key lapses within the lease'] as const)(
  'T3 a taken-over write may only be looked up where it would not be let in anew (%s)',
  async (why) => {
    const tenant = await world.tenant();
    const runId = await tenant.run();
    await tenant.store.admit(tenant.admission(runId, '1.1'));
    await world.setClock(later(LEASE_MS));
    if (why === 'killed') await tenant.store.kill({ reason: 'test', actor: 'op' });
    const again = tenant.admission(runId, '1.1', {
      ...(why === 'denied' && { verdict: { effect: 'deny', refusal: refusal() } as const }),
      ...(why === 'key lapses within the lease' && { keyValidMs: 2 * LEASE_MS - 1 }),
    });
    expect(await tenant.store.admit(again)).toMatchObject({ answer: 'recover', lookupOnly: true });
    expect(await tenant.store.admit(again)).toMatchObject({ answer: 'recover', lookupOnly: true });
  },
);

test('T3 what is not known stays charged, until the last attempt reports success after all', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const attempt = tenant.admission(runId, '1.1', {
    reserve: { toolCalls: 1, steps: 1, microUsd: 500, modelTokens: 0 },
  });
  await tenant.store.admit(attempt);
  const why = refusal({ kind: 'outcome_unknown', origin: 'provider', rule: 'timeout', rules: ['timeout'] });
  await tenant.store.settle(
    tenant.settlement(attempt, {
      result: 'unknown',
      refusal: why,
      charge: { toolCalls: 0, microUsd: 0, modelTokens: 0 },
    }),
  );
  expect(await tenant.store.run(runId)).toMatchObject({ toolCalls: 1, spentMicroUsd: 500 });
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    answer: 'replayed',
    outcome: { state: 'unknown', refusal: why },
  });
  const truth = { charge: { toolCalls: 1, microUsd: 200, modelTokens: 0 } } as const;
  expect(await tenant.store.settle(tenant.settlement(attempt, truth))).toMatchObject({
    answer: 'reconciled',
  });
  expect(await tenant.store.run(runId)).toMatchObject({ toolCalls: 1, spentMicroUsd: 200 });
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    answer: 'replayed',
    outcome: { state: 'succeeded', refusal: null },
  });
});

test('N5 a call that is surely not sent is given back whole, and tried at most eight times', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  for (let attempt = 1; attempt <= 8; attempt += 1) {
    const request = tenant.admission(runId, '1.1');
    expect(await tenant.store.admit(request)).toMatchObject({ answer: 'admitted', attempt });
    await tenant.store.settle(tenant.settlement(request, { result: 'open' }));
    expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 0 });
    expect(await tenant.store.run(runId)).toMatchObject({ steps: 0, toolCalls: 0 });
  }
  const exhausted = { kind: 'failed', rule: 'attempts_exhausted' };
  const request = tenant.admission(runId, '1.1');
  expect(await tenant.store.admit(request)).toMatchObject({ answer: 'refused', refusal: exhausted });
  for (const again of [request, tenant.admission(runId, '1.1')]) {
    expect(await tenant.store.admit(again)).toMatchObject({
      answer: 'replayed',
      outcome: { state: 'failed', refusal: exhausted },
    });
  }
});

test('Q2 a paid call whose attempt vanished is charged for both attempts, and trued up when the first reports', async () => {
  const tenant = await world.tenant({ callsInFlight: 1 });
  const runId = await tenant.run();
  const paid = {
    callClass: 'model',
    reserve: { toolCalls: 0, steps: 1, microUsd: 1_000, modelTokens: 0 },
  } as const;
  const first = tenant.admission(runId, '1.0', paid);
  await tenant.store.admit(first);
  await world.setClock(later(LEASE_MS));
  const second = tenant.admission(runId, '1.0', paid);
  expect(await tenant.store.admit(second)).toMatchObject({ answer: 'admitted', attempt: 2 });
  expect(await tenant.row()).toMatchObject({ inflight: 1 });
  expect(await tenant.store.run(runId)).toMatchObject({ spentMicroUsd: 2_000, steps: 2 });
  const cheap = { charge: { toolCalls: 0, microUsd: 300, modelTokens: 0 } } as const;
  expect(await tenant.store.settle(tenant.settlement(first, cheap))).toMatchObject({ answer: 'late' });
  expect(await tenant.store.settle(tenant.settlement(first, cheap))).toMatchObject({ answer: 'late' });
  expect(await tenant.store.run(runId)).toMatchObject({ spentMicroUsd: 1_300 });
  expect(await tenant.store.settle(tenant.settlement(second, cheap))).toMatchObject({ answer: 'settled' });
  expect(await tenant.store.run(runId)).toMatchObject({ spentMicroUsd: 600 });
});

test('Q2 the reaper frees the slot of a lost read, which is then asked again', async () => {
  await world.setClock(later(LEASE_MS));
  await world.platform.reapCalls(1_000);
  await world.setClock(NOON);
  const tenant = await world.tenant({ callsInFlight: 1 });
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1', { callClass: 'read' }));
  expect(await world.platform.reapCalls(100)).toBe(0);
  await world.setClock(later(LEASE_MS));
  expect(await world.platform.reapCalls(100)).toBe(1);
  expect(await world.platform.reapCalls(100)).toBe(0);
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 1 });
  const again = tenant.admission(runId, '1.1', { callClass: 'read' });
  expect(await tenant.store.admit(again)).toMatchObject({ answer: 'admitted', attempt: 2 });
});

test('T3 the reaper leaves a write to its own retry, until its run is closed', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  await world.setClock(later(LEASE_MS));
  expect(await world.platform.reapCalls(100)).toBe(0);
  expect(await tenant.store.claimedCalls({ runId })).toBe(0);
  await tenant.store.leaveRun({ runId, temporalRunId: null, stopReason: 'terminated', outputRef: null });
  expect(await world.platform.reapCalls(100)).toBe(1);
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 1 });
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    answer: 'replayed',
    outcome: { state: 'unknown', refusal: { kind: 'outcome_unknown', rule: 'lost' } },
  });
});

test('T2 a settlement nobody was admitted for changes nothing, and is kept as evidence', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const never = tenant.admission(runId, '9.9');
  expect(await tenant.store.settle(tenant.settlement(never))).toMatchObject({ answer: 'late' });
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 0 });
  const last = (await tenant.journal()).at(-1);
  expect(JSON.parse(last?.facts ?? '')).toMatchObject({ kind: 'late', path: '9.9', token: never.token });
});

test('P7 T6 a settlement keeps facts, payload and records in the same transaction, hostile names included', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const attempt = tenant.admission(runId, '2.1', { callClass: 'read' });
  await tenant.store.admit(attempt);
  const payload = {
    kind: 'tool',
    outcome: 'done',
    action: 'a.b',
    result: { text: 'NUL \0, half \ud800, 1e400' },
  } as const;
  await tenant.store.settle(
    tenant.settlement(attempt, {
      payload,
      payloadDigest: digest('p'),
      facts: { compliance: 'passed', sum: 3 },
      records: [
        { system: 'crm', id: 'c-1', account: 'acme-1' },
        { system: 'crm', id: 'c-\0' },
        { system: 'crm', id: 'c-\ud800' },
      ],
    }),
  );
  expect(await tenant.context(runId)).toMatchObject({
    versions: { policyVersion: 1, recordVersion: 0, factsVersion: 1 },
    facts: { compliance: 'passed', sum: 3 },
    record: { tenantId: tenant.tenantId, lane: 'own' },
  });
  expect(await tenant.store.payload(runId, '2.1')).toEqual(payload);
  const asked = ['c-1', 'c-2', 'c-\0'].map((id) => ({ system: 'crm', id }));
  expect((await tenant.context(runId, asked)).known).toEqual([
    { system: 'crm', id: 'c-1', account: 'acme-1' },
  ]);
  // The target is the caller's word: whose it is only a result can show.
  expect((await tenant.context(runId, [{ system: 'helpdesk', id: 'ticket-1' }])).known).toEqual([]);
});

test('T3 a call that was not sent keeps no payload and sets no fact', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const attempt = tenant.admission(runId, '2.1');
  await tenant.store.admit(attempt);
  const payload = { kind: 'tool', outcome: 'done', action: 'a.b', result: 1 } as const;
  await tenant.store.settle(
    tenant.settlement(attempt, { result: 'open', payload, facts: { compliance: 'passed' } }),
  );
  expect(await tenant.store.payload(runId, '2.1')).toBeUndefined();
  expect((await tenant.context(runId)).facts).toEqual({});
});

test('T2 a token that is no uuid, a class unknown to the ledger and a negative reservation are errors', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await expect(tenant.store.admit(tenant.admission(runId, '1.1', { token: 'x' }))).rejects.toThrow(/uuid/);
  const wrong = { ...tenant.admission(runId, '1.1'), callClass: 'delete' as 'read', token: randomUUID() };
  await expect(tenant.store.admit(wrong)).rejects.toThrow(/calls_class_known/);
  const negative = { toolCalls: 0, steps: 0, microUsd: -5, modelTokens: 0 } as const;
  await expect(tenant.store.admit(tenant.admission(runId, '1.1', { reserve: negative }))).rejects.toThrow(
    /counted/,
  );
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 0 });
});
