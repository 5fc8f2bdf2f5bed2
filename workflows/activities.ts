import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import { NON_RETRYABLE } from '../contracts/failures';
import { CONTROL_QUEUE, LIFECYCLE_QUEUE } from '../contracts/names';
import type {
  ControlActivities,
  HeadActivities,
  FollowUpActivities,
  RunActivities,
  SweepActivities,
} from '../contracts/workflow-io';

/** Cancelled calls are not waited for by the workflow: `leaveRun` waits until the ledger says that none can act. */
const cancellationType = ActivityCancellationType.TRY_CANCEL;
const heartbeatTimeout = '5s';

export type GovernedCalls = Pick<RunActivities, 'callModel' | 'callTool'> &
  Pick<FollowUpActivities, 'undoCall' | 'retryCall'>;

/** Where governed calls are scheduled, and as what among those that wait there. */
export interface CallQueue {
  readonly taskQueue: string;
  readonly priority: { readonly fairnessKey: string; readonly fairnessWeight?: number };
  /** How long one waits for a worker, milliseconds; left out: until there is one. */
  readonly scheduleToStartTimeout?: number;
}

/** Governed calls on a tenant's lane. Attempts are bounded by the ledger, which alone knows what each one did. */
export const callsOn = (queue: CallQueue, summary: string) =>
  proxyActivities<GovernedCalls>({
    ...queue,
    summary,
    cancellationType,
    heartbeatTimeout,
    startToCloseTimeout: '15m',
    retry: {
      initialInterval: '200ms',
      backoffCoefficient: 2,
      maximumInterval: '5s',
      nonRetryableErrorTypes: NON_RETRYABLE,
    },
  });

export const lifecycle = (summary: string) =>
  proxyActivities<
    Pick<RunActivities, 'enterRun' | 'parkRun' | 'resumeRun' | 'leaveRun' | 'beginUndo'> &
      Pick<FollowUpActivities, 'enterFollowUp' | 'leaveFollowUp' | 'findLane'>
  >({
    taskQueue: LIFECYCLE_QUEUE,
    summary,
    cancellationType,
    heartbeatTimeout,
    startToCloseTimeout: '15m',
    retry: {
      initialInterval: '200ms',
      backoffCoefficient: 2,
      maximumInterval: '5s',
      nonRetryableErrorTypes: NON_RETRYABLE,
    },
  });

/** A kill is never given up: retried without bound, at once and then every second. */
export const control = (summary: string) =>
  proxyActivities<ControlActivities>({
    taskQueue: CONTROL_QUEUE,
    summary,
    cancellationType,
    heartbeatTimeout,
    startToCloseTimeout: '30m',
    retry: {
      initialInterval: '100ms',
      backoffCoefficient: 2,
      maximumInterval: '1s',
      nonRetryableErrorTypes: NON_RETRYABLE,
    },
  });

/** The sweep comes again by itself, so it does not insist. */
export const sweep = proxyActivities<SweepActivities & HeadActivities>({
  taskQueue: CONTROL_QUEUE,
  heartbeatTimeout,
  startToCloseTimeout: '2m',
  retry: { maximumAttempts: 2 },
});
