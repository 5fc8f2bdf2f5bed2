import type { AskedDigest, CallAnswer } from '../contracts/calls';
import type { Repeated } from '../contracts/workflow-io';

/** One call of a step with its answer, as far as it says whether the next step goes round in a circle. */
export interface EndedCall {
  readonly action: string | null;
  /** Of what the model asked; absent in histories of before it was told. */
  readonly asked: AskedDigest | undefined;
  readonly answer: CallAnswer<null>;
}

/** A call that the model has asked for in so many steps in a row, with the same arguments and to the same end. */
export interface Repeat {
  readonly action: string | null;
  readonly times: number;
}

const OUTCOME_CHARS = 16;

/**
 * Finds a model that goes round in a circle (promise N5): the same call, by action and canonical arguments, in step after step
 * to the same end. Of a read the same end is the same result, so that whoever polls something that changes is let be; of a
 * write it is that it was done, for what a repeated write brings is new each time. Knows digests alone.
 */
export class Repeats {
  private last: Map<string, { outcome: string; times: number }>;

  constructor(carried: readonly Repeated[] = []) {
    this.last = new Map(carried.map(([digest, outcome, times]) => [digest, { outcome, times }]));
  }

  /** Takes note of a step that is over. Answers the call of it that was repeated most. A call that it lacks begins anew. */
  ended(step: readonly EndedCall[]): Repeat | undefined {
    const before = this.last;
    this.last = new Map();
    let most: Repeat | undefined;
    for (const { action, asked, answer } of step) {
      if (!asked) continue;
      const outcome = outcomeOf(answer, asked.write);
      const known = before.get(asked.digest);
      const times = known?.outcome === outcome ? known.times + 1 : 1;
      this.last.set(asked.digest, { outcome, times });
      if (times > (most?.times ?? 0)) most = { action, times };
    }
    return most;
  }

  carry(): Repeated[] {
    return [...this.last].map(([digest, { outcome, times }]) => [digest, outcome, times]);
  }
}

function outcomeOf(answer: CallAnswer<null>, write: boolean): string {
  if (answer.kind !== 'done') return `${answer.kind} ${answer.refusal.rule}`;
  return write ? 'done' : answer.digest.slice(0, OUTCOME_CHARS);
}
