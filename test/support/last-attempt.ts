import { Client } from 'pg';
import type { TestDatabase } from './database';

/**
 * Takes what is left of its attempts from each call of the tenant that was tried and waits for its next one: eight take half a
 * minute of waiting. Answers whether there was such a call by now.
 */
export async function atLastAttempt(
  { adminUrl }: Pick<TestDatabase, 'adminUrl'>,
  tenant: string,
): Promise<boolean> {
  const admin = new Client({ connectionString: adminUrl, application_name: 'test/last-attempt' });
  await admin.connect();
  try {
    const { rowCount } = await admin.query(
      `update bulkhead.calls set attempts = 8 where tenant_id = $1 and state = 'open' and attempts < 8`,
      [tenant],
    );
    return rowCount !== null && rowCount > 0;
  } finally {
    await admin.end();
  }
}
