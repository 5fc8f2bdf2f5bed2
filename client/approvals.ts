import { createHash } from 'node:crypto';
import {
  APPROVAL_RULES,
  type ApprovalRow,
  type ApprovalState,
  type Approver,
  type SuggestionRow,
} from '../contracts/approvals';
import { RunId } from '../contracts/ids';
import type { ApprovalTerms } from '../contracts/policy-decision';
import type { RunRow } from '../contracts/rows';
import type { Refusal } from '../contracts/refusal';
import { SIGNALS } from '../contracts/workflow-io';
import { entryNumber, noteOf, seenRun, unknownRun, type Caller } from './caller';
import { BulkheadError, reachDatabase, refusedBy } from './errors';
import { begun, type OrderedFollowUp } from './follow-ups';
import { entryPage, type EntryFilter } from './lists';
import { tellDecided } from './wake';

/** What a person says of a request for approval. Who says it, and with which roles, is the token's to say. */
export interface ApprovalVerdict {
  readonly approvalNo: number;
  /** It is journaled: no payload and no personal data in it. */
  readonly note?: string;
}

export interface DecidedApproval {
  readonly approval: ApprovalRow;
  /** It had been decided so before: nothing has changed. */
  readonly existing: boolean;
  /** `false`: Temporal did not answer. The run looks again by itself, within the hour, or when it is decided once more. */
  readonly told: boolean;
}

/** A suggestion that a person wants made: by its run and the position of its call in it. */
export interface Promotion {
  readonly runId: string;
  readonly path: string;
  /** It is journaled: no payload and no personal data in it. */
  readonly note?: string;
}

/** Requests of runs that the caller may see, the newest first. */
export async function listApprovals(caller: Caller, filter: EntryFilter): Promise<ApprovalRow[]> {
  const page = await entryPage(caller, filter);
  return reachDatabase(() => caller.store.approvals.list(page));
}

/** One request. Throws `not_found` for another tenant's or workspace's, in the same words as for none. */
export async function findApproval(caller: Caller, approvalNo: number): Promise<ApprovalRow> {
  return (await found(caller, approvalNo)).approval;
}

/**
 * Decides a request, for good, and tells the run that waits for it. The ledger judges by its own clock whether the
 * bearer may: a role of each rule's list, not the one who asked where a rule says so, in time. Saying the same twice is
 * no error. Throws `not_found`, `refused` (not entitled, or expired), `conflict` (decided otherwise before), `unavailable`.
 */
export async function decideApproval(
  caller: Caller,
  decision: 'approve' | 'deny',
  verdict: ApprovalVerdict,
): Promise<DecidedApproval> {
  const note = noteOf(verdict.note, { needed: false });
  const { approval, row } = await found(caller, verdict.approvalNo);
  const answer = await reachDatabase(() =>
    caller.store.approvals.decide({
      approvalNo: approval.approvalNo,
      decision,
      approver: approverOf(caller),
      note,
    }),
  );
  switch (answer.kind) {
    case 'absent':
      throw unknownApproval();
    case 'refused':
      throw refusedBy(notDecided(caller, answer.approval, answer.message));
    case 'decided':
      return { approval: answer.approval, existing: false, told: await told(caller, row) };
    case 'already': {
      const now = answer.approval;
      const again = await told(caller, row);
      if (now.state === DECIDED[decision]) return { approval: now, existing: true, told: again };
      if (now.state === 'expired')
        throw refusedBy(
          saidNo(
            APPROVAL_RULES.expired,
            `it was approved${byWhom(now)}, and not used until ${now.expiresAt}`,
          ),
        );
      throw new BulkheadError(
        'conflict',
        `approval ${now.approvalNo} was ${now.state} before${byWhom(now)}: nothing has changed, and a decision is for good`,
        { reason: 'already_decided' },
      );
    }
  }
}

/** What calls of a run would have done, in the order of the calls. Throws `not_found` for a run the caller may not see. */
export async function listSuggestions(caller: Caller, runId: string): Promise<SuggestionRow[]> {
  const row = await requireRun(caller, runId);
  return reachDatabase(() => caller.store.approvals.suggestions(RunId.parse(row.runId)));
}

/**
 * Turns a suggestion into a call: approves it, and has it made once, under the key of its position and through all of
 * admission. Throws `not_found` where there is no such suggestion, `refused` with the reason in words.
 */
