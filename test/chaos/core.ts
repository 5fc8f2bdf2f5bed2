import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CheckpointName } from '../../contracts/checkpoint';
import { startCrashableDatabase, type CrashableDatabase } from '../support/crashable-database';
import { startModel } from '../support/model';
import { doneKills } from '../support/planned-death';
import type { TestTemporal } from '../support/shared-temporal';
import { createTestStack } from '../support/stack';
import { startWorkerProcess, type WorkerProcess } from '../support/worker-process';
import type { PlannedKill } from '../support/worker-spec';
import { app } from './app';
import { compareBooks } from './books';
import { openRuns, restOf, startRuns, type Ground } from './ground';
import { Mishaps } from './mishaps';
import { planChaos, type ChaosPlan, type PlannedRun } from './plan';
import { countWrites, reportOf, type ChaosReport } from './report';
import { resolveReviews, type Reviewed } from './reviewer';
import { chaosScript } from './script';
import { startSystems } from './systems';
import { witnessOf, type Witness } from './witness';

export interface ChaosOptions {
  readonly seed: number;
  readonly writes: number;
  readonly kills: number;
  readonly dbCrashes: number;
  /** The control arm: what the ledger claims is forgotten, and no system outside honours a key. */
  readonly without?: 'idempotency';
  /** The named places to kill at; all by default, in the control arm those after sending. */
  readonly points?: readonly CheckpointName[];
  readonly tenants?: number;
  /** Worker processes; each serves everything. */
  readonly hosts?: number;
  readonly onProgress?: (progress: ChaosProgress) => void;
  /** After so long what is not done is a breach. */
  readonly limitMs?: number;
}
export interface ChaosProgress {
  readonly effects: number;
  readonly expected: number;
  readonly kills: number;
  readonly crashes: number;
}

const CONTINUE_AFTER = 3;
const POLL_MS = 250;
const DB_DOWN_MS = 300;

export const planOf = (options: ChaosOptions): ChaosPlan =>
  planChaos({
    seed: options.seed,
    writes: options.writes,
    kills: options.kills,
    dbCrashes: options.dbCrashes,
    tenants: tenantsOf(options),
    hosts: options.hosts ?? 2,
    continueAfter: CONTINUE_AFTER,
    ...pointsOf(options),
  });

/** Where a repetition is a duplicate, if nobody holds it: the control arm is killed nowhere else. */
const AFTER_SENDING: readonly CheckpointName[] = [
  'after_send',
  'after_reply',
  'before_settle',
  'after_settle',
];

const pointsOf = ({ points, without }: ChaosOptions): { points?: readonly CheckpointName[] } => {
  const wanted = points ?? (without && AFTER_SENDING);
  return wanted ? { points: wanted } : {};
};

const tenantsOf = ({ tenants = 3 }: ChaosOptions): string[] =>
  Array.from({ length: tenants }, (_, index) => `chaos-${index + 1}`);

/**
 * Does the planned writes on a real stack while its worker processes are killed and its database is crashed, until every
 * run is closed; then counts at the systems outside and compares the books. Nothing here is a fake but the model.
 */
