import type { RunId } from '../../contracts/ids';
import { undoPath } from '../../contracts/calls';
import type { AdmitRequest } from '../../contracts/ledger';
import { digest, LEASE_MS, LedgerWorld, refusal, type LedgerTenant } from './harness';
import { recount } from './recount';

let world: LedgerWorld;
const NOON = Date.UTC(2025, 2, 10, 12);
const at = (ms: number) => world.setClock(new Date(NOON + ms));
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(0));

const BY = { actor: 'op-1', note: '' };
const FREE = { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 } as const;

async function write(tenant: LedgerTenant, runId: RunId, path: string, change: Partial<AdmitRequest> = {}) {
  const asked = tenant.admission(runId, path, change);
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
  await tenant.store.settle(tenant.settlement(asked));
}
const undo = (tenant: LedgerTenant, runId: RunId, of: string, change: Partial<AdmitRequest> = {}) =>
  tenant.admission(runId, undoPath(of), { undoOf: of, reserve: FREE, temporalRunId: 'undo/1', ...change });
const leave = (tenant: LedgerTenant, runId: RunId, change = {}) =>
  tenant.store.leaveRun({
    runId,
    temporalRunId: `${runId}/1`,
    stopReason: 'failed',
    outputRef: null,
    ...change,
  });
/** A closed run with one write, and its undo entered. */
async function undoing(tenant: LedgerTenant) {
  const runId = await tenant.run();
  await write(tenant, runId, '1.1');
  const { followUpNo } = await leave(tenant, runId, { undo: { onFailure: true, onKill: false } });
  const followUp = { runId, followUpNo: followUpNo ?? -1, temporalRunId: 'undo/1' };
  await tenant.store.enterFollowUp(followUp);
  return followUp;
}

test('Q5 T5 a failed run orders its undo exactly once, with its stop reason, and only where there is something to undo', async () => {
  const tenant = await world.tenant();
  const asks = { undo: { onFailure: true, onKill: true } };
  const empty = await tenant.run();
  await write(tenant, empty, '1.1', { reversible: 'final' });
  expect(await leave(tenant, empty, asks)).toEqual({ stopReason: 'failed' });
  for (const stopReason of ['completed', 'cancelled'] as const) {
    const runId = await tenant.run();
    await write(tenant, runId, '1.1');
    expect(await leave(tenant, runId, { ...asks, stopReason })).toEqual({ stopReason });
  }
  const keeps = await tenant.run();
  await write(tenant, keeps, '1.1');
  expect(await leave(tenant, keeps)).toEqual({ stopReason: 'failed' });

  const runId = await tenant.run();
  await write(tenant, runId, '1.1');
  const left = await leave(tenant, runId, { ...asks, stopReason: 'terminated' });
  expect(left).toEqual({ stopReason: 'terminated', followUpNo: expect.any(Number) });
  expect(await leave(tenant, runId, { ...asks, stopReason: 'killed' })).toEqual(left);
  await Promise.all([1, 2, 3].map(() => leave(tenant, runId, asks)));
  expect(await tenant.store.followUps(runId)).toMatchObject([
    { followUpNo: left.followUpNo, kind: 'undo', reason: 'failed', state: 'wanted', actor: 'agent' },
  ]);
  expect(await tenant.store.orderUndo({ runId, ...BY })).toMatchObject({
    kind: 'already',
    followUp: { followUpNo: left.followUpNo },
    signed: { envelope: { runId } },
  });
  await at(60_000);
  const waiting = (await world.platform.followUpsWaiting(60_000, 1_000)).filter(
    (each) => each.tenantId === tenant.tenantId,
  );
  expect(waiting).toMatchObject([
    { runId, followUpNo: left.followUpNo, kind: 'undo', signed: { envelope: { runId } } },
  ]);
});

test('T5 a killed run is undone where policy orders it; an undo that the run had begun then goes on, else it ends with it', async () => {
  for (const onKill of [true, false]) {
    const tenant = await world.tenant();
    const [runId, begun] = [await tenant.run(), await tenant.run()];
    for (const run of [runId, begun]) await write(tenant, run, '1.1');
    const own = await tenant.store.beginUndo({ runId: begun, temporalRunId: `${begun}/1` });
    if (own.kind !== 'entered') throw new Error(own.kind);
    expect(await tenant.store.run(begun)).toMatchObject({ state: 'compensating' });
    expect(await tenant.store.beginUndo({ runId: begun, temporalRunId: `${begun}/1` })).toMatchObject({
      followUpNo: own.followUpNo,
    });
    expect(await tenant.store.beginUndo({ runId: begun, temporalRunId: 'reset' })).toEqual({
      kind: 'nothing',
    });
    await tenant.store.kill({ reason: 'x', actor: 'op' });
    const flags = { undo: { onFailure: true, onKill } };
    expect(await leave(tenant, runId, flags)).toEqual({
      stopReason: 'killed',
      ...(onKill && { followUpNo: expect.any(Number) }),
    });
    expect(await leave(tenant, begun, flags)).toEqual({
      stopReason: 'killed',
      ...(onKill && { followUpNo: own.followUpNo }),
    });
    expect(await tenant.store.followUps(begun)).toMatchObject([{ state: onKill ? 'wanted' : 'done' }]);
  }
});