export async function promoteSuggestion(caller: Caller, promotion: Promotion): Promise<OrderedFollowUp> {
  const note = noteOf(promotion.note, { needed: false });
  const row = await requireRun(caller, promotion.runId);
  const answer = await reachDatabase(() =>
    caller.store.approvals.promote({
      runId: RunId.parse(row.runId),
      path: promotion.path,
      approver: approverOf(caller),
      note,
    }),
  );
  switch (answer.kind) {
    case 'absent':
      throw unknownSuggestion();
    case 'refused':
      throw refusedBy(saidNo('suggestion', answer.message));
    case 'ordered':
    case 'already':
      return begun(caller, row, answer);
  }
}

/** sha256, hex, of the canonical arguments: the same for whoever computes it from what will be sent. */
export const argsDigest = ({ args }: { readonly args: string }): string =>
  createHash('sha256').update(args, 'utf8').digest('hex');

/** The roles that an approver holds, in words: one of each list. */
export const rolesNeeded = ({ roles }: ApprovalTerms): string =>
  roles.map((any) => any.join(' or ')).join(', and ');

/** Who may decide a request, in words. */
export const approversOf = ({ terms, requester }: ApprovalRow): string =>
  `a person with the role ${rolesNeeded(terms)}${terms.notRequester ? `, other than ${requester}` : ''}`;

/** What a run in `approval_required` is told, made from the request itself. */
export function askedBy(approval: ApprovalRow): Refusal {
  const { approvalNo, action, terms, expiresAt, policyVersion } = approval;
  return {
    kind: 'approval_required',
    origin: 'policy',
    rule: terms.rules[0] ?? 'approval',
    rules: [...terms.rules],
    message: `approval ${approvalNo} of ${action} waits for ${approversOf(approval)}, until ${expiresAt}`,
    policyVersion,
  };
}

const DECIDED = { approve: 'approved', deny: 'denied' } as const;

/** Nothing of a request says who decides: the verified token alone. */
const approverOf = ({ who }: Caller): Approver => ({
  principal: `${who.principal.kind}:${who.principal.subject}`,
  roles: who.roles,
});

async function found(caller: Caller, approvalNo: number): Promise<{ approval: ApprovalRow; row: RunRow }> {
  const number = entryNumber(approvalNo, unknownApproval);
  const approval = await reachDatabase(() => caller.store.approvals.get(number));
  const row = approval && (await seenRun(caller, approval.runId));
  if (approval && row) return { approval, row };
  throw unknownApproval();
}

async function requireRun(caller: Caller, runId: string): Promise<RunRow> {
  const row = await seenRun(caller, runId);
  if (row) return row;
  throw unknownRun();
}

const told = (caller: Caller, row: RunRow): Promise<boolean> =>
  tellDecided(caller, row, SIGNALS.approvalDecided);

const byWhom = ({ approver, decidedAt }: ApprovalRow): string =>
  approver === null ? '' : `, by ${approver} at ${decidedAt}`;

/** Rules of the refusals to decide, by where the request stands. */
const WHY_NOT: Partial<Record<ApprovalState, string>> = {
  pending: 'not_an_approver',
  expired: APPROVAL_RULES.expired,
};

function notDecided(caller: Caller, approval: ApprovalRow, message: string): Refusal {
  const remedy = mayDecide(approverOf(caller), approval)
    ? ''
    : `: bring the token of ${approversOf(approval)} (on a development stack, \`bulkhead token --role … --subject …\`)`;
  return saidNo(WHY_NOT[approval.state] ?? 'approval', `${message}${remedy}`);
}

/** For the words of a refusal alone: whether somebody may decide is the ledger's to say. */
const mayDecide = ({ principal, roles }: Approver, { terms, requester }: ApprovalRow): boolean =>
  terms.roles.every((any) => any.some((role) => roles.includes(role))) &&
  !(terms.notRequester && principal === requester);

const saidNo = (rule: string, message: string): Refusal => ({
  kind: 'denied',
  origin: 'policy',
  rule,
  rules: [rule],
  message,
});

const unknownApproval = (): BulkheadError =>
  new BulkheadError(
    'not_found',
    'there is no such approval in your tenant and workspaces: `bulkhead approval list` shows those that are open',
    { reason: 'unknown_approval' },
  );

const unknownSuggestion = (): BulkheadError =>
  new BulkheadError(
    'not_found',
    'the run has no such suggestion: `bulkhead run show` lists those it made, by the position of their call',
    { reason: 'unknown_suggestion' },
  );
