import { controlWorkflowId } from '../../contracts/workflow-ids';
import type { TenantId } from '../../contracts/ids';
import { QUERIES, SIGNALS } from '../../contracts/workflow-io';
import type { Run } from '../../client/run';
import { plays, startModel, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';

/** Calls at a time, and runs that want one. */
const CEILING = 2;
const RUNS = 6;
const TENANTS = ['acme', 'globex', 'initech'] as const;

let stack: TestStack;
let outside: Outside;
let model: TestModel;

beforeAll(async () => {
  [stack, outside, model] = await Promise.all([createTestStack(), startOutside('acct'), startModel(plays())]);
  for (const name of TENANTS)
    await readyTenant(stack, {
      name,
      keeper: outside.url,
      models: model.url,
      ceiling: CEILING,
      limits: `{ callsInFlight: ${CEILING} }`,
      perRun: '{ steps: 500 }',
      rules: `  - { id: all, effect: allow, actions: ["*"] }
  - { id: large, effect: approve, actions: [payment.send], approvers: { roles: [payer] } }`,
    });
  // Payments are asked for once; everything else is written slowly and without end.
  model.script = ({ moves, input }) =>
    input.startsWith('pays')
      ? moves === 0
        ? { call: [['payment.send', { recordId: 'r1', amountCents: 9_900 }]] }
        : { say: 'paid' }
      : { call: [['note.write', { recordId: 'r1', text: `${input} ${moves}` }]] };
});

afterAll(async () => {
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});

const median = (of: number[]): number => [...of].sort((a, b) => a - b)[Math.floor(of.length / 2)] ?? NaN;

async function waitsForApproval(run: Run): Promise<number> {
  const handle = stack.temporal.workflow.getHandle(run.workflowId);
  const shown = await until(
    'a run that waits for approval',
    async () => {
      const state = await handle
        .query<{ state: string; approvalNo: number | null }>(QUERIES.runState)
        .catch(() => undefined);
      return state?.state === 'approval_required' ? state : undefined;
    },
    40_000,
  );
  return shown.approvalNo ?? NaN;
}

/** Milliseconds from a decision to the moment at which the run's workflow goes on: its next activity is scheduled. */
async function wentOn(run: Run, decidedAt: number): Promise<number> {
  const handle = stack.temporal.workflow.getHandle(run.workflowId);
  const scheduledAt = await until(
    'a run that goes on',
    async () => {
      const { events } = await handle.fetchHistory();
      const hint = events?.findLast(
        ({ workflowExecutionSignaledEventAttributes: signal }) =>
          signal?.signalName === SIGNALS.approvalDecided,
      );
      const next = events?.find(
        ({ eventId, activityTaskScheduledEventAttributes: scheduled }) =>
          scheduled && hint && Number(eventId) > Number(hint.eventId),
      );
      const at = next?.eventTime;
      return at ? Number(at.seconds) * 1_000 + (at.nanos ?? 0) / 1e6 : undefined;
    },
    40_000,
  );
  return scheduledAt - decidedAt;
}

test('N4 O1 with every lane saturated, a signal fences and an approved run goes on, each within a second', async () => {
  const paying = await Promise.all(TENANTS.map((tenant) => stack.run(tenant, `pays ${tenant}`)));
  const asked = await Promise.all(paying.map(waitsForApproval));
  outside.faults = { delayMs: 2_000 };
  await Promise.all(
    TENANTS.flatMap((tenant) => Array.from({ length: RUNS }, (_, n) => stack.run(tenant, `${tenant} ${n}`))),
  );
  const full = async (): Promise<boolean> => {
    const claimed = await Promise.all(TENANTS.map((tenant) => stack.store(tenant).claimedCalls({})));
    return claimed.every((calls) => calls === CEILING);
  };
  await until('lanes that are full', full, 60_000);

  const approvals: number[] = [];
  for (const [index, tenant] of TENANTS.entries()) {
    const run = paying[index] as Run;
    const decidedAt = Date.now();
    await stack.store(tenant).approvals.decide({
      approvalNo: asked[index] as number,
      decision: 'approve',
      approver: { principal: 'user:payer', roles: ['payer'] },
      note: 'looked at it',
    });
    await stack.temporal.workflow.getHandle(run.workflowId).signal(SIGNALS.approvalDecided);
    approvals.push(await wentOn(run, decidedAt));
  }
  expect(median(approvals)).toBeLessThan(1_000);
  await until('lanes that are full', full, 60_000);

  const fences: number[] = [];
  for (const tenant of TENANTS) {
    const at = Date.now();
    await stack.temporal.workflow
      .getHandle(controlWorkflowId(tenant as TenantId, stack.environment))
      .signal('kill');
    const fenced = await until('a fence', async () => {
      const state = await stack.store(tenant).control();
      return state?.fencedAt ? state : undefined;
    });
    fences.push(Date.parse(fenced.fencedAt ?? '') - at);
  }
  expect(median(fences)).toBeLessThan(1_000);
}, 180_000);
