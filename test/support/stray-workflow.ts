import { proxyActivities } from '@temporalio/workflow';
import type { RunActivities } from '../../contracts/workflow-io';

/** A customer's own workflow that schedules a tool call on a lane which is not its tenant's. */
export async function strayCall(): Promise<unknown> {
  const { callTool } = proxyActivities<Pick<RunActivities, 'callTool'>>({
    taskQueue: 'lane/acme',
    startToCloseTimeout: '10s',
    retry: { maximumAttempts: 1 },
  });
  return await callTool({
    position: { step: 9, ordinal: 1 },
    source: { step: 0, ordinal: 0 },
    index: 0,
    seq: 0,
  });
}
