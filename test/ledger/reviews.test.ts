import { type RunId } from '../../contracts/ids';
import { outsideKey } from '../../contracts/digest';
import type { AdmitRequest } from '../../contracts/ledger';
import { digest, ENVIRONMENT, LEASE_MS, LedgerWorld, refusal, type LedgerTenant } from './harness';
import { recount } from './recount';

let world: LedgerWorld;
const NOON = Date.UTC(2025, 2, 10, 12);
const at = (ms: number) => world.setClock(new Date(NOON + ms));

beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(0));

const lost = refusal({
  kind: 'outcome_unknown',
  origin: 'provider',
  rule: 'answer_lost',
  rules: ['answer_lost'],
});
const BY = { actor: 'op-1', note: 'looked it up' };
const NOTHING = { payload: null, payloadDigest: null, shown: null };
const PAYLOAD = { kind: 'tool_result', action: 'ticket.update', result: { id: 'T-1' } } as never;

/** A write whose answer was lost: charged, and in review. */
async function doubtful(tenant: LedgerTenant, runId: RunId, path = '1.1') {
  const asked = tenant.admission(runId, path);
  await tenant.store.admit(asked);
  const settled = await tenant.store.settle(tenant.settlement(asked, { result: 'unknown', refusal: lost }));
  return { asked, reviewNo: settled.reviewNo ?? -1 };
}
const counters = async (tenant: LedgerTenant, runId: RunId) => {
  const run = await tenant.store.run(runId);
  return { day: (await tenant.row()).tool_day_used, steps: run?.steps, toolCalls: run?.toolCalls };
};
const again = (asked: AdmitRequest, tenant: LedgerTenant, change: Partial<AdmitRequest> = {}) =>
  tenant.store.admit({ ...tenant.admission(asked.runId, asked.path), digest: asked.digest, ...change });

test('T3 a write whose outcome is not known opens one review, which its answer names, and nobody else sees', async () => {
  const tenant = await world.tenant();
  const other = await world.tenant();
  const runId = await tenant.run();
  const { asked, reviewNo } = await doubtful(tenant, runId);
  expect((await tenant.journal()).find(({ seq }) => seq === reviewNo)?.facts).toContain('"outcome_unknown"');
  expect(await again(asked, tenant)).toMatchObject({
    answer: 'replayed',
    outcome: { state: 'unknown', reviewNo, refusal: lost },
  });
  expect(
    await tenant.store.settle(tenant.settlement(asked, { result: 'unknown', refusal: lost })),
  ).toMatchObject({
    answer: 'already',
    reviewNo,
  });
  expect(await tenant.store.reviews({ open: true, limit: 10 })).toEqual([
    {
      reviewNo,
      runId,
      path: '1.1',
      action: 'ticket.update',
      callClass: 'write',
      system: 'helpdesk',
      kind: 'outcome_unknown',
      refusal: lost,
      idempotencyKey: outsideKey(tenant.tenantId, ENVIRONMENT, runId, '1.1'),
      openedAt: '2025-03-10T12:00:00.000000Z',
      resolvedAt: null,
      resolution: null,
      actor: null,
      note: null,
    },
  ]);
  expect(await tenant.store.call(runId, '1.1')).toMatchObject({
    state: 'unknown',
    reviewNo,
    reversible: 'compensable',
  });
  expect(await other.store.reviews({ open: false, limit: 10 })).toEqual([]);
  expect(await other.store.review(reviewNo)).toBeUndefined();
  expect(await other.store.resolveReview({ reviewNo, resolution: 'abandon', ...NOTHING, ...BY })).toEqual({
    kind: 'absent',
  });
});

test('T3 happened: the result is recorded, the charge stays, and the run is answered with it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const { asked, reviewNo } = await doubtful(tenant, runId);
  const before = await counters(tenant, runId);
  await expect(
    tenant.store.resolveReview({ reviewNo, resolution: 'happened', ...NOTHING, ...BY }),
  ).rejects.toMatchObject({ code: 'BH020' });
  const resolve = {
    reviewNo,
    resolution: 'happened',
    payload: PAYLOAD,
    payloadDigest: digest('p'),
    shown: null,
    ...BY,
  } as const;
  expect(await tenant.store.resolveReview(resolve)).toMatchObject({
    kind: 'resolved',
    review: { resolution: 'happened', ...BY },
  });
  expect(await tenant.store.resolveReview({ ...resolve, resolution: 'abandon' })).toMatchObject({
    kind: 'already',
    review: { resolution: 'happened' },
  });
  expect(await again(asked, tenant)).toMatchObject({
    answer: 'replayed',
    outcome: { state: 'succeeded', ref: '1.1', digest: digest('p'), refusal: null, reviewNo: null },
  });
  expect(await tenant.store.payload(runId, '1.1')).toEqual(PAYLOAD);
  expect(await counters(tenant, runId)).toEqual(before);
  const entry = (await tenant.journal()).find(({ facts }) => facts.includes('"reviewed"'));
  expect(JSON.parse(entry?.facts ?? '')).toMatchObject({
    review: reviewNo,
    resolution: 'happened',
    actor: 'op-1',
  });
  expect(entry?.body).toBe('{"note":"looked it up"}');
});

