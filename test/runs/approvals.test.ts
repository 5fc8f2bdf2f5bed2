import { defaultPayloadConverter } from '@temporalio/common';
import { canonicalJson } from '../../contracts/digest';
import { controlWorkflowId } from '../../contracts/workflow-ids';
import { policyYaml } from '../support/tenants';
import { until } from '../support/until';
import { asksFor, decide, payment, requestsOf, shownBy, waitsForApproval, wake } from './approving';
import { call, openDesk, type Desk } from './desk';

let desk: Desk;
beforeAll(async () => {
  desk = await openDesk();
});
beforeEach(() => {
  desk.outside.faults = {};
});
afterAll(() => desk.close());

/** Bodies of what was sent since the mark. */
const sentSince = (mark: number): unknown[] => desk.outside.effects.slice(mark).map(({ body }) => body);

/** A run of a tenant of its own that waits for its payment to be approved. */
async function waiting(tenant: string, rules = asksFor()) {
  await desk.tenant(tenant, { rules });
  const mark = desk.outside.effects.length;
  const run = await desk.begin(tenant, [call(payment(9_900))]);
  const approval = await waitsForApproval(desk, tenant, run);
  return { run, mark, approval };
}

test('P4 N1 a run waits for a person without slot or worker, says so in plain words, and what was shown is sent, once', async () => {
  const { run, mark, approval } = await waiting('acme');
  expect(approval).toMatchObject({
    runId: run.runId,
    path: '0.1',
    action: 'payment.send',
    callClass: 'high_risk_write',
    system: 'keeper',
    destination: '127.0.0.1',
    args: canonicalJson({ recordId: 'r1', amountCents: 9_900 }),
    kind: 'rule',
    terms: { rules: ['large'], roles: [['payer']], notRequester: true },
    requester: 'user:tester',
    state: 'pending',
  });
  const handle = desk.stack.temporal.workflow.getHandle(run.workflowId);
  const { raw } = await until('no activity under way', async () => {
    const described = await handle.describe();
    return described.raw.pendingActivities?.length ? undefined : described;
  });
  const attribute = raw.workflowExecutionInfo?.searchAttributes?.indexedFields?.['RunState'];
  expect(attribute && defaultPayloadConverter.fromPayload(attribute)).toBe('approval_required');
  expect(await desk.stack.store('acme').claimedCalls({ runId: run.runId as never })).toBe(0);
  expect(await shownBy(desk, run)).toMatchObject({
    detail: `waits for approval ${approval.approvalNo} of payment.send; \`bulkhead approval show ${approval.approvalNo}\``,
  });
  // Neither Temporal's page of the run nor its history has the arguments.
  const page = JSON.stringify(await handle.query('__temporal_workflow_metadata'));
  expect(page).toContain(`waits for approval ${approval.approvalNo} of payment.send`);
  expect(page).not.toContain('9900');
  expect(JSON.stringify(await handle.fetchHistory())).not.toContain(Buffer.from('9900').toString('base64'));
  // Nothing of it is in the conversation while nobody has spoken.
  expect(await desk.payload('acme', run, '0.1')).toBeUndefined();

  expect(await decide(desk, 'acme', approval, 'approve')).toMatchObject({ kind: 'decided' });
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({
    stopReason: 'completed',
    usage: { toolCalls: 1 },
  });
  expect(sentSince(mark).map(canonicalJson)).toEqual([approval.args]);
  expect(await desk.stack.store('acme').approvals.get(approval.approvalNo)).toMatchObject({
    state: 'approved',
    approver: 'user:payer',
    usedAt: expect.any(String),
  });
  expect(await shownBy(desk, run)).toMatchObject({ state: 'closed', approvalNo: null });
});

test('P4 a hint that nobody has decided changes nothing, and asks for no second request', async () => {
  const { run, mark, approval } = await waiting('hinted');
  await wake(desk, run.workflowId);
  await until('the look', async () => (await answersOf(run.workflowId)) >= 2);
  expect((await waitsForApproval(desk, 'hinted', run)).approvalNo).toBe(approval.approvalNo);
  expect(await requestsOf(desk, 'hinted', run)).toHaveLength(1);
  expect(sentSince(mark)).toEqual([]);
  await decide(desk, 'hinted', approval, 'approve');
  await run.result({ timeoutMs: 40_000 });
  expect(sentSince(mark)).toHaveLength(1);
});

