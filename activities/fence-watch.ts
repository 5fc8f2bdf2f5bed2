import { performance } from 'node:perf_hooks';
import type { TenantId } from '../contracts/ids';
import type { ControlVersion, PlatformStore } from '../contracts/platform-ports';

/** Thrown where a request may not leave any more: the fence was raised, or nobody could say that it was not. */
export class FenceUnconfirmed extends Error {
  override readonly name = 'FenceUnconfirmed';
}

/** How old a confirmation of the epoch may be when a request leaves. With it, effects stop a second after a fence. */
const CONFIRMED_WITHIN_MS = 1_000;

/**
 * After so long without a confirmation this host may be taken for dead and the leases of its calls ended (at least 5 s after its
 * row was last renewed, see docs/ledger.md): what is in flight then never sends again, even if the database comes back.
 */
const CUT_OFF_AFTER_MS = 4_000;

interface InFlight {
  readonly tenantId: TenantId;
  readonly epoch: number;
  readonly abort: AbortController;
}

/**
 * A host's view of every tenant's fence. Polling is the truth (promise O1): no request leaves unless a poll begun
 * within the last second saw the epoch under which its call was admitted, so a host that is cut off from the database
 * stops by itself. A raised epoch aborts the calls in flight.
 */
export class FenceWatch {
  private epochs = new Map<string, number>();
  /** Monotonic time at which the last successful poll began. */
  private confirmedAt = Number.NEGATIVE_INFINITY;
  private readonly inFlight = new Set<InFlight>();
  private stopped = false;
  private timer: NodeJS.Timeout | undefined;
  private polling: Promise<void> = Promise.resolve();

  constructor(
    private readonly platform: Pick<PlatformStore, 'controlVersions'>,
    private readonly settings: {
      pollMs: number;
      onChange?: (versions: ControlVersion[]) => void;
      onError?: (error: unknown) => void;
    },
  ) {}

  /** Begins to poll; resolves after the first answer, or rejects with the first error. */
  async start(): Promise<void> {
    await this.poll();
    this.schedule();
  }

  private schedule(): void {
    if (this.stopped) return;
    this.timer = setTimeout(() => {
      this.polling = this.poll()
        .catch((error: unknown) => this.settings.onError?.(error))
        .finally(() => this.schedule());
    }, this.settings.pollMs);
  }

  /** Ends polling. Calls still in flight are aborted: without polls they could not send anyway. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.polling;
    for (const call of this.inFlight) call.abort.abort(new FenceUnconfirmed('the host is stopping'));
  }

  private async poll(): Promise<void> {
    const begun = performance.now();
    const versions = await this.platform.controlVersions();
    this.epochs = new Map(versions.map(({ tenantId, fenceEpoch }) => [tenantId, fenceEpoch]));
    // By the time of the answer, for the row may have been renewed no earlier; before the confirmation counts, so that nothing
    // in flight uses it.
    if (performance.now() - this.confirmedAt >= CUT_OFF_AFTER_MS) {
      for (const call of this.inFlight)
        call.abort.abort(
          new FenceUnconfirmed('this host was cut off, and others may have taken its calls over'),
        );
    }
    this.confirmedAt = begun;
    for (const call of this.inFlight) {
      if ((this.epochs.get(call.tenantId) ?? 0) > call.epoch)
        call.abort.abort(new FenceUnconfirmed('an operator has stopped this tenant'));
    }
    this.settings.onChange?.(versions);
  }

  /**
   * Throws {@link FenceUnconfirmed} unless a request under `epoch` may leave now. Synchronous: nothing slips between.
   * A tenant newer than the last poll is unknown, and so refused until the next.
   */
  assertOpen(tenantId: TenantId, epoch: number): void {
    if (performance.now() - this.confirmedAt > CONFIRMED_WITHIN_MS) {
      throw new FenceUnconfirmed('the fence could not be confirmed within the last second; nothing was sent');
    }
    const seen = this.epochs.get(tenantId);
    if (seen === undefined)
      throw new FenceUnconfirmed('the tenant is not known to this host yet; nothing was sent');
    // An older epoch than the admission's is a poll from before it; the admission is the newer word.
    if (seen > epoch) throw new FenceUnconfirmed('the fence was raised after admission; nothing was sent');
  }

  /**
   * Registers a call in flight. Its controller is aborted when the tenant's epoch moves on, and by whoever runs the call
   * for reasons of its own.
   */
  enter(tenantId: TenantId, epoch: number): { abort: AbortController; leave: () => void } {
    const call: InFlight = { tenantId, epoch, abort: new AbortController() };
    this.inFlight.add(call);
    return { abort: call.abort, leave: () => void this.inFlight.delete(call) };
  }
}
