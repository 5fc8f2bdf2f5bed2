import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { showProgress } from '../client/cli/progress';
import { callTimes } from './call-times';
import { createHosts, type Hosts } from './hosts';
import { applyClasses, createTenants, loadApp } from './load-app';
import { startLoadRun, untilReady, type LoadRun } from './load-runs';
import { stopSignal } from './load-workflows';
import { coresBetween, useOf, type Cores } from './machine-use';
import { startOutside } from './outside';
import { sharesIn, type Served, type Shares, type Window } from './shares';
import { startBenchStack, type BenchStack } from './stack';

/** Ten tenants; what a call costs has nothing to do with what its tenant weighs. */
const WEIGHTS = [1, 1, 2, 4, 1, 1, 2, 4, 1, 1] as const;
const COSTS_MS = [200, 600, 300, 400, 800, 200, 500, 300, 400, 600] as const;
/** Calls of a tenant that wait or run, while all have some: always more than the slots it gets. */
const OUTSTANDING = 16;
/** The same of the one that is left. */
const OUTSTANDING_ALONE = 64;
const WARM_MS = 8_000;
/**
 * Who is left, each by itself: the one whose calls are as long as the mean of all calls before (400 ms), so that like is compared with
 * like, and the one with the shortest, for which what passes between two calls of a slot weighs most.
 */
const LEFT = [8, 0] as const;

const AIMS = { jain: 0.95, conservation: 0.9, alone: 0.95 } as const;

/**
 * How the shared lane shares (promise N2): ten tenants with a backlog each, by their weights; then nine of them go idle, and the one
 * that is left may have it all, once with calls of the mean length and once with the shortest. A slot is held from a call's start on the worker to its end, by the histories.
 */
export async function fairShares(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { seconds: { type: 'string', default: '60' }, slots: { type: 'string', default: '16' } },
  });
  const [seconds, slots] = [Number(values.seconds), Number(values.slots)];
  if (!(seconds > 0) || !(slots > 0)) throw new Error('--seconds and --slots are numbers above 0');
  const outside = await startOutside();
  const stack = await startBenchStack(loadApp);
  const hosts = await createHosts(stack);
  const bar = showProgress('fair-shares', 's', Math.ceil(seconds * (1 + LEFT.length / 2)));
  try {
    await place(stack, outside.url);
    await hosts.start({ role: 'control', hostId: 'control' });
    await hosts.start({ role: 'lanes', hostId: 'host', lanes: { sharedCalls: slots } });
    const together = await measured(
      stack,
      hosts,
      WEIGHTS.map((_, no) => no),
      OUTSTANDING,
      seconds,
      (at) => bar.at(at),
    );
    const left: Measured[] = [];
    for (const [index, no] of LEFT.entries())
      left.push(
        await measured(stack, hosts, [no], OUTSTANDING_ALONE, seconds / 2, (at) =>
          bar.at(seconds * (1 + index / 2) + at),
        ),
      );
    bar.end();
    process.stdout.write(report({ slots, seconds, together, left, versions: stack.versions }));
  } finally {
    bar.end();
    await hosts.stop();
    await stack.close();
    await outside.close();
  }
}

const nameOf = (no: number): string => `tenant-${no}`;

async function place(stack: BenchStack, outside: string): Promise<void> {
  await applyClasses(
    stack,
    WEIGHTS.map((weight, no) => ({ name: `weight-${no}`, lane: 'shared', weight, callsInFlight: 1_000 })),
  );
  for (const no of WEIGHTS.keys())
    await createTenants(stack, [nameOf(no)], { quotaClass: `weight-${no}`, outside });
}

interface Measured {
  readonly shares: Shares;
  readonly cores: Cores;
}

