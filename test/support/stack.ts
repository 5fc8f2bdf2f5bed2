import { randomBytes, randomUUID } from 'node:crypto';
import { Client, Connection } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import { pino } from 'pino';
import { BulkheadClient, type BulkheadPorts } from '../../client/bulkhead';
import { ensureControl } from '../../client/control';
import { createDevIssuer } from '../../client/dev-issuer';
import { createTokenVerifier } from '../../client/identity';
import { refusalsOf, type RefusedCall } from '../../client/journal';
import type { Run } from '../../client/run';
import { Environment, TenantId, type RunId } from '../../contracts/ids';
import { passCheckpoint, type Checkpoint } from '../../contracts/checkpoint';
import type { JournalEntry } from '../../contracts/ledger';
import { SWEEP_SCHEDULE } from '../../contracts/names';
import type { OperatorStore } from '../../contracts/platform-ports';
import type { TenantStore } from '../../contracts/ports';
import { mintScope } from '../../contracts/scope-mint';
import { parseDocuments } from '../../policy/documents';
import { createBroker } from '../../secrets/broker';
import { generateEnvelopeKeys } from '../../secrets/envelope-keys';
import { createEnvelopeSigner } from '../../secrets/envelope-signer';
import { createEnvelopeVerifier } from '../../secrets/envelope-verifier';
import { createComparison, createSealer, masterKeyOf } from '../../secrets/seal';
import { openOperator } from '../../storage/operator';
import { openStorage, type OpenStorage } from '../../storage/open';
import type { App } from '../../tools/app';
import { startControlHost } from '../../workers/control-host';
import { ensureNamespace } from '../../workers/embedded/namespaces';
import { startLaneHost, type LaneHostOptions } from '../../workers/lane-host';
import type { Running, WorkerParts } from '../../workers/parts';
import { app as testApp } from './app';
import { createTestDatabase, type TestDatabase } from './database';
import { quietly } from './sdk-runtime';
import type { WorkerSpec } from './worker-spec';
import { freshNamespace, takeNamespace } from './ready-namespaces';
import { testTemporal, type TestTemporal } from './shared-temporal';

const ISSUER = 'urn:test';
const AUDIENCE = 'bulkhead';

export interface TestStackOptions {
  readonly app?: App;
  readonly bounds?: Partial<WorkerParts['bounds']>;
  readonly timing?: Partial<WorkerParts['timing']>;
  readonly lanes?: WorkerParts['lanes'];
  /** `false`: no worker runs until the test starts one. */
  readonly workers?: boolean;
  /** Another database than a clone on the run's shared server. It is left as it is when the stack closes. */
  readonly database?: TestDatabase;
  /** Another Temporal than the run's shared one. */
  readonly temporal?: Pick<TestTemporal, 'address' | 'bundlePath'> &
    Partial<Pick<TestTemporal, 'namespaces'>>;
  /** Called by the hosts of this process at the named places. */
  readonly checkpoint?: Checkpoint;
  /** Around every activity of the hosts of this process. */
  readonly activityInterceptors?: WorkerParts['activityInterceptors'];
}

/** Temporal namespace, database, keys, workers and client of one test file: all real, none shared. */
export interface TestStack {
  readonly environment: Environment;
  readonly database: TestDatabase;
  readonly temporal: Client;
  readonly storage: OpenStorage;
  readonly operator: OperatorStore;
  readonly client: BulkheadClient;
  /** What the client was made of, for another one on other parts. */
  readonly clientPorts: BulkheadPorts;
  readonly parts: WorkerParts;
  /** What a worker in a process of its own is made of; see {@link startWorkerProcess}. */
  readonly workerSpec: WorkerSpec;
  /** Applies QuotaClass, PolicyProfile and Tenant documents. */
  apply(yaml: string): Promise<void>;
  credential(tenant: string, capability: string, secret: string): Promise<void>;
  token(
    tenant: string,
    more?: { workspaces?: string[]; subject?: string; roles?: string[] },
  ): Promise<string>;
  store(tenant: string): TenantStore;
  run(tenant: string, input: unknown, more?: { recordId?: string; idempotencyKey?: string }): Promise<Run>;
  journal(tenant: string): Promise<JournalEntry[]>;
  refusals(tenant: string, runId: string): Promise<RefusedCall[]>;
  startHost(options?: Partial<LaneHostOptions>): Promise<Running>;
  startControl(): Promise<Running>;
  close(): Promise<void>;
}

