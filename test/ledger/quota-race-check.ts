import type { NamedLimits } from '../../contracts/documents';
import type { JournalEntry } from '../../contracts/ledger';
import type { LedgerTenant } from './harness';
import { NOTHING, recount, type Amounts, type Recount } from './recount';
import { untilHeard } from './quota-racing';
import type { Quota } from './quota-words';
import { recountBuckets, type BucketRecount } from './recount-buckets';

export interface RaceFigures {
  readonly admitted: number;
  readonly refused: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly settled: number;
  readonly late: number;
  readonly reaped: number;
  /** Attempts that cost more than they had reserved, and by how much: a provider's own making. */
  readonly overshoots: { readonly attempts: number; readonly microUsd: number; readonly modelTokens: number };
  /** Days that were closed while calls of them were in flight, or that saw any use. */
  readonly days: number;
  readonly overspend: number;
  /** The control arm: how many admissions the same judge finds wrong where each cap is said to have been one unit lower. */
  readonly judgedTighter: number;
  readonly leaked: number;
}
interface Verdict {
  readonly entries: readonly JournalEntry[];
  readonly counted: Recount;
  readonly buckets: BucketRecount;
  readonly leaked: number;
  readonly refusals: Readonly<Record<string, number>>;
}
interface Found {
  readonly name: string;
  readonly inflight: number;
  readonly days: Record<string, Amounts>;
  readonly calls: [number | string, number | string];
  readonly tokens: [number | string, number | string];
}

/** Tables, journal and what racers were told of, against each other; in words. */
export async function breachesOf(
  tenant: LedgerTenant,
  told: { readonly admitted: ReadonlySet<string>; readonly settled: ReadonlySet<string> },
): Promise<{ verdict: Verdict; breaches: string[] }> {
  const entries = await untilHeard(() => tenant.journal());
  const counted = recount(entries);
  const buckets = recountBuckets(entries);
  const breaches = [...counted.violations, ...buckets.violations];
  const same = (what: string, table: unknown, journal: unknown): void => {
    const [a, b] = [JSON.stringify(table), JSON.stringify(journal)];
    if (a !== b) breaches.push(`${what}: the table says ${a}, the journal ${b}`);
  };

  const meters = await metersOf(tenant);
  for (const { name, inflight, days, calls, tokens } of meters) {
    const journal = name === '' ? counted : (counted.meters[name] ?? { inflight: 0, days: {} });
    same(`calls in flight of '${name}'`, inflight, journal.inflight);
    same(`days of '${name}'`, sorted(days), sorted(journal.days));
    const held = buckets.buckets[name];
    same(`calls of a minute of '${name}'`, calls.map(Number), held && [held.calls.level, held.calls.at]);
    same(
      `model tokens of a minute of '${name}'`,
      tokens.map(Number),
      held && [held.modelTokens.level, held.modelTokens.at],
    );
  }
  const known = new Set(meters.map(({ name }) => name));
  for (const name of Object.keys(counted.meters))
    if (!known.has(name)) breaches.push(`the journal alone knows '${name}'`);
  const runs = await tenant.world.admin.query<{ run_id: string; used: Omit<Amounts, 'highRiskWrites'> }>(
    `select run_id, json_build_object('toolCalls', tool_calls, 'steps', steps, 'activeMs', active_ms, 'microUsd', spent_micro_usd,
       'modelTokens', model_tokens) as used from bulkhead.runs where tenant_id = $1`,
    [tenant.tenantId],
  );
  for (const { run_id: run, used } of runs.rows) {
    const { highRiskWrites: _h, ...journal } = counted.runs[run] ?? NOTHING;
    same(`what run ${run} used`, used, journal);
  }

  const bytes = await tenant.bytes();
  same('bytes', bytes.counted, bytes.found);
  same('bytes stored', bytes.counted.stored, counted.stored.bytes);
  same('bytes reserved', bytes.counted.reserved, counted.stored.reserved);

  // Of the minute that goes on, all but the first few are counted and not yet journaled.
  const floods = await tenant.world.admin.query<{ rule: string; refusals: number }>(
    `select rule, (refusals - 5)::int as refusals from bulkhead.refusal_floods where tenant_id = $1 and refusals > 5`,
    [tenant.tenantId],
  );
  const refusals: Record<string, number> = {};
  for (const [key, count] of Object.entries(counted.refusals)) {
    const rule = key.replace(/\/\d+\/[^/]+\/[^/]+$/, '');
    refusals[rule] = (refusals[rule] ?? 0) + count;
  }
  for (const { rule, refusals: more } of floods.rows) refusals[rule] = (refusals[rule] ?? 0) + more;

  const claimed = await tenant.claimed();
  const leaked = claimed + meters.reduce((sum, { inflight }) => sum + Math.abs(inflight), 0);
  if (leaked > 0)
    breaches.push(`${claimed} calls are claimed by nobody, and slots are taken: ${JSON.stringify(meters)}`);
  const verdict = await untilHeard(() => tenant.verify());
  if (!verdict.intact) breaches.push(`the journal is not whole: ${JSON.stringify(verdict)}`);
  const journaled = { admitted: new Set<string>(), settled: new Set<string>() };
  for (const { facts } of entries) {
    const { kind, token = '' } = JSON.parse(facts) as { kind: string; token?: string };
    if (kind === 'admitted' || kind === 'recovering') journaled.admitted.add(token);
    if (kind === 'settled' || kind === 'late' || kind === 'reconciled') journaled.settled.add(token);
  }
  for (const kind of ['admitted', 'settled'] as const) {
    const lost = [...told[kind]].filter((token) => !journaled[kind].has(token));
    if (lost.length > 0)
      breaches.push(`${lost.length} attempts were told ${kind}, and the journal knows nothing of it`);
  }
  return { verdict: { entries, counted, buckets, leaked, refusals }, breaches };
}

