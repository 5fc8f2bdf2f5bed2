import { proxyActivities } from '@temporalio/workflow';

/** What somebody with access to Temporal could start: any workflow type that calls any activity of any queue. */
export interface StrayInput {
  readonly signed: unknown;
  readonly queue: string;
  readonly activity: string;
  readonly args: unknown;
}

async function stray({ queue, activity, args }: StrayInput): Promise<unknown> {
  const activities = proxyActivities<Record<string, (args: unknown) => Promise<unknown>>>({
    taskQueue: queue,
    startToCloseTimeout: '10s',
    retry: { maximumAttempts: 1 },
  });
  const scheduled = activities[activity];
  if (!scheduled) throw new TypeError('no activity');
  return await scheduled(args);
}

export const agentRun = stray;
export const undoRun = stray;
export const retryCall = stray;
export const otherType = stray;
