import { Client } from 'pg';
import { assertMigrated, migrate, readMigrations, checksumOf, type Migration } from '../../storage/migrate';
import { createTestDatabase } from '../support/database';

async function ask<T extends object>(url: string, sql: string): Promise<T[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<T>(sql)).rows;
  } finally {
    await client.end();
  }
}

describe('migrations', () => {
  test('U4 a second run applies nothing, and ten at once apply each migration once', async () => {
    const database = await createTestDatabase({ empty: true });
    try {
      const migrations = await readMigrations();
      const results = await Promise.all(Array.from({ length: 10 }, () => migrate(database.adminUrl)));
      expect(results.map((result) => result.applied).reduce((a, b) => a + b)).toBe(migrations.length);
      expect(await migrate(database.adminUrl)).toEqual({ applied: 0, version: migrations.length });
      await assertMigrated(database.adminUrl);
      const rows = await ask<{ number: number }>(
        database.adminUrl,
        'select number from bulkhead.migrations order by number',
      );
      expect(rows.map((row) => row.number)).toEqual(migrations.map((migration) => migration.number));
    } finally {
      await database.drop();
    }
  });
});
