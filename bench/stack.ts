import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import { Client as Postgres } from 'pg';
import { pino } from 'pino';
import { Environment } from '../contracts/ids';
import { createBroker } from '../secrets/broker';
import { generateEnvelopeKeys } from '../secrets/envelope-keys';
import { createEnvelopeSigner } from '../secrets/envelope-signer';
import { createEnvelopeVerifier } from '../secrets/envelope-verifier';
import { createSealer, masterKeyOf } from '../secrets/seal';
import { migrate, roleUrl } from '../storage/migrate';
import { openOperator } from '../storage/operator';
import { openStorage } from '../storage/open';
import type { App } from '../tools/app';
import { loadConfig } from '../workers/config';
import { findTemporal } from '../workers/embedded/find-temporal';
import { startPostgres } from '../workers/embedded/postgres';
import { startTemporal } from '../workers/embedded/temporal';
import type { WorkerParts } from '../workers/parts';
import type { HostSpec } from './host-spec';

/** Everything a benchmark works on: real Temporal, real PostgreSQL (with its usual durability), and parts for workers. */
export type BenchStack = Awaited<ReturnType<typeof startBenchStack>>;

/** Starts a stack in a temporary directory. `close` ends all of it. */
export async function startBenchStack(app: App) {
  const config = loadConfig();
  const home = await mkdtemp(path.join(tmpdir(), 'bulkhead-bench-'));
  const environment = Environment.parse('bench');
  const binary = await findTemporal({
    configured: config.temporal.binary,
    searchPath: config.searchPath,
    cacheDirs: [config.temporal.cacheDir ?? path.join(homedir(), '.cache', 'bulkhead')],
    say: (line) => process.stderr.write(`${line}\n`),
  });
  // They outlive whoever started them: where a benchmark is broken off, they end with it all the same.
  const servers: number[] = [];
  const brokenOff = (): void => endAtOnce(servers, home);
  process.once('exit', brokenOff);
  const [temporal, postgres] = await Promise.all([
    startTemporal({
      binary: binary.path,
      state: { stateDir: home },
      namespaces: [environment],
      onSpawn: (pid) => servers.push(pid),
    }),
    startPostgres({
      dataDir: path.join(home, 'postgres'),
      settings: {
        shared_preload_libraries: 'pg_stat_statements',
        'pg_stat_statements.track': 'top',
        // A host opens up to 16, and a process for each victim is a host.
        max_connections: '400',
      },
    }),
  ]);
  servers.push(postgres.pid);
  const passwords = { app: randomBytes(12).toString('hex'), operator: randomBytes(12).toString('hex') };
  await migrate(postgres.adminUrl, { passwords });
  const admin = new Postgres({ connectionString: postgres.adminUrl });
  await admin.connect();
  await admin.query('create extension pg_stat_statements');
  const keys = await generateEnvelopeKeys();
  const masterSecret = randomBytes(32);
  const masterKey = masterKeyOf(masterSecret);
  const databaseUrl = roleUrl(postgres.adminUrl, 'app', passwords.app);
  const storage = openStorage({ databaseUrl, environment });
  const operator = openOperator({
    databaseUrl: roleUrl(postgres.adminUrl, 'operator', passwords.operator),
    environment,
    seal: createSealer([masterKey]),
  });
  const connection = await Connection.connect({ address: temporal.address });
  const native = await NativeConnection.connect({ address: temporal.address });
  const client = new Client({ connection, namespace: environment });
  const parts: WorkerParts = {
    connection: native,
    client,
    namespace: environment,
    environment,
    storage,
    verifier: createEnvelopeVerifier({ jwks: keys.jwks, environment }),
    broker: createBroker([masterKey]),
    app,
    hostId: 'bench',
    bounds: config.run,
    timing: config.timing,
    logger: pino({ level: 'silent' }),
  };
  for (const agent of app.agents.values()) await storage.platform.publishAgent(agent);
  /** For hosts in processes of their own. */
  const hostSpec: HostSpec = {
    temporalAddress: temporal.address,
    databaseUrl,
    environment,
    jwks: keys.jwks,
    masterSecret: masterSecret.toString('base64'),
    bounds: config.run,
    timing: config.timing,
  };
  return {
    home,
    hostSpec,
    pids: { temporal: temporal.pid, postgres: postgres.pid },
    parts,
    storage,
    operator,
    admin,
    client,
    connection,
    address: temporal.address,
    signer: createEnvelopeSigner({ signingKey: keys.signingKey }),
    versions: {
      temporal: binary.serverVersion,
      postgres:
        (await admin.query<{ server_version: string }>('show server_version')).rows[0]?.server_version ?? '?',
    },
    async close() {
      await admin.end();
      await operator.close();
      await storage.close();
      await native.close();
      await connection.close();
      await temporal.stop();
      await postgres.stop();
      process.off('exit', brokenOff);
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** Nothing of them is kept: of PostgreSQL it is an immediate shutdown. Never throws, for the process is about to end. */
function endAtOnce(pids: readonly number[], home: string): void {
  for (const end of [
    ...pids.map((pid) => () => process.kill(pid, 'SIGQUIT')),
    () => rmSync(home, { recursive: true, force: true }),
  ]) {
    try {
      end();
    } catch {
      // It is gone, or still being written to.
    }
  }
}
