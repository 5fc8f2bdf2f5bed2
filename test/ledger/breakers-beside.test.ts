import { randomUUID } from 'node:crypto';
import type { AdmitRequest } from '../../contracts/ledger';
import { because, breakerGround, down, OPEN } from './breaker-ground';
import { TERMS } from './breaker-model';
import { LEASE_MS } from './harness';
import { recount } from './recount';

/** What an open breaker means for everything else that a call goes through: attempts, recovery, undo, kill, limits, the state of its run. */

const { pass, fresh, ends, trip, halfOpen, opened } = breakerGround();

test('N5 an open breaker takes no attempt away; one call that always fails ends as a dead letter and opens nothing', async () => {
  const { tenant, runId } = await opened();
  for (let attempt = 1; attempt <= 8; attempt += 1) {
    const asked = tenant.admission(runId, 'poison');
    expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted', attempt });
    await tenant.store.settle(tenant.settlement(asked, { result: 'open', refusal: down }));
  }
  expect(await tenant.store.admit(tenant.admission(runId, 'poison'))).toMatchObject({
    refusal: { origin: 'provider', rule: 'attempts_exhausted' },
  });
  expect(await tenant.store.deadLetters({ open: true, limit: 5 })).toMatchObject([
    { path: 'poison', attempts: 8 },
  ]);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'closed', failures: 8 }]);
  await ends(tenant, runId);
  const waiting = tenant.admission(runId, 'patient');
  await tenant.store.admit(waiting);
  await tenant.store.settle(tenant.settlement(waiting, { result: 'open', refusal: down }));
  for (let turn = 0; turn < 20; turn += 1)
    expect(await tenant.store.admit(tenant.admission(runId, 'patient'))).toMatchObject({ refusal: OPEN });
  expect(await tenant.store.call(runId, 'patient')).toMatchObject({ state: 'open', attempts: 1 });
  await pass(TERMS.first);
  expect(await tenant.store.admit(tenant.admission(runId, 'patient'))).toMatchObject({
    answer: 'admitted',
    attempt: 2,
  });
});

test('N5 T3 a write that may have been sent is recovered also while its system is left alone, and that decides nothing', async () => {
  const { tenant, runId } = await opened();
  const lost = fresh(tenant, runId);
  await tenant.store.admit(lost);
  await pass(LEASE_MS);
  await trip(tenant, runId);
  const again = { ...lost, token: randomUUID() };
  expect(await tenant.store.admit(again)).toMatchObject({ answer: 'recover', lookupOnly: false });
  await tenant.store.settle(tenant.settlement(again));
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open' }]);
});

test('N5 T5 an undo waits for its system like any call, keeps its attempts, and opens no review', async () => {
  const { tenant, runId } = await opened();
  const write = tenant.admission(runId, '0.1');
  await tenant.store.admit(write);
  await tenant.store.settle(tenant.settlement(write));
  await trip(tenant, runId);
  await tenant.store.beginUndo({ runId, temporalRunId: `${runId}/1` });
  const undo = () =>
    tenant.store.admit(
      tenant.admission(runId, '0.1/undo', {
        undoOf: '0.1',
        reserve: { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 },
      }),
    );
  for (let turn = 0; turn < 10; turn += 1) expect(await undo()).toMatchObject({ refusal: OPEN });
  expect(await tenant.store.reviews({ open: true, limit: 5 })).toEqual([]);
  await pass(TERMS.first);
  expect(await undo()).toMatchObject({ answer: 'admitted', attempt: 1 });
});

test('N5 trouble of a call that stays claimed counts, of the attempt that holds it alone', async () => {
  const { tenant, runId } = await opened();
  const told = async (asked: AdmitRequest, why = down) =>
    tenant.store.trouble({ runId, path: asked.path, token: asked.token, refusal: why });
  const held = Array.from({ length: TERMS.failures }, () => fresh(tenant, runId));
  for (const asked of held) {
    await tenant.store.admit(asked);
    await told({ ...asked, token: randomUUID() });
    await told(asked, because({ kind: 'failed', origin: 'platform', rule: 'aborted' }));
  }
  expect(await tenant.store.breakers()).toEqual([]);
  for (const asked of held) await told(asked);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open', openings: 1 }]);
  await pass(TERMS.first);
  const probe = fresh(tenant, runId);
  await tenant.store.admit(probe);
  await told(probe);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open', openings: 2 }]);
  await tenant.store.settle(tenant.settlement(probe));
  await told(probe);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open', openings: 2 }]);
  expect(recount(await tenant.journal()).violations).toEqual([]);
  expect(await tenant.verify()).toMatchObject({ intact: true });
});

test('N5 O1 a kill comes before the breaker, cuts a probe off without a verdict, and leaves it as it stands', async () => {
  const { tenant, runId } = await opened();
  await halfOpen(tenant, runId);
  const probe = fresh(tenant, runId);
  await tenant.store.admit(probe);
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({
    refusal: { rule: 'tenant_killed' },
  });
  await tenant.store.settle(
    tenant.settlement(probe, {
      result: 'open',
      refusal: because({ kind: 'failed', origin: 'platform', rule: 'aborted' }),
    }),
  );
  await tenant.store.release({ reason: 'x', actor: 'op' });
  const later = await tenant.run();
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'half_open' }]);
  expect(await tenant.store.admit(fresh(tenant, later))).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.admit(fresh(tenant, later))).toMatchObject({ refusal: OPEN });
});

test('N5 a probe that another limit refuses is none: its place stays free', async () => {
  const { tenant, runId } = await opened({ callsInFlight: 1 });
  await halfOpen(tenant, runId);
  const other = fresh(tenant, runId, { system: 'payments' });
  await tenant.store.admit(other);
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({
    refusal: { rule: 'calls_in_flight' },
  });
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open' }]);
  await tenant.store.settle(tenant.settlement(other));
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({ answer: 'admitted' });
});

test('N5 Q3 a run that waits long for a system says so, until a call of it is let in again', async () => {
  const { tenant, runId } = await opened();
  await halfOpen(tenant, runId);
  await ends(tenant, runId);
  await tenant.store.admit(fresh(tenant, runId));
  expect(await tenant.store.run(runId)).toMatchObject({ state: 'running' });
  await pass(2 * TERMS.first);
  await ends(tenant, runId);
  await tenant.store.admit(fresh(tenant, runId));
  expect(await tenant.store.run(runId)).toMatchObject({ state: 'provider_degraded' });
  await pass(4 * TERMS.first);
  await tenant.store.admit(fresh(tenant, runId));
  expect(await tenant.store.run(runId)).toMatchObject({ state: 'running' });
});
