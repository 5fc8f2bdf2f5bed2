import { Client } from 'pg';

/** Reads the database as its superuser, past row security: for harnesses that hold the ledger against the outside. */
export interface Witness {
  /** Rows of a statement; `undefined` while the database is away. */
  rows<Row extends object>(sql: string, params: readonly unknown[]): Promise<Row[] | undefined>;
}

/** Connects for each question, since the database it asks may be crashed between two. */
export function witnessOf(adminUrl: string): Witness {
  return {
    async rows<Row extends object>(sql: string, params: readonly unknown[]) {
      const client = new Client({ connectionString: adminUrl, application_name: 'test/witness' });
      client.on('error', () => undefined);
      try {
        await client.connect();
        return (await client.query<Row>(sql, [...params])).rows;
      } catch (error) {
        if (isAway(error)) return undefined;
        throw error;
      } finally {
        await client.end().catch(() => undefined);
      }
    },
  };
}

/** Class 57 is the server going down or coming up; the rest is a connection that was not made, or broke. */
function isAway(error: unknown): boolean {
  const code = (error as { code?: string }).code ?? '';
  return (
    code.startsWith('57P') ||
    ['ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(code) ||
    (error instanceof Error && /Connection terminated|connection timeout/i.test(error.message))
  );
}
