import { canonicalJson } from '../../contracts/digest';
import type { PromoteAnswer } from '../../contracts/approvals';
import type { RunId } from '../../contracts/ids';
import {
  approval,
  ask,
  FINANCE,
  HOUR,
  refund,
  requested,
  REQUESTER,
  SUPPORT,
  decide,
  type Asked,
} from './approving';
import { LEASE_MS, LedgerWorld, type LedgerTenant } from './harness';
import { recount } from './recount';

const START = Date.UTC(2025, 2, 10, 12);
const SUGGEST: Asked = { effect: 'suggest' };
const SUGGESTED = { answer: 'refused', refusal: { kind: 'suggested', rule: 'large-refund' } };

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(8);
});
beforeEach(() => world.setClock(new Date(START)));
afterAll(() => world.close());
const at = (ms: number) => world.setClock(new Date(START + ms));

const promote = (tenant: LedgerTenant, runId: RunId, path: string, approver = FINANCE) =>
  tenant.store.approvals.promote({ runId, path, approver, note: 'go on' });

/** Orders the call of a suggestion, and enters it as `promoted/1`. */
async function promoted(tenant: LedgerTenant, runId: RunId, path: string, temporalRunId = 'promoted/1') {
  const answer = await promote(tenant, runId, path);
  if (answer.kind !== 'ordered') throw new Error(JSON.stringify(answer));
  const { followUpNo } = answer.followUp;
  await tenant.store.enterFollowUp({ runId, followUpNo, temporalRunId });
  return {
    ...answer,
    leave: () => tenant.store.leaveFollowUp({ runId, followUpNo, temporalRunId, outcome: null }),
  };
}
const close = (tenant: LedgerTenant, runId: RunId) =>
  tenant.store.leaveRun({ runId, temporalRunId: `${runId}/1`, stopReason: 'completed', outputRef: null });
const AS_FOLLOW_UP = { change: { temporalRunId: 'promoted/1' } };

test('P8 a suggestion is recorded with what would have been sent, and costs nothing, whatever is used up', async () => {
  const tenant = await world.tenant({ callsInFlight: 0, toolCallsPerDay: 0, perRunSteps: 0 });
  const runId = await tenant.run();
  const change = {
    decided: { input: { destination: 'pay.example' } as never, inputDigest: 'd'.repeat(64) as never },
  };
  expect(await ask(tenant, runId, '1.10', { ...SUGGEST, change })).toMatchObject(SUGGESTED);
  expect(await ask(tenant, runId, '1.2', SUGGEST)).toMatchObject(SUGGESTED);
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 0 });
  expect(await tenant.store.run(runId)).toMatchObject({
    state: 'running',
    steps: 0,
    toolCalls: 0,
    spentMicroUsd: 0,
  });
  expect(await tenant.store.call(runId, '1.2')).toMatchObject({ state: 'suggested', attempts: 0 });
  expect(await tenant.store.approvals.suggestions(runId)).toMatchObject([
    { path: '1.2', destination: null },
    {
      runId,
      path: '1.10',
      action: 'payment.refund',
      callClass: 'high_risk_write',
      system: 'helpdesk',
      destination: 'pay.example',
      args: canonicalJson({ amount: 900 }),
      rules: ['large-refund'],
      policyVersion: 1,
      suggestedAt: '2025-03-10T12:00:00.000000Z',
      approvalNo: null,
    },
  ]);
  // It is the end of the call: the same answer again, and never another call in its place.
  expect(await ask(tenant, runId, '1.2', SUGGEST)).toMatchObject({
    answer: 'replayed',
    outcome: { state: 'suggested', refusal: { kind: 'suggested' } },
  });
  expect(
    await tenant.store.admit({
      ...refund(tenant, runId, '1.2'),
      verdict: { effect: 'allow', rules: ['all'] },
    }),
  ).toMatchObject({
    answer: 'replayed',
  });
  expect(await ask(tenant, runId, '1.2', { ...SUGGEST, args: { amount: 1 } })).toMatchObject({
    refusal: { kind: 'idempotency_conflict' },
  });
  expect((await tenant.journal()).filter(({ facts }) => facts.includes('"suggested"')).length).toBe(2);
});

