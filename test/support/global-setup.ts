import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { migrate } from '../../storage/migrate';
import { startPostgres } from '../../workers/embedded/postgres';
import { TEMPLATE, type TestPostgres } from './database';
import { keepScratchInMemory } from './scratch';
import { startSharedTemporal } from './shared-temporal';
import globalTeardown, { onTeardown } from './global-teardown';

/**
 * What every test file of a run shares: one PostgreSQL with a template database migrated once. Its address travels to
 * the test files in an environment variable. Other shared parts of a run are added below, each with its own variable.
 */
export default async function globalSetup(): Promise<void> {
  try {
    onTeardown(await keepScratchInMemory());
    await startDatabase();
    onTeardown(await startSharedTemporal());
  } catch (error) {
    // jest does not tear down what failed to set up.
    await globalTeardown();
    throw error;
  }
}

async function startDatabase(): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), 'bulkhead-test-'));
  await chmod(home, 0o711);
  const postgres = await startPostgres({
    dataDir: home,
    settings: {
      // A commit still waits for its log to reach the operating system, so a crash of the server loses exactly what
      // synchronous_commit = off allows, as the ledger relies on. Only a crash of the machine is not survived.
      fsync: 'off',
      full_page_writes: 'off',
      max_connections: '300',
      // Hundreds of connections log in; nobody guesses these passwords.
      scram_iterations: '1',
      autovacuum_naptime: '10s',
      log_min_messages: 'error',
      log_min_error_statement: 'panic',
    },
  });
  onTeardown(async () => {
    await postgres.stop();
    await rm(home, { recursive: true, force: true });
  });

  const passwords = { app: randomBytes(12).toString('hex'), operator: randomBytes(12).toString('hex') };
  const admin = new Client({ connectionString: postgres.adminUrl });
  await admin.connect();
  await admin.query(`create database ${TEMPLATE}`);
  await admin.end();
  const template = new URL(postgres.adminUrl);
  template.pathname = `/${TEMPLATE}`;
  await migrate(template.href, { passwords });

  const shared: TestPostgres = { adminUrl: postgres.adminUrl, passwords };
  process.env['BULKHEAD_TEST_POSTGRES'] = JSON.stringify(shared);
}
