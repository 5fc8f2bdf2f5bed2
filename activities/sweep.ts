import { WorkflowNotFoundError, type Client, type WorkflowExecutionStatusName } from '@temporalio/client';
import type { SignedEnvelope } from '../contracts/envelope';
import type { Environment, TenantId } from '../contracts/ids';
import type { Storage, SweepRun } from '../contracts/ports';
import { mintScope } from '../contracts/scope-mint';
import type { StopReason } from '../contracts/states';
import type { SweepActivities } from '../contracts/workflow-io';
import { callingPlatform } from './call-context';
import { inBatches } from './batches';

const PAGE = 200;
const AT_ONCE = 16;
/** A row younger than this is still being started or closed by its own hands. */
const SETTLING_MS = 3_000;

export interface SweepParts {
  readonly storage: Storage;
  readonly client: Client;
  readonly environment: Environment;
  /** Acceptance's own way to start a workflow: one way, not two. */
  readonly startAccepted: (client: Client, signed: SignedEnvelope) => Promise<'started' | 'already'>;
  readonly ensureControl: (
    client: Client,
    tenantId: TenantId,
    environment: Environment,
  ) => Promise<'started' | 'already'>;
}

/** Mends what was lost between the database and Temporal. Every part is idempotent, bounded, and safe beside itself. */
export function createSweep({
  storage,
  client,
  environment,
  startAccepted,
  ensureControl,
}: SweepParts): SweepActivities {
  const closeEnded = async (run: SweepRun): Promise<boolean> => {
    const stopReason = await endedAs(client, run);
    if (!stopReason) return false;
    const store = storage.tenant(mintScope(run.tenantId, environment, 'control'));
    await store.leaveRun({ runId: run.runId, temporalRunId: run.temporalRunId, stopReason, outputRef: null });
    return true;
  };
  return {
    async startAccepted() {
      callingPlatform();
      const waiting = await storage.platform.acceptedNotStarted(SETTLING_MS, PAGE);
      let started = 0;
      await inBatches(waiting, AT_ONCE, async (run) => {
        if ((await startAccepted(client, run.signed)) === 'started') started += 1;
        // Ended from outside before it ever entered: its id is used up, so the row is all there is to close.
        else await closeEnded(run);
      });
      return { started };
    },

    async closeGone() {
      callingPlatform();
      const open = await storage.platform.openRunsIdle(SETTLING_MS, PAGE);
      let closed = 0;
      await inBatches(open, AT_ONCE, async (run) => {
        if (await closeEnded(run)) closed += 1;
      });
      return { closed };
    },

    async reapCalls() {
      callingPlatform();
      return { reaped: await storage.platform.reapCalls(PAGE) };
    },

    async ensureControls() {
      callingPlatform();
      const tenants = await storage.platform.placements();
      let started = 0;
      await inBatches(tenants, AT_ONCE, async ({ tenantId }) => {
        if ((await ensureControl(client, tenantId, environment)) === 'started') started += 1;
      });
      return { started };
    },
  };
}

/** The stop reason of a run whose workflow is closed although its row is open; `undefined` while it is not. */
async function endedAs(client: Client, run: SweepRun): Promise<StopReason | undefined> {
  try {
    const { status } = await client.workflow.getHandle(run.workflowId).describe();
    return CLOSED_AS[status.name];
  } catch (error) {
    // Started, as its row says, and unknown to Temporal now: past retention, or deleted by hand.
    if (error instanceof WorkflowNotFoundError) return 'terminated';
    throw error;
  }
}

/** A run that closed by itself has left first, so these are endings from outside, or between its leaving and its end. */
const CLOSED_AS: Partial<Record<WorkflowExecutionStatusName, StopReason>> = {
  TERMINATED: 'terminated',
  TIMED_OUT: 'timed_out',
  CANCELLED: 'cancelled',
  COMPLETED: 'completed',
  FAILED: 'failed',
};
