import type { TenantScope } from '../contracts/scope';

/**
 * The highest journal sequence that this host was told for each tenant. Every admission carries it, so that a ledger that
 * went back behind what anybody here has seen is noticed by the next call, whichever run makes it (promise O8).
 */
export class ToldSequences {
  readonly #highest = new Map<string, number>();

  /** Remembers what the ledger has answered. Only answers of the ledger belong here: they are on disk. */
  hear(scope: TenantScope, seq: number): void {
    if (seq > this.highest(scope)) this.#highest.set(keyOf(scope), seq);
  }

  /** 0 where this host was told nothing yet. */
  highest(scope: TenantScope): number {
    return this.#highest.get(keyOf(scope)) ?? 0;
  }
}

/** No id of ours can hold a blank. */
const keyOf = ({ tenantId, environment }: TenantScope): string => `${tenantId} ${environment}`;
