import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { testPostgres, type TestDatabase } from '../support/database';

/** A copy of a database that others work on, as a backup is. */
export interface Backup {
  /** Puts the database back to where it was then, in place: same name, same address. Hosts must be stopped. */
  restore(): Promise<void>;
  drop(): Promise<void>;
}

/** Copies it in mid-flight: its clients are cut off for a moment, and come again by themselves. */
export async function backUp({ name }: Pick<TestDatabase, 'name'>): Promise<Backup> {
  const copy = `b_${randomBytes(6).toString('hex')}`;
  await withoutClients(name, (admin) => admin.query(`create database ${copy} template ${name}`));
  return {
    restore: () =>
      withoutClients(name, async (admin) => {
        await admin.query(`alter database ${name} rename to ${name}_lost`);
        await admin.query(`create database ${name} template ${copy}`);
        await admin.query(`drop database ${name}_lost`);
      }),
    drop: () => asAdmin((admin) => admin.query(`drop database if exists ${copy} with (force)`)),
  };
}

/** Rows as the superuser sees them. */
export async function witness<T extends object>(
  { adminUrl }: Pick<TestDatabase, 'adminUrl'>,
  sql: string,
  params: unknown[] = [],
): Promise<T[]> {
  const client = new Client({ connectionString: adminUrl, application_name: 'test/witness' });
  await client.connect();
  try {
    return (await client.query<T>(sql, params)).rows;
  } finally {
    await client.end();
  }
}

async function withoutClients(name: string, work: (admin: Client) => Promise<unknown>): Promise<void> {
  await asAdmin(async (admin) => {
    // What hosts are told then (53300) is the database's own trouble, as when it is started anew.
    await admin.query(`alter database ${name} connection limit 0`);
    await admin.query(
      `select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()`,
      [name],
    );
    await work(admin);
    await admin.query(`alter database ${name} connection limit -1`);
  });
}

async function asAdmin(work: (admin: Client) => Promise<unknown>): Promise<void> {
  const admin = new Client({ connectionString: testPostgres().adminUrl, application_name: 'test/backup' });
  await admin.connect();
  try {
    await work(admin);
  } finally {
    await admin.end();
  }
}