/** Has these tenants keep so many calls under way, and reads what each of them got. */
async function measured(
  stack: BenchStack,
  hosts: Hosts,
  tenants: readonly number[],
  outstanding: number,
  seconds: number,
  at: (second: number) => void,
): Promise<Measured> {
  const runs = await Promise.all(
    tenants.map((no) =>
      startLoadRun(
        stack,
        nameOf(no),
        { takesMs: COSTS_MS[no] ?? 0, bytes: 100, fails: false, allowed: true },
        { name: 'backlog', more: { outstanding } },
      ),
    ),
  );
  await untilReady(runs);
  await sleep(WARM_MS);
  const groups = {
    hosts: () => hosts.pids(),
    temporal: () => [stack.pids.temporal],
    postgres: () => [stack.pids.postgres],
  };
  const window: Window = { from: Date.now(), until: Date.now() + seconds * 1_000 };
  const before = useOf(groups);
  for (let second = 0; Date.now() < window.until; second += 1) {
    at(second);
    await sleep(Math.min(1_000, Math.max(0, window.until - Date.now())));
  }
  const cores = coresBetween(before, useOf(groups));
  // What began in the window and was given up after it held a slot too: nothing is given up before it has had time to end.
  await sleep(Math.max(...COSTS_MS) * 2);
  await Promise.all(runs.map((run) => run.signal(stopSignal)));
  const served: Served[] = await Promise.all(
    runs.map(async (run: LoadRun, index) => {
      await run.result();
      const no = tenants[index] ?? 0;
      const { calls } = await callTimes(run);
      return { tenant: nameOf(no), weight: WEIGHTS[no] ?? 1, costMs: COSTS_MS[no] ?? 0, calls };
    }),
  );
  return { shares: sharesIn(served, window), cores };
}

function report(parts: {
  slots: number;
  seconds: number;
  together: Measured;
  /** Of each of `LEFT`. */
  left: readonly Measured[];
  versions: BenchStack['versions'];
}): string {
  const { slots, seconds, together, left, versions } = parts;
  const { shares } = together;
  const conservation = shares.slots / slots;
  const held = (value: number, aim: number): string =>
    `${value.toFixed(3)}  (at least ${aim}: ${value >= aim ? 'holds' : 'DOES NOT HOLD'})`;
  const perUnit =
    shares.tenants.reduce((sum, { calls }) => sum + calls, 0) /
    shares.tenants.reduce((sum, { weight }) => sum + weight, 0);
  return [
    `fair-shares: ten tenants with a backlog each on one shared lane of ${slots} slots, ${seconds} s`,
    `  Temporal server ${versions.temporal} (embedded, SQLite), PostgreSQL ${versions.postgres}, Node ${process.version}, ${cpus().length} cores`,
    '  tenant     weight  cost ms   calls  calls/weight  slots held',
    ...shares.tenants.map(
      ({ tenant, weight, costMs, calls, slots: heldSlots }) =>
        `  ${tenant.padEnd(10)} ${String(weight).padStart(6)} ${String(costMs).padStart(8)} ${String(calls).padStart(7)} ${(calls / weight).toFixed(1).padStart(13)} ${heldSlots.toFixed(2).padStart(11)}`,
    ),
    `  Jain’s index of calls by weight        ${held(shares.jain, AIMS.jain)}`,
    `  work conservation (slots held of all)  ${held(conservation, AIMS.conservation)}`,
    `  largest service gap                    ${shares.largestGap.toFixed(1)} calls per unit of weight (of ${perUnit.toFixed(0)} each got)`,
    `  Jain’s index of slots held by weight   ${shares.jainOfSlots.toFixed(3)}  (not promised: a dispatch counts the same, however long the call)`,
    `  processors: ${coresText(together.cores)}`,
    ...left.flatMap(({ shares: { tenants, slots: ofOne }, cores }, index) => {
      const one = tenants[0];
      return [
        `then nine are idle, and ${one?.tenant ?? '?'} (weight 1, calls of ${one?.costMs ?? '?'} ms) is left, ${seconds / 2} s:`,
        `  slots held ${ofOne.toFixed(2)}; of what all ten held  ${
          index === 0
            ? held(ofOne / shares.slots, AIMS.alone)
            : `${(ofOne / shares.slots).toFixed(3)}  (no aim)`
        }`,
        `  processors: ${coresText(cores)}`,
      ];
    }),
    '',
  ].join('\n');
}

const coresText = ({ groups, machine }: Cores): string =>
  `${Object.entries(groups)
    .map(([name, cores]) => `${name} ${cores.toFixed(2)}`)
    .join(', ')} cores; the machine ${Math.round(machine * 100)} % busy`;
