import type { TellSlots } from '../activities/tell-slots';
import type { PlatformStore } from '../contracts/platform-ports';

const EVERY_MS = 500;
/** Whom an activity has just given a slot it is telling itself. */
const SETTLING_MS = 400;
const PAGE = 500;
const FORGOTTEN_AFTER_MS = 3_600_000;

/**
 * Tells runs of the slots that nobody told them of: an operator's raised limit frees many at once, in a transaction that
 * knows no Temporal. Each slot once, for its run may be slow to come; whom that did not reach the sweep tells again.
 */
export class SlotWatch {
  /** Slots, and when their runs were told of them, milliseconds. */
  readonly #told = new Map<string, number>();
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(
    private readonly platform: Pick<PlatformStore, 'slotsNotTaken'>,
    private readonly tell: TellSlots,
  ) {}

  start(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      // A database that is away is looked at again; the sweep says so.
      this.#looking = this.#look()
        .catch(() => undefined)
        .finally(() => this.start());
    }, EVERY_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    const waiting = await this.platform.slotsNotTaken(SETTLING_MS, PAGE);
    const now = Date.now();
    for (const [slot, at] of this.#told) if (now - at > FORGOTTEN_AFTER_MS) this.#told.delete(slot);
    const news = waiting
      .map(({ workflowId, slotSince }) => ({ workflowId, slot: `${workflowId} ${slotSince}` }))
      .filter(({ slot }) => !this.#told.has(slot));
    for (const { slot } of news) this.#told.set(slot, now);
    await this.tell(news.map(({ workflowId }) => workflowId));
  }
}
