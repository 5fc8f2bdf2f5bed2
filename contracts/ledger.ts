import type { Attribute, Effect, RecordRef, Reversibility } from './action';
import type { StoredPayload } from './calls';
import type { Digest } from './ids';
import type { ApprovalTerms, DecisionInput } from './policy-decision';
import type { Refusal } from './refusal';

/** The port of the ledger kernel: see docs/ledger.md for states, keys and clocks. */

export type CallClass = Effect | 'model';

/** Versions of everything that a decision about a call is made from. */
export interface DecidedBy {
  readonly policyVersion: number;
  /** Of the tenant's record and credentials. */
  readonly recordVersion: number;
  /** Of the run's facts. */
  readonly factsVersion: number;
}

/** One attempt of one call, asking to be admitted. */
export interface AdmitRequest {
  /** Root run id of the envelope. */
  readonly runId: string;
  /** Path of children and position: with tenant, environment and root run it is the idempotency key. */
  readonly path: string;
  /** Of call site, action, target and canonical arguments; never part of the key. */
  readonly digest: Digest;
  readonly action: string;
  readonly callClass: CallClass;
  readonly system: string | null;
  /** Fresh uuid per attempt, made by the caller: a lost acknowledgement is harmless when asked again with it. */
  readonly token: string;
  /** The Temporal run that asks; only the entered one is admitted. */
  readonly temporalRunId: string;
  readonly hostId: string;
  /** What it was decided by. Where any of these has moved on by now, the answer is `stale`: decide again. */
  readonly decidedBy: DecidedBy;
  /** What policy, schema or scope said of it. A refusal is judged for staleness and journaled in the same round trip. */
  readonly verdict:
    | { readonly effect: 'allow'; readonly rules: readonly string[] }
    | {
        /** `approve`: let in only with an approval that meets the terms; `suggest`: kept, not performed, unless approved since. */
        readonly effect: 'approve' | 'suggest';
        readonly rules: readonly string[];
        readonly terms: ApprovalTerms;
        readonly asked: AskedOf;
        /** What the call answers where it is not let in; kind `approval_required` or `suggested`. */
        readonly refusal: Refusal;
      }
    | { readonly effect: 'deny'; readonly refusal: Refusal };
  /** The question that policy was asked, kept with the decision; `null` where form or scope refused before it. */
  readonly decided: { readonly input: DecisionInput; readonly inputDigest: Digest } | null;
  readonly leaseMs: number;
  /** How long the system outside honours a key, from its first use; null where it honours none. */
  readonly keyValidMs: number | null;
  /** Highest sequence the run has seen. */
  readonly seenSeq: number;
  /** Charged while claimed, trued up at settlement. */
  readonly reserve: {
    readonly toolCalls: 0 | 1;
    readonly steps: 0 | 1;
    readonly microUsd: number;
    /** An upper bound of what a model may use for input and output. */
    readonly modelTokens: number;
    /** The most bytes that its result may take in storage. Left out: `MAX_STORED_BYTES`; of an undo nothing. */
    readonly storedBytes?: number;
  };
  /** Of the credential that the attempt is to be lent, if it is let in; `null` for none. */
  readonly capability: string | null;
  /** Of a write, as its action declares it; `null` for reads and model calls. */
  readonly reversible: Reversibility | null;
  /** Path of the write that this call undoes; `null` for a forward call. */
  readonly undoOf: string | null;
  /** Policy orders this undo also after a kill. Means nothing for a forward call. */
  readonly pastFence: boolean;
  /**
   * Digest of the connection and the credential that it would be sent with. A take-over whose account is not that of the last
   * attempt that could send only looks.
   */
  readonly account: Digest;
}

/** What a person is shown of a call that waits for approval: exactly what will be sent, if it is. */
export interface AskedOf {
  /** Canonical JSON (RFC 8785) of the arguments that were checked. */
  readonly args: string;
  /** Of the action's argument schema: an approval given under another one does not count. */
  readonly schemaDigest: Digest;
  /** Who asked for the run: `kind:subject` of the envelope's principal. */
  readonly requester: string;
}

/** What was recorded of a finished call. */
export interface RecordedOutcome {
  readonly state: 'succeeded' | 'failed' | 'unknown' | 'suggested';
  /** Position path of its stored payload, if it has one. */
  readonly ref: string | null;
  readonly digest: Digest | null;
  readonly refusal: Refusal | null;
  /** Number of the open review of it, if there is one. */
  readonly reviewNo: number | null;
  /** The small value that the workflow was given (token counts, names of tool calls); no payload. */
  readonly value: unknown;
}

/** What an attempt that was let in is told. */
export interface Claim {
  readonly epoch: number;
  /** How often the call was let in to send, and since it was last let in anew to look it up alone; this time included. */
  readonly attempt: number;
  /** Of the lease recorded with the claim; `null` where none was asked for, or it is revoked. */
  readonly leaseId: string | null;
  readonly seq: number;
}

export type Admission =
  | ({ readonly answer: 'admitted' } & Claim)
  | ({
      readonly answer: 'recover';
      readonly lookupOnly: boolean;
      /**
       * Since the lease of the last attempt that could send was over: what `visibleWithin` is compared with. `null`: it was sent
       * to another account, or as somebody else, so that finding nothing proves nothing.
       */
      readonly quietMs: number | null;
    } & Claim)
  | { readonly answer: 'replayed'; readonly outcome: RecordedOutcome; readonly seq: number }
  | { readonly answer: 'in_flight'; readonly retryAfterMs: number; readonly seq: number }
  | { readonly answer: 'stale'; readonly policyVersion: number; readonly seq: number }
  | {
      readonly answer: 'refused';
      readonly refusal: Refusal;
      /** Of `approval_required`: the request, and how long it stays open, milliseconds of the ledger's clock. */
      readonly approval?: { readonly no: number; readonly expiresInMs: number };
      readonly seq: number;
    };

/** `open` means surely not sent, or proven absent; `unknown` that it may have been. */
export type SettleResult = 'succeeded' | 'failed' | 'open' | 'unknown';

export interface SettleRequest {
  readonly runId: string;
  readonly path: string;
  readonly token: string;
  readonly result: SettleResult;
  readonly charge: { readonly toolCalls: 0 | 1; readonly microUsd: number; readonly modelTokens: number };
  /** Why it failed, stayed open or is unknown. */
  readonly refusal: Refusal | null;
  readonly value: unknown;
  /** Kept under `path` in tenant storage, in the same transaction. */
  readonly payload: StoredPayload | null;
  readonly payloadDigest: Digest | null;
  /** Facts of the run that the result sets, and records it showed to be the tenant's. */
  readonly facts: Readonly<Record<string, Attribute>>;
  readonly records: readonly RecordRef[];
  /** Classes of what the result brought into the run. */
  readonly dataClasses: readonly string[];
}

export interface Settlement {
  /** `late`: the token is no longer the call's; nothing changed but the journal. */
  readonly answer: 'settled' | 'already' | 'late' | 'reconciled';
  /** Number of the review that this outcome opened, or that is open for it. */
  readonly reviewNo: number | null;
  readonly seq: number;
}

export interface JournalEntry {
  readonly seq: number;
  readonly at: string;
  /** Canonical text written by the ledger, and the canonical JSON of the writer; both as hashed. */
  readonly facts: string;
  readonly body: string;
  readonly prev: string;
  readonly hash: string;
}
