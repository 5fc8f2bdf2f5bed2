import type { RunId } from '../../contracts/ids';
import type { CallClass } from '../../contracts/ledger';
import { LedgerWorld, refusal, type LedgerTenant } from './harness';
import { recount } from './recount';

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open();
  await world.setClock(new Date(Date.UTC(2025, 2, 10, 12)));
});
afterAll(() => world.close());

const BY = { actor: 'op-1', note: 'the system is back' };
const down = refusal({
  kind: 'provider_degraded',
  origin: 'provider',
  rule: 'unavailable',
  rules: ['unavailable'],
});

let exhausted = 0;
/** Eight attempts that surely sent nothing; the ninth makes the letter. Of a system of its own, for its breaker is not what is meant. */
async function exhaust(
  tenant: LedgerTenant,
  runId: RunId,
  callClass: CallClass = 'write',
  temporalRunId = `${runId}/1`,
) {
  const system = `system-${(exhausted += 1)}`;
  for (let attempt = 1; attempt <= 8; attempt += 1) {
    const asked = tenant.admission(runId, '1.1', { callClass, temporalRunId, system });
    expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted', attempt });
    await tenant.store.settle(tenant.settlement(asked, { result: 'open', refusal: down }));
  }
  expect(
    await tenant.store.admit(tenant.admission(runId, '1.1', { callClass, temporalRunId, system })),
  ).toMatchObject({
    answer: 'refused',
    refusal: { kind: 'failed', origin: 'provider', rule: 'attempts_exhausted' },
  });
  const [letter] = await tenant.store.deadLetters({ open: true, limit: 1 });
  if (!letter) throw new Error('no letter');
  return letter;
}
const close = (tenant: LedgerTenant, runId: RunId) =>
  tenant.store.leaveRun({ runId, temporalRunId: `${runId}/1`, stopReason: 'failed', outputRef: null });

test('N5 what used up its attempts is a dead letter of its tenant alone', async () => {
  const tenant = await world.tenant();
  const other = await world.tenant();
  const letter = await exhaust(tenant, await tenant.run());
  expect(letter).toMatchObject({
    path: '1.1',
    action: 'ticket.update',
    attempts: 8,
    state: 'dead',
    actor: null,
  });
  expect((await tenant.journal()).find(({ seq }) => seq === letter.letterNo)?.facts).toContain('"exhausted"');
  const { letterNo } = letter;
  expect(await other.store.deadLetters({ open: false, limit: 10 })).toEqual([]);
  expect(await other.store.deadLetter(letterNo)).toBeUndefined();
  expect(await other.store.retryDeadLetter({ letterNo, ...BY })).toEqual({ kind: 'absent' });
  expect(await other.store.discardDeadLetter({ letterNo, ...BY })).toBe('absent');
  expect(await tenant.store.deadLetter(letterNo)).toEqual(letter);
});

