import { ApplicationFailure } from '@temporalio/workflow';
import type { FollowUpInput } from '../contracts/workflow-io';
import { CallsLane } from './call-lane';
import { enterFollowUp, leaveFollowUp, tenantOf } from './follow-up';
import { throughWaits } from './waits';
import { FollowUpView, inWords } from './work-view';

/**
 * Makes one call of a closed run once more, under its own key and through all of admission (promise N5): a person has
 * taken it out of the dead letters, or has approved what was a suggestion. Ends Completed where it is done, else Failed
 * with the outcome's kind as the type: also where policy now asks for an approval that it has not, for a person who has
 * just decided about this call is to see that at once.
 */
export async function retryCall(input: FollowUpInput): Promise<{ kind: 'done' }> {
  const tenantId = tenantOf(input);
  const view = new FollowUpView('one call of a run, once more', 'running');
  const { followUpNo } = input;
  const entered = await enterFollowUp(view, followUpNo);
  const { path, action, maxWaitMs } = entered;
  if (path === null)
    throw ApplicationFailure.nonRetryable(`follow-up ${followUpNo} names no call`, 'ContractBroken');
  const lane = new CallsLane(view, entered, tenantId);
  const answer = await throughWaits(view, { maxWaitMs, maxApprovalWaitMs: 0 }, () =>
    lane.call(action ?? null, `${path} once more`, ({ retryCall: once }) =>
      once({ followUpNo, path, seq: view.seq }),
    ),
  );
  await leaveFollowUp({ followUpNo, outcome: null });
  if (answer.kind === 'done') {
    view.close('the call is done');
    return { kind: 'done' };
  }
  const why = inWords(answer.refusal) + (answer.approval ? `; approval ${answer.approval.no}` : '');
  view.close(why);
  throw ApplicationFailure.nonRetryable(why, answer.kind);
}
