import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Client } from 'pg';
import { ensureRoles, ROLES, type RolePasswords } from './roles';

export { roleUrl, ROLES, type RolePasswords } from './roles';

/** `0003_knowledge.sql`: applied in order of its number, once, and never edited after. */
export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

export interface MigrateOptions {
  /** For the roles that log in. */
  readonly passwords?: RolePasswords;
  readonly onStep?: (step: string) => void;
  /** Those of the package unless given. */
  readonly migrations?: readonly Migration[];
}

/** A schema that this code must not work on. The message says what to do. */
export class SchemaMismatch extends Error {
  override readonly name = 'SchemaMismatch';
}

/** Any number, the same for ever: who migrates a database holds this lock in it. */
const LOCK = 7_240_031;

/**
 * Brings a database to this code's schema: roles, then every migration not yet applied, each in a transaction of its
 * own. Two at once are safe: one waits for the other and finds nothing left. Answers the number it stands at.
 * Throws {@link SchemaMismatch} on a schema newer than the code or an applied migration that was edited since.
 *
 * @param adminUrl of a role that may create roles and schemas; the superuser of an embedded server.
 */
export async function migrate(
  adminUrl: string,
  options: MigrateOptions = {},
): Promise<{ applied: number; version: number }> {
  const migrations = options.migrations ?? (await readMigrations());
  const step = options.onStep ?? (() => undefined);
  const admin = new Client({ connectionString: adminUrl, application_name: 'bulkhead/migrate' });
  try {
    await admin.connect();
    await admin.query(
      `select set_config('lock_timeout', '60s', false), set_config('client_min_messages', 'warning', false)`,
    );
    await assertServer(admin);
    await admin.query('select pg_advisory_lock($1)', [LOCK]);
    await ensureRoles(admin, options.passwords ?? {});
    await admin.query(`create schema if not exists bulkhead authorization ${ROLES.owner}`);
    await admin.query(
      `create table if not exists bulkhead.migrations (
         number integer primary key, name text not null, checksum text not null,
         applied_at timestamptz not null default clock_timestamp())`,
    );
    await admin.query(`alter table bulkhead.migrations owner to ${ROLES.owner}`);
    await admin.query(`grant usage on schema bulkhead to ${ROLES.app}, ${ROLES.operator}`);
    await admin.query(`grant usage, create on schema bulkhead to ${ROLES.sweep}, ${ROLES.search}`);
    await admin.query(`grant select on bulkhead.migrations to ${ROLES.app}, ${ROLES.operator}`);

    const before = await appliedTo(admin);
    compare(before, migrations);
    let applied = 0;
    for (const migration of migrations.slice(before.length)) {
      step(migration.name);
      await apply(admin, migration);
      applied += 1;
    }
    return { applied, version: migrations.length };
  } finally {
    await admin.end();
  }
}

/**
 * Asks whether a database stands exactly at this code's schema; any of our roles may ask.
 * Throws {@link SchemaMismatch} if it does not.
 */
export async function assertMigrated(databaseUrl: string): Promise<void> {
  const migrations = await readMigrations();
  const client = new Client({ connectionString: databaseUrl, application_name: 'bulkhead/schema-check' });
  try {
    await client.connect();
    const known = await client.query<{ there: boolean }>(
      `select to_regclass('bulkhead.migrations') is not null as there`,
    );
    const applied = known.rows[0]?.there ? await appliedTo(client) : [];
    compare(applied, migrations);
    if (applied.length < migrations.length) {
      throw new SchemaMismatch(
        `the database stands at schema ${applied.length}, this Bulkhead needs ${migrations.length}: run \`bulkhead migrate\``,
      );
    }
  } finally {
    await client.end();
  }
}

/** The package's migrations in order. Throws on a gap, a double number or a name out of form. */
export async function readMigrations(dir: string = migrationsDir()): Promise<Migration[]> {
  const files = (await readdir(dir)).filter((file) => file.endsWith('.sql')).sort();
  return Promise.all(
    files.map(async (file, index) => {
      const match = /^(\d{4})_[a-z0-9_]+\.sql$/.exec(file);
      if (!match || Number(match[1]) !== index + 1) {
        throw new SchemaMismatch(
          `migration ${file} should be number ${index + 1}: numbers go up by one, without gaps`,
        );
      }
      const sql = await readFile(join(dir, file), 'utf8');
      return { number: index + 1, name: file.replace(/\.sql$/, ''), sql, checksum: checksumOf(sql) };
    }),
  );
}

/** Line endings apart, every character counts. */
export function checksumOf(sql: string): string {
  return createHash('sha256').update(sql.replaceAll('\r\n', '\n')).digest('hex');
}

/** Roles are granted to be set but not inherited, which 16 brought. */
async function assertServer(admin: Client): Promise<void> {
  const { rows } = await admin.query<{ number: number; name: string }>(
    `select current_setting('server_version_num')::int as number, current_setting('server_version') as name`,
  );
  if ((rows[0]?.number ?? 0) < 160_000) {
    throw new SchemaMismatch(`PostgreSQL ${rows[0]?.name} is too old: Bulkhead needs 16 or newer`);
  }
}

/** From the package's root, so that the compiled code in `dist/` and the sources find the same files. */
function migrationsDir(): string {
  for (let dir = __dirname; ; dir = dirname(dir)) {
    const candidate = join(dir, 'storage', 'migrations');
    if (existsSync(join(dir, 'package.json')) && existsSync(candidate)) return candidate;
    if (dirname(dir) === dir)
      throw new Error(`storage/migrations is missing above ${__dirname}: install Bulkhead whole`);
  }
}

interface Applied {
  readonly number: number;
  readonly name: string;
  readonly checksum: string;
}

async function appliedTo(client: Client): Promise<Applied[]> {
  const { rows } = await client.query<Applied>(
    'select number, name, checksum from bulkhead.migrations order by number',
  );
  return rows;
}

function compare(applied: readonly Applied[], migrations: readonly Migration[]): void {
  if (applied.length > migrations.length) {
    throw new SchemaMismatch(
      `the database stands at schema ${applied.length}, newer than this Bulkhead knows (${migrations.length}): upgrade Bulkhead`,
    );
  }
  for (const [index, row] of applied.entries()) {
    if (row.checksum !== migrations[index]?.checksum) {
      throw new SchemaMismatch(
        `migration ${row.name} was edited after it was applied: restore the file, and write the change as a new migration`,
      );
    }
  }
}

async function apply(admin: Client, migration: Migration): Promise<void> {
  await admin.query('begin');
  try {
    // What a migration makes belongs to the owner from the start; `public` never gets a function by default.
    await admin.query(`set local role ${ROLES.owner}`);
    await admin.query(`set local search_path = bulkhead, pg_catalog`);
    await admin.query('alter default privileges revoke execute on functions from public');
    await admin.query(migration.sql);
    await admin.query('insert into bulkhead.migrations (number, name, checksum) values ($1, $2, $3)', [
      migration.number,
      migration.name,
      migration.checksum,
    ]);
    await admin.query('commit');
  } catch (error) {
    await admin.query('rollback');
    const { message, position } = error as { message: string; position?: string };
    const line = position ? migration.sql.slice(0, Number(position)).split('\n').length : undefined;
    throw new Error(`migration ${migration.name}${line ? `, line ${line}` : ''}: ${message}`, {
      cause: error,
    });
  }
}
