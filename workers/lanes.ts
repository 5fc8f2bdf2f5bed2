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
 * later gets its process without a restart. A poll that fails is said once and tried again; a process that does not
 * start is tried again at the next poll. Answers how to stop following, and the first poll's end.
 */
export function followDedicatedLanes(options: LaneOptions): {
  first: Promise<void>;
  stop: () => Promise<void>;
} {
  const over = new AbortController();
  const served = new Set<string>();
  let lastTrouble = '';
  const poll = async (): Promise<void> => {
    try {
      const placements = await options.placements();
      const wanted = new Set<string>(
        placements.filter(({ lane }) => lane === 'dedicated').map(({ tenantId }) => tenantId),
      );
      for (const tenantId of [...served].filter((tenant) => !wanted.has(tenant))) {
        served.delete(tenantId);
        await options.processes.stop(tenantId);
      }
      for (const tenantId of wanted) {
        if (served.has(tenantId) || over.signal.aborted) continue;
        await options.processes.start(tenantId);
        served.add(tenantId);
      }
      lastTrouble = '';
    } catch (error) {
      const trouble = error instanceof Error ? error.message : String(error);
      if (trouble !== lastTrouble && !over.signal.aborted) options.say(`dedicated lanes: ${trouble}`);
      lastTrouble = trouble;
    }
  };
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
