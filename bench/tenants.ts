import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ensureControl } from '../client/control';
import { showProgress } from '../client/cli/progress';
import { TenantId } from '../contracts/ids';
import { callTimes } from './call-times';
import { counters, type Counters } from './counters';
import { createHosts, type HostProcess, type Hosts } from './hosts';
import { applyClasses, createTenants, loadApp } from './load-app';
import { startLoadRun, type LoadRun } from './load-runs';
import { familyBytes, residentBytes, useOf, type Groups, type Use } from './machine-use';
import { startOutside } from './outside';
import { startBenchStack, type BenchStack } from './stack';
import { tenantsReport, type Carried, type Spent } from './tenants-report';

/** A host that has not opened its lanes by then does not carry so many. */
const OPEN_MS = 300_000;
const IDLE_MS = 30_000;
/**
 * A connection of PostgreSQL that has nothing to do tells its counts up to ten seconds late: what is read before that is the
 * load's share taken for idleness. <https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/utils/activity/pgstat.c>
 */
const SETTLE_MS = 12_000;
const CALLS_PER_RUN = 2;
const JOB = { takesMs: 100, bytes: 100, fails: false, allowed: true } as const;

/**
 * What a tenant more costs where the work stays the same: one total rate of short runs, spread over one, a hundred and a thousand
 * tenants with a lane each. Per call: statements, commits, WAL, history events and processor time, what hosts do by the clock
 * taken out and shown beside; memory and pollers of the hosts, and how long one takes to open its lanes.
 */
export async function tenantsBench(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { seconds: { type: 'string', default: '60' }, rate: { type: 'string', default: '5' } },
  });
  const sizes = (positionals[0] ?? '1,100,1000').split(',').map(Number);
  const [seconds, rate] = [Number(values.seconds), Number(values.rate)];
  if (!(seconds > 0) || !(rate > 0) || sizes.some((size) => !Number.isInteger(size) || size < 1))
    throw new Error('npm run bench -- tenants [1,100,1000] [--seconds 60] [--rate <runs a second>]');
  const outside = await startOutside();
  const stack = await startBenchStack(loadApp);
  const hosts = await createHosts(stack);
  const carried: Carried[] = [];
  try {
    await applyClasses(stack, [{ name: 'load-own', lane: 'own' }]);
    const control = await hosts.start({ role: 'control', hostId: 'control' });
    let created = 0;
    for (const size of [...sizes].sort((a, b) => a - b)) {
      await addTenants(stack, created, size, outside.url);
      created = Math.max(created, size);
      carried.push(await carry({ stack, hosts, control, size, seconds, rate }));
    }
    process.stdout.write(
      tenantsReport(carried, { seconds, rate, callsPerRun: CALLS_PER_RUN }, stack.versions),
    );
  } finally {
    await hosts.stop();
    await stack.close();
    await outside.close();
  }
}

const nameOf = (no: number): string => `tenant-${no}`;

/** As acceptance would have them: with a control workflow each, which idles. */
async function addTenants(stack: BenchStack, from: number, until: number, outside: string): Promise<void> {
  const bar = showProgress(`${until} tenants`, 'created', until - from);
  for (let no = from; no < until; no += 1) {
    await createTenants(stack, [nameOf(no)], { quotaClass: 'load-own', outside });
    await ensureControl(stack.client, TenantId.parse(nameOf(no)), stack.parts.environment);
    bar.at(no - from + 1);
  }
  bar.end();
}

interface Load {
  readonly stack: BenchStack;
  readonly hosts: Hosts;
  readonly control: HostProcess;
  readonly size: number;
  readonly seconds: number;
  readonly rate: number;
}

