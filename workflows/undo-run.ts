import { ApplicationFailure } from '@temporalio/workflow';
import type { UndoOutcome } from '../contracts/reviews';
import type { FollowUpInput } from '../contracts/workflow-io';
import { enterFollowUp, leaveFollowUp, tenantOf } from './follow-up';
import { undoLoop } from './undo-loop';
import { FollowUpView } from './work-view';

/**
 * Undoes the writes of a closed run, the newest first (promise T5): ordered by a person, by a kill whose policy says so,
 * or for a run that failed and could not do it itself. Ends Completed with its counts, also where writes are left;
 * Failed with type `killed` where an operator stopped it. Ended from outside, it is begun again by the sweep.
 */
export async function undoRun(input: FollowUpInput): Promise<UndoOutcome> {
  const tenantId = tenantOf(input);
  const view = new FollowUpView('the undo of a run', 'compensating');
  const { followUpNo } = input;
  const entered = await enterFollowUp(view, followUpNo);
  const { outcome, killed } = await undoLoop(view, entered, tenantId, { insists: true });
  await leaveFollowUp({ followUpNo, outcome });
  const { undone, left, abandoned } = outcome;
  view.close(`${undone} undone, ${left} left, ${abandoned} given up`);
  if (killed)
    throw ApplicationFailure.nonRetryable(
      'an operator has stopped this tenant, and its policy orders no undo after a kill',
      'killed',
    );
  return outcome;
}