test('P8 a read under suggest gives up its lost attempt, slot and all, and is suggested', async () => {
  const tenant = await world.tenant({ callsInFlight: 1 });
  const runId = await tenant.run();
  const change = { callClass: 'read', action: 'web.search' } as const;
  const first = tenant.admission(runId, '1.1', { ...change, digest: refund(tenant, runId, '1.1').digest });
  await tenant.store.admit(first);
  await at(LEASE_MS);
  expect(await ask(tenant, runId, '1.1', { ...SUGGEST, change })).toMatchObject(SUGGESTED);
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 1 });
  expect(
    await tenant.store.settle(
      tenant.settlement(first, { charge: { toolCalls: 0, microUsd: 0, modelTokens: 0 } }),
    ),
  ).toMatchObject({
    answer: 'late',
  });
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 0 });
  const counted = recount(await tenant.journal());
  expect(counted).toMatchObject({ inflight: 0, violations: [] });
});

test('P8 P4 an approval turns it into a call, made once, under its own key and through all of admission', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await ask(tenant, runId, '1.1', SUGGEST);
  await close(tenant, runId);
  await at(5_000);
  const done = await promoted(tenant, runId, '1.1');
  expect(done).toMatchObject({
    approval: {
      kind: 'suggestion',
      state: 'approved',
      approver: FINANCE.principal,
      note: 'go on',
      usedAt: null,
    },
    followUp: { kind: 'retry', reason: 'retry', path: '1.1', actor: FINANCE.principal },
    signed: { envelope: { runId } },
  });
  expect(await promote(tenant, runId, '1.1')).toMatchObject({
    kind: 'already',
    approval: { approvalNo: done.approval.approvalNo },
    followUp: { followUpNo: done.followUp.followUpNo },
  });
  expect(await tenant.store.approvals.suggestions(runId)).toMatchObject([
    { approvalNo: done.approval.approvalNo },
  ]);
  const asked = refund(tenant, runId, '1.1', { ...SUGGEST, ...AS_FOLLOW_UP });
  expect(await ask(tenant, runId, '1.1', SUGGEST)).toMatchObject({ refusal: { rule: 'run_closed' } });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted', attempt: 1 });
  const { rows } = await world.admin.query(
    `select first_claimed_at from bulkhead.calls where tenant_id = $1`,
    [tenant.tenantId],
  );
  expect(rows).toEqual([{ first_claimed_at: new Date(START + 5_000) }]);
  await tenant.store.settle(tenant.settlement(asked));
  await done.leave();
  expect(await tenant.store.call(runId, '1.1')).toMatchObject({ state: 'succeeded' });
  expect(await promote(tenant, runId, '1.1')).toMatchObject({ kind: 'already' });
  expect(await approval(tenant, done.approval.approvalNo)).toMatchObject({ usedAt: expect.any(String) });
  const counted = recount(await tenant.journal());
  expect(counted).toMatchObject({ inflight: 0, violations: [], runs: { [runId]: { toolCalls: 1 } } });
});

test('P8 racers turn it into one call', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await ask(tenant, runId, '1.1', SUGGEST);
  const answers = await Promise.all(Array.from({ length: 8 }, () => promote(tenant, runId, '1.1')));
  expect(answers.map(({ kind }) => kind).sort()).toEqual([...Array<string>(7).fill('already'), 'ordered']);
  const numbers = answers.map(
    (answer) => (answer as PromoteAnswer & { kind: 'ordered' }).followUp.followUpNo,
  );
  expect(new Set(numbers).size).toBe(1);
  expect(await tenant.store.followUps(runId)).toHaveLength(1);
  expect(await tenant.store.approvals.list({ open: false, limit: 9 })).toHaveLength(1);
});

test.each<[string, Asked, string]>([
  ['other rules', { terms: { rules: ['another'] } }, 'another'],
  ['other people', { terms: { roles: [['director']] } }, 'large-refund'],
  ['another schema', { schema: 'v2' }, 'large-refund'],
])('P8 P10 under %s than it was approved for it is a suggestion again', async (_, changed, rule) => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await ask(tenant, runId, '1.1', SUGGEST);
  const first = await promoted(tenant, runId, '1.1');
  expect(await ask(tenant, runId, '1.1', { ...SUGGEST, ...changed, ...AS_FOLLOW_UP })).toMatchObject({
    refusal: { kind: 'suggested', rule },
  });
  await first.leave();
  expect(await approval(tenant, first.approval.approvalNo)).toMatchObject({
    state: 'superseded',
    usedAt: null,
  });
  expect(await tenant.store.call(runId, '1.1')).toMatchObject({ state: 'suggested' });
  expect(await tenant.store.approvals.suggestions(runId)).toMatchObject([
    { approvalNo: null, rules: [rule] },
  ]);
});