/** Looks at the call that the run's workflow was answered: made, or, while a person is waited for, whether it need be. */
async function answersOf(workflowId: string): Promise<number> {
  const { events = [] } = await desk.stack.temporal.workflow.getHandle(workflowId).fetchHistory();
  const scheduled = (events ?? []).filter(({ activityTaskScheduledEventAttributes: of }) =>
    ['callTool', 'resumeRun'].includes(of?.activityType?.name ?? ''),
  );
  const done = new Set(
    (events ?? []).map(({ activityTaskCompletedEventAttributes: of }) => String(of?.scheduledEventId)),
  );
  return scheduled.filter(({ eventId }) => done.has(String(eventId))).length;
}

test('P4 denied by a person: nothing is sent, and the run ends as approval_denied without asking its model again', async () => {
  const { run, mark, approval } = await waiting('refused');
  const asked = desk.model.requests.length;
  await decide(desk, 'refused', approval, 'deny');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'approval_denied' });
  expect([sentSince(mark), desk.model.requests.length]).toEqual([[], asked]);
});

test('P4 decided by nobody: right after its expiry the run ends as approval_expired, by itself', async () => {
  const { run, mark, approval } = await waiting('late', asksFor('{ roles: [payer], expiresAfter: 4s }'));
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'approval_expired' });
  const closedAt = (await run.row()).closedAt ?? '';
  const afterMs = Date.parse(closedAt) - Date.parse(approval.expiresAt);
  expect(afterMs).toBeGreaterThanOrEqual(0);
  expect(afterMs).toBeLessThan(15_000);
  expect(sentSince(mark)).toEqual([]);
  expect(await decide(desk, 'late', approval, 'approve', { tell: false })).toMatchObject({ kind: 'refused' });
});

test('P4 O1 a kill ends a run that waits, and an approval that comes after it sends nothing', async () => {
  const { run, mark, approval } = await waiting('stopped');
  await desk.stack.temporal.workflow
    .getHandle(controlWorkflowId('stopped' as never, desk.stack.environment))
    .signal('kill');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'killed' });
  await decide(desk, 'stopped', approval, 'approve', { tell: false });
  expect(sentSince(mark)).toEqual([]);
});

test.each([
  ['allows it', '  - { id: all, effect: allow, actions: ["*"] }', 1, 'completed'],
  [
    'forbids it',
    asksFor('{ roles: [payer] }', '\n  - { id: no, effect: forbid, actions: [payment.send] }'),
    0,
    'completed',
  ],
] as const)(
  'P4 P10 a policy published while the run waits is asked on the wake-up: where it now %s, no approval matters',
  async (_says, rules, effects, stopReason) => {
    const tenant = effects === 1 ? 'eased' : 'tightened';
    const { run, mark } = await waiting(tenant);
    await desk.stack.apply(policyYaml(tenant, rules));
    await wake(desk, run.workflowId);
    expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason });
    expect(sentSince(mark)).toHaveLength(effects);
    const kept = await desk.payload(tenant, run, '0.1');
    expect(kept).toMatchObject({ outcome: effects === 1 ? 'done' : 'denied' });
  },
);

test('P4 P10 an approval given does not stand where another rule asks by the time it is used: it is asked for anew', async () => {
  const { run, mark, approval } = await waiting('moved');
  await desk.stack.apply(policyYaml('moved', asksFor('{ roles: [payer] }', OTHER_RULE)));
  await decide(desk, 'moved', approval, 'approve');
  const again = await until('another request', async () => {
    const open = await waitsForApproval(desk, 'moved', run);
    return open.approvalNo === approval.approvalNo ? undefined : open;
  });
  expect(again.terms).toMatchObject({ rules: ['large', 'larger'], roles: [['payer'], ['auditor']] });
  expect(sentSince(mark)).toEqual([]);
  await decide(desk, 'moved', again, 'approve', { roles: ['payer', 'auditor'] });
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  expect(sentSince(mark)).toHaveLength(1);
});
const OTHER_RULE = `
  - { id: larger, effect: approve, actions: [payment.send], approvers: { roles: [auditor] } }`;

test('P4 T3 an approved call whose answer is lost is sent again under its key with the same approval: one effect', async () => {
  const { run, mark, approval } = await waiting('lossy');
  desk.outside.faults = { dropAfterApply: 1 };
  await decide(desk, 'lossy', approval, 'approve');
  expect(await run.result({ timeoutMs: 50_000 })).toMatchObject({ stopReason: 'completed' });
  expect(sentSince(mark)).toHaveLength(1);
  expect(await requestsOf(desk, 'lossy', run)).toHaveLength(1);
});
