import { performance } from 'node:perf_hooks';
import type { TenantScope } from '../contracts/scope';

/** Where a provider does not say when to come back: so long, and twice as long after each further trouble. */
const FIRST_MS = 5_000;
const LONGEST_MS = 300_000;
const MOST_KEPT = 10_000;

/**
 * Models that this host has seen in trouble since they last answered, by tenant, and until when they are left alone while
 * another one may answer. Decides the order alone; nothing is permitted or refused by it.
 */
export class RestingModels {
  readonly #seen = new Map<string, { troubles: number; until: number }>();

  constructor(private readonly now: () => number = () => performance.now()) {}

  /** @param retryAfterMs as the provider has said. */
  trouble(scope: TenantScope, model: string, retryAfterMs: number | undefined): void {
    const key = keyOf(scope, model);
    const troubles = (this.#seen.get(key)?.troubles ?? 0) + 1;
    const ms = retryAfterMs ?? Math.min(FIRST_MS * 2 ** (troubles - 1), LONGEST_MS);
    this.#seen.delete(key);
    this.#seen.set(key, { troubles, until: this.now() + ms });
    const oldest = this.#seen.keys().next();
    if (this.#seen.size > MOST_KEPT && !oldest.done) this.#seen.delete(oldest.value);
  }

  answered(scope: TenantScope, model: string): void {
    this.#seen.delete(keyOf(scope, model));
  }

  /** Milliseconds that are left of its rest; 0 for a model that may be asked. */
  left(scope: TenantScope, model: string): number {
    const until = this.#seen.get(keyOf(scope, model))?.until ?? 0;
    return Math.max(0, Math.ceil(until - this.now()));
  }
}

const keyOf = ({ tenantId, environment }: TenantScope, model: string): string =>
  `${tenantId} ${environment} ${model}`;
