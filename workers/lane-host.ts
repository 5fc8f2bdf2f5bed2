import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { WorkflowBundleOption } from '@temporalio/worker';
import { FenceWatch } from '../activities/fence-watch';
import { createPolicies } from '../activities/policies';
import { laneActivities } from '../activities/registry';
import type { TenantId } from '../contracts/ids';
import { RUNS_QUEUE, tenantQueue } from '../contracts/names';
import type { Placement, PlatformStore } from '../contracts/ports';
import { createHttpPools } from '../tools/http';
import type { Running, WorkerParts } from './parts';
import { serve, type ServedWorker } from './served-worker';

export interface LaneHostOptions {
  /** Serves this tenant's lane alone, and no run workflows: a worker process of its own for a dedicated lane. */
  readonly only?: TenantId;
  readonly bundle: WorkflowBundleOption;
}

interface Lane {
  readonly ceiling: number;
  readonly worker: ServedWorker;
}

/**
 * A worker host: one workflow worker for the runs of all tenants, and one activity worker per tenant's lane with its
 * ceiling (promise N2). Lanes follow the placements in PostgreSQL, so a new tenant needs no restart.
 */
export async function startLaneHost(parts: WorkerParts, options: LaneHostOptions): Promise<Running> {
  const { storage, environment, logger, timing, app, hostId } = parts;
  const stopping = new AbortController();
  const pools = createHttpPools();
  const fence = new FenceWatch(beatingWithEachPoll(parts, options), {
    pollMs: timing.fencePollMs,
    // A fence takes back what was lent before it, also from an action that keeps hold of its context.
    onChange: (versions) => {
      for (const { tenantId, fenceEpoch } of versions)
        parts.broker.revokeBefore(tenantId, environment, fenceEpoch);
    },
    onError: (error) =>
      logger.warn({ error: String(error) }, 'the fence could not be read; nothing is sent until it can'),
  });
  await storage.warm();
  await fence.start();
  const activities = laneActivities({
    storage,
    policies: createPolicies(app),
    broker: parts.broker,
    openHttp: pools.open,
    fence,
    hostId,
    checkpoint: parts.checkpoint,
    actions: app.actions,
  });
  const runs = options.only ? undefined : await serve(parts, { environment }, runsWorker(options.bundle));
  const lanes = new Map<TenantId, Lane>();

  const openLane = async ({ tenantId, workerCeiling }: Placement): Promise<void> => {
    const worker = await serve(
      parts,
      { environment, tenantId },
      {
        taskQueue: tenantQueue(tenantId),
        activities,
        maxConcurrentActivityTaskExecutions: workerCeiling,
        // Many lanes a process: each polls little, and only as much as it can run.
        maxConcurrentActivityTaskPolls: Math.min(2, workerCeiling),
      },
    );
    lanes.set(tenantId, { ceiling: workerCeiling, worker });
    logger.info({ tenantId, workerCeiling }, 'lane opened');
    void worker.ended.then((error) => {
      if (lanes.get(tenantId)?.worker !== worker) return;
      lanes.delete(tenantId);
      if (error !== undefined)
        logger.error({ tenantId, error }, 'a lane ended by itself; it is opened again');
    });
  };
  const closeLane = async (tenantId: TenantId, lane: Lane): Promise<void> => {
    lanes.delete(tenantId);
    await lane.worker.stop();
    logger.info({ tenantId }, 'lane closed');
  };
  const moving = new Map<TenantId, Promise<void>>();
  /** Brings one lane to its placement; a lane that closes slowly, or does not open, holds up no other tenant's. */
  const move = (tenantId: TenantId, placement: Placement | undefined): void => {
    const lane = lanes.get(tenantId);
    if (moving.has(tenantId) || lane?.ceiling === placement?.workerCeiling) return;
    const work = async (): Promise<void> => {
      // One process may serve a queue only once: the old worker has ended before the new one begins.
      if (lane) await closeLane(tenantId, lane);
      if (placement) await openLane(placement);
    };
    const moved = work()
      .catch((error: unknown) =>
        logger.error({ tenantId, error: String(error) }, 'a lane could not be moved'),
      )
      .finally(() => moving.delete(tenantId));
    moving.set(tenantId, moved);
  };
  const follow = async (): Promise<void> => {
    const placements = await storage.platform.placements();
    const mine = new Map(
      placements
        .filter((placement) => serves(options, placement))
        .map((placement) => [placement.tenantId, placement]),
    );
    for (const tenantId of new Set([...lanes.keys(), ...mine.keys()])) move(tenantId, mine.get(tenantId));
  };
  const following = repeat(timing.placementPollMs, stopping.signal, follow, (error) =>
    logger.warn({ error: String(error) }, 'placements could not be read; lanes stay as they are'),
  );

  return {
    async stop() {
      stopping.abort();
      await following;
      await Promise.all(moving.values());
      await Promise.all([runs?.stop(), ...[...lanes].map(([tenantId, lane]) => closeLane(tenantId, lane))]);
      await fence.stop();
      parts.broker.close();
      await pools.close();
    },
  };
}

/**
 * The host renews its row on the way to each look at the fence: one whose row grows old, and whose leases others may so end, can
 * confirm no fence and so sends nothing.
 */
function beatingWithEachPoll(
  { storage, timing, hostId }: WorkerParts,
  { only }: LaneHostOptions,
): Pick<PlatformStore, 'controlVersions'> {
  let renewedAt = Number.NEGATIVE_INFINITY;
  return {
    async controlVersions() {
      const begun = performance.now();
      if (begun - renewedAt >= timing.hostHeartbeatMs) {
        await storage.platform.heartbeatHost({
          hostId,
          pid: process.pid,
          roles: [only ? `lane:${only}` : 'host'],
        });
        renewedAt = begun;
      }
      return await storage.platform.controlVersions();
    },
  };
}

const serves = (options: LaneHostOptions, placement: Placement): boolean =>
  options.only ? placement.tenantId === options.only : placement.lane === 'own';

function runsWorker(workflowBundle: WorkflowBundleOption) {
  return {
    taskQueue: RUNS_QUEUE,
    workflowBundle,
    maxConcurrentWorkflowTaskExecutions: 40,
    maxCachedWorkflows: 500,
    // After a SIGKILL the next worker waits this long for the dead one's cache (FACTS: 10 s by default).
    stickyQueueScheduleToStartTimeout: '1s',
  } as const;
}

/** Runs `body` at once and then again and again, until aborted. An error is told and does not end it. */
async function repeat(
  everyMs: number,
  signal: AbortSignal,
  body: () => Promise<void>,
  onError: (error: unknown) => void,
): Promise<void> {
  while (!signal.aborted) {
    await body().catch(onError);
    await delay(everyMs, undefined, { signal }).catch(() => undefined);
  }
}
