import type { RunReport, ScenarioRow } from '../../../tools/example';
import type { Tenant } from '../data';
import { witnessRow } from './runs';

/** A neighbour keeps its pace if its runs take at most so many times as long as before. */
export const MOST_SLOWDOWN = 1.5;
/** Beside the runs that work, at least so many wait: else there was no flood. */
const LEAST_QUEUED = 20;

/** How long each run took, from its acceptance to its end, by the database's clock: milliseconds. Open ones are left out. */
export function durations(reports: readonly (RunReport | undefined)[]): number[] {
  return reports.flatMap((report) =>
    report && report.closedAt !== null ? [Date.parse(report.closedAt) - Date.parse(report.acceptedAt)] : [],
  );
}

/** Whether a tenant's runs took as long during the flood as before it, both said. */
export function paceRow(tenant: Tenant, before: readonly number[], during: readonly number[]): ScenarioRow {
  const [calm, flooded] = [middle(before), middle(during)];
  const ratio = flooded / calm;
  const told = `median of ${before.length} runs ${seconds(calm)} before, of ${during.length} during the flood ${seconds(flooded)}: ${ratio.toFixed(2)} times (at most ${MOST_SLOWDOWN}); slowest ${seconds(Math.max(...before))} and ${seconds(Math.max(...during))}`;
  const wrong = [
    ...(before.length === 0 || during.length !== before.length
      ? [`${before.length} runs ended before the flood and ${during.length} during it`]
      : []),
    // Not a number where there is nothing to compare: no pace, then.
    ...(ratio <= MOST_SLOWDOWN ? [] : [told]),
  ];
  return witnessRow('pace', tenant, wrong, told);
}

/** Runs of the flooding tenant by their state, at some moment. */
export type States = Readonly<Record<string, number>>;

export function statesOf(reports: readonly RunReport[]): States {
  const states: Record<string, number> = {};
  for (const { state } of reports) states[state] = (states[state] ?? 0) + 1;
  return states;
}

/** Whether the flood was there all the while, as runs that say so, and never more at work than may be. */
export function queueRow(moments: readonly States[], concurrentRuns: number): ScenarioRow {
  const queued = moments.map((states) => states['queued'] ?? 0);
  const working = moments.map(atWork);
  const told = moments.map((states) => inWords(states)).join('; then ');
  return witnessRow(
    'queue',
    'globex',
    [
      ...(moments.length === 0 ? ['nobody looked'] : []),
      ...(queued.some((count) => count < LEAST_QUEUED) ? [`too few runs were queued: ${told}`] : []),
      ...(working.some((count) => count > concurrentRuns)
        ? [`more than ${concurrentRuns} runs held a slot: ${told}`]
        : []),
    ],
    told,
  );
}

/** Runs that hold a slot: neither over, nor still in line or on the way there. */
const atWork = (states: States): number =>
  Object.entries(states).reduce(
    (sum, [state, count]) => sum + (['closed', 'accepted', 'queued'].includes(state) ? 0 : count),
    0,
  );

const inWords = (states: States): string =>
  Object.entries(states)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([state, count]) => `${count} ${state}`)
    .join(', ');

function middle(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(half)] ?? Number.NaN) + (sorted[Math.ceil(half)] ?? Number.NaN)) / 2;
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)} s`;
