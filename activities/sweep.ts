import { Context, log } from '@temporalio/activity';
import {
  WorkflowFailedError,
  WorkflowNotFoundError,
  type Client,
  type WorkflowExecutionStatusName,
} from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { SignedEnvelope } from '../contracts/envelope';
import type { Environment, TenantId } from '../contracts/ids';
import type { OnSkipped, SweepRun } from '../contracts/platform-ports';
import type { Storage } from '../contracts/ports';
import { mintScope } from '../contracts/scope-mint';
import type { FollowUpKind } from '../contracts/reviews';
import { STOP_REASONS, type StopReason } from '../contracts/states';
import { isStorageBusy } from '../contracts/storage-busy';
import type { SweepActivities } from '../contracts/workflow-io';
import { callingPlatform } from './call-context';
import { inBatches } from './batches';
import { createLeaving } from './leaving';
import type { Policies } from './policies';
import { slotTeller } from './tell-slots';

const PAGE = 200;
const AT_ONCE = 16;
const OF_ONE_TENANT = 2;
/** A row younger than this is still being started or closed by its own hands. */
const SETTLING_MS = 3_000;
/** A follow-up that nothing was heard of for so long may have no workflow; one that waits for a person is asked for in vain. */
const FOLLOW_UP_SETTLING_MS = 5_000;
/** Runs told at a time that they have stood in line for too long: many were accepted together. */
const TOO_LONG_PAGE = 1_000;
/** Positions purged at a time: a run's in a transaction of their own, under the lock that its tenant's calls wait for. */
const PURGED_AT_ONCE = 200;
/** Portions follow each other for so long, and the next firing goes on: half of its usual distance, for the parts of one wait for each other. */
const PURGE_FOR_MS = 5_000;

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

const skipped: OnSkipped = (tenantId, error) => {
  log.warn('a tenant is left out of a part of this sweep; it comes again', {
    tenantId,
    error: String(error),
  });
};

/**
 * Some at once, few of the same tenant. One that fails keeps none from its turn; a tenant whose row is held is left alone from then on, so
 * that what waits for it never holds all the connections that others need.
 */
async function each<T extends { readonly tenantId: TenantId }>(
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const strands = new Map<string, T[]>();
  for (const [index, item] of items.entries()) {
    const key = `${item.tenantId}/${index % OF_ONE_TENANT}`;
    strands.set(key, [...(strands.get(key) ?? []), item]);
  }
  const held = new Set<TenantId>();
  await inBatches(
    [...strands.values()],
    AT_ONCE,
    async (strand) => {
      for (const item of strand) {
        if (held.has(item.tenantId)) return;
        await work(item).catch((error: unknown) => {
          if (isStorageBusy(error)) held.add(item.tenantId);
          skipped(item.tenantId, error);
        });
      }
    },
    () => undefined,
  );
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
      await each(waiting, async (run) => {
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
      await each(open, async (run) => {
        if (await closeEnded(run)) closed += 1;
      });
      return { closed };
    },

    async reapCalls() {
      callingPlatform();
      // First, for what a dead host had claimed is due from then on. What is due already needs no host to be dead.
      try {
        await storage.platform.endLeasesOfDeadHosts(parts.deadHostAfterMs, skipped);
      } catch (error) {
        log.warn('leases of dead hosts were not ended', { error: String(error) });
      }
      return { reaped: await storage.platform.reapCalls(PAGE, skipped) };
    },

    async startFollowUps() {
      callingPlatform();
      const waiting = await storage.platform.followUpsWaiting(FOLLOW_UP_SETTLING_MS, PAGE);
      let started = 0;
      await each(waiting, async ({ signed, kind, followUpNo }) => {
        if ((await startFollowUp(client, signed, { kind, followUpNo })) === 'started') started += 1;
      });
      return { started };
    },

    async tendQueues() {
      callingPlatform();
      const told = new Set(await storage.platform.tendLines(skipped));
      const [notTaken, tooLong] = await Promise.all([
        storage.platform.slotsNotTaken(SETTLING_MS, PAGE),
        storage.platform.queuedTooLong(TOO_LONG_PAGE),
      ]);
      for (const { workflowId } of [...notTaken, ...tooLong]) told.add(workflowId);
      await each(notTaken, async (run) => {
        // It stood in line when it was ended from outside: it never comes for its slot. One that was never started is another's to start.
        if (run.temporalRunId !== null && (await closeEnded(run))) told.delete(run.workflowId);
      });
      await tellSlots([...told]);
      return { told: told.size };
    },

    async purge() {
      callingPlatform();
      const until = performance.now() + PURGE_FOR_MS;
      const { cancellationSignal } = Context.current();
      const goOn = (): boolean => performance.now() < until && !cancellationSignal.aborted;
      return { purged: await storage.platform.purge(PURGED_AT_ONCE, goOn, skipped) };
    },

    async ensureControls() {
      callingPlatform();
      const tenants = await storage.platform.placements();
      let started = 0;
      await each(tenants, async ({ tenantId }) => {
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
