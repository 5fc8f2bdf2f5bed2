import { CHECKPOINTS, type CheckpointName } from '../../contracts/checkpoint';
import { digestOf } from '../../contracts/digest';
import type { Digest } from '../../contracts/ids';

/** What a chaos run is made of, drawn from a seed: the same options give the same plan, to the last digit. */
export interface ChaosPlan {
  readonly runs: readonly PlannedRun[];
  readonly kills: readonly PlannedKillOf[];
  readonly crashes: readonly Moment[];
  /** Of everything above. */
  readonly digest: Digest;
}

export type WriteKind = 'keyed' | 'looked' | 'blind';
export interface PlannedWrite {
  /** Unique in the plan: what is counted at the systems outside. */
  readonly intent: string;
  readonly kind: WriteKind;
}
export interface PlannedRun {
  readonly tenant: string;
  /** Writes asked for together in each step of the model. */
  readonly steps: readonly (readonly PlannedWrite[])[];
  /** It fails at its end, so that all of its writes are undone. */
  readonly undone: boolean;
}

/** Once so many effects were seen outside, and so long after. */
export interface Moment {
  readonly afterEffects: number;
  readonly delayMs: number;
}
/** At a place of a call, or of a run where the path is empty; or at a moment, whatever is going on. */
export type PlannedKillOf =
  | { readonly at: 'point'; readonly run: number; readonly path: string; readonly point: CheckpointName }
  | ({ readonly at: 'moment'; readonly host: number } & Moment);

export interface PlanOptions {
  readonly seed: number;
  readonly writes: number;
  readonly kills: number;
  readonly dbCrashes: number;
  readonly tenants: readonly string[];
  readonly hosts: number;
  /** Steps after which a run continues as new. */
  readonly continueAfter: number;
  /** What runs that are not undone draw their writes from. */
  readonly kinds?: readonly WriteKind[];
  /** The named places to kill at, in turn; all by default. */
  readonly points?: readonly CheckpointName[];
}

/** So many writes a run on average; enough steps that every run continues as new. */
const WRITES_A_RUN = 10;
/** Of the kills, how many come at moments and not at places. */
const AT_MOMENTS = 0.2;
const KINDS: readonly WriteKind[] = ['keyed', 'keyed', 'looked', 'blind'];
const POINTS = Object.keys(CHECKPOINTS) as CheckpointName[];
/** Those of a run, which have no call. */
const OF_RUNS: readonly CheckpointName[] = ['before_continue', 'after_continue'];
const OF_UNDO: readonly CheckpointName[] = ['before_undo', 'after_undo'];

/**
 * Draws a plan. With as many kills at places as there are names, each name comes at least once, on a write that passes
 * it whatever happened before: one to a system that honours keys.
 */
export function planChaos(options: PlanOptions): ChaosPlan {
  const random = dice(options.seed);
  const runs = drawRuns(options, random);
  const atMoments = Math.min(
    Math.round(options.kills * AT_MOMENTS),
    Math.max(0, options.kills - (options.points ?? POINTS).length),
  );
  const kills = [
    ...drawPoints(options, runs, options.kills - atMoments, random),
    ...drawMoments(options.writes, atMoments, random).map((moment, index) => ({
      at: 'moment' as const,
      host: index % options.hosts,
      ...moment,
    })),
  ];
  const crashes = drawMoments(options.writes, options.dbCrashes, random);
  const plan = { runs, kills, crashes };
  return { ...plan, digest: digestOf(plan) };
}

function drawRuns({ writes, tenants, kinds = KINDS }: PlanOptions, random: Dice): PlannedRun[] {
  const runs: PlannedRun[] = [];
  for (let made = 0; made < writes;) {
    const size = Math.min(WRITES_A_RUN, writes - made);
    // Every fourth run fails and is undone; only what can be undone is in it.
    const undone = runs.length % 4 === 1;
    const steps: PlannedWrite[][] = [];
    for (let placed = 0; placed < size;) {
      const width = Math.min(1 + random.below(2), size - placed);
      steps.push(
        Array.from({ length: width }, (_, index) => ({
          intent: `i${made + placed + index}`,
          kind: undone ? 'keyed' : random.of(kinds),
        })),
      );
      placed += width;
    }
    runs.push({ tenant: tenants[runs.length % tenants.length] ?? 'chaos', steps, undone });
    made += size;
  }
  return runs;
}

function drawPoints(
  { continueAfter, points = POINTS }: PlanOptions,
  runs: readonly PlannedRun[],
  count: number,
  random: Dice,
): PlannedKillOf[] {
  const taken = new Set<string>();
  const calls = runs.flatMap((run, index) =>
    run.steps.flatMap((step, at) =>
      step.map(({ kind }, ordinal) => ({
        run: index,
        undone: run.undone,
        path: `${at}.${ordinal + 1}`,
        kind,
      })),
    ),
  );
  const continuing = runs.flatMap((run, index) =>
    run.steps.length >= continueAfter ? [{ run: index, path: '' }] : [],
  );
  const drawn: PlannedKillOf[] = [];
  for (let no = 0; no < count; no += 1) {
    const point = points[no % points.length] as CheckpointName;
    const once = no < points.length;
    const places = OF_RUNS.includes(point)
      ? continuing
      : OF_UNDO.includes(point)
        ? calls.filter(({ undone }) => undone).map(({ run, path }) => ({ run, path: `${path}/undo` }))
        : calls.filter(({ kind }) => !once || kind === 'keyed');
    const free = places.filter(({ run, path }) => !taken.has(`${run} ${path}`));
    if (free.length === 0) continue;
    const { run, path } = random.of(free);
    taken.add(`${run} ${path}`);
    drawn.push({ at: 'point', run, path, point });
  }
  return drawn;
}

function drawMoments(writes: number, count: number, random: Dice): Moment[] {
  return Array.from({ length: count }, (_, index) => {
    // One in each equal part of the work, none in its last tenth.
    const part = (writes * 0.9) / count;
    return {
      afterEffects: Math.floor(part * index + random.below(Math.max(1, Math.floor(part)))),
      delayMs: random.below(60),
    };
  });
}

interface Dice {
  /** A whole number from 0, below the limit. */
  below(limit: number): number;
  of<T>(choices: readonly T[]): T;
}

/** Mulberry32: small, and the same everywhere. */
export function dice(seed: number): Dice {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  return {
    below: (limit) => Math.floor(next() * limit),
    of: (choices) => choices[Math.floor(next() * choices.length)] as (typeof choices)[number],
  };
}
