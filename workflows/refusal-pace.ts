import type { CallAnswer } from '../contracts/calls';
import type { ToldPace } from '../contracts/workflow-io';

/**
 * Spaces out what a run asks for once policy has refused its calls so often in a row: each refusal is an activity, which costs
 * the server that all tenants share as much as one that does something. From then on no two of its calls begin closer than a pause, the
 * model's among them, until one of its actions is answered otherwise. Of calls that wait, whoever asked first goes first.
 */
export class RefusalPace {
  #inARow = 0;
  #turn: Promise<unknown> = Promise.resolve();

  /**
   * @param told absent in histories of before it was told: nothing is spaced out.
   * @param pause waits so long; told also how many were refused in a row.
   */
  constructor(
    private readonly told: ToldPace | undefined,
    private readonly pause: (ms: number, inARow: number) => Promise<void>,
  ) {}

  /**
   * How a call ended. That the model answered says nothing: a run that is refused again and again asks it in between.
   *
   * @param action `null` for a call that has none.
   */
  ended(action: string | null, kind: CallAnswer<unknown>['kind']): void {
    if (kind === 'denied') this.#inARow += 1;
    else if (action !== null) this.#inARow = 0;
  }

  /** Resolves when a call may go: at once, unless too many of the last ones were refused. */
  async turn(): Promise<void> {
    if (!this.#tooMany) return;
    // Whoever was before may have been cancelled in its pause: that is no matter of this one's.
    const mine = this.#turn.then(this.#paused, this.#paused);
    this.#turn = mine;
    await mine;
  }

  readonly #paused = async (): Promise<void> => {
    if (this.told && this.#tooMany) await this.pause(this.told.pauseMs, this.#inARow);
  };

  get #tooMany(): boolean {
    return this.told !== undefined && this.#inARow >= this.told.free;
  }
}
