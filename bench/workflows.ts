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

interface Calls {
  readonly signed: SignedEnvelope;
  readonly calls: number;
}

/** Enters the run, works, and leaves it. `work` is given how to make the call of an index, governed. */
async function inRun(
  { signed }: Calls,
  work: (governed: (index: number) => Promise<unknown>) => Promise<void>,
): Promise<void> {
  const { tenantId } = signed.envelope;
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
  await enterRun({ generation: 0, previousTemporalRunId: null });
  await work((index) =>
    callTool({ position: { step: 0, ordinal: index + 1 }, source: { step: 0, ordinal: 0 }, index, seq: 0 }),
  );
  await leaveRun({ stopReason: 'completed', outputRef: null });
}

/** One run that makes its calls one after the other. */
export async function benchGoverned(input: Calls): Promise<void> {
  await inRun(input, async (governed) => {
    for (let index = 0; index < input.calls; index += 1) await governed(index);
  });
}

/**
 * One run that makes every call twice, raw and governed, in an order that alternates: what disturbs one disturbs the
 * other. Latencies are read from the history's own timestamps afterwards.
 */
export async function benchCalls(input: Calls): Promise<void> {
  const { rawCall } = proxyActivities<RawActivities>({
    taskQueue: RAW_QUEUE,
    startToCloseTimeout: '1m',
    heartbeatTimeout: '5s',
    priority: { fairnessKey: input.signed.envelope.tenantId },
  });
  await inRun(input, async (governed) => {
    for (let index = 0; index < input.calls; index += 1) {
      const both = [() => governed(index), () => rawCall({ index })];
      for (const call of index % 2 === 0 ? both : both.reverse()) await call();
    }
  });
}
