import { cpus } from 'node:os';
import { meanCores, type Cores } from './machine-use';
import { ARMS, KINDS, type Arm, type Kind } from './noisy-kinds';
import { roundsOf, type NoisyOptions } from './noisy-options';
import type { Spell } from './noisy-spell';
import { quantile, slowdownIntervals } from './statistics';

const AIM = 1.2;
const BOUND = 1.5;
/** Of what the machine has, with what is taken from beneath it (steal time): from here on that, and no lane, decides who waits. */
const SATURATED = 0.9;

/** An arm beside one kind of neighbour, all rounds together. */
export interface ArmFigures {
  readonly arm: Arm;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly samples: number;
  readonly unfinished: number;
  readonly refused: number;
  readonly offered: number;
  readonly served: number;
  readonly cores: Cores;
  /** Of the arm's quantile to that of `alone`, with its 95 % interval. */
  readonly slowdown: Readonly<Record<'p50' | 'p99', Ratio>> | null;
}
export interface Ratio {
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
}

/** What the spells of an arm come to, held against those of `alone`. */
export function figuresOf(spells: readonly Spell[], alone: readonly Spell[]): ArmFigures {
  const [first] = spells;
  if (!first) throw new Error('an arm without a spell');
  const all = spells.flatMap(({ latencies }) => latencies);
  const sum = (of: (spell: Spell) => number): number => spells.reduce((total, each) => total + of(each), 0);
  const aloneAll = alone.flatMap(({ latencies }) => latencies);
  const slowdowns = (): { p50: Ratio; p99: Ratio } => {
    const rounds = (arm: readonly Spell[]): (readonly number[])[] => arm.map(({ latencies }) => latencies);
    const [p50, p99] = slowdownIntervals(rounds(spells), rounds(alone), [0.5, 0.99]);
    const ratio = (q: number, [low, high]: readonly [number, number] = [Number.NaN, Number.NaN]): Ratio => ({
      ratio: quantile(all, q) / quantile(aloneAll, q),
      low,
      high,
    });
    return { p50: ratio(0.5, p50), p99: ratio(0.99, p99) };
  };
  return {
    arm: first.arm,
    p50: quantile(all, 0.5),
    p99: quantile(all, 0.99),
    max: quantile(all, 1),
    samples: all.length,
    unfinished: sum(({ unfinished }) => unfinished),
    refused: sum(({ refused }) => refused),
    offered: sum(({ offered }) => offered) / spells.length,
    served: sum(({ served }) => served) / spells.length,
    cores: meanCores(spells),
    slowdown: first.arm === 'alone' ? null : slowdowns(),
  };
}

/** What is to be said of an arm's slowdown: whether the aim holds, the bound, or neither; and where that cannot be said. */
export function verdictOf({ arm, slowdown, cores, refused }: ArmFigures): string {
  if (!slowdown) return '';
  if (arm === 'unprotected') return 'the control: promises nothing';
  if (refused > 0) return `${refused} calls of victims were refused`;
  const { ratio, high } = slowdown.p99;
  const beyond = (limit: number): string => (high > limit ? ', its interval reaches beyond' : '');
  const taken = cores.machine + cores.stolen;
  if (taken >= SATURATED) return `the processors are saturated (${percent(taken)}): reported, not judged`;
  if (ratio <= AIM) return `the aim of ${AIM} holds${beyond(AIM)}`;
  if (ratio <= BOUND) return `within the bound of ${BOUND}, not the aim of ${AIM}${beyond(BOUND)}`;
  return `beyond the bound of ${BOUND}`;
}

const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** The whole report, as printed. */
export function noisyReport(
  options: NoisyOptions,
  versions: { readonly temporal: string; readonly postgres: string },
  measured: readonly Spell[],
): string {
  const { victims, rate, times, waitMs, slots, ceiling, kinds, arms } = options;
  const { seconds } = roundsOf(options);
  const count = new Set(measured.map(({ round }) => round)).size;
  const of = (arm: Arm, kind: Kind | null): Spell[] =>
    measured.filter((each) => each.arm === arm && each.kind === kind);
  const alone = of('alone', null);
  const lines = [
    `noisy-neighbour: ${victims} victims with ${rate} calls a second each, at fixed times; a neighbour that offers ${rate * times} a second`,
    `  a call waits ${waitMs} ms outside; ${slots} calls at once on the one raw worker and on the shared lane, ${ceiling} of one governed tenant; ${count} rounds of ${seconds} s an arm`,
    `  Temporal server ${versions.temporal} (embedded, SQLite), PostgreSQL ${versions.postgres}, Node ${process.version}, ${cpus().length} cores`,
    `  latency in ms, from the intended start; slowdown: to \`alone\`, with its 95 % interval; processors in cores; stolen: what the machine wanted and was not given`,
    ...arms.map((arm) => `  ${arm.padEnd(12)} ${ARMS[arm]}`),
    '',
  ];
  for (const kind of kinds) {
    lines.push(`${kind}: ${KINDS[kind]}`, HEAD);
    const rows = arms
      .map((arm) => (arm === 'alone' ? alone : of(arm, kind)))
      .filter(({ length }) => length > 0)
      .map((spells) => figuresOf(spells, alone));
    lines.push(...rows.map(rowText));
    lines.push(
      ...rows.filter(({ slowdown }) => slowdown).map((row) => `  ${row.arm}: ${verdictOf(row)}`),
      '',
    );
  }
  return `${lines.join('\n')}\n`;
}

const COLUMNS = [12, 7, 8, 9, 25, 25, 11, 10, 7, 10, 10, 9, 8] as const;
const row = (cells: readonly string[]): string =>
  `  ${cells.map((cell, index) => (index === 0 ? cell.padEnd(COLUMNS[0]) : cell.padStart(COLUMNS[index] ?? 8))).join('')}`;
const HEAD = row([
  'arm',
  'p50',
  'p99',
  'max',
  'slowdown p50',
  'slowdown p99',
  'offered/s',
  'served/s',
  'hosts',
  'temporal',
  'postgres',
  'machine',
  'stolen',
]);

function rowText(figures: ArmFigures): string {
  const { arm, p50, p99, max, slowdown, offered, served, cores, unfinished } = figures;
  const ratio = (of: Ratio | undefined): string =>
    of ? `${of.ratio.toFixed(2)} [${of.low.toFixed(2)}, ${of.high.toFixed(2)}]` : '–';
  const ofGroup = (name: string): string => (cores.groups[name] ?? 0).toFixed(2);
  const text = row([
    arm,
    p50.toFixed(0),
    `${unfinished > figures.samples / 100 ? '>' : ''}${p99.toFixed(0)}`,
    `${unfinished > 0 ? '>' : ''}${max.toFixed(0)}`,
    ratio(slowdown?.p50),
    ratio(slowdown?.p99),
    offered.toFixed(0),
    served.toFixed(1),
    ofGroup('hosts'),
    ofGroup('temporal'),
    ofGroup('postgres'),
    percent(cores.machine),
    `${(cores.stolen * 100).toFixed(1)} %`,
  ]);
  return unfinished > 0 ? `${text}  (${unfinished} of ${figures.samples} not done in time)` : text;
}
