import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { defaultPayloadConverter } from '@temporalio/common';
import type { CliContext } from '../../client/cli/context';
import { buildProgram, runProgram } from '../../client/cli/program';
import type { Run } from '../../client/run';
import type { RecoveryAnswer } from '../../contracts/recovery';
import { TenantId } from '../../contracts/ids';
import { openRuntime } from '../../workers/cli-runtime';
import { loadConfig } from '../../workers/config';
import { recoverTenant, type RecoverParts } from '../../workers/recover';
import { startModel, type TestModel } from '../support/model';
import { testTemporal } from '../support/shared-temporal';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';
import { startWorkerProcess, type WorkerProcess } from '../support/worker-process';
import { witness } from './backup';
import { startHeldOutside, type HeldOutside } from './held-outside';

/** A stack whose hosts are processes that can be killed, with a model and a system outside that can be held. */
export interface RecoverWorld {
  readonly stack: TestStack;
  readonly held: HeldOutside;
  readonly model: TestModel;
  /** What each run's model does, by its input; the last word is said after the moves. */
  readonly scripts: Map<string, readonly (readonly (readonly [string, unknown])[])[]>;
  /** A model asked for `input` at this move waits until it is opened. */
  gate(input: string, move: number): void;
  open(input: string): void;
  /** Models that wait at a gate now. */
  readonly atGate: Set<string>;
  start(input: string): Promise<Run>;
  startHosts(): Promise<void>;
  /** SIGKILL, and not started again. */
  killHosts(): Promise<void>;
  recover(more?: { dryRun?: boolean; parts?: Partial<RecoverParts> }): Promise<RecoveryAnswer>;
  cli(args: string[]): Promise<{ code: number; out: string; said: string }>;
  stateOf(run: Run): Promise<string>;
  ledger<T extends object>(sql: string): Promise<T[]>;
  close(): Promise<void>;
}

export const TENANT = 'acme';

export async function createRecoverWorld(): Promise<RecoverWorld> {
  const scripts: RecoverWorld['scripts'] = new Map();
  const gates = new Map<string, { move: number; wait: Promise<void>; end: () => void }>();
  const atGate = new Set<string>();
  const [stack, held, model] = await Promise.all([
    createTestStack({ workers: false, timing: { sweepEveryMs: 3_000 } }),
    startHeldOutside('acct'),
    startModel(async ({ input, moves }) => {
      const gate = gates.get(input);
      if (gate?.move === moves) {
        atGate.add(input);
        await gate.wait;
        atGate.delete(input);
      }
      const move = scripts.get(input)?.[moves];
      return move ? { call: move } : { say: 'done' };
    }),
  ]);
  await readyTenant(stack, {
    name: TENANT,
    keeper: held.url,
    models: model.url,
    policy: 'onUnknownOutcome: review',
  });
  await witness(
    stack.database,
    `insert into bulkhead.resources (tenant_id, environment, system, record_id, account, known_at)
     select '${TENANT}', $1, 'keeper', 'k-' || name, 'acct', now() from unnest($2::text[]) name`,
    [stack.environment, NAMES],
  );
  let hosts: WorkerProcess | undefined;
  const parts: RecoverParts = {
    storage: stack.storage,
    client: stack.temporal,
    environment: stack.environment,
    verifier: stack.parts.verifier,
    // Of the usual timeouts: a call that it puts back has a lease of as long, and its next attempt waits for the end of it.
    app: stack.parts.app,
  };
  const open = (input: string): void => {
    gates.get(input)?.end();
    gates.delete(input);
  };
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-recover-'));
  return {
    stack,
    held,
    model,
    scripts,
    atGate,
    gate(input, move) {
      let end = (): void => undefined;
      const wait = new Promise<void>((resolved) => (end = resolved));
      gates.set(input, { move, wait, end });
    },
    open,
    start: (input) => stack.run(TENANT, input),
    async startHosts() {
      hosts = startWorkerProcess({
        spec: stack.workerSpec,
        hostId: `host-${Date.now()}`,
        appModule: resolve(__dirname, 'patient-app.ts'),
        roles: ['host', 'control'],
      });
      await hosts.ready();
    },
    async killHosts() {
      hosts?.kill();
      await hosts?.stop();
      hosts = undefined;
    },
    recover: ({ dryRun = false, parts: more = {} } = {}) =>
      recoverTenant({ ...parts, ...more }, { tenantId: TenantId.parse(TENANT), dryRun, actor: 'tester' }),
    async cli(args) {
      let out = '';
      let said = '';
      const context: CliContext = {
        open: (named) =>
          openRuntime(
            loadConfig({
              TEMPORAL_ADDRESS: testTemporal().address,
              BULKHEAD_ENVIRONMENT: stack.environment,
              BULKHEAD_STATE_DIR: directory,
              BULKHEAD_DATABASE_APP_URL: stack.database.appUrl,
              BULKHEAD_DATABASE_OPERATOR_URL: stack.database.operatorUrl,
              BULKHEAD_ENVELOPE_JWKS: JSON.stringify(stack.workerSpec.jwks),
            }),
            named,
            { app: () => Promise.resolve(stack.parts.app) } as never,
          ),
        write: (text) => void (out += text),
        say: (text) => void (said += `${text}\n`),
        stdin: () => Promise.resolve(undefined),
        user: 'tester',
        signal: new AbortController().signal,
      };
      const code = await runProgram(buildProgram(context, '0.0.0', []), context, args);
      return { code, out, said };
    },
    async stateOf(run) {
      const state = await stack.temporal.workflow
        .getHandle(run.workflowId)
        .query<{ state: string }>('runState')
        .catch(() => ({ state: 'unknown' }));
      return state.state;
    },
    ledger: (sql) => witness(stack.database, sql),
    async close() {
      for (const input of [...gates.keys()]) open(input);
      await hosts?.stop();
      await stack.close();
      await Promise.all([held.close(), model.close()]);
    },
  };
}

