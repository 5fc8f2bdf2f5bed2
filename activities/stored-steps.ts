import type { StoredModelStep } from '../contracts/calls';
import type { RunId } from '../contracts/ids';
import type { TenantStore } from '../contracts/ports';
import { Recent } from '../contracts/recent';

/** Steps kept: more than the runs that one host works on at once. One is bounded by its agent's output tokens. */
const STEPS_KEPT = 500;

/**
 * What models have asked for, as this host has stored or read it last. A settled step never changes, so the calls that it asked for
 * need not read it again, each. Keyed by the store's own scope first: a step is its tenant's alone.
 */
export class StoredSteps {
  readonly #steps = new Recent<StoredModelStep>(STEPS_KEPT);

  /** The step stored under this position; `undefined` where there is none. Not to be changed by whoever gets it. */
  async read(store: TenantStore, runId: RunId, ref: string): Promise<StoredModelStep | undefined> {
    const key = keyOf(store, runId, ref);
    const kept = this.#steps.get(key);
    if (kept) return kept;
    const payload = await store.payload(runId, ref);
    if (payload?.kind !== 'model') return undefined;
    this.#steps.put(key, payload);
    return payload;
  }

  /** Keeps a step that was settled as `succeeded` under this position, as storage would give it back. */
  keep(store: TenantStore, runId: RunId, ref: string, step: StoredModelStep): void {
    this.#steps.put(keyOf(store, runId, ref), JSON.parse(JSON.stringify(step)) as StoredModelStep);
  }
}

/** None of the parts can hold a blank. */
const keyOf = ({ scope }: TenantStore, runId: RunId, ref: string): string =>
  `${scope.tenantId} ${scope.environment} ${runId} ${ref}`;