test('T5 an undo goes backwards through the first claims, and is its own call under its own key, once', async () => {
  const tenant = await world.tenant({ callsInFlight: 1, perRunSteps: 3, toolCallsPerDay: 3 });
  const runId = await tenant.run();
  await write(tenant, runId, '1.1', { reversible: 'reversible' });
  await write(tenant, runId, '1.2', { reversible: 'final' });
  await write(tenant, runId, '2.1', { callClass: 'high_risk_write' });
  await leave(tenant, runId);
  const order = await tenant.store.orderUndo({ runId, actor: 'op-1', note: 'wrong customer' });
  if (order.kind !== 'ordered') throw new Error(order.kind);
  const { followUpNo } = order.followUp;
  expect(order.followUp).toMatchObject({ reason: 'rollback', actor: 'op-1', note: 'wrong customer' });
  const early = await tenant.store.admit(undo(tenant, runId, '2.1'));
  expect(early).toMatchObject({ answer: 'refused', refusal: { rule: 'undo_not_entered' } });
  const entry = await tenant.store.enterFollowUp({ runId, followUpNo, temporalRunId: 'undo/1' });
  expect(entry).toMatchObject({
    kind: 'entered',
    path: null,
    items: [
      { path: '2.1', action: 'ticket.update', state: 'succeeded', reversible: 'compensable', undo: null },
      { path: '1.2', reversible: 'final' },
      { path: '1.1', reversible: 'reversible' },
    ],
  });
  // Slots, days and steps are used up; an undo takes from a reserve, and still counts while it is in flight.
  const first = undo(tenant, runId, '2.1', { callClass: 'high_risk_write' });
  expect(await tenant.store.admit(first)).toMatchObject({ answer: 'admitted' });
  const second = undo(tenant, runId, '1.1');
  expect(await tenant.store.admit(second)).toMatchObject({ answer: 'admitted' });
  expect(await tenant.row()).toMatchObject({ inflight: 2 });
  await tenant.store.settle(tenant.settlement(first));
  expect(await tenant.store.admit(undo(tenant, runId, '2.1'))).toMatchObject({
    answer: 'replayed',
    outcome: { state: 'succeeded' },
  });
  await tenant.store.settle(tenant.settlement(second));
  await tenant.store.leaveFollowUp({
    runId,
    followUpNo,
    temporalRunId: 'undo/1',
    outcome: { undone: 2, left: 1, abandoned: 0 },
  });
  expect(await tenant.store.followUps(runId)).toMatchObject([
    { state: 'done', outcome: { undone: 2, left: 1, abandoned: 0 } },
  ]);
  expect(await tenant.store.orderUndo({ runId, ...BY })).toEqual({ kind: 'nothing' });
  expect(await tenant.store.enterFollowUp({ runId, followUpNo, temporalRunId: 'undo/2' })).toMatchObject({
    kind: 'refused',
    refusal: { rule: 'follow_up_done' },
  });
  const counted = recount(await tenant.journal());
  expect(counted.violations).toEqual([]);
  expect(counted.inflight).toBe(0);
});

test('T5 E4 a write whose result was not believed may have happened: an undo comes to it, and its review says', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const asked = tenant.admission(runId, '1.1');
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
  await tenant.store.settle({
    ...tenant.settlement(asked),
    result: 'failed',
    refusal: refusal({ kind: 'scope_ambiguous', rule: 'scope.foreign_result' }),
  });
  const { followUpNo } = await leave(tenant, runId, { undo: { onFailure: true, onKill: false } });
  const entry = { runId, followUpNo: followUpNo ?? -1, temporalRunId: 'undo/1' };
  expect(await tenant.store.enterFollowUp(entry)).toMatchObject({
    items: [{ path: '1.1', state: 'unknown', undo: null }],
  });
  const [review] = await tenant.store.reviews({ open: true, limit: 5, runId });
  await tenant.store.resolveReview({
    reviewNo: review?.reviewNo ?? 0,
    resolution: 'happened',
    payload: { kind: 'tool', outcome: 'done', action: 'x', result: {} },
    payloadDigest: digest('brought'),
    shown: null,
    ...BY,
  });
  expect(await tenant.store.admit(undo(tenant, runId, '1.1'))).toMatchObject({ answer: 'admitted' });
});

