import type { CallClass } from './ledger';
import type { EntryPage } from './lists';
import type { ApprovalTerms, DecisionInput, PolicyEffect } from './policy-decision';
import type { FollowUp } from './reviews';
import type { SignedEnvelope } from './envelope';
import type { RunId } from './ids';

/** What people are asked before a call is made, and what was decided about calls. Types alone: safe in the sandbox. */

/** Where a request for approval stands. */
export const APPROVAL_STATES = {
  pending: 'waits for a person',
  approved: 'may be used, once, by the call it was asked for',
  denied: 'refused by a person',
  expired: 'nobody decided in time',
  superseded: 'the call, or what the policy asks for it, has changed: another request took its place',
} as const;
export type ApprovalState = keyof typeof APPROVAL_STATES;

/** One request for approval. Times are ISO strings of the database's clock. */
export interface ApprovalRow {
  /** Journal sequence of the entry that made it: unique within tenant and environment. */
  readonly approvalNo: number;
  readonly runId: RunId;
  readonly path: string;
  readonly action: string;
  readonly callClass: CallClass;
  readonly system: string | null;
  /** Host that it would go to; `null` for a call that stays inside. */
  readonly destination: string | null;
  /** Canonical JSON of the arguments that will be sent. */
  readonly args: string;
  /** `suggestion`: a suggestion that a person turned into a call. */
  readonly kind: 'rule' | 'suggestion';
  readonly terms: ApprovalTerms;
  readonly requester: string;
  readonly policyVersion: number;
  readonly state: ApprovalState;
  readonly requestedAt: string;
  readonly expiresAt: string;
  readonly decidedAt: string | null;
  readonly approver: string | null;
  readonly note: string | null;
  readonly usedAt: string | null;
}

/** Who decides, as its verified token says. */
export interface Approver {
  /** `kind:subject`. */
  readonly principal: string;
  readonly roles: readonly string[];
}

/** `refused` says in words why this person may not decide it, or why nobody may any more. */
export type ApprovalAnswer =
  | { readonly kind: 'decided' | 'already'; readonly approval: ApprovalRow }
  | { readonly kind: 'refused'; readonly approval: ApprovalRow; readonly message: string }
  | { readonly kind: 'absent' };

/** A call that was recorded and not performed. */
export interface SuggestionRow {
  readonly runId: RunId;
  readonly path: string;
  readonly action: string;
  readonly callClass: CallClass;
  readonly system: string | null;
  /** Host that it would have gone to. */
  readonly destination: string | null;
  /** Canonical JSON of what would have been sent. */
  readonly args: string;
  readonly rules: readonly string[];
  readonly policyVersion: number;
  readonly suggestedAt: string;
  /** The approval that turned it into a call, if one did. */
  readonly approvalNo: number | null;
}

export type PromoteAnswer =
  | {
      readonly kind: 'ordered' | 'already';
      readonly approval: ApprovalRow;
      readonly followUp: FollowUp;
      readonly signed: SignedEnvelope;
    }
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'absent' };

/** Approvals of one tenant. Everything that changes one holds the tenant's row, and is journaled with who did it. */
export interface ApprovalStore {
  list(page: EntryPage): Promise<ApprovalRow[]>;
  get(approvalNo: number): Promise<ApprovalRow | undefined>;
  /** Role, distinctness and expiry are checked under the tenant's lock, by the database's clock; a decision is for good. */
  decide(request: {
    approvalNo: number;
    decision: 'approve' | 'deny';
    approver: Approver;
    note: string;
  }): Promise<ApprovalAnswer>;
  /** What the run's calls suggested, in the order of their calls. */
  suggestions(runId: RunId): Promise<SuggestionRow[]>;
  /** Approves a suggestion and orders its call, which passes all of admission once more. */
  promote(request: { runId: RunId; path: string; approver: Approver; note: string }): Promise<PromoteAnswer>;
}

/** One decision as it was made: what `policy backtest` asks a candidate again. */
export interface DecisionRow {
  readonly runId: RunId;
  readonly path: string;
  readonly at: string;
  readonly effect: PolicyEffect;
  readonly rules: readonly string[];
  readonly policyVersion: number;
  readonly input: DecisionInput;
  /** Charged or reserved for the call, micro-dollars; 0 where it was refused. */
  readonly microUsd: number;
}

export interface DecisionStore {
  /** The oldest first, from `since` (ISO) on, beyond `after` of the page before. */
  since(page: {
    since: string;
    limit: number;
    after?: { at: string; runId: string; path: string };
  }): Promise<DecisionRow[]>;
}

/** What a refusal says that a person's decision made final. */
export const APPROVAL_RULES = { denied: 'approval_denied', expired: 'approval_expired' } as const;
