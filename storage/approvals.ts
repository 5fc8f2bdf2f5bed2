import type {
  ApprovalAnswer,
  ApprovalRow,
  ApprovalStore,
  PromoteAnswer,
  SuggestionRow,
} from '../contracts/approvals';
import { canonicalJson } from '../contracts/digest';
import type { RunId } from '../contracts/ids';
import type { CallClass } from '../contracts/ledger';
import type { TenantStore } from '../contracts/ports';
import type { ApprovalTerms } from '../contracts/policy-decision';
import { orderedOf } from './follow-ups';
import type { TenantSession } from './session';
import { callsSql } from './sql';

interface Row {
  readonly approval_no: string;
  readonly run_id: RunId;
  readonly path: string;
  readonly action: string;
  readonly class: CallClass;
  readonly system: string | null;
  readonly destination: string | null;
  readonly args: string;
  readonly kind: ApprovalRow['kind'];
  readonly terms: ApprovalTerms;
  readonly requester: string;
  readonly policy_version: string;
  readonly state: ApprovalRow['state'];
  readonly requested: string;
  readonly expires: string;
  readonly decided: string | null;
  readonly approver: string | null;
  readonly note: string | null;
  readonly used: string | null;
}

interface SuggestionColumns extends Pick<
  Row,
  'run_id' | 'path' | 'action' | 'class' | 'system' | 'destination' | 'args' | 'policy_version'
> {
  readonly rules: string[];
  readonly suggested: string;
  readonly approval_no: string | null;
}

const ROW = callsSql('approval_row', 3);
const ROWS = callsSql('approval_rows', 7);
const SUGGESTIONS = callsSql('suggestion_rows', 3);
const DECIDE = callsSql('decide_approval', 8);
const PROMOTE = callsSql('promote_suggestion', 8);

/** What a person is asked before a call of this tenant is made (promise P4), and what was kept instead (P8). See docs/ledger.md. */
export function approvalsOf(session: TenantSession): Pick<TenantStore, 'approvals'> {
  const { tenantId, environment } = session.scope;
  const ordered = orderedOf(session);

  const get = async (approvalNo: number): Promise<ApprovalRow | undefined> => {
    const [row] = await session.call<Row>(ROW, [tenantId, environment, approvalNo]);
    return row && approvalRow(row);
  };
  const known = async (approvalNo: number): Promise<ApprovalRow> => {
    const row = await get(approvalNo);
    if (!row) throw new Error(`approval ${approvalNo} was answered about and cannot be read`);
    return row;
  };

  const approvals: ApprovalStore = {
    get,

    async list({ open, limit, runId, workspaces, before }) {
      const which = [runId ?? null, workspaces ?? null, open, before ?? null, limit];
      const rows = await session.call<Row>(ROWS, [tenantId, environment, ...which]);
      return rows.map(approvalRow);
    },

    async decide({ approvalNo, decision, approver, note }): Promise<ApprovalAnswer> {
      const [answer] = await session.call<{ kind: ApprovalAnswer['kind']; message: string | null }>(DECIDE, [
        tenantId,
        environment,
        approvalNo,
        decision,
        approver.principal,
        approver.roles,
        note,
        canonicalJson({ note }),
      ]);
      if (!answer) throw new Error('decide_approval answered nothing');
      if (answer.kind === 'absent') return { kind: 'absent' };
      const approval = await known(approvalNo);
      return answer.kind === 'refused'
        ? { kind: 'refused', approval, message: answer.message ?? '' }
        : { kind: answer.kind, approval };
    },

    async suggestions(runId) {
      const rows = await session.call<SuggestionColumns>(SUGGESTIONS, [tenantId, environment, runId]);
      return rows.map(suggestionRow);
    },

    async promote({ runId, path, approver, note }): Promise<PromoteAnswer> {
      const [answer] = await session.call<{
        kind: PromoteAnswer['kind'];
        approval_no: string | null;
        follow_up_no: string | null;
        message: string | null;
      }>(PROMOTE, [
        tenantId,
        environment,
        runId,
        path,
        approver.principal,
        approver.roles,
        note,
        canonicalJson({ note }),
      ]);
      if (!answer) throw new Error('promote_suggestion answered nothing');
      if (answer.kind === 'absent') return { kind: 'absent' };
      if (answer.kind === 'refused') return { kind: 'refused', message: answer.message ?? '' };
      return {
        kind: answer.kind,
        approval: await known(Number(answer.approval_no)),
        ...(await ordered(Number(answer.follow_up_no))),
      };
    },
  };
  return { approvals };
}

function approvalRow(row: Row): ApprovalRow {
  return {
    approvalNo: Number(row.approval_no),
    runId: row.run_id,
    path: row.path,
    action: row.action,
    callClass: row.class,
    system: row.system,
    destination: row.destination,
    args: row.args,
    kind: row.kind,
    terms: row.terms,
    requester: row.requester,
    policyVersion: Number(row.policy_version),
    state: row.state,
    requestedAt: row.requested,
    expiresAt: row.expires,
    decidedAt: row.decided,
    approver: row.approver,
    note: row.note,
    usedAt: row.used,
  };
}

function suggestionRow(row: SuggestionColumns): SuggestionRow {
  return {
    runId: row.run_id,
    path: row.path,
    action: row.action,
    callClass: row.class,
    system: row.system,
    destination: row.destination,
    args: row.args,
    rules: row.rules,
    policyVersion: Number(row.policy_version),
    suggestedAt: row.suggested,
    approvalNo: row.approval_no === null ? null : Number(row.approval_no),
  };
}
