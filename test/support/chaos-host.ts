import { createRequire } from 'node:module';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { pino } from 'pino';
import { passCheckpoint } from '../../contracts/checkpoint';
import { Environment } from '../../contracts/ids';
import { createBroker } from '../../secrets/broker';
import type { EnvelopeJwks } from '../../secrets/envelope-keys';
import { createEnvelopeVerifier } from '../../secrets/envelope-verifier';
import { masterKeyOf } from '../../secrets/seal';
import { openStorage } from '../../storage/open';
import type { App } from '../../tools/app';
import { startControlHost } from '../../workers/control-host';
import { startLaneHost } from '../../workers/lane-host';
import type { Host, WorkerParts } from '../../workers/parts';
import { planDeath } from './planned-death';
import { ORDER_VARIABLE, type WorkerOrder } from './worker-spec';

const load = createRequire(__filename) as (file: string) => unknown;

/**
 * A worker process for harnesses to kill: the product's own hosts on parts that came as JSON. Started by
 * `worker-process.ts` with `node scripts/run.js`; says `ready` over its channel and ends with whoever started it.
 */
async function main(): Promise<void> {
  const order = JSON.parse(process.env[ORDER_VARIABLE] ?? 'null') as WorkerOrder | null;
  if (!order) throw new Error(`${ORDER_VARIABLE} is missing: this file is started by worker-process.ts`);
  process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  Runtime.install({ logger: new DefaultLogger('ERROR', () => undefined), shutdownSignals: [] });
  const { spec, hostId } = order;
  const environment = Environment.parse(spec.environment);
  const { app } = load(order.appModule) as { app: App };
  const compose = order.composeModule
    ? (load(order.composeModule) as { compose: (parts: WorkerParts) => WorkerParts }).compose
    : (parts: WorkerParts): WorkerParts => parts;
  const [connection, clientConnection] = await Promise.all([
    NativeConnection.connect({ address: spec.temporalAddress }),
    Connection.connect({ address: spec.temporalAddress }),
  ]);
  const parts = compose({
    connection,
    client: new Client({ connection: clientConnection, namespace: environment }),
    namespace: environment,
    environment,
    storage: openStorage({ databaseUrl: spec.databaseUrl, environment, hostId }),
    verifier: createEnvelopeVerifier({ jwks: spec.jwks as EnvelopeJwks, environment }),
    broker: createBroker([masterKeyOf(Buffer.from(spec.masterSecret, 'base64'))]),
    app,
    hostId,
    bounds: spec.bounds,
    timing: spec.timing,
    lanes: spec.lanes,
    logger: pino({ level: process.env['BULKHEAD_TEST_LOG'] ?? 'silent' }),
    checkpoint: order.planFile && order.doneDir ? planDeath(order.planFile, order.doneDir) : passCheckpoint,
  });
  const bundle = { codePath: spec.bundlePath };
  const running: Host[] = await Promise.all(
    order.roles.map((role) =>
      role === 'control' ? startControlHost(parts, { bundle }) : startLaneHost(parts, { bundle }),
    ),
  );
  void Promise.race(running.map((host) => host.broken)).then(end);
  process.once('message', () => {
    void Promise.all(running.map((host) => host.stop()))
      .then(() => Promise.all([parts.storage.close(), clientConnection.close(), connection.close()]))
      .then(() => process.exit(0));
  });
  process.send?.('ready');
}

function end(error: unknown): never {
  const words = error instanceof Error ? error.stack : String(error);
  process.stderr.write(`worker process ${process.pid}: ${words}\n`);
  process.exit(1);
}

main().catch(end);
