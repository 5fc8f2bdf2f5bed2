import type { Run } from '../../client/run';
import type { ApprovalAnswer, ApprovalRow } from '../../contracts/approvals';
import { QUERIES, SIGNALS } from '../../contracts/workflow-io';
import { until } from '../support/until';
import { idOf, type Desk } from './desk';

/** What a waiting run says of itself. */
export interface Shown {
  readonly state: string;
  readonly detail: string;
  readonly approvalNo: number | null;
}

/** Rules of a tenant: everything allowed, and a payment asked for with somebody's yes. */
export const asksFor = (approvers = '{ roles: [payer] }', more = ''): string =>
  `  - { id: all, effect: allow, actions: ["*"] }
  - { id: large, effect: approve, actions: [payment.send], approvers: ${approvers} }${more}`;

export const payment = (amountCents: number): [string, unknown] => [
  'payment.send',
  // Not in the order of canonical JSON.
  { recordId: 'r1', amountCents },
];

export const shownBy = (desk: Desk, run: Run): Promise<Shown> =>
  desk.stack.temporal.workflow.getHandle(run.workflowId).query<Shown>(QUERIES.runState);

/** The request that a run waits for, once the run itself says so. */
export async function waitsForApproval(desk: Desk, tenant: string, run: Run): Promise<ApprovalRow> {
  const { approvalNo } = await until(
    'a run that waits for approval',
    async () => {
      const shown = await shownBy(desk, run).catch(() => undefined);
      return shown?.state === 'approval_required' ? shown : undefined;
    },
    40_000,
  );
  const approval = await desk.stack.store(tenant).approvals.get(approvalNo ?? -1);
  if (!approval) throw new Error(`approval ${approvalNo} is in no ledger`);
  return approval;
}

/** Decides as somebody else than who started the run, and tells the run, unless told not to. */
export async function decide(
  desk: Desk,
  tenant: string,
  { approvalNo, runId }: ApprovalRow,
  decision: 'approve' | 'deny',
  { roles = ['payer'], tell = true }: { roles?: string[]; tell?: boolean } = {},
): Promise<ApprovalAnswer> {
  const answer = await desk.stack.store(tenant).approvals.decide({
    approvalNo,
    decision,
    approver: { principal: 'user:payer', roles },
    note: 'looked at it',
  });
  const row = await desk.stack.store(tenant).run(runId);
  if (tell && row) await wake(desk, row.workflowId);
  return answer;
}

/** The hint that something was decided. */
export const wake = (desk: Desk, workflowId: string): Promise<void> =>
  desk.stack.temporal.workflow.getHandle(workflowId).signal(SIGNALS.approvalDecided);

export const requestsOf = (desk: Desk, tenant: string, run: Run): Promise<ApprovalRow[]> =>
  desk.stack.store(tenant).approvals.list({ open: false, limit: 20, runId: idOf(run) });