test('T3 did not happen: all of it is given back, and the same key is let in anew, its attempts anew', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const before = await counters(tenant, runId);
  const { asked, reviewNo } = await doubtful(tenant, runId);
  await tenant.store.resolveReview({ reviewNo, resolution: 'did_not_happen', ...NOTHING, ...BY });
  expect(await counters(tenant, runId)).toEqual(before);
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  expect(await again(asked, tenant)).toMatchObject({ answer: 'refused', refusal: { rule: 'tenant_killed' } });
  const fresh = await world.tenant();
  const freshRun = await fresh.run();
  const second = await doubtful(fresh, freshRun);
  await fresh.store.resolveReview({
    reviewNo: second.reviewNo,
    resolution: 'did_not_happen',
    ...NOTHING,
    ...BY,
  });
  expect(await again(second.asked, fresh, { digest: digest('other') })).toMatchObject({
    answer: 'refused',
    refusal: { rule: 'idempotency_conflict' },
  });
  expect(await again(second.asked, fresh)).toMatchObject({ answer: 'admitted', attempt: 1 });
});

test('T3 abandoned: the call has failed for good, and its answer says who gave it up', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const { asked, reviewNo } = await doubtful(tenant, runId);
  await tenant.store.resolveReview({ reviewNo, resolution: 'abandon', ...NOTHING, ...BY });
  expect(await again(asked, tenant)).toMatchObject({
    answer: 'replayed',
    outcome: {
      state: 'failed',
      refusal: { kind: 'outcome_unknown', origin: 'control', rule: 'review_abandoned' },
    },
  });
});

test('T3 the last attempt’s late success closes the review, or corrects what a person said of it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const open = await doubtful(tenant, runId, '1.1');
  expect(await tenant.store.settle(tenant.settlement(open.asked))).toMatchObject({
    answer: 'reconciled',
    reviewNo: null,
  });
  expect(await tenant.store.review(open.reviewNo)).toMatchObject({
    resolution: 'happened',
    actor: 'late settlement',
  });

  for (const resolution of ['did_not_happen', 'abandon'] as const) {
    const { asked, reviewNo } = await doubtful(tenant, runId, `2.${resolution.length}`);
    await tenant.store.resolveReview({ reviewNo, resolution, ...NOTHING, ...BY });
    expect(await tenant.store.settle(tenant.settlement(asked))).toMatchObject({ answer: 'reconciled' });
    expect(await tenant.store.call(runId, asked.path)).toMatchObject({ state: 'succeeded' });
    expect(await again(asked, tenant)).toMatchObject({ answer: 'replayed', outcome: { state: 'succeeded' } });
  }
  // Once it is claimed anew, the old attempt's word is evidence and no more.
  const { asked, reviewNo } = await doubtful(tenant, runId, '3.1');
  await tenant.store.resolveReview({ reviewNo, resolution: 'did_not_happen', ...NOTHING, ...BY });
  expect(await again(asked, tenant)).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.settle(tenant.settlement(asked))).toMatchObject({ answer: 'late' });
  const counted = recount(await tenant.journal());
  expect(counted.violations).toEqual([]);
  expect(counted.runs[runId]).toMatchObject({ steps: 4, toolCalls: 4 });
  expect(await counters(tenant, runId)).toEqual({ day: 4, steps: 4, toolCalls: 4 });
});

test('T3 a write that its closed run left behind is reaped into a review; while a follow-up is at work it is left alone', async () => {
  const tenant = await world.tenant();
  const [runId, undone] = [await tenant.run(), await tenant.run()];
  for (const run of [runId, undone]) await tenant.store.admit(tenant.admission(run, '1.1'));
  const leave = { temporalRunId: null, stopReason: 'terminated', outputRef: null } as const;
  await tenant.store.leaveRun({ runId, ...leave });
  await tenant.store.leaveRun({ runId: undone, ...leave, undo: { onFailure: true, onKill: false } });
  await at(LEASE_MS);
  await world.platform.reapCalls(100);
  expect(await tenant.store.reviews({ open: true, limit: 10 })).toMatchObject([
    { runId, kind: 'outcome_unknown', refusal: { rule: 'lost' } },
  ]);
  expect(await tenant.store.call(undone, '1.1')).toMatchObject({ state: 'claimed' });
});

