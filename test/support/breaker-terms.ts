import { Client } from 'pg';
import type { TestDatabase } from './database';

/** For tests of what failing calls come to by themselves: no breaker keeps them from failing. */
export const neverOpen = (database: Pick<TestDatabase, 'adminUrl'>): Promise<void> =>
  setBreakerTerms(database, {
    failures: 1_000,
    withinMs: 1_000,
    firstOpenMs: 1_000,
    longestOpenMs: 1_000,
    lookMs: 1_000,
  });

/** Replaces the numbers of every breaker in a test's database; only a superuser can. Times are milliseconds. */
export async function setBreakerTerms(
  { adminUrl }: Pick<TestDatabase, 'adminUrl'>,
  terms: { failures: number; withinMs: number; firstOpenMs: number; longestOpenMs: number; lookMs: number },
): Promise<void> {
  const admin = new Client({ connectionString: adminUrl, application_name: 'test/breaker-terms' });
  await admin.connect();
  try {
    const { failures, withinMs, firstOpenMs, longestOpenMs, lookMs } = terms;
    const times = [withinMs, firstOpenMs, longestOpenMs, lookMs].map((ms) => `interval '${ms} milliseconds'`);
    await admin.query(
      `create or replace function bulkhead.breaker_terms() returns bulkhead.breaker_terms language sql immutable as
         $$ select row(${failures}, ${times.join(', ')})::bulkhead.breaker_terms $$`,
    );
  } finally {
    await admin.end();
  }
}
