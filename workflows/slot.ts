import { condition } from '@temporalio/workflow';
import type { WaitForPerson } from '../contracts/workflow-io';
import { lifecycle } from './activities';
import type { WorkView } from './work-view';

/** How a wait for a slot ended: `waits` where the person has not decided yet, and so none was taken. */
export type Resumed =
  | { readonly kind: 'waits'; readonly expiresInMs: number | null }
  /** @property queued it stood in line for it, and says so. */
  | { readonly kind: 'goesOn'; readonly queued: boolean };

/**
 * The slot of one run (promise N1): held while it works, given up while it waits for a person. Which run has one is the
 * ledger's to say; this asks.
 */
export class Slot {
  #parked = false;

  constructor(private readonly view: WorkView) {}

  async giveUp(wait: WaitForPerson): Promise<void> {
    if (this.#parked) return;
    await lifecycle(`give the slot up: ${WAITS[wait.state]}`).parkRun(wait);
    this.#parked = true;
  }

  /** Waits in line where there is none, without a timer: whoever has one for it signals. */
  async takeAgain(wait: WaitForPerson): Promise<Resumed> {
    for (let queued = false; ; queued = true) {
      const seen = this.view.wakeUps;
      const answer = await lifecycle('take a slot again').resumeRun(wait);
      this.view.saw(answer.seq);
      if (answer.kind === 'waits') return answer;
      if (answer.kind === 'goesOn') {
        this.#parked = false;
        return { kind: 'goesOn', queued };
      }
      this.view.waitsForSlot(answer);
      await condition(() => this.view.wakeUps > seen);
    }
  }
}

const WAITS = {
  approval_required: 'it waits for an approval',
  review_required: 'it waits for a review',
  frozen: 'its tenant is frozen',
} as const satisfies Record<WaitForPerson['state'], string>;
