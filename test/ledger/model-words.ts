/** What the model of the ledger is asked, answers and keeps. Times are milliseconds since 1970. */

export type ModelClass = 'read' | 'model' | 'write' | 'high_risk_write';
export interface Ask {
  readonly run: string;
  readonly path: string;
  readonly digest: string;
  readonly action: string;
  readonly class: ModelClass;
  readonly token: string;
  readonly policyVersion: number;
  readonly denied: boolean;
  /** The Temporal run that asks. */
  readonly workflow: string;
  readonly host: string;
  readonly undoOf: string | null;
  readonly pastFence: boolean;
  readonly account: string;
  readonly ahead: number;
  readonly leaseMs: number;
  readonly toolCalls: number;
  readonly steps: number;
  readonly microUsd: number;
}
export interface Said {
  answer: 'admitted' | 'recover' | 'replayed' | 'in_flight' | 'stale' | 'refused';
  attempt?: number;
  epoch?: number;
  lookupOnly?: boolean;
  quietMs?: number | null;
  reviewed?: boolean;
  state?: string;
  rule?: string;
  kind?: string;
  value?: number;
  used?: number;
  retryAfterMs?: number;
  policyVersion?: number;
}
export type Result = 'succeeded' | 'failed' | 'open' | 'unknown';

/** What the writer says of an outcome beside its result, as far as a review depends on it. */
export type Doubt = 'none' | 'read_back_mismatch' | 'scope_ambiguous';
export type Resolution = 'happened' | 'did_not_happen' | 'abandon';
export interface Review {
  readonly run: string;
  readonly path: string;
  readonly token: string;
  readonly class: ModelClass;
  readonly kind: 'outcome_unknown' | 'read_back_mismatch' | 'undo_failed' | 'scope_ambiguous';
  resolution: Resolution | null;
}
export interface Letter {
  readonly run: string;
  readonly path: string;
  readonly class: ModelClass;
  readonly rule: 'attempts_exhausted' | 'did_not_happen';
  state: 'dead' | 'retried' | 'discarded';
}
export interface FollowUp {
  readonly run: string;
  readonly kind: 'undo' | 'retry';
  readonly path: string | null;
  /** Which of the letters. */
  readonly letter: number | null;
  state: 'wanted' | 'entered' | 'done';
  epoch: number;
  workflow: string | null;
}

export interface Cost {
  toolCalls: number;
  microUsd: number;
}
export interface Attempt extends Cost {
  day: number;
  /** What it is charged so far, and whether that is the truth already. */
  charged: Cost;
  true: boolean;
}
export interface Call {
  firstClaimedAt: number;
  digest: string;
  class: ModelClass;
  state: 'claimed' | Result;
  lost: boolean;
  token: string;
  said: Said;
  /** Times it was let in to send, and take-overs since that could only look. */
  attempts: number;
  looks: number;
  leaseUntil: number;
  sentUntil: number;
  /** Of the last attempt that could send. */
  account: string;
  host: string;
  /** In the order of first claims. */
  order: number;
  undoOf: string | null;
  review: Review | null;
  steps: number;
  rule: string | undefined;
}
export interface Run {
  closed: boolean;
  /** An undo of it was entered. */
  undone: boolean;
  workflow: string;
  acceptedAt: number;
  steps: number;
  toolCalls: number;
  microUsd: number;
  refusals: number;
}

export const DAY = 86_400_000;
export const MINUTE = 60_000;
export const HORIZON = 90 * DAY;
export const isWrite = (of: ModelClass) => of === 'write' || of === 'high_risk_write';
