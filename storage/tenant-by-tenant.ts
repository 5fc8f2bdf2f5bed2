import type { OnSkipped } from '../contracts/platform-ports';
import type { TenantId } from '../contracts/ids';
import { isStorageBusy } from '../contracts/storage-busy';
import { heldUp } from './fault';

/** A round ends by then, and takes up nobody new: each tenant whose row is held costs a lock's timeout. What is left comes with the next. */
const ROUND_MS = 20_000;

/** One round of work on what belongs to many tenants, in which none waits for another's trouble. */
export class Round {
  /** Who is left alone for the rest of it. */
  readonly #skipped = new Set<TenantId>();
  readonly #endsAt: number;

  constructor(
    private readonly onSkipped: OnSkipped = () => undefined,
    forMs = ROUND_MS,
  ) {
    this.#endsAt = performance.now() + forMs;
  }

  get skipped(): readonly TenantId[] {
    return [...this.#skipped];
  }

  get over(): boolean {
    return performance.now() > this.#endsAt;
  }

  /**
   * Does one after the other. A tenant whose row is held, or whose work fails of itself, is told of once and skipped from then on. Throws
   * where it is the database that is away: then it is so for everybody.
   */
  async each<T extends { readonly tenant_id: TenantId }>(
    items: readonly T[],
    work: (item: T) => Promise<void>,
  ): Promise<void> {
    for (const item of items) {
      if (this.#skipped.has(item.tenant_id)) continue;
      if (this.over) return;
      try {
        await work(item);
      } catch (error) {
        if (isStorageBusy(error) && !heldUp(error)) throw error;
        this.#skipped.add(item.tenant_id);
        this.onSkipped(item.tenant_id, error);
      }
    }
  }
}
