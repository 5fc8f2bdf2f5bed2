import type { Pool, QueryResultRow } from 'pg';
import type { PlatformSession } from '../../storage/session';
import { ENVIRONMENT } from './harness';

const READ = `select relname, (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as read from pg_stat_xact_user_tables
  where schemaname = 'bulkhead'`;

/**
 * A platform's session that counts, of each function of ours that it calls, how many rows of each table it has read: what does not grow with
 * what a tenant ever did is held by that, and not by a time.
 */
export function countingSession(admin: Pool) {
  const read: Record<string, Record<string, number>> = {};
  const counts = (rows: { relname: string; read: number }[]) =>
    new Map(rows.map(({ relname, read: n }) => [relname, n]));
  const call = async <T extends QueryResultRow>(sql: string, params: readonly unknown[]): Promise<T[]> => {
    const name = /bulkhead\.(\w+)\(/.exec(sql)?.[1] ?? sql;
    const of = (read[name] ??= {});
    const client = await admin.connect();
    try {
      await client.query('begin');
      const before = counts((await client.query<{ relname: string; read: number }>(READ)).rows);
      const { rows } = await client.query<T>(sql, [...params]);
      const after = counts((await client.query<{ relname: string; read: number }>(READ)).rows);
      await client.query('commit');
      for (const [table, n] of after) {
        const more = n - (before.get(table) ?? 0);
        if (more > 0) of[table] = (of[table] ?? 0) + more;
      }
      return rows;
    } finally {
      client.release();
    }
  };
  const session: PlatformSession = { environment: ENVIRONMENT, call };
  return { session, call, read };
}
