import type { BenchStack } from './stack';

/** Calls of one function of ours, from the start of the server. */
export interface Trips {
  readonly calls: number;
  /** In the server, without the flush of the commit. */
  readonly ms: number;
}
export const NO_TRIPS: Trips = { calls: 0, ms: 0 };

/** What PostgreSQL has counted so far; polls by the clock are left out of statements and trips. */
export interface Counters {
  readonly statements: number;
  readonly trips: Readonly<Record<string, Trips>>;
  readonly commits: number;
  /** Bytes. */
  readonly wal: number;
  /** Whole pages in it: the first change of a page after a checkpoint takes it along. */
  readonly walPages: number;
  readonly at: number;
}

/** Everything that polls by the clock rather than by the call. */
const POLLS =
  /placements|control_versions|heartbeat|accepted_not_started|open_runs_idle|reap_calls|pg_stat|due_calls/;

/** Reads them as the superuser. */
export async function counters({ admin }: BenchStack): Promise<Counters> {
  const statements = await admin.query<{ query: string; calls: string; total_exec_time: number }>(
    `select query, calls, total_exec_time from pg_stat_statements where query like '%bulkhead.%'`,
  );
  const mine = statements.rows.filter(({ query }) => !POLLS.test(query));
  const { rows } = await admin.query<{ commits: string; wal: string; pages: string }>(
    `select sum(xact_commit) as commits, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') as wal,
       (select wal_fpi from pg_stat_wal) as pages from pg_stat_database`,
  );
  const trips: Record<string, Trips> = {};
  for (const { query, calls, total_exec_time } of mine) {
    const name = /bulkhead\.(\w+)/.exec(query)?.[1] ?? query;
    const known = trips[name] ?? NO_TRIPS;
    trips[name] = { calls: known.calls + Number(calls), ms: known.ms + total_exec_time };
  }
  return {
    statements: mine.reduce((sum, { calls }) => sum + Number(calls), 0),
    trips,
    commits: Number(rows[0]?.commits ?? 0),
    wal: Number(rows[0]?.wal ?? 0),
    walPages: Number(rows[0]?.pages ?? 0),
    at: Date.now(),
  };
}
