import type { CheckpointName } from '../../contracts/checkpoint';
import type { DoneKill } from '../support/planned-death';
import type { WorkerProcess } from '../support/worker-process';
import type { Books } from './books';
import type { ChaosOptions } from './core';
import type { Rest } from './ground';
import type { Mishaps } from './mishaps';
import type { ChaosPlan } from './plan';
import type { Reviewed } from './reviewer';
import { secretOf } from './tenants';
import type { ChaosEffect, ChaosSystems } from './systems';

/** The writes of the plan, counted where they were meant to happen. */
export interface WriteCount {
  readonly intended: number;
  /** Undos included. */
  readonly expectedEffects: number;
  readonly effects: number;
  /** Intents with more than one effect, the further ones counted. */
  readonly duplicates: number;
  /** Intents without any. */
  readonly lost: number;
  /** Of runs that fail: intents undone exactly once, and runs whose undos came in another order than the reverse. */
  readonly undone: number;
  readonly undoExpected: number;
  readonly undoOutOfOrder: number;
  /** Effects that showed another tenant's credential. */
  readonly wrongTenant: number;
}

/** What a chaos run found. Any `breaches` and it has failed. */
export interface ChaosReport {
  readonly seed: number;
  readonly planDigest: string;
  readonly tenants: number;
  readonly runs: number;
  readonly writes: WriteCount;
  readonly unknown: {
    readonly reviews: number;
    readonly happened: number;
    readonly didNotHappen: number;
    readonly open: number;
  };
  readonly journal: Omit<Books, 'withoutEffect' | 'withoutSuccess' | 'severalEffects' | 'broken'> & {
    readonly broken: number;
    readonly withoutEffect: number;
    readonly withoutSuccess: number;
    readonly severalEffects: number;
  };
  readonly kills: {
    readonly planned: number;
    readonly done: number;
    readonly atMoments: number;
    readonly byPoint: Readonly<Partial<Record<CheckpointName, number>>>;
  };
  readonly databaseCrashes: { readonly planned: number; readonly done: number };
  readonly workers: { readonly starts: number; readonly endedByThemselves: number };
  readonly stopReasons: Readonly<Record<string, number>>;
  readonly postgres: string;
  readonly durationMs: number;
  readonly breaches: readonly string[];
}

export function countWrites(plan: ChaosPlan, { effects }: Pick<ChaosSystems, 'effects'>): WriteCount {
  const perIntent = new Map<string, ChaosEffect[]>();
  for (const effect of effects) {
    const name = `${effect.kind === 'undo' ? 'undo ' : ''}${effect.intent}`;
    perIntent.set(name, [...(perIntent.get(name) ?? []), effect]);
  }
  const of = (name: string): ChaosEffect[] => perIntent.get(name) ?? [];
  const writes = plan.runs.flatMap((run) => run.steps.flat());
  const undone = plan.runs.filter((run) => run.undone);
  const toUndo = undone.flatMap((run) => run.steps.flat());
  const outOfOrder = undone.filter((run) => {
    const intents = run.steps.flat().map(({ intent }) => intent);
    const order = intents.flatMap((intent) => of(`undo ${intent}`).map(({ no }) => no));
    return order.some((no, index) => index > 0 && no > (order[index - 1] ?? 0));
  });
  return {
    intended: writes.length,
    expectedEffects: writes.length + toUndo.length,
    effects: effects.length,
    duplicates: [...perIntent.values()].reduce((sum, { length }) => sum + length - 1, 0),
    lost: writes.filter(({ intent }) => of(intent).length === 0).length,
    undone: toUndo.filter(({ intent }) => of(`undo ${intent}`).length === 1).length,
    undoExpected: toUndo.length,
    undoOutOfOrder: outOfOrder.length,
    wrongTenant: effects.filter(
      ({ bearer, tenant }) => bearer !== `Bearer ${secretOf(tenant, 'keeper:write')}`,
    ).length,
  };
}

