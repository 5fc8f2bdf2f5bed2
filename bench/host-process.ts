import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { pino } from 'pino';
import { request } from 'undici';
import { Environment, TenantId } from '../contracts/ids';
import { createBroker } from '../secrets/broker';
import type { EnvelopeJwks } from '../secrets/envelope-keys';
import { createEnvelopeVerifier } from '../secrets/envelope-verifier';
import { masterKeyOf } from '../secrets/seal';
import { openStorage } from '../storage/open';
import { startControlHost } from '../workers/control-host';
import { startLaneHost } from '../workers/lane-host';
import type { Running, WorkerParts } from '../workers/parts';
import { ORDER_VARIABLE, type HostNews, type HostOrder } from './host-spec';
import { loadApp } from './load-app';
import { RAW_QUEUE, type RawLoad } from './load-workflows';

/**
 * A host of a benchmark in a process of its own: the product's own hosts, or the worker of the control arm. Started by
 * `hosts.ts`, told what to be by its environment, and ends with whoever started it.
 */
async function main(): Promise<void> {
  const order = JSON.parse(process.env[ORDER_VARIABLE] ?? 'null') as HostOrder | null;
  if (!order) throw new Error(`${ORDER_VARIABLE} is missing: this file is started by a benchmark`);
  // Ctrl-C in a terminal reaches all of its processes: the benchmark ends its hosts itself.
  process.on('SIGINT', () => undefined);
  process.once('disconnect', () => process.exit(1));
  Runtime.install({ logger: new DefaultLogger('ERROR'), shutdownSignals: [] });
  const connection = await NativeConnection.connect({ address: order.spec.temporalAddress });
  const running = order.role === 'raw' ? await rawHost(order, connection) : await host(order, connection);
  process.once('message', () => void running.stop().then(() => process.exit(0)));
  tell({ kind: 'serves' });
}

const tell = (news: HostNews): void => void process.send?.(news);

async function host(order: HostOrder, connection: NativeConnection): Promise<Running> {
  const { spec, hostId, role } = order;
  const environment = Environment.parse(spec.environment);
  const clientConnection = await Connection.connect({ address: spec.temporalAddress });
  const parts: WorkerParts = {
    connection,
    client: new Client({ connection: clientConnection, namespace: environment }),
    namespace: environment,
    environment,
    storage: openStorage({ databaseUrl: spec.databaseUrl, environment, hostId }),
    verifier: createEnvelopeVerifier({ jwks: spec.jwks as EnvelopeJwks, environment }),
    broker: createBroker([masterKeyOf(Buffer.from(spec.masterSecret, 'base64'))]),
    app: loadApp,
    hostId,
    bounds: spec.bounds,
    timing: spec.timing,
    lanes: order.lanes,
    logger: pino({ level: 'info' }, { write: counted() }),
  };
  const bundle = { codePath: order.bundlePath };
  const started =
    role === 'control'
      ? await startControlHost(parts, { bundle })
      : await startLaneHost(parts, {
          bundle,
          ...(role === 'lane' && { only: TenantId.parse(order.tenantId) }),
        });
  void started.broken.then(fail);
  return {
    async stop() {
      await started.stop();
      await parts.storage.close();
      await clientConnection.close();
      await connection.close();
    },
  };
}

/** Counts lanes by what the host logs of them, and passes errors on. */
function counted(): (line: string) => void {
  let open = 0;
  return (line) => {
    const { msg, level } = JSON.parse(line) as { msg?: string; level: number };
    if (level >= 50) process.stderr.write(line);
    if (msg === 'lane opened') open += 1;
    else if (msg === 'lane closed') open -= 1;
    else return;
    tell({ kind: 'lanes', open });
  };
}

/** The same request as the governed call makes, from one queue and one worker, and nothing else. */
async function rawHost(
  { spec, slots = 1, outside = '' }: HostOrder,
  connection: NativeConnection,
): Promise<Running> {
  const worker = await Worker.create({
    connection,
    namespace: spec.environment,
    taskQueue: RAW_QUEUE,
    maxConcurrentActivityTaskExecutions: slots,
    maxConcurrentActivityTaskPolls: 5,
    activities: {
      rawCall: async ({ tenant, job }: RawLoad): Promise<{ kind: string }> => {
        if (!job.allowed) return { kind: 'denied' };
        const answer = await request(`${outside}/job`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', authorization: `Bearer ${tenant}` },
          body: JSON.stringify(job),
        });
        await answer.body.text();
        if (answer.statusCode >= 400) throw new Error(`the system outside answered ${answer.statusCode}`);
        return { kind: 'done' };
      },
    },
  });
  const running = worker.run();
  return {
    async stop() {
      worker.shutdown();
      await running;
      await connection.close();
    },
  };
}

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(1);
}

main().catch(fail);
