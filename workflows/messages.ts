import { defineQuery, defineSignal } from '@temporalio/workflow';
import type { RunState, StopReason } from '../contracts/states';
import { QUERIES, SIGNALS } from '../contracts/workflow-io';

/** Signals and queries of runs and of their follow-ups. */
export const killRun = defineSignal(SIGNALS.killRun);
export const cancelRun = defineSignal(SIGNALS.cancelRun);
/** A limit may have freed: a hint to ask again, never the answer. */
export const wakeRun = defineSignal(SIGNALS.wakeRun);
/** A person has resolved a review: a hint as well. */
export const reviewDecided = defineSignal(SIGNALS.reviewDecided);
/** And of an approval. */
export const approvalDecided = defineSignal(SIGNALS.approvalDecided);
export const runState = defineQuery<{
  state: RunState;
  detail: string;
  since: string;
  /** The request that it waits for a person to decide; `null` while it waits for none. */
  approvalNo: number | null;
  stopReason: StopReason | null;
  step: number;
}>(QUERIES.runState);
