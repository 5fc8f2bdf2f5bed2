import { performance } from 'node:perf_hooks';
import { failure } from '../activities/failure';
import type { TenantId } from '../contracts/ids';
import type { Placement, PlatformStore } from '../contracts/platform-ports';

/** How old a placement may be that a task is let in by, milliseconds: as old as what the fence was last seen at. */
const BELIEVED_FOR_MS = 1_000;

/**
 * A host's view of who is placed where. On the shared lane it says whose tasks may run (promise E3): a tenant is let in by a
 * reading of the last second, and turned away only by one that was begun after its task came. Where none can be had, nobody is
 * let in.
 */
export class PlacedTenants {
  #shared: ReadonlySet<TenantId> = new Set();
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<readonly Placement[]> | undefined;

  constructor(private readonly platform: Pick<PlatformStore, 'placements'>) {}

  /** Reads all placements of the environment. Rejects where the database does not answer. */
  async read(): Promise<readonly Placement[]> {
    return await (this.#reading ??= this.#readOnce().finally(() => (this.#reading = undefined)));
  }

  /** Whether the tenant is placed on the shared lane. Rejects with `PlatformBusy` where nobody can say. */
  async serves(tenantId: TenantId): Promise<boolean> {
    if (performance.now() - this.#readAt <= BELIEVED_FOR_MS && this.#shared.has(tenantId)) return true;
    // One that is under way may have begun before the tenant was moved here.
    await this.#reading?.catch(() => undefined);
    try {
      await this.read();
    } catch (error) {
      throw failure('PlatformBusy', `placements cannot be read, so nobody is served here: ${String(error)}`);
    }
    return this.#shared.has(tenantId);
  }

  async #readOnce(): Promise<readonly Placement[]> {
    const begun = performance.now();
    const placements = await this.platform.placements();
    this.#shared = new Set(
      placements.filter(({ lane }) => lane === 'shared').map(({ tenantId }) => tenantId),
    );
    this.#readAt = begun;
    return placements;
  }
}
