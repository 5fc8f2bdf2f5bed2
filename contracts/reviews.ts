import type { Digest } from './ids';
import type { StoredPayload } from './calls';
import type { CallClass } from './ledger';
import type { Refusal } from './refusal';
import type { Shown } from './shown';

/** What a person has to look at, one item per call and doubt. Types alone: safe in the sandbox. */

/** Why an item waits for a person. */
export const REVIEW_KINDS = {
  outcome_unknown: 'it is not known whether a write happened',
  read_back_mismatch: 'a write answered, and reading it back showed something else',
  undo_failed: 'a write of a half-done run could not be undone',
  scope_ambiguous: 'a record in a result could not be shown to be the tenant’s',
} as const;
export type ReviewKind = keyof typeof REVIEW_KINDS;

/** What a person may say. */
export const RESOLUTIONS = {
  happened: 'it happened; its result is now recorded',
  did_not_happen:
    'it did not happen; the call may be made again, under the same key, through all of admission',
  abandon: 'given up: the call has failed, and a run that waits for it ends as review_abandoned',
} as const;
export type Resolution = keyof typeof RESOLUTIONS;

/** The rule of a refusal that a person has made final. */
export const REVIEW_ABANDONED = 'review_abandoned';

export interface ReviewRow {
  /** Journal sequence of the entry that opened it: unique within tenant and environment. */
  readonly reviewNo: number;
  readonly runId: string;
  readonly path: string;
  readonly action: string;
  readonly callClass: CallClass;
  readonly system: string | null;
  readonly kind: ReviewKind;
  readonly refusal: Refusal;
  /** The key that the system outside was given, to look it up there by hand. */
  readonly idempotencyKey: string;
  readonly openedAt: string;
  readonly resolvedAt: string | null;
  readonly resolution: Resolution | null;
  readonly actor: string | null;
  readonly note: string | null;
}

export interface ResolveReview {
  readonly reviewNo: number;
  readonly resolution: Resolution;
  /** With `happened`: what the call brought, for the conversation; checked against the action's schema by the caller. */
  readonly payload: StoredPayload | null;
  readonly payloadDigest: Digest | null;
  /** With `happened`: what the result sets and brings, as a settlement would have kept it. */
  readonly shown: Shown | null;
  readonly actor: string;
  readonly note: string;
}

/** `already`: resolved before, the row says how. */
export type ReviewAnswer =
  { readonly kind: 'resolved' | 'already'; readonly review: ReviewRow } | { readonly kind: 'absent' };

/** A call that used up its attempts. */
export interface DeadLetter {
  /** Journal sequence of the entry that made it. */
  readonly letterNo: number;
  readonly runId: string;
  readonly path: string;
  readonly action: string;
  readonly callClass: CallClass;
  readonly system: string | null;
  readonly attempts: number;
  readonly refusal: Refusal;
  readonly diedAt: string;
  readonly state: 'dead' | 'retried' | 'discarded';
  readonly actor: string | null;
  readonly note: string | null;
  readonly decidedAt: string | null;
}

/** Work on a run that its own workflow does not do any more: undoing its writes, or one call again. */
export interface FollowUp {
  /** Journal sequence of the order: unique within tenant and environment, and part of its workflow's id. */
  readonly followUpNo: number;
  readonly runId: string;
  readonly kind: FollowUpKind;
  /** Of a retry: the call. */
  readonly path: string | null;
  readonly reason: 'failed' | 'killed' | 'rollback' | 'retry';
  readonly state: 'wanted' | 'entered' | 'done';
  readonly actor: string;
  readonly note: string;
  readonly wantedAt: string;
  readonly endedAt: string | null;
  /** In counts, once done. */
  readonly outcome: UndoOutcome | null;
}
export type FollowUpKind = 'undo' | 'retry';

/**
 * Rules of the refusals (kind `failed`, without a review) by which `undoCall` says that nothing was to be done: the workflow
 * counts the one as left and passes over the other.
 */
export const NOT_UNDONE = {
  nothing_to_undo: 'the write did not happen',
  not_undoable: 'the write is final, or its action declares no way to undo it',
} as const;

export interface UndoOutcome {
  readonly undone: number;
  /** Final, or reversible without a way to undo that its action declares: left as it is. */
  readonly left: number;
  /** Given up by a person in a review. */
  readonly abandoned: number;
}

/** A forward write of a run, the newest claim first: what an undo goes through. */
export interface UndoItem {
  readonly path: string;
  readonly action: string;
  readonly state: 'claimed' | 'succeeded' | 'failed' | 'open' | 'unknown';
  readonly reversible: 'reversible' | 'compensable' | 'final';
  /** State of its undo call; `null` while there is none. */
  readonly undo: 'claimed' | 'succeeded' | 'failed' | 'open' | 'unknown' | null;
}