test('T5 an undo passes every gate that is not the run’s: policy, staleness, its own fence, and only what happened is undone', async () => {
  const tenant = await world.tenant();
  const { runId } = await undoing(tenant);
  const ask = (change: Partial<AdmitRequest> = {}) => tenant.store.admit(undo(tenant, runId, '1.1', change));
  expect(await ask({ decidedBy: { policyVersion: 7, recordVersion: 0, factsVersion: 0 } })).toMatchObject({
    answer: 'stale',
  });
  expect(await ask({ seenSeq: 1e9 })).toMatchObject({
    refusal: { kind: 'frozen', rule: 'ledger_rewound', retryAfterMs: 30_000 },
  });
  await tenant.store.recovery.finish({ actor: 'op', counts: {} });
  expect(await tenant.store.admit(undo(tenant, runId, '9.9'))).toMatchObject({
    refusal: { rule: 'undo_not_due' },
  });
  await expect(ask({ path: '5.1' })).rejects.toThrow(/path of its own/);
  await expect(ask({ reserve: { ...FREE, steps: 1 } })).rejects.toThrow(/reserves nothing/);
  expect(await ask({ temporalRunId: `${runId}/1` })).toMatchObject({ refusal: { rule: 'undo_not_entered' } });
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  expect(await ask()).toMatchObject({ refusal: { rule: 'tenant_killed' } });
  await tenant.store.release({ reason: 'x', actor: 'op' });
  expect(await ask()).toMatchObject({ refusal: { rule: 'run_fenced' } });
  // Only policy's order lets it pass, and it means nothing for a forward call.
  const forward = tenant.admission(await tenant.run(), '1.1', { pastFence: true });
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  expect(await tenant.store.admit(forward)).toMatchObject({ refusal: { rule: 'tenant_killed' } });
  expect(await ask({ pastFence: true })).toMatchObject({ answer: 'admitted', epoch: 2 });
});

test('T5 an operator may order the undo of what a kill left, once the tenant is released', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await write(tenant, runId, '1.1');
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  await leave(tenant, runId);
  await tenant.store.release({ reason: 'x', actor: 'op' });
  const order = await tenant.store.orderUndo({ runId, ...BY });
  if (order.kind !== 'ordered') throw new Error(order.kind);
  await tenant.store.enterFollowUp({ runId, followUpNo: order.followUp.followUpNo, temporalRunId: 'undo/1' });
  expect(await tenant.store.admit(undo(tenant, runId, '1.1'))).toMatchObject({ answer: 'admitted' });
});

test('T5 an undo that fails is never dropped: refused, failed or tried too often, it waits for a person', async () => {
  const lost = refusal({ kind: 'failed', origin: 'provider', rule: 'http_422', rules: ['http_422'] });
  const ends: Record<string, (tenant: LedgerTenant, runId: RunId) => Promise<void>> = {
    refused: async (tenant, runId) => {
      const asked = undo(tenant, runId, '1.1', { verdict: { effect: 'deny', refusal: refusal() } });
      const answer = await tenant.store.admit(asked);
      expect(answer).toMatchObject({
        answer: 'replayed',
        outcome: { state: 'failed', refusal: refusal(), reviewNo: expect.any(Number) },
      });
    },
    failed: async (tenant, runId) => {
      const asked = undo(tenant, runId, '1.1');
      await tenant.store.admit(asked);
      const settled = await tenant.store.settle(
        tenant.settlement(asked, { result: 'failed', refusal: lost }),
      );
      expect(settled).toMatchObject({ answer: 'settled', reviewNo: expect.any(Number) });
    },
    exhausted: async (tenant, runId) => {
      for (let attempt = 1; attempt <= 8; attempt += 1) {
        const asked = undo(tenant, runId, '1.1');
        expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted', attempt });
        await tenant.store.settle(tenant.settlement(asked, { result: 'open', refusal: lost }));
      }
      expect(await tenant.store.admit(undo(tenant, runId, '1.1'))).toMatchObject({
        answer: 'replayed',
        outcome: { state: 'failed', refusal: { rule: 'attempts_exhausted' }, reviewNo: expect.any(Number) },
      });
      expect(await tenant.store.deadLetters({ open: false, limit: 10 })).toEqual([]);
    },
  };
  for (const [end, fail] of Object.entries(ends)) {
    const tenant = await world.tenant();
    const { runId } = await undoing(tenant);
    const before = await tenant.store.run(runId);
    await fail(tenant, runId);
    const [item] = await tenant.store.reviews({ open: true, limit: 10 });
    expect(item).toMatchObject({ runId, path: '1.1/undo', kind: 'undo_failed' });
    const resolve = (resolution: 'did_not_happen' | 'happened', reviewNo = item?.reviewNo ?? -1) =>
      tenant.store.resolveReview({
        reviewNo,
        resolution,
        payload: null,
        payloadDigest: null,
        shown: null,
        ...BY,
      });
    await resolve('did_not_happen');
    const asked = undo(tenant, runId, '1.1');
    expect([end, await tenant.store.admit(asked)]).toMatchObject([end, { answer: 'admitted', attempt: 1 }]);
    const { reviewNo } = await tenant.store.settle(
      tenant.settlement(asked, { result: 'failed', refusal: lost }),
    );
    await resolve('happened', reviewNo ?? -1);
    expect(await tenant.store.admit(undo(tenant, runId, '1.1'))).toMatchObject({
      answer: 'replayed',
      outcome: { state: 'succeeded', reviewNo: null },
    });
    expect(await tenant.row()).toMatchObject({ inflight: 0 });
    expect(await tenant.store.run(runId)).toMatchObject({
      steps: before?.steps,
      toolCalls: before?.toolCalls,
    });
    expect(recount(await tenant.journal()).violations).toEqual([]);
  }
});