test('P8 P4 an approval to promote lets nothing in that is to be approved, nor the other way round', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await ask(tenant, runId, '1.1', SUGGEST);
  const { approval: given } = await promoted(tenant, runId, '1.1');
  const no = await requested(tenant, runId, '1.1', AS_FOLLOW_UP);
  expect(await approval(tenant, given.approvalNo)).toMatchObject({ state: 'superseded' });
  await decide(tenant, no);
  expect(await ask(tenant, runId, '1.1', { ...SUGGEST, ...AS_FOLLOW_UP })).toMatchObject(SUGGESTED);
  expect(await approval(tenant, no)).toMatchObject({ state: 'superseded', usedAt: null });
});

test('P8 not used in its time, or without an outcome, it is a suggestion again, and can be promoted anew', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await ask(tenant, runId, '1.1', SUGGEST);
  const late = await promoted(tenant, runId, '1.1');
  await at(HOUR);
  expect(await ask(tenant, runId, '1.1', { ...SUGGEST, ...AS_FOLLOW_UP })).toMatchObject(SUGGESTED);
  await late.leave();
  // Nor one that its follow-up never asked with.
  const unasked = await promoted(tenant, runId, '1.1');
  await unasked.leave();
  expect(await approval(tenant, unasked.approval.approvalNo)).toMatchObject({
    state: 'superseded',
    usedAt: null,
  });
  const down = await promoted(tenant, runId, '1.1');
  const asked = refund(tenant, runId, '1.1', { ...SUGGEST, ...AS_FOLLOW_UP });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
  await tenant.store.settle(tenant.settlement(asked, { result: 'open' }));
  await down.leave();
  expect(await tenant.store.call(runId, '1.1')).toMatchObject({
    state: 'suggested',
    refusal: { kind: 'suggested' },
  });
  const again = await promoted(tenant, runId, '1.1', 'promoted/2');
  expect(again.approval.approvalNo).toBeGreaterThan(down.approval.approvalNo);
  const change = { temporalRunId: 'promoted/2' };
  expect(await ask(tenant, runId, '1.1', { ...SUGGEST, change })).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.deadLetters({ open: false, limit: 9 })).toEqual([]);
});

test('P8 P4 who may not approve it, and what has moved on, is refused in words', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const refused = (words: string) => ({ kind: 'refused', message: expect.stringContaining(words) });
  await ask(tenant, runId, '1.1', SUGGEST);
  expect(await promote(tenant, runId, '1.9')).toEqual({ kind: 'absent' });
  expect(await promote(tenant, runId, '1.1', SUPPORT)).toMatchObject(refused('finance'));
  expect(await promote(tenant, runId, '1.1', { principal: REQUESTER, roles: ['finance'] })).toMatchObject(
    refused('asked for the run'),
  );
  expect(await promote(await world.tenant(), runId, '1.1')).toEqual({ kind: 'absent' });
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  expect(await promote(tenant, runId, '1.1')).toMatchObject(refused('release it first'));
  await tenant.store.release({ reason: 'x', actor: 'op' });
  expect(await promote(tenant, runId, '1.1')).toMatchObject(refused('accepted under'));
  expect(await tenant.store.call(runId, '1.1')).toMatchObject({ state: 'suggested' });
  // What a person has refused is not approved as a suggestion.
  const other = await tenant.run();
  await decide(tenant, await requested(tenant, other, '1.1'), FINANCE, 'deny');
  expect(await ask(tenant, other, '1.1', SUGGEST)).toMatchObject(SUGGESTED);
  expect(await promote(tenant, other, '1.1')).toMatchObject(refused('refused this very call'));
});

test('T3 P8 a write that a person was wrong about is known to have happened, although it was suggested since', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const sent = { ...refund(tenant, runId, '1.1'), verdict: { effect: 'allow', rules: ['all'] } } as const;
  await tenant.store.admit(sent);
  const { reviewNo } = await tenant.store.settle(tenant.settlement(sent, { result: 'unknown' }));
  await tenant.store.resolveReview({
    reviewNo: reviewNo ?? 0,
    resolution: 'did_not_happen',
    payload: null,
    payloadDigest: null,
    shown: null,
    actor: 'op',
    note: '',
  });
  expect(await ask(tenant, runId, '1.1', SUGGEST)).toMatchObject(SUGGESTED);
  expect(await tenant.store.settle(tenant.settlement(sent))).toMatchObject({ answer: 'reconciled' });
  expect(await tenant.store.call(runId, '1.1')).toMatchObject({ state: 'succeeded' });
  expect(await promote(tenant, runId, '1.1')).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('moved on'),
  });
  expect(recount(await tenant.journal())).toMatchObject({
    inflight: 0,
    violations: [],
    runs: { [runId]: { toolCalls: 1, steps: 1 } },
  });
});
