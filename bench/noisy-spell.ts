import { setTimeout as sleep } from 'node:timers/promises';
import { callTimes } from './call-times';
import type { Job } from './load-app';
import { startLoadRun, startRawRun, untilReady, type LoadRun } from './load-runs';
import { callsSignal, endSignal, stopSignal, type Tally } from './load-workflows';
import { coresBetween, useOf, type Cores, type Groups } from './machine-use';
import { neighbourJob, victimJob, type Arm, type Kind } from './noisy-kinds';
import type { NoisyOptions } from './noisy-options';
import type { Outside } from './outside';
import type { BenchStack } from './stack';

/** The neighbour is at it before the victims' first call, milliseconds; where there is none, it is as long. */
const LEAD_MS = 3_000;
/** Victims' calls are waited for after the last one's start, so long. */
const DRAIN_MS = 10_000;
/** Runs that the neighbour floods with: Temporal bounds what one workflow may have pending. */
const FLOODING_RUNS = 10;
const LEAVE_MS = 60_000;

export interface Ground {
  readonly stack: BenchStack;
  readonly outside: Outside;
  readonly groups: Groups;
  readonly options: NoisyOptions;
}

/** One spell of an arm, as measured. */
export interface Spell {
  readonly arm: Arm;
  readonly kind: Kind | null;
  readonly round: number;
  readonly ms: number;
  /** Of each victim's call, from its intended start to its recorded end; of one that did not end, the time until it was given up. */
  readonly latencies: readonly number[];
  readonly unfinished: number;
  /** Calls of victims that were answered by anything but `done`. */
  readonly refused: number;
  /** Calls of the neighbour, a second: asked for, and answered (by the system outside, or refused). */
  readonly offered: number;
  readonly served: number;
  readonly cores: Cores;
}

/** Starts of one victim's calls, wall-clock milliseconds: fixed beforehand, whatever becomes of the calls. */
function arrivals(begin: number, victim: number, seconds: number, options: NoisyOptions): number[] {
  const periodMs = 1_000 / options.rate;
  const shift = (victim / options.victims) * periodMs;
  return Array.from({ length: Math.round(seconds * options.rate) }, (_, index) =>
    Math.round(begin + shift + index * periodMs + jitter(victim, index) * periodMs * 0.5),
  );
}

/** From 0 to 1, the same in each arm: no rhythm of the neighbour's is met or missed all along. */
const jitter = (victim: number, index: number): number =>
  (Math.imul(victim * 7_919 + index * 104_729 + 1, 2_654_435_761) >>> 0) / 2 ** 32;