test('T4 E4 a mismatch at read-back and an ambiguous record are items of their own kind; a read can only be abandoned', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const settle = async (path: string, kind: 'read_back_mismatch' | 'scope_ambiguous', read: boolean) => {
    const asked = tenant.admission(runId, path, { callClass: read ? 'read' : 'write' });
    await tenant.store.admit(asked);
    const why = refusal({ kind, rule: kind, rules: [kind] });
    const result = kind === 'read_back_mismatch' ? 'unknown' : 'failed';
    return { asked, ...(await tenant.store.settle(tenant.settlement(asked, { result, refusal: why }))) };
  };
  const mismatch = await settle('1.1', 'read_back_mismatch', false);
  const ambiguous = await settle('1.2', 'scope_ambiguous', true);
  expect(await tenant.store.reviews({ open: true, limit: 10 })).toMatchObject([
    { reviewNo: ambiguous.reviewNo, kind: 'scope_ambiguous' },
    { reviewNo: mismatch.reviewNo, kind: 'read_back_mismatch' },
  ]);
  const reviewNo = ambiguous.reviewNo ?? -1;
  await expect(
    tenant.store.resolveReview({ reviewNo, resolution: 'did_not_happen', ...NOTHING, ...BY }),
  ).rejects.toThrow(/only be abandoned/);
  // Asked again in other words while the item is open: that item is over, and what comes of it now is one of its own.
  const reworded = tenant.admission(runId, '1.2', { callClass: 'read', digest: digest('reworded') });
  expect(await tenant.store.admit(reworded)).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.review(reviewNo)).toMatchObject({
    resolution: 'abandon',
    actor: 'ledger',
    note: expect.stringMatching(/^superseded/) as unknown,
  });
  const why = refusal({ kind: 'scope_ambiguous' });
  const settled = await tenant.store.settle(tenant.settlement(reworded, { result: 'failed', refusal: why }));
  expect(settled.reviewNo).toBeGreaterThan(reviewNo);
  expect(
    await tenant.store.resolveReview({
      reviewNo: settled.reviewNo ?? -1,
      resolution: 'abandon',
      ...NOTHING,
      ...BY,
    }),
  ).toMatchObject({ kind: 'resolved' });
  expect(recount(await tenant.journal()).violations).toEqual([]);
  expect(await tenant.verify()).toEqual({ intact: true });
});

test.each([
  ['settled', LEASE_MS],
  ['reaped', 1_000],
] as const)(
  'T3 a write where a read in review was, %s as unknown, is an item of its own',
  async (how, leaseMs) => {
    const tenant = await world.tenant();
    const runId = await tenant.run();
    const read = tenant.admission(runId, '1.1', { callClass: 'read' });
    await tenant.store.admit(read);
    const ambiguous = refusal({ kind: 'scope_ambiguous' });
    const before = await tenant.store.settle(
      tenant.settlement(read, { result: 'failed', refusal: ambiguous }),
    );
    const write = tenant.admission(runId, '1.1', { digest: digest('a write'), leaseMs });
    expect(await tenant.store.admit(write)).toMatchObject({ answer: 'admitted' });
    if (how === 'settled')
      await tenant.store.settle(tenant.settlement(write, { result: 'unknown', refusal: lost }));
    else {
      await tenant.store.leaveRun({
        runId,
        temporalRunId: null,
        stopReason: 'completed',
        outputRef: null,
        undo: { onFailure: false, onKill: false },
      });
      await at(2_000);
      expect(await world.platform.reapCalls(100)).toBe(1);
    }
    const open = await tenant.store.reviews({ open: true, limit: 10 });
    expect(open).toMatchObject([{ runId, path: '1.1', kind: 'outcome_unknown', callClass: 'write' }]);
    expect(open[0]?.reviewNo).toBeGreaterThan(before.reviewNo ?? Infinity);
    expect(await tenant.store.call(runId, '1.1')).toMatchObject({
      state: 'unknown',
      reviewNo: open[0]?.reviewNo,
    });
  },
);

test('T3 what a look-up is told: how long ago the last attempt that could send was over', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const blind = { keyValidMs: null };
  await tenant.store.admit(tenant.admission(runId, '1.1', blind));
  await at(LEASE_MS + 400);
  const first = tenant.admission(runId, '1.1', blind);
  const looking = { answer: 'recover', lookupOnly: true };
  expect(await tenant.store.admit(first)).toMatchObject({ ...looking, quietMs: 400 });
  await at(LEASE_MS + 900);
  expect(await tenant.store.admit(first)).toMatchObject({ ...looking, quietMs: 400 });
  // It only looked, so the clock still runs from the attempt before it.
  await at(2 * LEASE_MS + 1_000);
  expect(await tenant.store.admit(tenant.admission(runId, '1.1', blind))).toMatchObject({
    ...looking,
    quietMs: LEASE_MS + 1_000,
  });
  // One that may send again moves it.
  await tenant.store.admit(tenant.admission(runId, '1.2'));
  await at(3 * LEASE_MS + 1_000);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({
    lookupOnly: false,
    quietMs: 0,
  });
  await at(4 * LEASE_MS + 1_007);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({
    lookupOnly: false,
    quietMs: 7,
  });
});

test('T3 a workflow that has not entered the run takes a write over only to look it up', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  await at(LEASE_MS);
  expect(await tenant.store.admit(tenant.admission(runId, '1.1', { temporalRunId: 'reset' }))).toMatchObject({
    answer: 'recover',
    lookupOnly: true,
  });
});
