import { ApplicationFailure, condition, isCancellation } from '@temporalio/workflow';
import type { CallAnswer } from '../contracts/calls';
import type { FailureType } from '../contracts/failures';
import { REVIEW_ABANDONED, type NOT_UNDONE, type UndoItem, type UndoOutcome } from '../contracts/reviews';
import type { FollowUpEntered } from '../contracts/workflow-io';
import { CallsLane } from './call-lane';
import { throughWaits } from './waits';
import { inWords, type WorkView } from './work-view';

export interface UndoEnd {
  readonly outcome: UndoOutcome;
  /** An operator has stopped it, and the policy orders no undo after a kill: what was not undone is left. */
  readonly killed: boolean;
}

/** How long after a defect of ours, or a refusal that decides nothing, the same write is tried again, milliseconds. */
const NOT_YET = { first: 5 * 60_000, last: 60 * 60_000 };
const NOT_ENTERED: FailureType = 'NotEntered';

/**
 * Undoes a run's writes, one at a time, the newest first (promise T5). Each is a governed call with a key of its own, so
 * that whoever does it again, after a crash or by another order, repeats no effect. What cannot be undone waits for a
 * person: nothing is skipped but what is final, what never happened, and what a person gives up.
 *
 * @param insists tries again for ever after a failure of ours and after a refusal that neither undoes nor leaves the write,
 *   for nobody else would come back to it; otherwise it throws. Throws `NotEntered` where another workflow does this undo.
 */
export async function undoLoop(
  view: WorkView,
  entered: FollowUpEntered,
  tenantId: string,
  { insists }: { insists: boolean },
): Promise<UndoEnd> {
  const counts = { undone: 0, left: 0, abandoned: 0 };
  const { followUpNo, items } = entered;
  const lane = new CallsLane(view, entered, tenantId);
  view.saw(entered.seq);
  view.undoes(items.length);
  // An undo's answers always ask to wait for their review: nobody else would come back to it.
  const bounds = { maxWaitMs: Infinity, maxReviewWaitMs: Infinity };
  for (const [index, item] of items.entries()) {
    const { path, action } = item;
    const known = knownOf(item);
    if (known) {
      if (known !== 'nothing') {
        counts[known] += 1;
        view.countUndo(path, action, known, known === 'left' ? `it is ${item.reversible}` : 'it was before');
      }
      continue;
    }
    const { answer, became } = await asked(path, action);
    if (became === 'killed') {
      counts.left += items.length - index;
      view.countUndo(path, action, 'left', 'stopped by an operator');
      return { outcome: counts, killed: true };
    }
    if (became === 'nothing') continue;
    counts[became] += 1;
    view.countUndo(path, action, became, answer.kind === 'done' ? null : inWords(answer.refusal));
  }
  return { outcome: counts, killed: false };

  /** Asks until the answer says what became of the write. */
  async function asked(path: string, action: string): Promise<{ answer: CallAnswer<null>; became: Became }> {
    for (let turn = 0; ; turn += 1) {
      const answer = await askedOnce(path, action);
      const became = answer && readAnswer(answer);
      if (became) return { answer, became };
      if (answer && answer.kind !== 'done') {
        view.notUndone(path, action, answer.refusal);
        const { kind, rule, message } = answer.refusal;
        // It was reset, or another has entered since: this one would ask in vain for ever.
        if (rule === 'undo_not_entered') throw ApplicationFailure.nonRetryable(message, NOT_ENTERED);
        if (!insists) throw ApplicationFailure.nonRetryable(message, kind);
      }
      const seen = view.wakeUps;
      const pause = Math.min(NOT_YET.first * 2 ** turn, NOT_YET.last);
      await condition(() => view.wakeUps > seen, pause);
    }
  }

  /** `undefined` after a failure of ours, where it insists. */
  async function askedOnce(path: string, action: string): Promise<CallAnswer<null> | undefined> {
    try {
      return await throughWaits(view, bounds, () =>
        lane.call(action, `undo ${path} · ${action}`, ({ undoCall }) =>
          undoCall({ followUpNo, path, seq: view.seq }),
        ),
      );
    } catch (error) {
      if (!insists || isCancellation(error)) throw error;
      view.failedWith(error);
      return undefined;
    }
  }
}

/** What needs no call: what never happened, is undone already, or is final. */
function knownOf(item: UndoItem): keyof UndoOutcome | 'nothing' | undefined {
  if (item.state === 'failed' || item.state === 'open') return 'nothing';
  if (item.undo === 'succeeded') return 'undone';
  return item.reversible === 'final' ? 'left' : undefined;
}

type Became = keyof UndoOutcome | 'nothing' | 'killed';

/** What each rule of `NOT_UNDONE` makes of a write; no other refusal may leave one as it is. */
const BECAME = { nothing_to_undo: 'nothing', not_undoable: 'left' } as const satisfies Record<
  keyof typeof NOT_UNDONE,
  Became
>;

/** What became of the write; `undefined` where the refusal does not say, and it is to be undone yet. */
function readAnswer(answer: CallAnswer<null>): Became | undefined {
  if (answer.kind === 'done') return 'undone';
  const { rule, kind } = answer.refusal;
  if (rule === REVIEW_ABANDONED) return 'abandoned';
  if (kind === 'killed') return 'killed';
  return rule === 'nothing_to_undo' || rule === 'not_undoable' ? BECAME[rule] : undefined;
}