/** Brings a test file's stack up; two seconds more where no namespace is ready. */
export async function createTestStack(options: TestStackOptions = {}): Promise<TestStack> {
  quietly();
  const { address, bundlePath, namespaces } = options.temporal ?? testTemporal();
  const environment = Environment.parse(
    (namespaces && (await takeNamespace(namespaces))) ?? freshNamespace(),
  );
  const [database, keys] = await Promise.all([
    options.database ?? createTestDatabase(),
    generateEnvelopeKeys(),
  ]);
  const connection = await Connection.connect({ address });
  await ensureNamespace(connection, environment);
  // A connection of its own for each host, as in a process of its own: one may serve a task queue only once.
  const natives: NativeConnection[] = [];
  const connectNative = async (): Promise<NativeConnection> => {
    const native = await NativeConnection.connect({ address });
    natives.push(native);
    return native;
  };
  const temporal = new Client({ connection, namespace: environment });
  const masterSecret = randomBytes(32);
  const masterKey = masterKeyOf(masterSecret);
  const storage = openStorage({ databaseUrl: database.appUrl, environment });
  const operator = openOperator({
    databaseUrl: database.operatorUrl,
    environment,
    seal: createSealer([masterKey]),
    holds: createComparison([masterKey]),
  });
  const issuer = createDevIssuer({ signingKey: keys.signingKey, issuer: ISSUER, audience: AUDIENCE });
  const app = options.app ?? testApp;
  const hosts: Running[] = [];
  const bundle = { codePath: bundlePath };
  const bounds: WorkerParts['bounds'] = {
    continueAsNewAfter: 20,
    maxWaitMs: 60_000,
    maxMisbehaviour: 3,
    ...options.bounds,
  };
  const timing: WorkerParts['timing'] = {
    fencePollMs: 100,
    hostHeartbeatMs: 500,
    deadHostAfterMs: 30_000,
    placementPollMs: 200,
    // A sweep costs a quarter of a CPU second, and most stacks of tests wait most of their time. Tests of what it does have it more often.
    sweepEveryMs: 30_000,
    drainGraceMs: 2_000,
    shutdownGraceMs: 2_000,
    ...options.timing,
  };
  const newParts = async (): Promise<WorkerParts> => ({
    connection: await connectNative(),
    client: temporal,
    namespace: environment,
    environment,
    storage,
    verifier: createEnvelopeVerifier({ jwks: keys.jwks, environment }),
    broker: createBroker([masterKey]),
    app,
    hostId: `test-${randomUUID().slice(0, 8)}`,
    bounds,
    timing,
    lanes: options.lanes,
    checkpoint: options.checkpoint ?? passCheckpoint,
    activityInterceptors: options.activityInterceptors,
    logger: pino({ level: process.env['BULKHEAD_TEST_LOG'] ?? 'silent' }),
  });
  const parts = await newParts();
  for (const agent of app.agents.values()) await storage.platform.publishAgent(agent);
  const clientPorts: BulkheadPorts = {
    storage,
    temporal,
    tokens: createTokenVerifier({
      issuer: ISSUER,
      audience: AUDIENCE,
      keys: { jwks: keys.jwks },
      environment,
    }),
    signer: createEnvelopeSigner({ signingKey: keys.signingKey }),
  };
  const client = new BulkheadClient(clientPorts);
  const store = (tenant: string): TenantStore =>
    storage.tenant(mintScope(TenantId.parse(tenant), environment, 'operator'));
  const keep = async (starting: Promise<Running>): Promise<Running> => {
    const running = await starting;
    hosts.push(running);
    return running;
  };

  const stack: TestStack = {
    environment,
    database,
    temporal,
    storage,
    operator,
    client,
    clientPorts,
    parts,
    workerSpec: {
      temporalAddress: address,
      bundlePath,
      databaseUrl: database.appUrl,
      environment,
      jwks: keys.jwks,
      masterSecret: masterSecret.toString('base64'),
      bounds,
      timing,
      ...(options.lanes && { lanes: options.lanes }),
    },
    async apply(yaml) {
      const parsed = parseDocuments(yaml.replaceAll('${ENV}', environment));
      if (!parsed.ok) throw new Error(JSON.stringify(parsed.mistakes));
      for (const { kind, document, text } of parsed.documents) {
        if (kind === 'QuotaClass') await operator.putQuotaClass(document, 'test');
        else if (kind === 'ProviderPool') await operator.putProviderPool(document, 'test');
        else if (kind === 'CallCapacity') await operator.putCallCapacity(document, 'test');
        else if (kind === 'PolicyProfile') {
          await operator.publishPolicy(
            { name: document.metadata.name, environments: document.environments, text },
            'test',
            'test',
          );
        } else {
          await operator.putTenant(document, 'test');
          await ensureControl(temporal, document.metadata.name, environment);
        }
      }
    },
    async credential(tenant, capability, secret) {
      await operator.putCredential(
        mintScope(TenantId.parse(tenant), environment, 'operator'),
        capability,
        secret,
        'test',
      );
    },
    token: (tenant, more = {}) =>
      issuer.token({
        tenant: TenantId.parse(tenant),
        environment,
        workspaces: more.workspaces ?? ['main'],
        roles: more.roles ?? ['operator'],
        subject: more.subject ?? 'tester',
      }),
    store,
    async run(tenant, input, more = {}) {
      return await client.startRun({
        token: await stack.token(tenant),
        agent: [...app.agents.keys()][0] as never,
        input,
        target: { system: 'keeper', recordId: more.recordId ?? 'r1' },
        ...(more.idempotencyKey ? { idempotencyKey: more.idempotencyKey } : {}),
      });
    },
    journal: (tenant) => store(tenant).journal({ afterSeq: 0, limit: 1_000 }),
    refusals: (tenant, runId) => refusalsOf(store(tenant), runId as RunId),
    startHost: async (more = {}) => await keep(startLaneHost(await newParts(), { bundle, ...more })),
    startControl: async () => await keep(startControlHost(await newParts(), { bundle })),
    async close() {
      await Promise.all(hosts.map((host) => host.stop()));
      await endSweeps(temporal);
      await operator.close();
      await storage.close();
      await Promise.all(natives.map((native) => native.close()));
      await connection.close();
      if (!options.database) await database.drop();
    },
  };
  if (options.workers !== false) await Promise.all([stack.startControl(), stack.startHost()]);
  return stack;
}

/**
 * Deletes the schedule that a control host made, if any did: it would fire for as long as the server lives, and a suite's worth of
 * them keeps a core busy. Where it cannot (the server is gone), nothing but that is lost.
 */
async function endSweeps(temporal: Client): Promise<void> {
  const schedule = temporal.schedule.getHandle(SWEEP_SCHEDULE);
  await temporal.withDeadline(Date.now() + 5_000, () => schedule.delete()).catch(() => undefined);
}