/** Names of runs; the record that each writes to is `k-<name>`. */
export const NAMES = ['blind', 'keyed', 'looked', 'lost', 'between', 'fresh', 'ended', 'idle'];
export const record = (name: string): { recordId: string } => ({ recordId: `k-${name}` });

/** Waits until all models named stand at their gates. */
export const allAtGate = (world: RecoverWorld, names: readonly string[]): Promise<unknown> =>
  until(
    `models at their gates: ${names.join(', ')}`,
    () => Promise.resolve(names.every((name) => world.atGate.has(name))),
    60_000,
  );

/** Waits until the system outside has applied a write on each of the records. */
export const allWritten = (world: RecoverWorld, names: readonly string[], times = 1): Promise<unknown> =>
  until(
    `writes on ${names.join(', ')}`,
    () => Promise.resolve(names.every((name) => world.held.effectsOn(`k-${name}`) >= times)),
    60_000,
  );

/**
 * Waits until Temporal was told, with a heartbeat, the journal's sequence of each run's pending call: what a host finds on
 * a restored ledger. Throws if the ledger does not have one of the calls under way, for what follows would show nothing.
 */
export async function allUnderWay(world: RecoverWorld, runs: readonly Run[]): Promise<void> {
  for (const run of runs)
    await until(
      `the heartbeat of a call of ${run.runId}`,
      async () => {
        await mustBeUnderWay(world, run);
        return await hasBeaten(world, run);
      },
      60_000,
    );
  for (const run of runs) await mustBeUnderWay(world, run);
}

async function mustBeUnderWay(world: RecoverWorld, { runId }: Run): Promise<void> {
  const calls = await world.ledger<{ runId: string; path: string; action: string; state: string }>(
    `select run_id as "runId", path, action, state from bulkhead.calls order by claimed_seq nulls first`,
  );
  const newest = calls.filter((call) => call.runId === runId).at(-1);
  if (newest?.state !== 'claimed')
    throw new Error(`not under way any more when everything was to stop: ${JSON.stringify(newest)}`);
}

async function hasBeaten({ stack }: RecoverWorld, { workflowId }: Run): Promise<boolean> {
  const { raw } = await stack.temporal.workflow.getHandle(workflowId).describe();
  const details = raw.pendingActivities?.[0]?.heartbeatDetails?.payloads?.[0];
  const told: unknown = details && defaultPayloadConverter.fromPayload(details);
  return typeof told === 'object' && told !== null && 'seq' in told;
}