/** A fresh host opens the lanes of so many tenants, idles, and then serves the load. */
async function carry({ stack, hosts, control, size, seconds, rate }: Load): Promise<Carried> {
  const begun = Date.now();
  const host = await hosts.start({ role: 'lanes', hostId: `host-${size}` });
  const bar = showProgress(`${size} tenants`, 'lanes open', size);
  while (host.lanesOpen() < size && Date.now() - begun < OPEN_MS) {
    bar.at(host.lanesOpen());
    await sleep(100);
  }
  bar.end();
  const lanesOpen = host.lanesOpen();
  const openedMs = Date.now() - begun;
  if (lanesOpen < size) {
    await host.stop();
    return { tenants: size, lanesOpen, openedMs, measured: null };
  }
  const groups: Groups = {
    host: () => [host.pid],
    control: () => [control.pid],
    temporal: () => [stack.pids.temporal],
    postgres: () => [stack.pids.postgres],
  };
  const reading = async (): Promise<Reading> => ({ use: useOf(groups), counted: await counters(stack) });
  // Each tenant once: policies are compiled, agents known, plans made.
  await load(stack, size, { runs: size, everyMs: 1_000 / (rate * 2), what: 'warming' });
  await sleep(SETTLE_MS);
  const first = await reading();
  await sleep(IDLE_MS);
  const second = await reading();
  const runs = await load(stack, size, {
    runs: Math.round(seconds * rate),
    everyMs: 1_000 / rate,
    what: 'loading',
  });
  await sleep(SETTLE_MS);
  const third = await reading();
  const events = await Promise.all(runs.map(async (run) => (await callTimes(run)).events));
  const measured = {
    calls: runs.length * CALLS_PER_RUN,
    events: events.reduce((sum, each) => sum + each, 0),
    idle: spent(first, second),
    loaded: spent(second, third),
    bytes: {
      host: residentBytes(host.pid),
      control: residentBytes(control.pid),
      temporal: residentBytes(stack.pids.temporal),
      postgres: familyBytes(stack.pids.postgres),
    },
  };
  await host.stop();
  return { tenants: size, lanesOpen, openedMs, measured };
}

interface Reading {
  readonly use: Use;
  readonly counted: Counters;
}

const spent = (before: Reading, after: Reading): Spent => ({
  ms: after.use.at - before.use.at,
  statements: after.counted.statements - before.counted.statements,
  commits: after.counted.commits - before.counted.commits,
  wal: after.counted.wal - before.counted.wal,
  walPages: after.counted.walPages - before.counted.walPages,
  cpuMs: Object.fromEntries(
    Object.entries(after.use.groupsMs).map(([name, now]) => [name, now - (before.use.groupsMs[name] ?? 0)]),
  ),
  busyMs: after.use.busyMs - before.use.busyMs,
});

/** Starts runs at fixed times, each of the next tenant, and waits for all of them. Rejects where one ends in another way. */
async function load(
  stack: BenchStack,
  size: number,
  { runs, everyMs, what }: { runs: number; everyMs: number; what: string },
): Promise<LoadRun[]> {
  const bar = showProgress(what, 'runs', runs);
  const begun = Date.now();
  // A stride that meets every tenant before it meets one twice, and no two neighbours in a row.
  const stride = size > 2 ? strideOf(size) : 1;
  const started: Promise<LoadRun>[] = [];
  for (let no = 0; no < runs; no += 1) {
    await sleep(Math.max(0, begun + no * everyMs - Date.now()));
    const run = startLoadRun(stack, nameOf((no * stride) % size), JOB, {
      name: 'shortRun',
      more: { calls: CALLS_PER_RUN },
    });
    run.catch(() => undefined);
    started.push(run);
    bar.at(no + 1);
  }
  bar.end();
  const all = await Promise.all(started);
  for (const run of all) {
    const tally = await run.result();
    if (tally['done'] !== CALLS_PER_RUN) throw new Error(`${run.workflowId}: ${JSON.stringify(tally)}`);
  }
  return all;
}

/** Near the golden section of the size, and prime to it. */
function strideOf(size: number): number {
  const prime = (a: number, b: number): number => (b === 0 ? a : prime(b, a % b));
  let stride = Math.max(1, Math.round(size * 0.618));
  while (prime(stride, size) !== 1) stride += 1;
  return stride;
}
