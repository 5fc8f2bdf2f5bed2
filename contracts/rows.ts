import type { Passage, RecordRef, Reversibility } from './action';
import type { StoredPayload } from './calls';
import type { Lane, TenantRecord } from './documents';
import type { SignedEnvelope } from './envelope';
import type { RunId } from './ids';
import type { CallClass, DecidedBy } from './ledger';
import type { Refusal } from './refusal';
import type { FollowUp } from './reviews';
import type { RunState, StopReason } from './states';

/** What the database shows of a tenant's runs and calls. Times are ISO strings of its clock. */

export interface RunRow {
  readonly runId: RunId;
  readonly workflowId: string;
  readonly temporalRunId: string | null;
  readonly agentId: string;
  readonly agentVersion: string;
  readonly workspaceId: string;
  readonly target: { system: string; recordId: string } | null;
  readonly state: RunState;
  readonly stopReason: StopReason | null;
  readonly acceptedAt: string;
  readonly enteredAt: string | null;
  readonly closedAt: string | null;
  readonly steps: number;
  readonly toolCalls: number;
  readonly refusals: number;
  readonly spentMicroUsd: number;
  readonly outputRef: string | null;
  /** Since when it is in its state. */
  readonly stateSince: string;
  /** 1 goes first, 5 last. */
  readonly priority: number;
  /** Since when it holds a slot of its tenant, and since when it stands in line for one: at most one of the two. */
  readonly slotSince: string | null;
  readonly queuedSince: string | null;
  readonly lastRefusal: LastRefusal | null;
}

/** What was last refused to a run, exactly: also of a flood. */
export interface LastRefusal {
  readonly at: string;
  readonly action: string;
  readonly refusal: Refusal;
}

/** Where a run stands in line for a slot. */
export interface StandingInLine {
  /** 1 is next. */
  readonly position: number;
  /** How many stand there, it included. */
  readonly waiting: number;
  /** Slots that there are, `null` without a limit, and those taken. */
  readonly value: number | null;
  readonly used: number;
}

export interface AcceptRun {
  readonly signed: SignedEnvelope;
  /** Copies what another run of the tenant knew before this step, and begins there. */
  readonly fork?: { readonly runId: RunId; readonly fromStep: number };
  /** Caller's key; same key and same body digest answers the same run, another body is refused. */
  readonly idempotencyKey: string | null;
  readonly bodyDigest: string;
  readonly input: unknown;
  /** From 1, which goes first, to 5; 3 where nobody says. */
  readonly priority?: number;
}

export type Acceptance =
  | { readonly kind: 'accepted' | 'existing'; readonly run: RunRow; readonly signed: SignedEnvelope }
  | { readonly kind: 'conflict'; readonly run: RunRow }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

export type Entry =
  | {
      readonly kind: 'entered';
      readonly lane: Lane;
      readonly maxSteps: number;
      readonly firstStep: number;
      readonly seq: number;
    }
  /** It stands in line for a slot, and is told once it has one. `position` is `null` beyond a thousand. */
  | {
      readonly kind: 'queued';
      readonly refusal: Refusal;
      readonly position: number | null;
      readonly waiting: number;
      readonly seq: number;
    }
  /** What it waits for is not decided: it needs no slot yet. */
  | { readonly kind: 'waits'; readonly expiresInMs: number | null; readonly seq: number }
  | { readonly kind: 'refused'; readonly refusal: Refusal; readonly stopReason: StopReason };

/** Workflows that were given a slot by what another run did: they are to be told. */
export type Handed = readonly string[];

/** One call as the ledger has it. */
export interface CallRow {
  readonly path: string;
  readonly action: string;
  readonly digest: string;
  readonly callClass: CallClass;
  readonly state: 'claimed' | 'succeeded' | 'failed' | 'open' | 'unknown' | 'suggested';
  readonly reversible: Reversibility | null;
  readonly undoOf: string | null;
  readonly attempts: number;
  readonly reviewNo: number | null;
  readonly refusal: Refusal | null;
}

export type RetryAnswer =
  | { readonly kind: 'ordered' | 'already'; readonly followUp: FollowUp; readonly signed: SignedEnvelope }
  | { readonly kind: 'absent' }
  /** In words, what to do instead. */
  | { readonly kind: 'refused'; readonly message: string };

export type UndoOrder =
  | { readonly kind: 'ordered' | 'already'; readonly followUp: FollowUp; readonly signed: SignedEnvelope }
  | { readonly kind: 'nothing' | 'absent' | 'open' };

/** What a call is judged by and done with, in one round trip. */
export interface CallContext {
  readonly versions: DecidedBy;
  readonly facts: Readonly<Record<string, string | number | boolean>>;
  /** Classes of everything that the run has read so far. */
  readonly dataClasses: readonly string[];
  readonly record: TenantRecord;
  /** Those of the records asked about that are known to be the tenant's, with their account. */
  readonly known: readonly RecordRef[];
  /** The newest version of the credential asked for; `null` where none was asked for, put, or left unrevoked. */
  readonly sealed: SealedCredential | null;
}

/** Whose a stored context item is, as its own row says it: `null` where it says nothing. Checked where a prompt is assembled. */
export interface ContextMarker {
  readonly tenantId: string | null;
  readonly environment: string | null;
  /** `null` also for what belongs to no run, as a document does. */
  readonly runId: string | null;
}

/** A payload of a run, with the marker of its row; a fork's copies carry the fork. */
export interface StoredItem {
  readonly ref: string;
  readonly payload: StoredPayload;
  readonly marker: ContextMarker;
}

export type MarkedPassage = Passage & { readonly marker: ContextMarker };

/** Encrypted credential as stored; only the broker can open it. */
export interface SealedCredential {
  readonly capability: string;
  readonly version: number;
  readonly ciphertext: Buffer;
  /** The tenant's data key, wrapped by the key encryption key. */
  readonly wrappedKey: Buffer;
  readonly keyId: string;
}
