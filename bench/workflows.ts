import { proxyActivities } from '@temporalio/workflow';
import type { SignedEnvelope } from '../contracts/envelope';
import { LIFECYCLE_QUEUE, tenantQueue } from '../contracts/names';
import type { RunActivities } from '../contracts/workflow-io';

export { interceptors } from '../workflows/interceptors';

export const RAW_QUEUE = 'raw';

/** The baseline: an activity that makes the same request, and nothing else. */
export interface RawActivities {
  rawCall(input: { index: number }): Promise<null>;
}

/**
 * One run that makes every call twice, raw and governed, in an order that alternates: what disturbs one disturbs the
 * other. Latencies are read from the history's own timestamps afterwards.
 */
export async function benchCalls(input: { signed: SignedEnvelope; calls: number }): Promise<void> {
  const { tenantId } = input.signed.envelope;
  const { enterRun, leaveRun } = proxyActivities<RunActivities>({
    taskQueue: LIFECYCLE_QUEUE,
    startToCloseTimeout: '1m',
  });
  const { callTool } = proxyActivities<RunActivities>({
    taskQueue: tenantQueue(tenantId),
    startToCloseTimeout: '1m',
    heartbeatTimeout: '5s',
    priority: { fairnessKey: tenantId },
  });
  const { rawCall } = proxyActivities<RawActivities>({
    taskQueue: RAW_QUEUE,
    startToCloseTimeout: '1m',
    heartbeatTimeout: '5s',
    priority: { fairnessKey: tenantId },
  });
  await enterRun({ generation: 0, previousTemporalRunId: null });
  for (let index = 0; index < input.calls; index += 1) {
    const governed = () =>
      callTool({ position: { step: 0, ordinal: index + 1 }, source: { step: 0, ordinal: 0 }, index, seq: 0 });
    const raw = () => rawCall({ index });
    for (const call of index % 2 === 0 ? [governed, raw] : [raw, governed]) await call();
  }
  await leaveRun({ stopReason: 'completed', outputRef: null });
}
