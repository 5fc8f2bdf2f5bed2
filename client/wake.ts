import { WorkflowNotFoundError } from '@temporalio/client';
import { followUpWorkflowId } from '../contracts/names';
import type { RunRow } from '../contracts/ports';
import type { SIGNALS } from '../contracts/workflow-io';
import type { Caller } from './caller';
import { reachDatabase } from './errors';
import { isTemporalTrouble } from './temporal-trouble';

const SIGNAL_DEADLINE_MS = 3_000;

/** Signals that say: a person has decided what you may be waiting for. */
export type Decided = typeof SIGNALS.reviewDecided | typeof SIGNALS.approvalDecided;

/**
 * Tells the workflows that may wait for a person's decision on this run that one was made: the run's own, and its
 * follow-ups that are not done. Only a hint; they also look again by themselves. `false` where Temporal did not answer; a
 * workflow that is closed, forgotten or not started yet needs no hint.
 */
export async function tellDecided(
  { temporal, store }: Caller,
  row: RunRow,
  signal: Decided,
): Promise<boolean> {
  const followUps = await reachDatabase(() => store.followUps(row.runId));
  const waiting = [
    ...(row.state === 'closed' ? [] : [row.workflowId]),
    ...followUps
      .filter(({ state }) => state !== 'done')
      .map((followUp) => followUpWorkflowId(row.workflowId, followUp)),
  ];
  let told = true;
  for (const workflowId of waiting) {
    try {
      await temporal.withDeadline(Date.now() + SIGNAL_DEADLINE_MS, () =>
        temporal.workflow.getHandle(workflowId).signal(signal),
      );
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) continue;
      if (!isTemporalTrouble(error)) throw error;
      told = false;
    }
  }
  return told;
}
