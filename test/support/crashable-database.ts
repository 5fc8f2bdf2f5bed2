import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { migrate, roleUrl } from '../../storage/migrate';
import { startPostgres, type RunningPostgres } from '../../workers/embedded/postgres';
import { identify } from '../../workers/embedded/owned-processes';
import type { TestDatabase } from './database';

const NAME = 'bulkhead_chaos';

/** A PostgreSQL of its own, to be crashed: on one port for all its lives. */
export interface CrashableDatabase {
  readonly database: TestDatabase;
  readonly version: string;
  /** An immediate stop (SIGQUIT): no checkpoint, no goodbye to clients; what was not in its log is lost. */
  crash(): Promise<void>;
  /** Starts it again, which recovers from its log. */
  restart(): Promise<void>;
  /** Both, with so long in between. */
  crashFor(downMs: number): Promise<void>;
  /** Ends it and removes its directory. */
  stop(): Promise<void>;
}

/**
 * Starts and migrates it. A commit waits until its log is with the operating system, not on the disk: a crash of the
 * server loses exactly what `synchronous_commit = off` allows, and only a crash of the machine is not survived.
 */
export async function startCrashableDatabase(): Promise<CrashableDatabase> {
  const home = await mkdtemp(join(tmpdir(), 'bulkhead-crash-'));
  await chmod(home, 0o711);
  const dataDir = join(home, 'postgres');
  const settings = {
    fsync: 'off',
    full_page_writes: 'off',
    max_connections: '200',
    log_min_messages: 'fatal',
  };
  let server: RunningPostgres = await startPostgres({ dataDir, settings });
  const { port } = server;
  const passwords = { app: randomBytes(12).toString('hex'), operator: randomBytes(12).toString('hex') };
  const adminUrl = new URL(server.adminUrl);
  adminUrl.pathname = `/${NAME}`;
  const ask = async (url: string, sql: string): Promise<string> => {
    const client = new Client({ connectionString: url });
    await client.connect();
    try {
      const { rows } = await client.query<{ answer: string }>(sql);
      return rows[0]?.answer ?? '';
    } finally {
      await client.end();
    }
  };
  const end = async (): Promise<void> => {
    await server.stop();
    await rm(home, { recursive: true, force: true });
  };
  try {
    await ask(server.adminUrl, `create database ${NAME}`);
    await migrate(adminUrl.href, { passwords });
    const version = await ask(adminUrl.href, `select current_setting('server_version') as answer`);
    const crashable: CrashableDatabase = {
      version,
      database: {
        name: NAME,
        adminUrl: adminUrl.href,
        appUrl: roleUrl(server.adminUrl, 'app', passwords.app, NAME),
        operatorUrl: roleUrl(server.adminUrl, 'operator', passwords.operator, NAME),
        // It goes with its server.
        drop: () => Promise.resolve(),
      },
      async crash() {
        const { pid } = server;
        const { startedAt } = identify(pid) ?? {};
        if (startedAt === undefined) return;
        process.kill(pid, 'SIGQUIT');
        while (identify(pid)?.startedAt === startedAt) await sleep(10);
      },
      async restart() {
        server = await startPostgres({ dataDir, port, settings });
      },
      async crashFor(downMs) {
        await crashable.crash();
        await sleep(downMs);
        await crashable.restart();
      },
      stop: end,
    };
    return crashable;
  } catch (error) {
    await end();
    throw error;
  }
}
