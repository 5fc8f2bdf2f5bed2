import { setTimeout as sleep } from 'node:timers/promises';
import { startPostgres, type RunningPostgres } from './postgres';

const FIRST_BACKOFF_MS = 250;
const LONGEST_BACKOFF_MS = 10_000;
/** A server that ran this long was well: its next restart waits the first backoff again. */
const WELL_AFTER_MS = 30_000;

/** The embedded PostgreSQL, up again whenever it ends by itself, at the same address. */
export interface KeptPostgres {
  readonly adminUrl: string;
  readonly port: number;
  /** Of the server that runs now; `undefined` while there is none. */
  pid(): number | undefined;
  /** Ends it, and its restarts. Safe to call twice. */
  stop(): Promise<void>;
}

/**
 * Starts PostgreSQL and keeps it running: one that crashed or was stopped is started again on its port, where it recovers
 * from its log, with a growing pause in between. Each end and each start is told. Throws where the first start fails.
 */
export async function keepPostgres(options: {
  dataDir: string;
  say: (line: string) => void;
}): Promise<KeptPostgres> {
  const { dataDir, say } = options;
  const over = new AbortController();
  const first = await startPostgres({ dataDir });
  const { adminUrl, port } = first;
  let now: RunningPostgres | undefined = first;

  const again = async (pauseMs: number): Promise<RunningPostgres | undefined> => {
    for (let backoff = pauseMs; ; backoff = Math.min(backoff * 2, LONGEST_BACKOFF_MS)) {
      await sleep(backoff, undefined, { signal: over.signal }).catch(() => undefined);
      if (over.signal.aborted) return undefined;
      try {
        return await startPostgres({ dataDir, port });
      } catch (error) {
        say(`PostgreSQL did not start again: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  };
  const keep = async (): Promise<void> => {
    let backoff = FIRST_BACKOFF_MS;
    for (let server: RunningPostgres | undefined = first; server;) {
      const since = performance.now();
      await server.ended;
      now = undefined;
      if (over.signal.aborted) return;
      if (performance.now() - since > WELL_AFTER_MS) backoff = FIRST_BACKOFF_MS;
      say(`PostgreSQL (process ${server.pid}) ended; started again in ${backoff} ms`);
      server = await again(backoff);
      // A start that was under way when the end was asked for.
      if (over.signal.aborted) return server?.stop();
      backoff = Math.min(backoff * 2, LONGEST_BACKOFF_MS);
      now = server;
      if (server) say(`PostgreSQL is up again: process ${server.pid}, port ${port}`);
    }
  };
  const kept = keep();

  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    over.abort();
    await now?.stop();
    await kept;
  };
  return { adminUrl, port, pid: () => now?.pid, stop: () => (stopped ??= stop()) };
}
