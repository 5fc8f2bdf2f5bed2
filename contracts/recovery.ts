import type { Effect, Reversibility } from './action';
import type { StoredInput, StoredPayload } from './calls';
import type { SignedEnvelope } from './envelope';
import type { Digest, TenantId } from './ids';
import type { CallRow } from './rows';
import type { Refusal } from './refusal';
import type { FollowUp, FollowUpKind, ReviewKind, UndoOutcome } from './reviews';
import type { StopReason } from './states';
import type { ControlState } from './workflow-io';

/** Recovery of a ledger that is older than what was told of it (promise O8): see docs/recovery.md. */

/** The newest entry of a tenant's journal that was on disk, as a witness outside the database keeps it. */
export interface SeenHead {
  readonly tenantId: TenantId;
  readonly seq: number;
  /** The beginning of its hash, hex. */
  readonly hash: string;
  /** Up to which number a loss was acknowledged by then: an older witness is not held against a newer acknowledgement. */
  readonly acknowledged: number;
}

export interface RecoveryState {
  readonly mode: string;
  readonly fenceEpoch: number;
  readonly policyVersion: number;
  readonly journalSeq: number;
  readonly acknowledgedSeq: number;
  /** 0: the ledger is not known to have lost anything. */
  readonly rewoundSeq: number;
  /** Time of the newest entry from before the loss was noticed; ISO. */
  readonly asOf: string | null;
}

/** One call as the restored ledger has it. */
export type LedgerCall = Pick<CallRow, 'path' | 'state' | 'action' | 'reviewNo'> & {
  readonly class: string;
};

/** What is put back of a call. */
export interface RestoredCall {
  readonly action: string;
  readonly class: Effect | 'model';
  readonly system: string | null;
  readonly reversible: Reversibility | null;
  readonly undoOf: string | null;
  /** ISO. A system outside honours a key for so long after this. */
  readonly firstClaimedAt: string;
  /** Of a claimed call: how long its last attempt may still be under way. */
  readonly leaseMs: number;
  readonly toolCalls: 0 | 1;
  readonly steps: 0 | 1;
  readonly microUsd: number;
  /** Of a model call, as its recorded value says. */
  readonly modelTokens: number;
  readonly refusal: Refusal | null;
  readonly value: unknown;
  readonly payload: StoredPayload | null;
  readonly payloadDigest: Digest | null;
  /** What a person has to look at, if anything. */
  readonly review: ReviewKind | null;
  /** Of what it brought: its run carries them from then on. */
  readonly dataClasses: readonly string[];
}

/** An undo or a retry, as far as its workflow has come. */
export interface RestoredFollowUp {
  readonly runId: string;
  readonly followUpNo: number;
  readonly kind: FollowUpKind;
  readonly path: string | null;
  readonly reason: FollowUp['reason'];
  readonly state: FollowUp['state'];
  readonly temporalRunId: string | null;
  /** ISO. */
  readonly wantedAt: string;
  readonly outcome: UndoOutcome | null;
}

/**
 * What `bulkhead recover` does to a tenant's ledger, each in a transaction of its own and only while the tenant is fenced
 * for it: otherwise every function but the first three throws {@link NOT_REWOUND}.
 */
export interface RecoveryStore {
  /** `undefined` where the tenant has no ledger. */
  state(): Promise<RecoveryState | undefined>;
  /** Fences the tenant if its ledger has lost this head (with `hash`), or is behind this number. Answers whether it is fenced. */
  markRewound(
    seen: Omit<SeenHead, 'tenantId' | 'hash'> & { hash: string | null; by: string },
  ): Promise<boolean>;
  /** Fences the tenant if its ledger does not know this call (`path` null: this run), of which a workflow was told. */
  markLostCall(lost: { runId: string; path: string | null; seq: number }): Promise<boolean>;
  calls(runId: string): Promise<LedgerCall[]>;
  begin(request: { highestSeq: number; actor: string }): Promise<void>;
  /** Answers whether a lost fence was raised again. */
  restoreFence(state: ControlState): Promise<boolean>;
  restoreRun(request: {
    signed: SignedEnvelope;
    input: StoredInput;
    /** Stopped by the fence that stands: accepted before it. */
    fenced: boolean;
    entered: { temporalRunId: string; generation: number; at: string } | null;
    /** Of a fork: the steps before it were copies, and `step` stands for each of them. */
    firstStep: number;
    step: StoredPayload;
    /** Of what it may have read in the steps that were copies. */
    dataClasses: readonly string[];
  }): Promise<boolean>;
  /** `false`: the call is not in the state `from` any more. */
  restoreCall(request: {
    runId: string;
    path: string;
    from: LedgerCall['state'] | null;
    to: 'claimed' | 'succeeded' | 'failed' | 'unknown';
    call: RestoredCall;
  }): Promise<boolean>;
  /** `false`: the ledger has it as far or further. */
  restoreFollowUp(followUp: RestoredFollowUp): Promise<boolean>;
  finish(request: { actor: string; counts: Record<string, number> }): Promise<{ seq: number }>;
}

/** SQLSTATE of "the tenant is at work: nothing to recover". */
export const NOT_REWOUND = 'BH003';

/** One line of what recovery found and did, or (dry run) would do. */
export interface RecoveryRow {
  readonly runId: string;
  /** Position path of the call; `null` for the run itself, or the tenant's fence. */
  readonly path: string | null;
  readonly action: string | null;
  /** In words. */
  readonly history: string;
  readonly ledger: string;
  readonly done: string;
}

export interface RecoveryReport {
  readonly dryRun: boolean;
  /** What the restored ledger last knew of; ISO. */
  readonly asOf: string | null;
  readonly journalSeq: number;
  /** The highest number that anybody was told of the ledger that was lost. */
  readonly seenSeq: number;
  readonly policyVersion: number;
  readonly rows: readonly RecoveryRow[];
  readonly counts: Readonly<Record<string, number>>;
  /** Workflows that claim to be the tenant's and whose envelope does not hold: left alone. */
  readonly refused: readonly { readonly workflowId: string; readonly because: string }[];
  /** Whether the tenant works again; `false` for a dry run. */
  readonly released: boolean;
  /** Mode of the tenant afterwards: one that was killed stays killed. */
  readonly mode: string;
}

export type RecoveryAnswer =
  | { readonly kind: 'recovered'; readonly report: RecoveryReport }
  /** No witness has seen more than the ledger holds. */
  | { readonly kind: 'at_work' }
  | { readonly kind: 'absent' };

/** How a run that the ledger has open has ended in Temporal. */
export interface RunEnd {
  readonly stopReason: StopReason;
  readonly outputRef: string | null;
}
