import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { compiledModule } from '../../workers/package-paths';
import { FINAL, startGrpcWire, type GrpcWire } from '../support/grpc-wire';
import { testTemporal } from '../support/shared-temporal';
import { createTestStack, type TestStack } from '../support/stack';
import { until } from '../support/until';

/** `bulkhead worker` in a process of its own, as on a cluster: where it must not serve, and where it cannot go on. */

let stack: TestStack;
let wire: GrpcWire;
beforeAll(async () => {
  [stack, wire] = await Promise.all([
    createTestStack({ workers: false }),
    startGrpcWire(testTemporal().address),
  ]);
});
afterAll(async () => {
  for (const one of started) one.end();
  await Promise.all(started.map(({ ended }) => ended));
  await wire.close();
  await stack.close();
});

interface WorkerCommand {
  /** Its exit code, with all that it logged. */
  readonly ended: Promise<{ code: number | null; log: string }>;
  ready(): boolean;
  hasEnded(): boolean;
  end(): void;
}
const started: WorkerCommand[] = [];
/** For a process to start on a machine that has much else to do. */
const SLOW_MS = 60_000;

function startWorker(role: 'control' | 'host'): WorkerCommand {
  const child = spawn(process.execPath, [compiledModule('workers/main'), 'worker', '--role', role], {
    env: {
      PATH: process.env['PATH'] ?? '',
      BULKHEAD_STATE_DIR: mkdtempSync(join(tmpdir(), 'bulkhead-none-')),
      BULKHEAD_ENVIRONMENT: stack.environment,
      BULKHEAD_APP: compiledModule('examples/support-desk/app'),
      BULKHEAD_DATABASE_APP_URL: stack.database.appUrl,
      BULKHEAD_ENVELOPE_JWKS: JSON.stringify(stack.workerSpec.jwks),
      BULKHEAD_MASTER_KEY: randomBytes(32).toString('base64'),
      BULKHEAD_SHUTDOWN_GRACE: '500ms',
      TEMPORAL_ADDRESS: wire.address,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let log = '';
  child.stdout.on('data', (part: Buffer) => (out += part.toString()));
  child.stderr.on('data', (part: Buffer) => (log += part.toString()));
  const worker: WorkerCommand = {
    ended: new Promise((resolve) => child.once('close', (code) => resolve({ code, log }))),
    ready: () => out.includes('"ready":true'),
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    end: () => void child.kill('SIGKILL'),
  };
  started.push(worker);
  return worker;
}

async function asAdmin(sql: string): Promise<void> {
  const client = new Client({ connectionString: stack.database.adminUrl });
  await client.connect();
  await client.query(sql).finally(() => client.end());
}

test('O8 a worker refuses a schema that is not its own, before it serves anybody, and says what to do', async () => {
  await asAdmin(
    'create table kept as select * from bulkhead.migrations order by number desc limit 1;' +
      'delete from bulkhead.migrations where number = (select number from kept)',
  );
  try {
    const workers = (['host', 'control'] as const).map(startWorker);
    await until(
      'an answer of both',
      () => Promise.resolve(workers.every((one) => one.ready() || one.hasEnded())),
      SLOW_MS,
    );
    expect(workers.map((one) => one.ready())).toEqual([false, false]);
    for (const { ended } of workers) {
      const { code, log } = await ended;
      expect(log).toMatch(/stands at schema \d+, this Bulkhead needs \d+: run `bulkhead migrate`/);
      expect(code).toBe(1);
    }
  } finally {
    await asAdmin('insert into bulkhead.migrations select * from kept; drop table kept');
  }
}, 120_000);

test('U4 a worker whose polls Temporal has ended for good says so and ends with 1, to be started again', async () => {
  const workers = (['host', 'control'] as const).map(startWorker);
  await until('both serving', () => Promise.resolve(workers.every((one) => one.ready())), SLOW_MS);
  wire.answer((method) => (method.startsWith('Poll') ? FINAL : undefined));
  // A look each second, half a second of grace, and some seconds in which what does not end is left.
  await until(
    'an end of both by themselves',
    () => Promise.resolve(workers.every((one) => one.hasEnded())),
    20_000,
  );
  for (const { ended } of workers) {
    const { code, log } = await ended;
    expect(log).toMatch(/this worker cannot go on.*|the worker of \w+ ended/);
    expect(log).toContain(FINAL.message);
    expect(code).toBe(1);
  }

  // Whoever supervises it starts another, which serves.
  wire.answer(() => undefined);
  const again = startWorker('host');
  await until('another one serving', () => Promise.resolve(again.ready()), SLOW_MS);
}, 180_000);
