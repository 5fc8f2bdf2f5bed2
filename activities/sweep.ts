import {
  WorkflowFailedError,
  WorkflowNotFoundError,
  type Client,
  type WorkflowExecutionStatusName,
} from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { SignedEnvelope } from '../contracts/envelope';
import type { Environment, TenantId } from '../contracts/ids';
import type { SweepRun } from '../contracts/platform-ports';
import type { Storage } from '../contracts/ports';
import { mintScope } from '../contracts/scope-mint';
import type { FollowUpKind } from '../contracts/reviews';
import { STOP_REASONS, type StopReason } from '../contracts/states';
import type { SweepActivities } from '../contracts/workflow-io';
import { callingPlatform } from './call-context';
import { inBatches } from './batches';
import { createLeaving } from './leaving';
import type { Policies } from './policies';
import { slotTeller } from './tell-slots';

const PAGE = 200;
const AT_ONCE = 16;
/** A row younger than this is still being started or closed by its own hands. */
const SETTLING_MS = 3_000;
/** A follow-up that nothing was heard of for so long may have no workflow; one that waits for a person is asked for in vain. */
const FOLLOW_UP_SETTLING_MS = 5_000;
/** Runs told at a time that they have stood in line for too long: many were accepted together. */
const TOO_LONG_PAGE = 1_000;
/** Calls purged at a time: each tenant's in a transaction of its own, under the lock that its calls wait for. */
const PURGED_AT_ONCE = 500;

export interface SweepParts {
  readonly storage: Storage;
  readonly client: Client;
  readonly environment: Environment;
  readonly policies: Policies;
  /** A host whose row was not renewed for so long is dead, milliseconds. */
  readonly deadHostAfterMs: number;
  /** Acceptance's own way to start a workflow: one way, not two. */
  readonly startAccepted: (client: Client, signed: SignedEnvelope) => Promise<'started' | 'already'>;
  readonly ensureControl: (
    client: Client,
    tenantId: TenantId,
    environment: Environment,
  ) => Promise<'started' | 'already'>;
  readonly startFollowUp: (
    client: Client,
    signed: SignedEnvelope,
    followUp: { kind: FollowUpKind; followUpNo: number },
  ) => Promise<'started' | 'already'>;
}

/** Mends what was lost between the database and Temporal. Every part is idempotent, bounded, and safe beside itself. */
export function createSweep(parts: SweepParts): SweepActivities {
  const { storage, client, environment, startAccepted, ensureControl, startFollowUp } = parts;
  const tellSlots = slotTeller(client);
  const leave = createLeaving({ policies: parts.policies, tellSlots });
  const closeEnded = async (run: SweepRun): Promise<boolean> => {
    const stopReason = await endedAs(client, run);
    if (!stopReason) return false;
    const store = storage.tenant(mintScope(run.tenantId, environment, 'control'));
    const { agentId, agentVersion } = run.signed.envelope;
    const left = await leave(store, { ...run, agentId, agentVersion }, { stopReason, outputRef: null });
    // Ordered for good: where this fails, the next firing starts it.
    if (left.followUpNo !== undefined)
      await startFollowUp(client, run.signed, { kind: 'undo', followUpNo: left.followUpNo }).catch(
        () => undefined,
      );
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
      // First, for what a dead host had claimed is due from then on.
      await storage.platform.endLeasesOfDeadHosts(parts.deadHostAfterMs);
      return { reaped: await storage.platform.reapCalls(PAGE) };
    },

    async startFollowUps() {
      callingPlatform();
      const waiting = await storage.platform.followUpsWaiting(FOLLOW_UP_SETTLING_MS, PAGE);
      let started = 0;
      await inBatches(waiting, AT_ONCE, async ({ signed, kind, followUpNo }) => {
        if ((await startFollowUp(client, signed, { kind, followUpNo })) === 'started') started += 1;
      });
      return { started };
    },

    async tendQueues() {
      callingPlatform();
      const handed = await storage.platform.tendLines();
      const [notTaken, tooLong] = await Promise.all([
        storage.platform.slotsNotTaken(SETTLING_MS, PAGE),
        storage.platform.queuedTooLong(TOO_LONG_PAGE),
      ]);
      const told = new Set([...handed, ...[...notTaken, ...tooLong].map(({ workflowId }) => workflowId)]);
      await tellSlots([...told]);
      return { told: told.size };
    },

    async purge() {
      callingPlatform();
      return { purged: await storage.platform.purge(PURGED_AT_ONCE) };
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
    const { status, runId } = await client.workflow.getHandle(run.workflowId).describe();
    return status.name === 'FAILED' ? await failedAs(client, run.workflowId, runId) : CLOSED_AS[status.name];
  } catch (error) {
    // Started, as its row says, and unknown to Temporal now: past retention, or deleted by hand.
    if (error instanceof WorkflowNotFoundError) return 'terminated';
    throw error;
  }
}

/** A run names its stop reason in how it fails; any other failure is one before, or instead of, leaving. */
async function failedAs(client: Client, workflowId: string, runId: string): Promise<StopReason> {
  try {
    await client.workflow.getHandle(workflowId, runId, { followRuns: false }).result();
  } catch (error) {
    if (!(error instanceof WorkflowFailedError)) throw error;
    const type = error.cause instanceof ApplicationFailure ? error.cause.type : undefined;
    if (type && Object.hasOwn(STOP_REASONS, type)) return type as StopReason;
  }
  return 'failed';
}

/** A run that closed by itself has left first, so these are endings from outside, or between its leaving and its end. */
const CLOSED_AS: Partial<Record<WorkflowExecutionStatusName, StopReason>> = {
  TERMINATED: 'terminated',
  TIMED_OUT: 'timed_out',
  CANCELLED: 'cancelled',
  COMPLETED: 'completed',
};
