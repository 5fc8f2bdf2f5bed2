import { sleep } from '@temporalio/workflow';
import type { CallAnswer } from '../contracts/calls';

/**
 * So many in a row are an agent, or a batch, that finds out what it may. More are spam. Open histories have counted by it: one that
 * is to change is told at entry.
 */
const FREE_IN_A_ROW = 8;

/**
 * Spaces out what a run asks for once policy has refused it so often in a row: each refusal is an activity, which costs the
 * server that all tenants share as much as one that does something. One call at a time goes then, after a pause, until one of
 * them is not refused. Calls that were asked for first go first.
 */
export class RefusalPace {
  #inARow = 0;
  #turn: Promise<unknown> = Promise.resolve();

  /** @param pauseMs absent in histories of before it was told: nothing is spaced out. */
  constructor(
    private readonly pauseMs: number | undefined,
    private readonly pause: (ms: number) => Promise<void> = sleep,
  ) {}

  /** How a call of the run ended. */
  ended(kind: CallAnswer<unknown>['kind']): void {
    this.#inARow = kind === 'denied' ? this.#inARow + 1 : 0;
  }

  /** Resolves when a call may go: at once, unless the last ones were refused. */
  async turn(): Promise<void> {
    if (!this.#tooMany) return;
    // Whoever was before may have been cancelled in its pause: that is no matter of this one's.
    const mine = this.#turn.then(this.#paused, this.#paused);
    this.#turn = mine;
    await mine;
  }

  readonly #paused = async (): Promise<void> => {
    if (this.#tooMany) await this.pause(this.pauseMs ?? 0);
  };

  get #tooMany(): boolean {
    return this.pauseMs !== undefined && this.#inARow >= FREE_IN_A_ROW;
  }
}
