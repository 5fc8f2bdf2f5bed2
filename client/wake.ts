import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import { followUpWorkflowId } from '../contracts/workflow-ids';
import type { TenantStore } from '../contracts/ports';
import type { RunRow } from '../contracts/rows';
import { SIGNALS } from '../contracts/workflow-io';
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
  for (const workflowId of waiting) told = (await tell(temporal, workflowId, signal)) && told;
  return told;
}

/** States in which a run waits for what a limit lets it have. */
const WAIT_FOR_LIMITS = ['throttled', 'queued'] as const;
/** Of each state, the oldest first; the rest looks again by itself, or is told by those that go on. */
const MOST_TOLD = 500;
const TOLD_AT_ONCE = 20;

/**
 * Tells the runs that wait for a limit to ask again, because it may be another one now. Only a hint. `false` where Temporal did
 * not answer; no Temporal is asked for where nobody waits.
 */
export async function tellWaiting({
  store,
  temporal,
}: {
  store: Pick<TenantStore, 'openRuns'>;
  temporal: () => Promise<Client>;
}): Promise<boolean> {
  const waiting: RunRow[] = [];
  for (const state of WAIT_FOR_LIMITS) waiting.push(...(await store.openRuns(MOST_TOLD, { state })));
  if (waiting.length === 0) return true;
  const client = await temporal();
  let told = true;
  for (let at = 0; at < waiting.length && told; at += TOLD_AT_ONCE) {
    const answers = await Promise.all(
      waiting.slice(at, at + TOLD_AT_ONCE).map(({ workflowId }) => tell(client, workflowId, SIGNALS.wakeRun)),
    );
    told = answers.every(Boolean);
  }
  return told;
}

/** `false` where Temporal did not answer. */
async function tell(
  temporal: Client,
  workflowId: string,
  signal: Decided | typeof SIGNALS.wakeRun,
): Promise<boolean> {
  try {
    await temporal.withDeadline(Date.now() + SIGNAL_DEADLINE_MS, () =>
      temporal.workflow.getHandle(workflowId).signal(signal),
    );
    return true;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return true;
    if (!isTemporalTrouble(error)) throw error;
    return false;
  }
}
