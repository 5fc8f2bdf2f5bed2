import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { WorkflowBundleOption } from '@temporalio/worker';
import { FenceWatch } from '../activities/fence-watch';
import { createPolicies } from '../activities/policies';
import { laneActivities } from '../activities/registry';
import { RememberedRefusals } from '../activities/remembered-refusals';
import type { TenantId } from '../contracts/ids';
import { RUNS_QUEUE } from '../contracts/names';
import type { PlatformStore } from '../contracts/platform-ports';
import { createHttpPools } from '../tools/http';
import { LANE_SETTINGS, planLanes, type PlannedLane } from './lane-plan';
import type { Host, WorkerParts } from './parts';
import { PlacedTenants } from './placed-tenants';
import { isLeftBehind, serve, type ServedWorker } from './served-worker';

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
 * A worker host: one workflow worker for the runs of all tenants, one activity worker per tenant's lane with its ceiling, and one
 * for the shared lane (promise N2); the same again for expensive calls, where the app has any (N3). Lanes follow the placements
 * in PostgreSQL, so a new or a moved tenant needs no restart.
 */
export async function startLaneHost(parts: WorkerParts, options: LaneHostOptions): Promise<Host> {
  const { storage, environment, logger, timing, app, hostId } = parts;
  const stopping = new AbortController();
  const pools = createHttpPools();
  const settings = { ...LANE_SETTINGS, ...parts.lanes };
  const anyExpensive = [...app.actions.values()].some(({ lane }) => lane === 'expensive');
  const placed = new PlacedTenants(storage.platform);
  const beat = createBeat(parts, options.only);
  const remembered = new RememberedRefusals({
    onError: (error) =>
      logger.warn({ error: String(error) }, 'refusals could not be counted; they are with the next ones'),
  });
  const fence = new FenceWatch(beatingWithEachPoll(parts, beat.say), {
    pollMs: timing.fencePollMs,
    // A fence takes back what was lent before it, also from an action that keeps hold of its context.
    onChange: (versions) => {
      for (const { tenantId, fenceEpoch } of versions)
        parts.broker.revokeBefore(tenantId, environment, fenceEpoch);
      remembered.controlsSeen(versions);
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
    remembered,
    checkpoint: parts.checkpoint,
    actions: app.actions,
  });
  const runs = options.only ? undefined : await serve(parts, { environment }, runsWorker(options.bundle));
  const lanes = new Map<string, Lane>();
  let breaks: (error: Error) => void = () => undefined;
  const broken = new Promise<Error>((resolve) => (breaks = resolve));
  void runs?.broken.then(breaks);

  const openLane = async ({ queue, ceiling, tenantId }: PlannedLane): Promise<void> => {
    const worker = await serve(
      parts,
      { environment, ...(tenantId === undefined ? { tenants: placed } : { tenantId }) },
      {
        taskQueue: queue,
        activities,
        maxConcurrentActivityTaskExecutions: ceiling,
        // Many lanes a process: each polls little, and only as much as it can run.
        maxConcurrentActivityTaskPolls: Math.min(tenantId === undefined ? 5 : 2, ceiling),
      },
    );
    lanes.set(queue, { ceiling, worker });
    logger.info({ queue, ceiling }, 'lane opened');
    void worker.broken.then(breaks);
  };
  const closeLane = async (queue: string, lane: Lane): Promise<void> => {
    lanes.delete(queue);
    await lane.worker.stop();
    logger.info({ queue }, 'lane closed');
  };
  const moving = new Map<string, Promise<void>>();
  /** Brings one lane to its plan; a lane that closes slowly, or does not open, holds up no other. */
  const move = (queue: string, planned: PlannedLane | undefined): void => {
    const lane = lanes.get(queue);
    if (moving.has(queue) || lane?.ceiling === planned?.ceiling) return;
    const work = async (): Promise<void> => {
      // One process may serve a queue only once: the old worker has ended before the new one begins.
      if (lane) await closeLane(queue, lane);
      if (planned) await openLane(planned);
    };
    const moved = work()
      .catch((error: unknown) => {
        logger.error({ queue, error: String(error) }, 'a lane could not be moved');
        if (isLeftBehind(error)) breaks(error as Error);
      })
      .finally(() => moving.delete(queue));
    moving.set(queue, moved);
  };
  const follow = async (): Promise<void> => {
    const plan = planLanes(await placed.read(), { only: options.only, settings, anyExpensive });
    for (const queue of new Set([...lanes.keys(), ...plan.keys()])) move(queue, plan.get(queue));
  };
  const following = repeat(timing.placementPollMs, stopping.signal, follow, (error) =>
    logger.warn({ error: String(error) }, 'placements could not be read; lanes stay as they are'),
  );

  return {
    broken,
    async stop() {
      stopping.abort();
      await following;
      await Promise.all(moving.values());
      // From here on it takes nothing more: whoever waits for a worker is not to take it for one.
      await beat.leave();
      await Promise.all([runs?.stop(), ...[...lanes].map(([queue, lane]) => closeLane(queue, lane))]);
      await fence.stop();
      await remembered.stop();
      parts.broker.close();
      await pools.close();
    },
  };
}

/** How a host says in its row that it lives and whom it serves: everybody, or one tenant. */
function createBeat({ storage, hostId }: WorkerParts, only: TenantId | undefined) {
  let roles = [only ? `lane:${only}` : 'host'];
  const say = (): Promise<void> => storage.platform.heartbeatHost({ hostId, pid: process.pid, roles });
  return {
    say,
    /** It lives, and serves nobody any more. Where the database is away its row grows old, which says the same. */
    async leave(): Promise<void> {
      roles = [];
      await say().catch(() => undefined);
    },
  };
}

/**
 * The host renews its row on the way to each look at the fence: one whose row grows old, and whose leases others may so end, can
 * confirm no fence and so sends nothing.
 */
function beatingWithEachPoll(
  { storage, timing }: WorkerParts,
  beat: () => Promise<void>,
): Pick<PlatformStore, 'controlVersions'> {
  let renewedAt = Number.NEGATIVE_INFINITY;
  return {
    async controlVersions() {
      const begun = performance.now();
      if (begun - renewedAt >= timing.hostHeartbeatMs) {
        await beat();
        renewedAt = begun;
      }
      return await storage.platform.controlVersions();
    },
  };
}

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
