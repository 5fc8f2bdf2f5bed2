import {
  ApplicationFailure,
  CancellationScope,
  setDefaultSignalHandler,
  setHandler,
} from '@temporalio/workflow';
import type { FollowUpEntered, FollowUpInput } from '../contracts/workflow-io';
import { lifecycle } from './activities';
import { approvalDecided, reviewDecided, runState, wakeRun } from './messages';
import type { FollowUpView } from './work-view';

/** Input of a follow-up, read for names alone: whether it is true is the interceptor's to say. */
export function tenantOf(input: FollowUpInput | undefined): string {
  const { signed, followUpNo } = (input ?? {}) as Partial<FollowUpInput>;
  if (typeof signed?.envelope?.tenantId !== 'string' || typeof followUpNo !== 'number')
    throw ApplicationFailure.nonRetryable(
      'a follow-up needs the signed envelope of its run and its number; order it through the client',
      'EnvelopeInvalid',
    );
  return signed.envelope.tenantId;
}

/** Handlers, and entry. Fails with the refusal's kind as its type where the follow-up is done, or another's. */
export async function enterFollowUp(view: FollowUpView, followUpNo: number): Promise<FollowUpEntered> {
  setHandler(wakeRun, () => view.wake());
  setHandler(reviewDecided, () => view.wake());
  setHandler(approvalDecided, () => view.wake());
  setHandler(runState, () => ({ ...view.shown(), stopReason: null, step: 0 }));
  setDefaultSignalHandler(() => undefined);
  const entry = await lifecycle('enter: this follow-up is now at work').enterFollowUp({ followUpNo });
  if (entry.kind === 'entered') {
    view.entered(entry.seq);
    return entry;
  }
  view.refused(entry.refusal);
  view.close('not entered');
  throw ApplicationFailure.nonRetryable(entry.refusal.message, entry.refusal.kind);
}

/** Records that it is done. Nothing cancels that: what was done would else be done again. */
export async function leaveFollowUp(
  input: Parameters<ReturnType<typeof lifecycle>['leaveFollowUp']>[0],
): Promise<void> {
  await CancellationScope.nonCancellable(() => lifecycle('leave: record how it ended').leaveFollowUp(input));
}
