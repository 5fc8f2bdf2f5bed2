import type { GovernedHttp, Passage, RecordRef, Reversibility } from '../contracts/action';
import type { Position, StoredPayload } from '../contracts/calls';
import type { TenantRecord } from '../contracts/documents';
import type { Digest } from '../contracts/ids';
import type { AdmitRequest, CallClass } from '../contracts/ledger';
import type { CompiledPolicy } from '../contracts/policy-decision';
import type { Refusal } from '../contracts/refusal';
import type { Shown } from '../contracts/shown';

/** Where a call goes: the URL that policy judges and the client connects to are one and the same. */
export interface Destination {
  readonly url: URL;
  /** The tenant's own connection, which may lie in a private range; never an address out of arguments. */
  readonly connection: boolean;
}

/** What an effect produced, before anybody has said that it may be believed. */
export interface Acted extends Shown {
  readonly payload: StoredPayload;
  /** The small value for the workflow; no payload. */
  readonly value: unknown;
  readonly microUsd: number;
  /** Of a model, input and output, as its provider counted them; 0 of a tool. */
  readonly modelTokens: number;
}
/** What an effect cost in the end. */
export type Cost = Pick<Acted, 'microUsd' | 'modelTokens'>;
export const FREE: Cost = { microUsd: 0, modelTokens: 0 };

/** What an effect gets: the granted way out, nothing of credentials, and when to stop. */
export interface ActIo {
  readonly http: GovernedHttp;
  readonly fetch: typeof globalThis.fetch;
  readonly baseUrl: URL | null;
  readonly knowledge: { search(query: string, limit: number): Promise<Passage[]> };
  readonly idempotencyKey: string;
  readonly signal: AbortSignal;
  readonly record: TenantRecord;
}

/**
 * One governed call, tool or model alike, as the gateway takes it through its seven steps. What differs between kinds
 * of calls is here; what must never differ is in the gateway.
 */
export interface GovernedCall {
  readonly position: Position;
  /** Path of the write that this call undoes; `null` for a forward call. */
  readonly undoOf: string | null;
  /** Of a write, as its action declares it; `null` for reads and model calls. */
  readonly reversible: Reversibility | null;
  readonly seenSeq: number;
  /** Label of the place in the workflow, part of the digest. */
  readonly site: string;
  readonly action: string;
  readonly callClass: CallClass;
  readonly system: string | null;
  readonly secret: string | null;
  readonly model: string | null;
  /** Of a model that answers in the place of another one: that one. Policy has to name it so. */
  readonly insteadOf?: string;
  readonly agentClass: string;
  readonly timeoutMs: number;
  /** The canonical arguments: those that were checked are those that are sent. */
  readonly args: Readonly<Record<string, unknown>>;
  /** Classes of the arguments that are present; of a model call none: it carries those of its run. */
  readonly dataClasses: readonly string[];
  /** Of the action's argument schema; `null` for what has none, and so can neither be approved nor suggested. */
  readonly schemaDigest: Digest | null;
  readonly reserve: AdmitRequest['reserve'];
  /**
   * Of a call whose provider says afterwards what it cost: the most that it may cost at the prices in force. Reserved beside
   * `reserve`, and charged where a request was sent and its cost stays unknown. Left out: what it costs is known before.
   */
  readonly bound?: (record: TenantRecord) => Cost;
  /**
   * Asked once policy has decided: whether something else may answer in the place of this call. Then trouble of its system is a
   * value at once, and not waited for in place.
   */
  readonly another?: (policy: CompiledPolicy) => boolean;
  /** A refusal by form: unknown action, arguments out of schema. Judged before policy is asked. */
  readonly refusedByForm: Refusal | null;
  readonly destination: (record: TenantRecord) => Destination | Refusal | null;
  /** Records that it touches, to be known as the tenant's before the call. */
  readonly records: readonly RecordRef[];
  /** How long the system outside honours a key, from its first use; `null` where it honours none. */
  readonly keyValidMs: number | null;
  /** How soon a write shows to `reconcile`; `null`: that it does not show proves nothing. */
  readonly visibleWithinMs: number | null;
  readonly act: (io: ActIo) => Promise<Acted>;
  /** Reads back after a write; `false` is a mismatch. */
  readonly verify: ((io: ActIo, acted: Acted) => Promise<boolean>) | null;
  /** Asks whether a write happened whose answer was lost. */
  readonly reconcile:
    ((io: ActIo) => Promise<{ happened: true; acted: Acted } | 'absent' | 'unknown'>) | null;
  /** What the conversation shows of a refusal; `null` where it shows nothing. */
  readonly refusalPayload: (refusal: Refusal) => StoredPayload | null;
}

export const isRefusal = (value: object): value is Refusal => 'origin' in value && 'kind' in value;
export const isWrite = (callClass: CallClass): boolean =>
  callClass === 'write' || callClass === 'high_risk_write';