interface Findings {
  readonly options: ChaosOptions;
  readonly plan: ChaosPlan;
  readonly tenants: readonly string[];
  readonly writes: WriteCount;
  readonly books: Books;
  readonly reviewed: Reviewed;
  readonly openRuns: readonly string[];
  readonly killed: readonly DoneKill[];
  readonly mishaps: Pick<Mishaps, 'killed' | 'crashed'>;
  readonly hosts: readonly WorkerProcess[];
  readonly rest: Rest;
  readonly postgres: string;
  readonly durationMs: number;
}

export function reportOf(found: Findings): ChaosReport {
  const { plan, writes, books, rest, killed, mishaps } = found;
  const byPoint: Partial<Record<CheckpointName, number>> = {};
  for (const { point } of killed) byPoint[point] = (byPoint[point] ?? 0) + 1;
  return {
    seed: found.options.seed,
    planDigest: plan.digest,
    tenants: found.tenants.length,
    runs: plan.runs.length,
    writes,
    unknown: { reviews: rest.reviews, ...found.reviewed, open: rest.openReviews },
    journal: {
      entries: books.entries,
      successes: books.successes,
      broken: books.broken.length,
      withoutEffect: books.withoutEffect.length,
      withoutSuccess: books.withoutSuccess.length,
      severalEffects: books.severalEffects.length,
    },
    kills: {
      planned: plan.kills.length,
      done: killed.length + mishaps.killed,
      atMoments: mishaps.killed,
      byPoint,
    },
    databaseCrashes: { planned: plan.crashes.length, done: mishaps.crashed },
    workers: {
      starts: found.hosts.reduce((sum, { starts }) => sum + starts, 0),
      endedByThemselves: found.hosts.reduce((sum, { ownEnds }) => sum + ownEnds.length, 0),
    },
    stopReasons: rest.stopReasons,
    postgres: found.postgres,
    durationMs: found.durationMs,
    breaches: breachesOf(found),
  };
}

/** Each in words; the first few names of what is concerned. */
function breachesOf({
  plan,
  writes,
  books,
  rest,
  killed,
  mishaps,
  openRuns,
  hosts,
  options,
}: Findings): string[] {
  const few = (names: readonly string[]): string => names.slice(0, 5).join(', ');
  const done = killed.length + mishaps.killed;
  // Without a crash of the database, nothing but our kills may end a worker.
  const ownEnds = options.dbCrashes === 0 ? hosts.flatMap((host) => host.ownEnds) : [];
  const checks: [boolean, string][] = [
    [writes.duplicates > 0, `${writes.duplicates} duplicate effects`],
    [
      options.without !== undefined && writes.duplicates === 0,
      'the control arm shows no duplicates: the harness finds nothing',
    ],
    [writes.lost > 0, `${writes.lost} writes lost`],
    [
      writes.undone < writes.undoExpected,
      `${writes.undoExpected - writes.undone} writes of failed runs not undone once`,
    ],
    [writes.undoOutOfOrder > 0, `${writes.undoOutOfOrder} runs undone out of order`],
    [writes.wrongTenant > 0, `${writes.wrongTenant} effects under another tenant's credential`],
    [books.broken.length > 0, `broken journals: ${few(books.broken)}`],
    [books.withoutEffect.length > 0, `done in the journal, not outside: ${few(books.withoutEffect)}`],
    [books.withoutSuccess.length > 0, `done outside, not in the journal: ${few(books.withoutSuccess)}`],
    [books.severalEffects.length > 0, `several effects of one key: ${few(books.severalEffects)}`],
    [openRuns.length > 0, `${openRuns.length} runs not closed in time: ${few(openRuns)}`],
    [rest.openReviews > 0, `${rest.openReviews} reviews left open`],
    [rest.inflight !== 0, `${rest.inflight} slots still taken`],
    [rest.bytes !== 0, `${rest.bytes} bytes of storage miscounted`],
    [rest.claimed !== 0, `${rest.claimed} calls neither done nor failed`],
    [done < plan.kills.length, `${plan.kills.length - done} planned kills not done`],
    [
      mishaps.crashed < plan.crashes.length,
      `${plan.crashes.length - mishaps.crashed} planned crashes not done`,
    ],
    [ownEnds.length > 0, `${ownEnds.length} workers ended by themselves: ${few(ownEnds)}`],
  ];
  return checks.flatMap(([broken, words]) => (broken ? [words] : []));
}
