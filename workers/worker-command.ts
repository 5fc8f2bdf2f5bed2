import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { Client, Connection } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import type { Command } from 'commander';
import { Option } from 'commander';
import { requireTenant } from '../client/cli/command';
import { EXIT } from '../client/cli/exit';
import { createEnvelopeVerifier } from '../secrets/envelope-verifier';
import { createBroker } from '../secrets/broker';
import { masterKeyOf } from '../secrets/seal';
import { assertMigrated } from '../storage/migrate';
import { openStorage } from '../storage/open';
import { loadApp } from './app-module';
import { ConfigError, loadConfig, type Config } from './config';
import { startControlHost } from './control-host';
import { graceOf } from './grace';
import { startLaneHost } from './lane-host';
import { createLogger, installTemporalLogging } from './logging';
import type { Host, WorkerParts } from './parts';
import { workflowBundle } from './workflow-bundle';

/** What is left of a worker that failed would keep the process, and whoever restarts it waiting. */
const END_AFTER_FAILURE_MS = 3_000;

interface WorkerOptions {
  readonly role: 'control' | 'host';
  readonly tenant?: string;
}

/** Adds `bulkhead worker`. */
export function registerWorker(program: Command): void {
  program
    .command('worker')
    .description(
      'run one worker process: tenants’ lanes and runs (host), or the kill switch and the sweep (control)',
    )
    .addOption(
      new Option('--role <role>', 'what this process serves')
        .choices(['control', 'host'])
        .makeOptionMandatory(),
    )
    .option('--tenant <id>', 'with --role host: serve this tenant’s dedicated lane alone')
    .addHelpText(
      'after',
      '\nExamples:\n  $ bulkhead worker --role control\n  $ bulkhead worker --role host\n  $ bulkhead worker --role host --tenant acme\n\nPrints {"ready":true} once it polls. SIGTERM lets activities finish for BULKHEAD_SHUTDOWN_GRACE.\n',
    )
    .action((options: WorkerOptions) => runWorker(options));
}

/**
 * Runs a worker process until SIGTERM or SIGINT. Rejects where a part cannot be reached, with the remedy, and where it cannot go on:
 * then the process ends with 1, to be started again by whoever supervises it.
 */
async function runWorker({ role, tenant }: WorkerOptions): Promise<void> {
  const only = tenant === undefined ? undefined : requireTenant(tenant);
  const config = loadConfig();
  const logger = createLogger(config.logLevel, only ? `lane ${only}` : role);
  installTemporalLogging(logger);
  const stopped = new Promise<string>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
  let opened: Awaited<ReturnType<typeof openParts>> | undefined;
  let running: Host | undefined;
  try {
    opened = await openParts(config, role, logger);
    const { parts } = opened;
    const bundle = await workflowBundle();
    for (const agent of parts.app.agents.values()) await parts.storage.platform.publishAgent(agent);
    running =
      role === 'control'
        ? await startControlHost(parts, { bundle })
        : await startLaneHost(parts, { bundle, ...(only ? { only } : {}) });
    process.stdout.write(`${JSON.stringify({ ready: true, role, hostId: parts.hostId })}\n`);
    const end = await Promise.race([stopped, running.broken]);
    if (end instanceof Error) throw end;
    logger.info({ signal: end }, 'stopping');
  } catch (error) {
    logger.error(
      { error: error instanceof Error ? error.message : String(error) },
      running
        ? 'this worker cannot go on: it ends, and is to be started again'
        : 'this worker could not start',
    );
    throw error;
  } finally {
    if (running) {
      endWithin(graceOf(config.timing.shutdownGraceMs).processEndsWithinMs);
      await running.stop();
    }
    endWithin(END_AFTER_FAILURE_MS);
    await opened?.close();
  }
}

/** Ends the process if something still keeps it then: with what its command came to, or as failed where it is not over. */
function endWithin(ms: number): void {
  setTimeout(() => process.exit(process.exitCode ?? EXIT.failed), ms).unref();
}

async function openParts(
  config: Config,
  role: string,
  logger: WorkerParts['logger'],
): Promise<{ parts: WorkerParts; close: () => Promise<void> }> {
  const address = config.temporal.address;
  const databaseUrl = config.database.app?.reveal();
  const { jwks } = config.envelope;
  const missing = [
    address === null && 'TEMPORAL_ADDRESS: where Temporal is',
    databaseUrl === undefined && 'BULKHEAD_DATABASE_APP_URL: the database as bulkhead_app',
    jwks === null && 'BULKHEAD_ENVELOPE_JWKS: the keys that verify envelopes',
    config.masterKey === null && 'BULKHEAD_MASTER_KEY_FILE: the key that opens tenants’ credentials',
    config.app === null && 'BULKHEAD_APP: the module with the actions and agents to serve',
  ].filter((problem) => typeof problem === 'string');
  if (
    address === null ||
    databaseUrl === undefined ||
    jwks === null ||
    config.masterKey === null ||
    config.app === null
  ) {
    throw new ConfigError(
      missing.map((problem) => `${problem}; set it; \`bulkhead up\` starts its own workers with all of them`),
    );
  }
  const hostId = `${role}-${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`;
  const namespace = config.temporal.namespace;
  const app = await loadApp(config.app);
  await assertMigrated(databaseUrl);
  const storage = openStorage({ databaseUrl, environment: config.environment, hostId });
  const connection = await NativeConnection.connect({ address });
  const clientConnection = await Connection.connect({ address });
  return {
    parts: {
      connection,
      client: new Client({ connection: clientConnection, namespace }),
      namespace,
      environment: config.environment,
      storage,
      verifier: createEnvelopeVerifier({ jwks, environment: config.environment }),
      broker: createBroker([masterKeyOf(config.masterKey.reveal())]),
      app,
      hostId,
      bounds: config.run,
      timing: config.timing,
      lanes: config.lanes,
      logger,
    },
    close: async () => {
      await clientConnection.close();
      await storage.close();
      // Last: it refuses where a worker was left behind, and then the end of the process closes it.
      await connection
        .close()
        .catch((error: unknown) => logger.warn({ error: String(error) }, 'the connection stays open'));
    },
  };
}
