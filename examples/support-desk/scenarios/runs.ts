import { setTimeout as sleep } from 'node:timers/promises';
import type { ExampleContext, RunReport, ScenarioRow } from '../../../tools/example';
import { WORKSPACES, type Expectation, type Tenant, type TicketCase } from '../data';
import type { EffectRow } from '../systems/store';
import { differences } from './witness';

const WAIT_MS = 180_000;

/** A ticket's run as it ended, or `undefined` where it did not end in time. */
export interface Handled {
  readonly tenant: Tenant;
  readonly ticket: TicketCase;
  readonly runId: string;
  readonly report: RunReport | undefined;
  /** Why it was never started, where it was refused. */
  readonly notStarted?: string;
  readonly refusals: readonly {
    action: string;
    rules: readonly string[];
    origin: string;
    policyVersion?: number | undefined;
  }[];
  /** Actions that it only suggested. */
  readonly suggested: readonly string[];
}

/** Hands a ticket to its tenant's agent and waits for the end. The same key answers the same run, after a restart too. */
export async function handle(
  context: ExampleContext,
  tenant: Tenant,
  ticket: TicketCase,
  key: string,
  waitMs = WAIT_MS,
): Promise<Handled> {
  const { id } = ticket.record;
  const started = await context
    .startRun({
      tenant,
      workspace: WORKSPACES[tenant],
      agent: 'support_triage',
      input: { ticketId: id, task: 'Handle this support ticket.' },
      target: { system: 'helpdesk', recordId: id },
      idempotencyKey: key,
    })
    .catch((error: unknown) => refusedStart(error));
  if ('notStarted' in started)
    return { tenant, ticket, runId: '-', report: undefined, refusals: [], suggested: [], ...started };
  const { runId } = started;
  const report = await within(waitMs, context.waitRun(tenant, runId));
  const refusals = report ? await context.refusals(tenant, runId) : [];
  return {
    tenant,
    ticket,
    runId,
    report,
    refusals: refusals.map(({ action, refusal }) => ({
      action,
      rules: refusal.rules,
      origin: refusal.origin,
      policyVersion: refusal.policyVersion,
    })),
    suggested: report ? (await context.suggestions(tenant, runId)).map(({ action }) => action) : [],
  };
}

/** A tenant that somebody has stopped takes no run: that is a row of the table, not the end of the scenario. */
function refusedStart(error: unknown): { notStarted: string } {
  if (error instanceof Error && 'code' in error && error.code === 'refused')
    return { notStarted: error.message };
  throw error;
}

async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  const stop = new AbortController();
  try {
    return await Promise.race([work, sleep(ms, undefined, { signal: stop.signal })]);
  } finally {
    stop.abort();
  }
}

/** Works through items, a few at a time, in order. */
export async function inBatches<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      const item = items[index];
      if (item !== undefined) results[index] = await work(item);
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return results;
}

/** How strictly a run is judged: a real model words and decides for itself, so its effects are only held to be safe. */
export interface Judging {
  readonly exact: boolean;
}

/** The row of a finished ticket: its ending, its effects by the systems' logs, its refusals by the journal. */
export function rowOf(handled: Handled, effects: readonly EffectRow[], judging: Judging): ScenarioRow {
  const { ticket, report, tenant, runId } = handled;
  const own = effects.filter((row) => row.reference === ticket.record.id);
  const wrong = [
    ...(report ? [] : [handled.notStarted ?? 'not closed in time']),
    ...(judging.exact
      ? [
          ...differences(ticket.expect.effects, own, true),
          ...refusalDifferences(handled),
          ...suggestionDifferences(handled),
        ]
      : []),
  ];
  // What a real model asks for may be a sum that nobody approves.
  const denied = !judging.exact && report?.stopReason === 'approval_denied';
  const ended = denied || report?.stopReason === ticket.expect.stopReason;
  return {
    run: runId,
    tenant,
    state: report?.state ?? (handled.notStarted ? 'not started' : 'running'),
    stopReason: report?.stopReason ?? '-',
    expected: ticket.expect.stopReason,
    calls: report?.toolCalls ?? 0,
    spendMicroUsd: report?.spentMicroUsd ?? 0,
    ok: ended && wrong.length === 0,
    note: `${ticket.record.id} ${wrong.length > 0 ? wrong.join('; ') : storyOf(handled, own)}`,
  };
}

function storyOf(handled: Handled, own: readonly EffectRow[]): string {
  const did = own.filter((row) => row.system !== 'helpdesk').map((row) => row.operation);
  const refused = handled.refusals.map(({ action, rules }) => `${action} refused by ${rules[0] ?? '?'}`);
  const suggested = handled.suggested.map((action) => `${action} suggested`);
  return (
    [handled.ticket.hostile ? 'hostile' : '', ...did, ...suggested, ...refused].filter(Boolean).join(', ') ||
    (handled.report?.stopReason === 'completed' ? 'answered' : 'nothing done')
  );
}

function suggestionDifferences({ ticket, suggested }: Handled): string[] {
  const meant = [...ticket.expect.suggested].sort().join(', ') || 'nothing';
  const found = [...suggested].sort().join(', ') || 'nothing';
  return meant === found ? [] : [`suggested: ${found}; meant: ${meant}`];
}

/**
 * Each refusal that had to be is in the journal with its rule; an honest ticket meets no other one. One that is there twice
 * is fine: a call that was judged before a crash is judged again after it.
 */
function refusalDifferences({ ticket, refusals }: Handled): string[] {
  const judged = refusals.filter(({ origin }) => origin === 'policy');
  const is = (found: (typeof judged)[number], meant: Expectation['refusals'][number]): boolean =>
    found.action === meant.action && found.rules.includes(meant.rule);
  const left = [...judged];
  const missing = ticket.expect.refusals.filter((meant) => {
    const index = left.findIndex((found) => is(found, meant));
    if (index >= 0) left.splice(index, 1);
    return index < 0;
  });
  const unmeant = left.filter((found) => !ticket.expect.refusals.some((meant) => is(found, meant)));
  return [
    ...missing.map(({ action, rule }) => `no refusal of ${action} by ${rule} in the journal`),
    ...unmeant.map(
      ({ action, rules }) => `${action} was refused by ${rules.join(', ')}, which was not meant`,
    ),
  ];
}

/** A row about the logs of the world outside. */
export function witnessRow(
  what: string,
  tenant: string,
  wrong: readonly string[],
  note: string,
): ScenarioRow {
  return {
    run: 'witness',
    tenant,
    state: what,
    stopReason: '-',
    expected: '-',
    calls: 0,
    spendMicroUsd: 0,
    ok: wrong.length === 0,
    note: wrong.length === 0 ? note : wrong.slice(0, 5).join('; '),
  };
}