export function figuresOf({ entries, counted, buckets, leaked, refusals }: Verdict): RaceFigures {
  const facts = entries.map(
    (entry) =>
      JSON.parse(entry.facts) as {
        kind: string;
        overshoot?: { microUsd: number; modelTokens: number } | null;
      },
  );
  const of = (kind: string): number => facts.filter((each) => each.kind === kind).length;
  const over = facts.flatMap(({ overshoot }) => overshoot ?? []);
  return {
    admitted: of('admitted'),
    refused: Object.values(refusals).reduce((sum, count) => sum + count, 0),
    refusals: Object.fromEntries(Object.entries(refusals).sort()),
    settled: of('settled'),
    late: of('late'),
    reaped: of('reaped'),
    overshoots: {
      attempts: over.length,
      microUsd: over.reduce((sum, { microUsd }) => sum + microUsd, 0),
      modelTokens: over.reduce((sum, { modelTokens }) => sum + modelTokens, 0),
    },
    days: Object.keys(counted.days).length,
    overspend: counted.violations.length + buckets.violations.length,
    judgedTighter: judgedTighter(entries),
    leaked,
  };
}

/** Violations that are found in this journal with each cap of a day and in flight one lower than it was. */
function judgedTighter(entries: readonly JournalEntry[]): number {
  const tighter = (of: NamedLimits): NamedLimits =>
    Object.fromEntries(Object.entries(of).map(([name, cap]) => [name, Math.max(0, (cap ?? 0) - 1)]));
  const named = (of: Record<string, NamedLimits>) =>
    Object.fromEntries(Object.entries(of).map(([name, each]) => [name, tighter(each)]));
  const lowered = entries.map((entry) => {
    const facts = JSON.parse(entry.facts) as { quota?: Quota };
    if (!facts.quota) return entry;
    const { limits, perAction, perAgent } = facts.quota;
    const quota = {
      ...facts.quota,
      limits: tighter(limits),
      perAction: named(perAction),
      perAgent: named(perAgent),
    };
    return { ...entry, facts: JSON.stringify({ ...facts, quota }) };
  });
  return recount(lowered).violations.length;
}

async function metersOf(tenant: LedgerTenant): Promise<Found[]> {
  const { rows } = await tenant.world.admin.query<Found>(
    `with metered as (
       select '' as name, meter from bulkhead.ledgers where tenant_id = $1
       union all select name, meter from bulkhead.meters where tenant_id = $1)
     select name, (meter).inflight,
         (select json_object_agg(day, used) from (
           select d.day, bulkhead.amounts_json(d.used) as used from bulkhead.closed_days d where d.tenant_id = $1 and d.name = m.name
           union all select (m.meter).day, bulkhead.amounts_json((m.meter).used)) each) as days,
         json_build_array(((meter).calls).level, (extract(epoch from ((meter).calls).at) * 1000000)::bigint) as calls,
         json_build_array(((meter).model_tokens).level, (extract(epoch from ((meter).model_tokens).at) * 1000000)::bigint) as tokens
       from metered m order by name`,
    [tenant.tenantId],
  );
  return rows;
}

/** In the order of days, those without use left out. */
const sorted = (days: Readonly<Record<string, Amounts>>): [string, Amounts][] =>
  Object.entries(days)
    .filter(([, used]) => Object.values(used).some((of) => of !== 0))
    .sort(([a], [b]) => Number(a) - Number(b));