/** Runs one spell and waits until nothing of it is left. */
export async function spell(
  ground: Ground,
  { arm, kind }: { arm: Arm; kind: Kind | null },
  { round, seconds }: { round: number; seconds: number },
): Promise<Spell> {
  const { options, outside, groups } = ground;
  const lane = arm === 'alone' ? 'own' : arm;
  const start = (tenant: string, job: Job): Promise<LoadRun> =>
    arm === 'unprotected'
      ? startRawRun(ground.stack, tenant, job, 'openLoop')
      : startLoadRun(ground.stack, tenant, job, { name: 'openLoop' });
  const victims = await Promise.all(
    Array.from({ length: options.victims }, (_, index) =>
      start(`${lane}-victim-${index}`, victimJob(options.waitMs)),
    ),
  );
  const flooding =
    kind === null
      ? []
      : await Promise.all(
          Array.from({ length: FLOODING_RUNS }, () =>
            start(`${lane}-${kind}`, neighbourJob(kind, options.waitMs)),
          ),
        );
  await untilReady([...victims, ...flooding]);

  const begin = Date.now() + LEAD_MS;
  const end = begin + seconds * 1_000;
  const intended = victims.map((_, victim) => arrivals(begin, victim, seconds, options));
  const flood = floodUntil(end, flooding, options);
  const asked = Promise.all(victims.map((run, victim) => callAt(run, intended[victim] ?? [])));
  // They are awaited below; what fails before then is not to end this process, and hours of figures with it.
  for (const work of [flood, asked]) work.catch(() => undefined);
  await sleep(begin - Date.now());
  outside.take();
  const before = useOf(groups);
  await sleep(end - Date.now());
  const cores = coresBetween(before, useOf(groups));
  const answered = kind === null ? 0 : (outside.take().get(`${lane}-${kind}`) ?? 0);
  const offered = await flood;
  await asked;
  const drained = await within(DRAIN_MS, Promise.all(victims.map((run) => run.result())));
  const givenUpAt = Date.now();
  if (!drained) await stopAll(victims);
  const tallies = drained ?? (await results(victims));
  await stopAll(flooding);
  const [floodTallies, ...latencies] = await Promise.all([
    results(flooding),
    ...victims.map(async (run, victim) => {
      const { calls } = await callTimes(run);
      const endedAt = new Map(calls.map((call) => [call.index, call.endedAt]));
      return (intended[victim] ?? []).map((at, index) => {
        const ended = endedAt.get(index);
        return { ms: (ended ?? givenUpAt) - at, finished: ended !== undefined };
      });
    }),
  ]);
  const all = latencies.flat();
  const denied = floodTallies.reduce((sum, tally) => sum + (tally['denied'] ?? 0), 0);
  const offeringSeconds = seconds + LEAD_MS / 1_000;
  return {
    arm,
    kind,
    round,
    ms: seconds * 1_000,
    latencies: all.map(({ ms }) => ms),
    unfinished: all.filter(({ finished }) => !finished).length,
    refused: tallies.reduce((sum, tally) => sum + notDone(tally), 0),
    offered: offered / offeringSeconds,
    served: kind === 'refused' ? denied / offeringSeconds : answered / seconds,
    cores,
  };
}

const notDone = (tally: Tally): number =>
  Object.entries(tally).reduce(
    (sum, [kind, count]) => sum + (kind === 'done' || kind === 'gaveUp' ? 0 : count),
    0,
  );

/** Each call is asked for at its time, also while earlier ones are under way. */
async function callAt(run: LoadRun, times: readonly number[]): Promise<void> {
  await Promise.all(
    times.map(async (at, index) => {
      await sleep(Math.max(0, at - Date.now()));
      await run.signal(callsSignal, { from: index, count: 1 });
    }),
  );
  await run.signal(endSignal);
}

/** Offers the neighbour's calls until then, evenly over its runs; answers how many. */
async function floodUntil(
  end: number,
  runs: readonly LoadRun[],
  { rate, times }: NoisyOptions,
): Promise<number> {
  const perSecond = (rate * times) / FLOODING_RUNS;
  const everyMs = Math.max(1_000, 1_000 / perSecond);
  const count = Math.round((perSecond * everyMs) / 1_000);
  let offered = 0;
  await Promise.all(
    runs.map(async (run, index) => {
      const begin = Date.now() + (index / runs.length) * everyMs;
      for (let beat = 0; begin + beat * everyMs < end; beat += 1) {
        await sleep(Math.max(0, begin + beat * everyMs - Date.now()));
        await run.signal(callsSignal, { from: beat * count, count });
        offered += count;
      }
    }),
  );
  return offered;
}

/** A run that is over already needs no word. */
async function stopAll(runs: readonly LoadRun[]): Promise<void> {
  await Promise.all(runs.map((run) => run.signal(stopSignal).catch(() => undefined)));
}

async function results(runs: readonly LoadRun[]): Promise<Tally[]> {
  const ended = await within(LEAVE_MS, Promise.all(runs.map((run) => run.result())));
  if (!ended) throw new Error(`runs of a spell did not leave within ${LEAVE_MS / 1_000} s`);
  return ended;
}

async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  const stop = new AbortController();
  try {
    return await Promise.race([work, sleep(ms, undefined, { signal: stop.signal })]);
  } finally {
    stop.abort();
  }
}
