import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { roleUrl } from '../../storage/migrate';

/** Migrated once a run; every test file works on a clone of it. */
export const TEMPLATE = 'bulkhead_template';

/** What the run's setup hands to the test files. */
export interface TestPostgres {
  readonly adminUrl: string;
  readonly passwords: { readonly app: string; readonly operator: string };
}

export interface TestDatabase {
  readonly name: string;
  /** Of the superuser: sees everything, row security or not. For arranging and for witnesses. */
  readonly adminUrl: string;
  readonly appUrl: string;
  readonly operatorUrl: string;
  /** Drops it. Throws if a client is still connected: whoever opened it leaked it. */
  drop(): Promise<void>;
}

/** The PostgreSQL of this run. */
export function testPostgres(): TestPostgres {
  const shared = process.env['BULKHEAD_TEST_POSTGRES'];
  if (!shared)
    throw new Error('no test PostgreSQL: run the tests through jest, whose global setup starts one');
  return JSON.parse(shared) as TestPostgres;
}

/** A database of its own for a test file, cloned from the migrated template (or empty). */
export async function createTestDatabase(options: { empty?: boolean } = {}): Promise<TestDatabase> {
  const { adminUrl, passwords } = testPostgres();
  const name = `t_${randomBytes(6).toString('hex')}`;
  const source = options.empty ? 'template0' : TEMPLATE;
  await asAdmin(adminUrl, async (admin) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await admin.query(`create database ${name} template ${source} strategy file_copy`);
        return;
      } catch (error) {
        // "source database is being accessed": another file is being cloned this moment.
        if ((error as { code?: string }).code !== '55006' || attempt === 100) throw error;
        await sleep(50);
      }
    }
  });
  const own = new URL(adminUrl);
  own.pathname = `/${name}`;
  return {
    name,
    adminUrl: own.href,
    appUrl: roleUrl(adminUrl, 'app', passwords.app, name),
    operatorUrl: roleUrl(adminUrl, 'operator', passwords.operator, name),
    drop: () => drop(adminUrl, name),
  };
}

async function drop(adminUrl: string, name: string): Promise<void> {
  await asAdmin(adminUrl, async (admin) => {
    let left: { application_name: string; state: string; query: string }[] = [];
    // A closed connection takes a moment to leave the list.
    for (let waited = 0; waited < 2_000; waited += 50) {
      const found = await admin.query<{ application_name: string; state: string; query: string }>(
        `select application_name, state, query from pg_stat_activity where datname = $1 and backend_type = 'client backend'`,
        [name],
      );
      left = found.rows;
      if (left.length === 0) break;
      await sleep(50);
    }
    await admin.query(`drop database ${name} with (force)`);
    if (left.length > 0) {
      const who = left.map(
        (client) => `${client.application_name || 'unnamed'} (${client.state}): ${client.query.slice(0, 80)}`,
      );
      throw new Error(`${left.length} database clients were never closed:\n${who.join('\n')}`);
    }
  });
}

async function asAdmin(adminUrl: string, work: (admin: Client) => Promise<void>): Promise<void> {
  const admin = new Client({ connectionString: adminUrl, application_name: 'test/admin' });
  try {
    await admin.connect();
    await work(admin);
  } finally {
    await admin.end();
  }
}
