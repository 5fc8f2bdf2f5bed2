import { ScheduleAlreadyRunning, ScheduleOverlapPolicy, type Client } from '@temporalio/client';
import type { WorkflowBundleOption } from '@temporalio/worker';
import { createPolicies } from '../activities/policies';
import { controlActivities, lifecycleActivities } from '../activities/registry';
import { slotTeller } from '../activities/tell-slots';
import { ensureControl } from '../client/control';
import { startAccepted, startFollowUp } from '../client/start';
import {
  CONTROL_QUEUE,
  LIFECYCLE_QUEUE,
  SWEEP_SCHEDULE,
  SWEEP_WORKFLOW_PREFIX,
  WORKFLOW,
} from '../contracts/names';
import { LANE_SETTINGS } from './lane-plan';
import type { Host, WorkerParts } from './parts';
import { tendPools } from './pools';
import { serve } from './served-worker';
import { SlotWatch } from './slot-watch';

/**
 * The process that stops tenants: the control queue with a workflow worker and an activity worker of its own, so that no
 * tenant's work and no blocked event loop can stand before a kill (promise N4). Runs also enter and leave here.
 */
export async function startControlHost(
  parts: WorkerParts,
  options: { bundle: WorkflowBundleOption },
): Promise<Host> {
  const { storage, client, environment, timing, bounds, checkpoint } = parts;
  const policies = createPolicies(parts.app);
  const control = await serve(
    parts,
    { environment },
    {
      taskQueue: CONTROL_QUEUE,
      workflowBundle: options.bundle,
      activities: controlActivities({
        storage,
        client,
        environment,
        policies,
        startAccepted,
        startFollowUp,
        ensureControl,
        deadHostAfterMs: timing.deadHostAfterMs,
        drainGraceMs: timing.drainGraceMs,
      }),
      maxConcurrentActivityTaskExecutions: 200,
      // Nothing sticky: a kill after a crash must not wait for a dead worker's cache.
      maxCachedWorkflows: 0,
    },
  );
  const requestCancel = async (workflowId: string): Promise<void> => {
    await client.workflow.getHandle(workflowId).cancel();
  };
  const tellSlots = slotTeller(client);
  const lifecycle = await serve(
    parts,
    { environment },
    {
      taskQueue: LIFECYCLE_QUEUE,
      activities: lifecycleActivities({
        storage,
        policies,
        bounds,
        actions: parts.app.actions,
        takenWithinMs: parts.lanes?.takenWithinMs ?? LANE_SETTINGS.takenWithinMs,
        requestCancel,
        startFollowUp: (signed, followUp) => startFollowUp(client, signed, followUp),
        tellSlots,
        checkpoint,
      }),
      maxConcurrentActivityTaskExecutions: 100,
    },
  );
  await ensureSweep(client, timing.sweepEveryMs);
  const slots = new SlotWatch(storage.platform, tellSlots);
  slots.start();
  const pools = tendPools({ platform: storage.platform, logger: parts.logger });
  return {
    broken: Promise.race([control.broken, lifecycle.broken]),
    async stop() {
      await Promise.all([control.stop(), lifecycle.stop(), slots.stop(), pools.stop()]);
    },
  };
}

/** Sees that the sweep's schedule exists and fires as often as the settings say. Safe from several hosts at once. */
async function ensureSweep(client: Client, everyMs: number): Promise<void> {
  const spec = { intervals: [{ every: everyMs }] };
  try {
    await client.schedule.create({
      scheduleId: SWEEP_SCHEDULE,
      spec,
      policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1m' },
      action: {
        type: 'startWorkflow',
        workflowType: WORKFLOW.sweep,
        workflowId: SWEEP_WORKFLOW_PREFIX,
        taskQueue: CONTROL_QUEUE,
        workflowTaskTimeout: '3s',
        workflowExecutionTimeout: '5m',
      },
    });
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    await client.schedule.getHandle(SWEEP_SCHEDULE).update((schedule) => ({ ...schedule, spec }));
  }
}