test('N5 a retry keeps the key, starts its attempts anew, and passes all of admission but the run’s own end', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const { letterNo } = await exhaust(tenant, runId);
  await close(tenant, runId);
  const retry = await tenant.store.retryDeadLetter({ letterNo, ...BY });
  if (retry.kind !== 'ordered') throw new Error(retry.kind);
  expect(retry.followUp).toMatchObject({
    kind: 'retry',
    path: '1.1',
    runId,
    reason: 'retry',
    state: 'wanted',
    ...BY,
  });
  expect(retry.signed.envelope.runId).toBe(runId);
  expect(await tenant.store.retryDeadLetter({ letterNo, ...BY })).toMatchObject({
    kind: 'already',
    followUp: { followUpNo: retry.followUp.followUpNo },
  });
  const { followUpNo } = retry.followUp;
  const ask = (change = {}) =>
    tenant.store.admit(tenant.admission(runId, '1.1', { temporalRunId: 'retry/1', ...change }));
  expect(await ask()).toMatchObject({ answer: 'refused', refusal: { rule: 'run_closed' } });
  expect(await tenant.store.enterFollowUp({ runId, followUpNo, temporalRunId: 'retry/1' })).toMatchObject({
    kind: 'entered',
    path: '1.1',
    items: [],
  });
  // The letter's own position alone, and every other gate holds.
  const elsewhere = tenant.admission(runId, '1.2', { temporalRunId: 'retry/1' });
  expect(await tenant.store.admit(elsewhere)).toMatchObject({
    answer: 'refused',
    refusal: { rule: 'run_closed' },
  });
  expect(await ask({ verdict: { effect: 'deny', refusal: refusal() } })).toMatchObject({
    refusal: { rule: 'no-mail' },
  });
  expect(await ask({ decidedBy: { policyVersion: 0, recordVersion: 0, factsVersion: 0 } })).toMatchObject({
    answer: 'stale',
  });
  await tenant.setLimits({ callsInFlight: 0, toolCallsPerDay: 100, perRunSteps: 100 });
  expect(await ask()).toMatchObject({ refusal: { rule: 'calls_in_flight' } });
  await tenant.setLimits({ callsInFlight: 9, toolCallsPerDay: 100, perRunSteps: 100 });
  const asked = tenant.admission(runId, '1.1', { temporalRunId: 'retry/1' });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted', attempt: 1 });
  await tenant.store.settle(tenant.settlement(asked));
  await tenant.store.leaveFollowUp({ runId, followUpNo, temporalRunId: 'retry/1', outcome: null });
  expect(await tenant.store.deadLetters({ open: true, limit: 10 })).toEqual([]);
  expect(await tenant.store.call(runId, '1.1')).toMatchObject({ state: 'succeeded' });
  expect(recount(await tenant.journal()).violations).toEqual([]);
});

test('N5 a retry that brought no outcome, or used up its attempts again, leaves a dead letter again', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const { letterNo } = await exhaust(tenant, runId);
  await close(tenant, runId);
  const enter = async (temporalRunId: string) => {
    const retry = await tenant.store.retryDeadLetter({ letterNo, ...BY });
    if (retry.kind !== 'ordered') throw new Error(retry.kind);
    const { followUpNo } = retry.followUp;
    await tenant.store.enterFollowUp({ runId, followUpNo, temporalRunId });
    return { runId, followUpNo, temporalRunId, outcome: null };
  };
  await tenant.store.leaveFollowUp(await enter('retry/1'));
  expect(await tenant.store.deadLetters({ open: true, limit: 10 })).toMatchObject([
    { letterNo, state: 'dead', actor: null },
  ]);
  const second = await enter('retry/2');
  const next = await exhaust(tenant, runId, 'write', 'retry/2');
  await tenant.store.leaveFollowUp(second);
  expect(next.letterNo).toBeGreaterThan(letterNo);
  expect(await tenant.store.deadLetters({ open: false, limit: 10 })).toMatchObject([
    { letterNo: next.letterNo, state: 'dead' },
    { letterNo, state: 'retried', ...BY },
  ]);
});

test('N5 a killed tenant’s letters stay; a model call is part of its run', async () => {
  const tenant = await world.tenant();
  const model = await tenant.run();
  const { letterNo: ofModel } = await exhaust(tenant, model, 'model');
  expect(await tenant.store.retryDeadLetter({ letterNo: ofModel, ...BY })).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('fork the run'),
  });
  const { letterNo } = await exhaust(tenant, await tenant.run());
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  const refused = { kind: 'refused', message: expect.stringContaining('stopped') };
  expect(await tenant.store.retryDeadLetter({ letterNo, ...BY })).toMatchObject(refused);
  await tenant.store.release({ reason: 'x', actor: 'op' });
  // The run was accepted before the fence: what it stopped stays stopped.
  expect(await tenant.store.retryDeadLetter({ letterNo, ...BY })).toMatchObject(refused);
  expect(await tenant.store.deadLetter(letterNo)).toMatchObject({ state: 'dead' });
});

