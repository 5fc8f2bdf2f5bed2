import type { RecordRef } from '../contracts/action';
import type { RunId } from '../contracts/ids';
import type { TenantStore } from '../contracts/ports';
import type { CallContext, SealedCredential } from '../contracts/rows';
import { Recent } from '../contracts/recent';

/** Runs remembered: more than one host works on at once. */
const RUNS_KEPT = 500;

interface Known {
  readonly context: CallContext;
  readonly records: Map<string, RecordRef>;
  readonly sealed: Map<string, SealedCredential>;
}

/** What a call asks its context for. */
export interface Asked {
  readonly runId: RunId;
  readonly records: readonly RecordRef[];
  readonly capability: string | null;
}

/**
 * What this host has last read of what calls are judged by, per run and below the tenant's own scope: so that the next call of a run
 * needs no round trip to be decided. Nothing here is believed: admission compares the versions of all of it under its
 * lock and answers `stale` where one has moved, and a denial is never told from it, only from a fresh read.
 */
export class KnownContexts {
  readonly #runs = new Recent<Known>(RUNS_KEPT);

  /** The context of a call, if all that it asks for was read before and found. */
  recall(store: TenantStore, { runId, records, capability }: Asked): CallContext | undefined {
    const known = this.#runs.get(keyOf(store, runId));
    if (!known) return undefined;
    const found = records.flatMap((record) => known.records.get(nameOf(record)) ?? []);
    const sealed = capability === null ? null : known.sealed.get(capability);
    if (found.length < records.length || sealed === undefined) return undefined;
    return { ...known.context, known: found, sealed };
  }

  /** Reads the context anew. `undefined` where the tenant has no ledger. */
  async read(store: TenantStore, asked: Asked): Promise<CallContext | undefined> {
    const context = await store.callContext(asked);
    const key = keyOf(store, asked.runId);
    if (!context) return undefined;
    const before = this.#runs.get(key);
    // What was read under other versions of the record is forgotten with it.
    const same =
      before?.context.versions.recordVersion === context.versions.recordVersion ? before : undefined;
    const records = same?.records ?? new Map<string, RecordRef>();
    const sealed = same?.sealed ?? new Map<string, SealedCredential>();
    if (records.size < RECORDS_KEPT) for (const record of context.known) records.set(nameOf(record), record);
    if (context.sealed) sealed.set(context.sealed.capability, context.sealed);
    this.#runs.put(key, { context, records, sealed });
    return context;
  }
}

/** Of one run. */
const RECORDS_KEPT = 200;

/** No id of ours can hold a blank; a record's own name can hold anything, so its parts are told apart by length. */
const keyOf = ({ scope }: TenantStore, runId: RunId): string =>
  `${scope.tenantId} ${scope.environment} ${runId}`;
const nameOf = ({ system, id }: RecordRef): string => `${system.length} ${system} ${id}`;
