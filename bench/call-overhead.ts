import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus } from 'node:os';
import { Worker } from '@temporalio/worker';
import { request } from 'undici';
import { startControlHost } from '../workers/control-host';
import { startLaneHost } from '../workers/lane-host';
import { workflowBundle } from '../workers/workflow-bundle';
import { counters, NO_TRIPS, type Counters } from './counters';
import { startBenchStack, type BenchStack } from './stack';
import { median, medianInterval, quantile } from './statistics';
import { benchApp, createTenant, startCalls, TENANT, workflowWorker } from './tenant';

/** How long the system outside takes for a request, milliseconds: none at all, which is the hardest to stand beside, and a quick one. */
const WAITS_MS = [0, 50] as const;

/**
 * What governing a write costs: the same HTTP request made by a raw Temporal activity and by a governed call, in
 * alternating pairs inside one run, on one server. Latency is from an activity's scheduling to its completion, by the
 * history's own timestamps; the ratio of each pair, its median and the median's 95 % interval. Once with a system outside that answers
 * at once and once with one that takes a while: what governing adds is the same, what it adds to is not.
 */
export async function callOverhead(args: readonly string[]): Promise<void> {
  const calls = Number(args[0] ?? 400);
  let waitMs = 0;
  const keeper = createServer((_request, response) => {
    const answer = (): void => {
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"id":"r1","account":"acct"}');
    };
    if (waitMs > 0) setTimeout(answer, waitMs);
    else answer();
  });
  await new Promise<void>((resolve) => keeper.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(keeper.address() as AddressInfo).port}`;
  const stack = await startBenchStack(benchApp);
  try {
    await createTenant(stack, url);
    const bundle = await workflowBundle();
    const hosts = [
      await startControlHost(stack.parts, { bundle }),
      await startLaneHost(stack.parts, { bundle, only: TENANT }),
    ];
    const raw = await rawWorkers(stack, url);
    // The first run warms connections, plans and caches, and is not counted.
    await oneRun(stack, Math.min(60, calls));
    const measured: Measured[] = [];
    for (const each of WAITS_MS) {
      waitMs = each;
      const before = await counters(stack);
      const latencies = await oneRun(stack, calls);
      measured.push({ waitMs, ...latencies, before, after: await counters(stack) });
    }
    await raw.stop();
    for (const host of hosts.reverse()) await host.stop();
    print(stack, measured);
  } finally {
    await stack.close();
    keeper.close();
  }
}

async function rawWorkers(stack: BenchStack, url: string): Promise<{ stop(): Promise<void> }> {
  const { connection, namespace } = stack.parts;
  const workflows = await workflowWorker(stack);
  const activities = await Worker.create({
    connection,
    namespace,
    taskQueue: 'raw',
    maxConcurrentActivityTaskExecutions: 8,
    maxConcurrentActivityTaskPolls: 2,
    activities: {
      rawCall: async ({ index }: { index: number }) => {
        const answer = await request(`${url}/notes`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ recordId: 'r1', text: `note ${index}` }),
        });
        await answer.body.json();
        return null;
      },
    },
  });
  const running = [workflows.run(), activities.run()];
  return {
    async stop() {
      workflows.shutdown();
      activities.shutdown();
      await Promise.all(running);
    },
  };
}

/** One run of `calls` pairs; answers the milliseconds of each raw and each governed call, in order. */
async function oneRun(stack: BenchStack, calls: number): Promise<OneRun> {
  const handle = await startCalls(stack, 'benchCalls', calls);
  await handle.result();
  return latenciesOf(await handle.fetchHistory());
}

type History = Awaited<
  ReturnType<Awaited<ReturnType<BenchStack['client']['workflow']['start']>>['fetchHistory']>
>;

/** Milliseconds of each call of a kind, in order: of its activity alone, and until the run went on with its result. */
interface Latencies {
  readonly activity: number[];
  readonly step: number[];
}
interface OneRun {
  readonly raw: Latencies;
  readonly governed: Latencies;
  readonly events: number;
}
interface Measured extends OneRun {
  readonly waitMs: number;
  readonly before: Counters;
  readonly after: Counters;
}

function latenciesOf(history: History): OneRun {
  const found: Record<string, Latencies> = {
    rawCall: { activity: [], step: [] },
    callTool: { activity: [], step: [] },
  };
  const at = (event: { eventTime?: { seconds?: unknown; nanos?: number | null } | null }): number =>
    Number(event.eventTime?.seconds ?? 0) * 1_000 + (event.eventTime?.nanos ?? 0) / 1e6;
  // One call at a time, so whatever is scheduled next is the run going on.
  let current: { type: string; at: number } | undefined;
  for (const event of history.events ?? []) {
    const type = event.activityTaskScheduledEventAttributes?.activityType?.name;
    if (type) {
      if (current) found[current.type]?.step.push(at(event) - current.at);
      current = { type, at: at(event) };
    }
    if (event.activityTaskCompletedEventAttributes && current)
      found[current.type]?.activity.push(at(event) - current.at);
  }
  const none: Latencies = { activity: [], step: [] };
  return {
    raw: found['rawCall'] ?? none,
    governed: found['callTool'] ?? none,
    events: (history.events ?? []).length,
  };
}

function ratioLine(governed: readonly number[], raw: readonly number[]): string {
  const ratios = governed.map((ms, index) => ms / (raw[index] ?? Number.NaN));
  const [low, high] = medianInterval(ratios);
  return `  governed / raw: median of ${ratios.length} pairs ${median(ratios).toFixed(2)}, 95 % interval ${low.toFixed(2)} to ${high.toFixed(2)}`;
}

function latencyLines({ waitMs, raw, governed }: Measured): string[] {
  const line = (name: string, values: readonly number[]): string =>
    `  ${name.padEnd(10)} median ${median(values).toFixed(1)} ms · p95 ${quantile(values, 0.95).toFixed(1)} ms · p99 ${quantile(values, 0.99).toFixed(1)} ms`;
  return [
    '',
    `beside a system that ${waitMs > 0 ? `takes ${waitMs} ms` : 'answers at once'}:`,
    'the activity alone, from its scheduling to its completion (aim 1.15, at most 1.30):',
    line('raw', raw.activity),
    line('governed', governed.activity),
    ratioLine(governed.activity, raw.activity),
    'a step of the run, from the scheduling of one call to that of the next:',
    line('raw', raw.step),
    line('governed', governed.step),
    ratioLine(governed.step, raw.step),
  ];
}

/** What a governed call costs the servers; how long the system outside takes has no part in it. */
function costLines({ governed, events, before, after }: Measured): string[] {
  const calls = governed.activity.length;
  const perCall = (name: string, value: number): string =>
    `  ${name.padEnd(36)} ${(value / calls).toFixed(2)}`;
  const trips = Object.entries(after.trips)
    .map(([name, now]) => {
      const then = before.trips[name] ?? NO_TRIPS;
      return { name, calls: now.calls - then.calls, ms: now.ms - then.ms };
    })
    .filter((trip) => trip.calls >= calls / 2)
    .sort((a, b) => b.ms - a.ms);
  return [
    '',
    'per governed call:',
    perCall('round trips to PostgreSQL', after.statements - before.statements),
    ...trips.map(
      (trip) =>
        `${perCall(`  ${trip.name}`, trip.calls)} (${(trip.ms / trip.calls).toFixed(2)} ms in the server)`,
    ),
    perCall('commits (polls of hosts included)', after.commits - before.commits),
    perCall('WAL bytes (polls of hosts included)', after.wal - before.wal),
    `  ${'history events'.padEnd(36)} ${((events - 20) / (calls * 2)).toFixed(1)} (as many as of the raw activity)`,
  ];
}

function print({ versions }: BenchStack, measured: readonly Measured[]): void {
  const [first] = measured;
  const pairs = first?.governed.activity.length ?? 0;
  process.stdout.write(
    [
      `call-overhead: ${pairs} pairs each, one after the other`,
      `  Temporal server ${versions.temporal} (embedded, SQLite), PostgreSQL ${versions.postgres}, Node ${process.version}, ${cpus().length} cores`,
      ...measured.flatMap(latencyLines),
      ...(first ? costLines(first) : []),
      '',
    ].join('\n'),
  );
}
