import type { RunId } from '../../contracts/ids';
import { undoPath } from '../../contracts/calls';
import type { AdmitRequest } from '../../contracts/ledger';
import { digest, ENVIRONMENT, LedgerWorld, refusal, type LedgerTenant } from './harness';
import { recount } from './recount';

/** What may still be done in a run beside its undo, and after it. */
let world: LedgerWorld;
const NOON = Date.UTC(2025, 2, 10, 12);
const DAY = 86_400_000;
const at = (ms: number) => world.setClock(new Date(NOON + ms));
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(0));

const BY = { actor: 'op-1', note: '' };
const FREE = { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 } as const;
const RUN_UNDONE = { answer: 'refused', refusal: { kind: 'denied', origin: 'control', rule: 'run_undone' } };

async function write(
  tenant: LedgerTenant,
  runId: RunId,
  path: string,
  result: 'succeeded' | 'open' | 'unknown' = 'succeeded',
) {
  const asked = tenant.admission(runId, path);
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
  await tenant.store.settle(tenant.settlement(asked, { result }));
}
/** Closes the run and enters its undo. */
async function undoing(tenant: LedgerTenant, runId: RunId) {
  const { followUpNo } = await tenant.store.leaveRun({
    runId,
    temporalRunId: `${runId}/1`,
    stopReason: 'failed',
    outputRef: null,
    undo: { onFailure: true, onKill: false },
  });
  const followUp = { runId, followUpNo: followUpNo ?? -1, temporalRunId: 'undo/1' };
  expect(await tenant.store.enterFollowUp(followUp)).toMatchObject({ kind: 'entered' });
  return followUp;
}
const undo = (tenant: LedgerTenant, runId: RunId, args: string, change: Partial<AdmitRequest> = {}) =>
  tenant.admission(runId, undoPath('1.1'), {
    undoOf: '1.1',
    reserve: FREE,
    temporalRunId: 'undo/1',
    digest: digest(args),
    ...change,
  });
/** A letter of `1.2`. */
async function exhaust(tenant: LedgerTenant, runId: RunId) {
  for (let attempt = 1; attempt <= 8; attempt += 1) await write(tenant, runId, '1.2', 'open');
  await tenant.store.admit(tenant.admission(runId, '1.2'));
  const [letter] = await tenant.store.deadLetters({ open: true, limit: 1 });
  return letter?.letterNo ?? -1;
}

test('T5 the key of an undo is its position alone: mended, it is made with other arguments, and never twice', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await write(tenant, runId, '1.1');
  await undoing(tenant, runId);
  // As the gateway asks where a deploy has lost the action: no arguments, refused by its form.
  const impossible = { verdict: { effect: 'deny', refusal: refusal({ rule: 'undo_impossible' }) } } as const;
  expect(await tenant.store.admit(undo(tenant, runId, '{}', impossible))).toMatchObject({
    answer: 'replayed',
  });
  const row = await tenant.store.call(runId, undoPath('1.1'));
  const review = {
    payload: null,
    payloadDigest: null,
    shown: null,
    resolution: 'did_not_happen',
    ...BY,
  } as const;
  await tenant.store.resolveReview({ ...review, reviewNo: row?.reviewNo ?? -1 });
  const made = undo(tenant, runId, '{"recordId":"r1"}');
  expect(await tenant.store.admit(made)).toMatchObject({ answer: 'admitted', attempt: 1 });
  await tenant.store.settle(tenant.settlement(made, { result: 'open' }));
  // Other words are no way around the number of attempts.
  const again = undo(tenant, runId, '{"recordId":"r1","new":true}');
  expect(await tenant.store.admit(again)).toMatchObject({ answer: 'admitted', attempt: 2 });
  await tenant.store.settle(tenant.settlement(again));
  expect(await tenant.store.admit(undo(tenant, runId, 'once more'))).toMatchObject({
    answer: 'replayed',
    outcome: { state: 'succeeded' },
  });
});

test('T5 nothing new is let in beside the undo of an open run', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await write(tenant, runId, '1.1');
  await tenant.store.admit(tenant.admission(runId, '1.2'));
  await tenant.store.beginUndo({ runId, temporalRunId: `${runId}/1` });
  expect(await tenant.store.admit(tenant.admission(runId, '1.3'))).toMatchObject(RUN_UNDONE);
  // What was let in before is found out about, for then it is undone too.
  await at(10_000);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({ answer: 'recover' });
  expect(recount(await tenant.journal()).violations).toEqual([]);
});

test('T5 N5 a dead letter is not sent beside the undo of its run, nor after it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await write(tenant, runId, '1.1');
  const letterNo = await exhaust(tenant, runId);
  // Ordered before the undo has begun, and asked for after.
  const retry = await tenant.store.retryDeadLetter({ letterNo, ...BY });
  if (retry.kind !== 'ordered') throw new Error(retry.kind);
  const followUp = await undoing(tenant, runId);
  const retrying = { runId, followUpNo: retry.followUp.followUpNo, temporalRunId: 'retry/1' };
  await tenant.store.enterFollowUp(retrying);
  const asked = tenant.admission(runId, '1.2', { temporalRunId: 'retry/1' });
  expect(await tenant.store.admit(asked)).toMatchObject(RUN_UNDONE);
  await tenant.store.leaveFollowUp({ ...retrying, outcome: null });
  const refused = { kind: 'refused', message: expect.stringContaining('undone') };
  expect(await tenant.store.retryDeadLetter({ letterNo, ...BY })).toMatchObject(refused);
  await tenant.store.admit(undo(tenant, runId, 'x'));
  await tenant.store.leaveFollowUp({ ...followUp, outcome: { undone: 1, left: 0, abandoned: 0 } });
  expect(await tenant.store.retryDeadLetter({ letterNo, ...BY })).toMatchObject(refused);
});

test('T2 T5 purging leaves the writes of a run alone until its undo is done', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await write(tenant, runId, '1.1');
  await write(tenant, runId, '1.2', 'unknown');
  await at(89 * DAY);
  const followUp = await undoing(tenant, runId);
  await at(91 * DAY);
  while ((await world.platform.purge(100)) > 0);
  expect(await tenant.store.call(runId, '1.1')).toMatchObject({ state: 'succeeded' });
  // Also where the list was made before the order.
  const purge = () =>
    world.admin.query<{ gone: string }>('select bulkhead.purge_run($1, $2, $3, 100) as gone', [
      tenant.tenantId,
      ENVIRONMENT,
      runId,
    ]);
  expect((await purge()).rows).toEqual([{ gone: '0' }]);
  await tenant.store.leaveFollowUp({ ...followUp, outcome: { undone: 0, left: 1, abandoned: 0 } });
  expect((await purge()).rows).toEqual([{ gone: '1' }]);
});
