import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import {
  assertMigrated,
  checksumOf,
  migrate,
  readMigrations,
  roleUrl,
  SchemaMismatch,
  type Migration,
} from '../../storage/migrate';
import { createTestDatabase, testPostgres, type TestDatabase } from '../support/database';
import { dumpSchema } from './dump';

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
});
afterEach(async () => {
  await database.drop();
});

async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  try {
    // Also a refused login leaves a socket, and the server waits a minute for its other half.
    await client.connect();
    return await work(client);
  } finally {
    await client.end();
  }
}

const another = (number: number, sql: string): Migration => ({
  number,
  name: `${String(number).padStart(4, '0')}_more`,
  sql,
  checksum: checksumOf(sql),
});

test('U4 migrations applied twice change nothing the second time', async () => {
  const migrations = await readMigrations();
  const steps: string[] = [];
  expect(await migrate(database.adminUrl, { onStep: (step) => steps.push(step) })).toEqual({
    applied: migrations.length,
    version: migrations.length,
  });
  expect(steps).toEqual(migrations.map(({ name }) => name));
  const first = await withClient(database.adminUrl, dumpSchema);
  expect(await migrate(database.adminUrl)).toEqual({ applied: 0, version: migrations.length });
  expect(await withClient(database.adminUrl, dumpSchema)).toBe(first);
  await assertMigrated(database.adminUrl);
});

test('U4 ten migrations at once, on two databases of one cluster, apply each step once', async () => {
  const other = await createTestDatabase({ empty: true });
  try {
    const migrations = await readMigrations();
    const urls = Array.from({ length: 10 }, (_, index) => (index % 2 ? database.adminUrl : other.adminUrl));
    const results = await Promise.all(
      urls.map((url) => migrate(url, { passwords: testPostgres().passwords })),
    );
    expect(results.reduce((sum, { applied }) => sum + applied, 0)).toBe(2 * migrations.length);
  } finally {
    await other.drop();
  }
});

test('U4 an applied migration that was edited is refused, and nothing is applied after it', async () => {
  const migrations = await readMigrations();
  await migrate(database.adminUrl, { migrations: migrations.slice(0, 2) });
  const edited = migrations.map((migration, index) =>
    index === 1 ? { ...migration, checksum: checksumOf(`${migration.sql} `) } : migration,
  );
  await expect(migrate(database.adminUrl, { migrations: edited })).rejects.toThrow(
    /edited after it was applied: restore the file/,
  );
  const rows = await withClient(database.adminUrl, (client) =>
    client.query('select from bulkhead.migrations'),
  );
  expect(rows.rowCount).toBe(2);
});

test('U4 line endings of a checkout do not count as an edit', () => {
  expect(checksumOf('a;\r\nb;\r\n')).toBe(checksumOf('a;\nb;\n'));
});

test('O8 a schema newer than the code is refused, to migrate and to work on', async () => {
  const migrations = await readMigrations();
  const newer = [...migrations, another(migrations.length + 1, 'create table more (tenant_id text)')];
  await migrate(database.adminUrl, { migrations: newer });
  await expect(migrate(database.adminUrl)).rejects.toThrow(/upgrade Bulkhead/);
  await expect(assertMigrated(database.adminUrl)).rejects.toThrow(SchemaMismatch);
});

test('O8 a schema behind the code is refused to work on, with the remedy', async () => {
  await expect(assertMigrated(database.adminUrl)).rejects.toThrow(/run `bulkhead migrate`/);
  await migrate(database.adminUrl, { migrations: (await readMigrations()).slice(0, 1) });
  await expect(assertMigrated(database.adminUrl)).rejects.toThrow(/stands at schema 1/);
});

test('U4 a migration that fails leaves nothing of itself, and names its line', async () => {
  const migrations = await readMigrations();
  const broken = another(
    migrations.length + 1,
    'create table half (id int primary key);\n\nselect nothing from nowhere;',
  );
  await expect(migrate(database.adminUrl, { migrations: [...migrations, broken] })).rejects.toThrow(
    /_more, line 3: relation "nowhere" does not exist/,
  );
  const half = await withClient(database.adminUrl, (client) =>
    client.query<{ there: boolean }>(`select to_regclass('bulkhead.half') is not null as there`),
  );
  expect(half.rows[0]?.there).toBe(false);
});

test('U4 numbers without gaps and names in form, or none is applied', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-migrations-'));
  try {
    await cp(join(__dirname, '..', '..', 'storage', 'migrations'), dir, { recursive: true });
    await writeFile(join(dir, '0099_gap.sql'), 'select 1');
    await expect(readMigrations(dir)).rejects.toThrow(/0099_gap.sql should be number/);
    await rm(join(dir, '0099_gap.sql'));
    await writeFile(join(dir, '0001_twice.sql'), 'select 1');
    await expect(readMigrations(dir)).rejects.toThrow(/should be number/);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('M1 the roles that log in need their password, and a role left wide is brought back', async () => {
  const { passwords } = testPostgres();
  await migrate(database.adminUrl, { passwords });
  const url = roleUrl(database.adminUrl, 'app', passwords.app);
  const who = await withClient(url, (client) => client.query<{ who: string }>('select current_user as who'));
  expect(who.rows).toEqual([{ who: 'bulkhead_app' }]);
  for (const wrong of ['', 'guess']) {
    await expect(
      withClient(roleUrl(database.adminUrl, 'app', wrong), (client) => client.query('select 1')),
    ).rejects.toThrow(/password/i);
  }
  await assertMigrated(url);
});