export async function chaos(
  temporal: Pick<TestTemporal, 'address' | 'bundlePath'>,
  options: ChaosOptions,
): Promise<ChaosReport> {
  const started = performance.now();
  const plan = planOf(options);
  const tenants = tenantsOf(options);
  const ending: (() => unknown)[] = [];
  try {
    const home = mkdtempSync(join(tmpdir(), 'bulkhead-chaos-'));
    ending.push(() => rmSync(home, { recursive: true, force: true }));
    const database = await startCrashableDatabase();
    ending.push(() => database.stop());
    const systems = await startSystems({ keysHonoured: options.without !== 'idempotency' });
    ending.push(() => systems.close());
    const model = await startModel(chaosScript);
    ending.push(() => model.close());
    const stack = await createTestStack({
      app,
      workers: false,
      database: database.database,
      temporal,
      bounds: { continueAsNewAfter: CONTINUE_AFTER, maxMisbehaviour: 1 },
      // What the killed leave behind is mended by sweeps, and its time is bounded.
      timing: { sweepEveryMs: 2_000 },
    });
    ending.push(() => stack.close());
    const witness = witnessOf(database.database.adminUrl);
    const runs = await startRuns({ stack, systems, model, plan, tenants });
    const hosts = startHosts({ stack, plan, runs, home, options });
    ending.push(() => Promise.all(hosts.map((host) => host.stop())));
    const worked = await work({
      stack,
      database,
      systems,
      plan,
      tenants,
      runs,
      hosts,
      home,
      witness,
      options,
    });
    const workMs = Math.round(performance.now() - started);
    await Promise.all(hosts.map((host) => host.stop()));
    return reportOf({
      options,
      plan,
      tenants,
      writes: countWrites(plan, systems),
      books: await compareBooks(stack, witness, tenants, systems.effects),
      ...worked,
      hosts,
      rest: await restOf(witness, stack),
      postgres: database.version,
      durationMs: workMs,
    });
  } finally {
    for (const end of ending.reverse()) await end();
  }
}

function startHosts({
  stack,
  plan,
  runs,
  home,
  options,
}: Pick<Ground, 'stack' | 'plan'> & {
  runs: ReadonlyMap<string, PlannedRun>;
  home: string;
  options: ChaosOptions;
}): WorkerProcess[] {
  const runIds = [...runs.keys()];
  const deaths: PlannedKill[] = plan.kills.flatMap((kill, id) =>
    kill.at === 'point'
      ? [{ id, point: kill.point, path: kill.path, runId: runIds[kill.run] ?? 'none' }]
      : [],
  );
  const planFile = join(home, 'plan.json');
  const doneDir = join(home, 'done');
  writeFileSync(planFile, JSON.stringify(deaths));
  mkdirSync(doneDir);
  return Array.from({ length: options.hosts ?? 2 }, (_, index) =>
    startWorkerProcess({
      spec: stack.workerSpec,
      hostId: `chaos-${index + 1}`,
      appModule: resolve(__dirname, 'app.ts'),
      roles: ['control', 'host'],
      planFile,
      doneDir,
      ...(options.without === 'idempotency'
        ? { composeModule: resolve(__dirname, 'without-idempotency.ts') }
        : {}),
    }),
  );
}

/** Lets the mishaps happen and the reviews be resolved until every run is closed and nothing is left to happen. */
async function work(
  ground: Ground & {
    database: CrashableDatabase;
    runs: ReadonlyMap<string, PlannedRun>;
    hosts: readonly WorkerProcess[];
    home: string;
    witness: Witness;
    options: ChaosOptions;
  },
) {
  const { stack, database, systems, plan, tenants, runs, hosts, home, witness, options } = ground;
  const reviewed: Reviewed = { happened: 0, didNotHappen: 0 };
  const mishaps = new Mishaps(plan, hosts, () => database.crashFor(DB_DOWN_MS));
  const limitMs = options.limitMs ?? 180_000 + options.writes * 500 + options.kills * 8_000;
  const expected = countWrites(plan, systems).expectedEffects;
  const end = Date.now() + limitMs;
  const doneDir = join(home, 'done');
  let open: string[] | undefined;
  while (Date.now() < end) {
    mishaps.look(systems.effects.length);
    const left = await resolveReviews(stack, systems, runs, tenants, reviewed);
    open = await openRuns(witness, stack);
    options.onProgress?.({
      effects: systems.effects.length,
      expected,
      kills: doneKills(doneDir).length + mishaps.killed,
      crashes: mishaps.crashed,
    });
    if (left === 0 && open?.length === 0 && !mishaps.busy) break;
    await sleep(POLL_MS);
  }
  await mishaps.settled();
  return { reviewed, openRuns: open ?? ['unknown'], killed: doneKills(doneDir), mishaps };
}