test('T5 T3 a forward write that is still claimed is recovered by the workflow that undoes its run', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  const { followUpNo } = await leave(tenant, runId, { undo: { onFailure: true, onKill: false } });
  await tenant.store.enterFollowUp({ runId, followUpNo: followUpNo ?? -1, temporalRunId: 'undo/1' });
  await at(LEASE_MS);
  const forward = tenant.admission(runId, '1.1', { temporalRunId: 'undo/1' });
  expect(await tenant.store.admit(forward)).toMatchObject({ answer: 'recover', lookupOnly: false });
  expect(await tenant.store.admit(undo(tenant, runId, '1.1'))).toMatchObject({
    refusal: { rule: 'undo_not_due' },
  });
  // Proven absent, it is not made after all.
  await tenant.store.settle(tenant.settlement(forward, { result: 'open' }));
  expect(await tenant.store.admit(tenant.admission(runId, '1.1', { temporalRunId: 'undo/1' }))).toMatchObject(
    {
      answer: 'refused',
      refusal: { rule: 'run_closed' },
    },
  );
  expect(
    await tenant.store.enterFollowUp({ runId, followUpNo: followUpNo ?? -1, temporalRunId: 'undo/1' }),
  ).toMatchObject({ items: [] });
});

test('T5 nobody undoes an open run but itself, nor another tenant’s', async () => {
  const tenant = await world.tenant();
  const other = await world.tenant();
  const runId = await tenant.run();
  await write(tenant, runId, '1.1');
  expect(await tenant.store.orderUndo({ runId, ...BY })).toEqual({ kind: 'open' });
  expect(await other.store.orderUndo({ runId, ...BY })).toEqual({ kind: 'absent' });
  const own = await tenant.store.beginUndo({ runId, temporalRunId: `${runId}/1` });
  if (own.kind !== 'entered') throw new Error(own.kind);
  const { followUpNo } = own;
  expect(await tenant.store.enterFollowUp({ runId, followUpNo, temporalRunId: 'undo/1' })).toMatchObject({
    kind: 'refused',
    refusal: { rule: 'run_open' },
  });
  expect(await other.store.enterFollowUp({ runId, followUpNo, temporalRunId: 'undo/1' })).toMatchObject({
    refusal: { rule: 'follow_up_absent' },
  });
  const asked = undo(tenant, runId, '1.1', { temporalRunId: `${runId}/1` });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
  await tenant.store.settle(
    tenant.settlement(asked, { payload: { kind: 'tool_result' } as never, payloadDigest: digest('u') }),
  );
  // What undoing brought is no part of the conversation.
  expect((await tenant.store.conversation(runId)).map(({ ref }) => ref)).toEqual(['input']);
  await tenant.store.leaveFollowUp({
    runId,
    followUpNo,
    temporalRunId: `${runId}/1`,
    outcome: { undone: 1, left: 0, abandoned: 0 },
  });
  expect(await leave(tenant, runId, { undo: { onFailure: true, onKill: true } })).toEqual({
    stopReason: 'failed',
  });
});
