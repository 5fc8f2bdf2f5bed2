import { setTimeout as sleep } from 'node:timers/promises';
import type { Placement } from '../contracts/platform-ports';

/** What {@link followDedicatedLanes} needs of the processes it starts and ends. */
export interface LaneProcesses {
  start(tenantId: string): Promise<void>;
  stop(tenantId: string): Promise<void>;
}

export interface LaneOptions {
  readonly placements: () => Promise<readonly Placement[]>;
  readonly processes: LaneProcesses;
  readonly everyMs: number;
  readonly say: (line: string) => void;
}

/**
 * Keeps a worker process for each tenant of a dedicated lane, by polling the placements: a tenant created or moved
 * later gets its process without a restart. What fails is said once and tried again at the next poll; a process that
 * does not start or stop keeps no other tenant from its own. Answers how to stop following, and the first poll's end.
 */
export function followDedicatedLanes(options: LaneOptions): {
  first: Promise<void>;
  stop: () => Promise<void>;
} {
  const over = new AbortController();
  const served = new Set<string>();
  /** Of those: whose stop has begun. Each is ended before it is started again, also where it is wanted back by then. */
  const leaving = new Set<string>();
  const troubles = new Map<string, string>();
  const attempt = async (of: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
      troubles.delete(of);
    } catch (error) {
      const trouble = error instanceof Error ? error.message : String(error);
      if (trouble !== troubles.get(of) && !over.signal.aborted) options.say(`dedicated lanes: ${trouble}`);
      troubles.set(of, trouble);
    }
  };
  const poll = (): Promise<void> =>
    attempt('the placements', async () => {
      const placements = await options.placements();
      const wanted = new Set<string>(
        placements.filter(({ lane }) => lane === 'dedicated').map(({ tenantId }) => tenantId),
      );
      for (const tenantId of served) if (!wanted.has(tenantId)) leaving.add(tenantId);
      for (const tenantId of leaving)
        await attempt(tenantId, async () => {
          await options.processes.stop(tenantId);
          leaving.delete(tenantId);
          served.delete(tenantId);
        });
      for (const tenantId of wanted) {
        if (served.has(tenantId) || over.signal.aborted) continue;
        await attempt(tenantId, async () => {
          await options.processes.start(tenantId);
          served.add(tenantId);
        });
      }
    });
  const first = poll();
  const following = (async () => {
    await first;
    while (!over.signal.aborted) {
      await sleep(options.everyMs, undefined, { signal: over.signal }).catch(() => undefined);
      if (!over.signal.aborted) await poll();
    }
  })();
  return {
    first,
    stop: async () => {
      over.abort();
      await following;
    },
  };
}