test('N5 a fence that was raised after the retry was ordered stops it too', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const { letterNo } = await exhaust(tenant, runId);
  const retry = await tenant.store.retryDeadLetter({ letterNo, ...BY });
  if (retry.kind !== 'ordered') throw new Error(retry.kind);
  await tenant.store.enterFollowUp({
    runId,
    followUpNo: retry.followUp.followUpNo,
    temporalRunId: 'retry/1',
  });
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  const ask = () =>
    tenant.store.admit(tenant.admission(runId, '1.1', { temporalRunId: 'retry/1', pastFence: true }));
  expect(await ask()).toMatchObject({ refusal: { rule: 'tenant_killed' } });
  await tenant.store.release({ reason: 'x', actor: 'op' });
  expect(await ask()).toMatchObject({ refusal: { rule: 'run_fenced' } });
});

test('N5 a discarded letter is journaled with who did it, and is not retried', async () => {
  const tenant = await world.tenant();
  const { letterNo } = await exhaust(tenant, await tenant.run());
  expect(await tenant.store.discardDeadLetter({ letterNo, ...BY })).toBe('discarded');
  expect(await tenant.store.discardDeadLetter({ letterNo, ...BY })).toBe('already');
  expect(await tenant.store.retryDeadLetter({ letterNo, ...BY })).toMatchObject({ kind: 'refused' });
  expect(await tenant.store.deadLetter(letterNo)).toMatchObject({ state: 'discarded', ...BY });
  const last = (await tenant.journal()).at(-1);
  expect(JSON.parse(last?.facts ?? '')).toMatchObject({ kind: 'discarded', letter: letterNo, actor: 'op-1' });
});

test('N5 T3 a write that did not happen, and whose run is over, is a dead letter: nobody else would ask for it again', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const lost = async (path: string) => {
    const asked = tenant.admission(runId, path);
    await tenant.store.admit(asked);
    const { reviewNo } = await tenant.store.settle(tenant.settlement(asked, { result: 'unknown' }));
    return {
      asked,
      didNotHappen: () =>
        tenant.store.resolveReview({
          reviewNo: reviewNo ?? -1,
          resolution: 'did_not_happen',
          payload: null,
          payloadDigest: null,
          shown: null,
          ...BY,
        }),
    };
  };
  const letters = () => tenant.store.deadLetters({ open: true, limit: 10 });
  const [first, second, third] = [await lost('1.1'), await lost('1.2'), await lost('1.3')];
  // An open run asks for it again by itself.
  await first.didNotHappen();
  expect(await letters()).toEqual([]);
  await close(tenant, runId);
  await second.didNotHappen();
  const [letter] = await letters();
  expect(letter).toMatchObject({ path: '1.2', attempts: 1, refusal: { rule: 'did_not_happen' } });
  const retry = async (temporalRunId: string) => {
    const ordered = await tenant.store.retryDeadLetter({ letterNo: letter?.letterNo ?? -1, ...BY });
    if (ordered.kind !== 'ordered') throw new Error(ordered.kind);
    const followUp = { runId, followUpNo: ordered.followUp.followUpNo, temporalRunId };
    await tenant.store.enterFollowUp(followUp);
    return followUp;
  };
  // A retry that brings no outcome leaves it as it was: its last attempt may still report that it happened.
  await tenant.store.leaveFollowUp({ ...(await retry('retry/1')), outcome: null });
  expect(await letters()).toMatchObject([{ letterNo: letter?.letterNo }]);
  await retry('retry/2');
  const asked = tenant.admission(runId, '1.2', { temporalRunId: 'retry/2' });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted', attempt: 1 });
  await tenant.store.settle(tenant.settlement(asked));
  expect(await letters()).toEqual([]);
  // Wrong: it did.
  await third.didNotHappen();
  expect(await letters()).toMatchObject([{ path: '1.3' }]);
  expect(await tenant.store.settle(tenant.settlement(third.asked))).toMatchObject({ answer: 'reconciled' });
  const [{ letterNo } = { letterNo: -1 }] = await letters();
  expect(await tenant.store.retryDeadLetter({ letterNo, ...BY })).toMatchObject({ kind: 'refused' });
  const counted = recount(await tenant.journal());
  expect(counted.violations).toEqual([]);
  expect(counted.runs[runId]).toMatchObject({ steps: 2, toolCalls: 2 });
  expect(await tenant.store.run(runId)).toMatchObject({ steps: 2, toolCalls: 2 });
});
