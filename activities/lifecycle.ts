import { setTimeout as delay } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { tenantQueue } from '../contracts/names';
import type { Storage } from '../contracts/ports';
import { STOP_REASONS } from '../contracts/states';
import type { RunActivities } from '../contracts/workflow-io';
import { callingRun } from './call-context';

/** Bounds of a run's loop that are settings of the platform, told to the run at entry so that its replay is stable. */
export interface RunBounds {
  readonly continueAsNewAfter: number;
  readonly maxWaitMs: number;
  readonly maxMisbehaviour: number;
}

export interface LifecycleParts {
  readonly storage: Storage;
  readonly bounds: RunBounds;
  /** Asks Temporal to cancel a workflow, which it cannot do to itself; harmless for one that was asked already. */
  readonly requestCancel: (workflowId: string) => Promise<void>;
}

const POLL_MS = 100;

/** How a run enters and leaves. They run on the lifecycle queue, which no tenant's work can fill. */
export function createLifecycle(parts: LifecycleParts): Pick<RunActivities, 'enterRun' | 'leaveRun'> {
  const { storage, bounds, requestCancel } = parts;
  return {
    async enterRun({ generation, previousTemporalRunId }) {
      const { scope, signed, temporalRunId } = callingRun();
      const { envelope } = signed;
      const store = storage.tenant(scope);
      const entry = await store.enterRun({
        runId: envelope.runId,
        temporalRunId,
        previousTemporalRunId,
        generation,
      });
      if (entry.kind === 'refused') return entry;
      const agent = await store.agent(envelope.agentId, envelope.agentVersion);
      return {
        kind: 'entered',
        queue: tenantQueue(envelope.tenantId),
        maxSteps: Math.min(entry.maxSteps, agent?.budget.steps ?? entry.maxSteps),
        ...bounds,
        seq: entry.seq,
      };
    },

    async leaveRun({ stopReason, outputRef }) {
      const { scope, signed, temporalRunId } = callingRun();
      const store = storage.tenant(scope);
      const { runId } = signed.envelope;
      // A cancelled call goes on for a moment after its workflow has: the slot is not free, nor the reason true, before.
      for (let claimed = 1; claimed > 0;) {
        claimed = await store.claimedCalls({ runId });
        Context.current().heartbeat({ claimed });
        if (claimed > 0) await delay(POLL_MS);
      }
      const left = await store.leaveRun({ runId, temporalRunId, stopReason, outputRef });
      if (STOP_REASONS[left.stopReason].closing === 'Canceled')
        await requestCancel(signed.envelope.workflowId);
      return left;
    },
  };
}
