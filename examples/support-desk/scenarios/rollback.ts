import { setTimeout as sleep } from 'node:timers/promises';
import type { ExampleContext, JournaledWrite, ScenarioRow } from '../../../tools/example';
import { WORKSPACES, type Tenant, type TicketCase } from '../data';
import type { Stored } from '../systems/store';
import { effectsOutside, recordsOutside, secretsOf, startSystem } from '../world';
import { effectsOfRound, newTickets, nextRound, roundReferences, type Kind } from './round-tickets';
import { handle, witnessRow, type Handled } from './runs';
import { linesOf, stateDifferences, tracesOf, undoDifferences } from './undo-witness';
import { violations } from './witness';

/** An undo takes as long as its system is away, and a few seconds. */
const UNDONE_MS = 60_000;
/** How long payments stays away after the undo has first asked for it. */
const AWAY_MS = 1_000;
const LOOK_MS = 100;

/** A run that is to leave nothing behind: how it must end, and who undoes it. */
interface Undoing {
  readonly tenant: Tenant;
  readonly ticket: TicketCase;
  readonly by: string;
  readonly ends: 'budget_exceeded' | 'completed';
  readonly handled: Handled;
}

/**
 * Runs are undone in reverse order: two that fail, by themselves, since their agent asks for it; two that were completed, by
 * an operator; and one whose system is away when its turn comes. In the end the systems read as before, but for what is
 * final: that is listed as left.
 */
export async function rollbackScenario(context: ExampleContext): Promise<ScenarioRow[]> {
  const { stateDir } = context;
  const round = nextRound(stateDir, 'rollback');
  const bring = async (tenant: Tenant, phase: string, kind: Kind) => {
    const [ticket] = await newTickets(stateDir, round, tenant, phase, [kind]);
    if (!ticket) throw new Error('no ticket was written');
    return { tenant, ticket };
  };
  const failing = [await bring('globex', 'A', 'goodwill'), await bring('initech', 'A', 'goodwill')];
  const wrong = [await bring('initech', 'B', 'change'), await bring('globex', 'B', 'mail')];
  const away = await bring('acme', 'C', 'refund');
  const before = recordsOutside(stateDir);

  context.say(
    'goodwill for two customers: the credit is forbidden, the budget is used up, and each run undoes itself',
  );
  const undone = await Promise.all(
    failing.map(async (one) => undoing(one, 'itself', 'budget_exceeded', await goodwill(context, one))),
  );
  for (const one of undone) await untilUndone(context, one.handled);

  context.say('three tickets are handled to their end, and turn out to be wrong');
  const completed = await Promise.all(
    [...wrong, away].map(async (one) => ({
      ...one,
      handled: await handle(context, one.tenant, one.ticket, `rollback:${one.ticket.record.id}`),
    })),
  );
  for (const one of completed) {
    const isAway = one.ticket === away.ticket;
    if (isAway) await rollBackWithoutPayments(context, one.handled);
    else await rollBack(context, one.handled);
    undone.push(
      undoing(one, isAway ? 'an operator, payments away' : 'an operator', 'completed', one.handled),
    );
  }

  const rows: ScenarioRow[] = [];
  for (const one of undone) rows.push(await rowOf(context, one, before));
  const effects = effectsOutside(stateDir);
  return [
    ...rows,
    witnessRow(
      'all logs',
      '-',
      violations(effectsOfRound(effects, round), new Set(roundReferences(effects)), secretsOf(stateDir)),
      'each change by its own tenant, each key once',
    ),
  ];
}

const undoing = (
  { tenant, ticket }: { tenant: Tenant; ticket: TicketCase },
  by: string,
  ends: Undoing['ends'],
  handled: Handled,
): Undoing => ({ tenant, ticket, by, ends, handled });

async function goodwill(
  context: ExampleContext,
  { tenant, ticket }: { tenant: Tenant; ticket: TicketCase },
): Promise<Handled> {
  const { id } = ticket.record;
  const { runId } = await context.startRun({
    tenant,
    workspace: WORKSPACES[tenant],
    agent: 'support_goodwill',
    input: { ticketId: id, task: 'Make up to this customer, with a goodwill credit of $500.00 on top.' },
    target: { system: 'helpdesk', recordId: id },
    idempotencyKey: `rollback:${id}`,
  });
  const report = await context.waitRun(tenant, runId);
  context.say(`${tenant.padEnd(7)} ${id} ${String(report.stopReason)}: "${ticket.record.subject}"`);
  return { tenant, ticket, runId, report, refusals: [], suggested: [] };
}

async function rollBack(context: ExampleContext, { tenant, runId, ticket }: Handled): Promise<void> {
  const note = `the example undoes ${ticket.record.id}`;
  const { code, output } = await context.command([
    'run',
    'rollback',
    runId,
    '--tenant',
    tenant,
    '--note',
    note,
  ]);
  for (const line of output.split('\n').filter(Boolean)) context.say(`  ${line}`);
  if (code !== 0) throw new Error(`bulkhead run rollback ended with ${code}`);
}

/** The refund is undone when payments is back; until then the undo goes on asking, and nothing else is lost. */
async function rollBackWithoutPayments(context: ExampleContext, handled: Handled): Promise<void> {
  const { tenant, runId } = handled;
  await context.machine.endSystem('payments');
  context.say('payments is away');
  const rolledBack = rollBack(context, handled);
  // Awaited below; a failure before that must not end the process unheard.
  rolledBack.catch(() => undefined);
  try {
    await until('the undo of the refund is tried', async () =>
      (await context.writes(tenant)).some((write) => isUndoOfRefund(write, runId)),
    );
    await sleep(AWAY_MS);
  } finally {
    const { stateDir } = context;
    await startSystem(
      { stateDir, spawn: (name, module, env) => context.spawn(name, module, env) },
      'payments',
    );
    context.say('payments is back');
  }
  await rolledBack;
  const undo = (await context.writes(tenant)).find((write) => isUndoOfRefund(write, runId));
  context.say(`the refund was undone at attempt ${undo?.attempts ?? 0}, under one key`);
}

const isUndoOfRefund = ({ runId, action, path }: JournaledWrite, of: string): boolean =>
  runId === of && action === 'payment.refund' && path.endsWith('/undo');

const untilUndone = (context: ExampleContext, { tenant, runId }: Handled): Promise<void> =>
  until(`run ${runId} is undone`, async () => {
    const all = await context.followUps(tenant, runId);
    return all.length > 0 && all.every(({ state }) => state === 'done');
  });

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + UNDONE_MS; !(await holds());) {
    if (Date.now() > deadline) throw new Error(`waited ${UNDONE_MS / 1_000} s in vain until ${what}`);
    await sleep(LOOK_MS);
  }
}

/** The row of a run that was undone: what it did and what became of it, by the systems' logs and by the ledger. */
async function rowOf(
  context: ExampleContext,
  { tenant, ticket, by, ends, handled }: Undoing,
  before: ReadonlyMap<string, Stored>,
): Promise<ScenarioRow> {
  const { runId, report } = handled;
  const { id } = ticket.record;
  const own = effectsOutside(context.stateDir).filter(({ reference }) => reference === id);
  const writes = (await context.writes(tenant)).filter((write) => write.runId === runId);
  const traces = tracesOf(own, writes);
  context.say(`${tenant} ${id}, undone by ${by}:`);
  for (const line of linesOf(traces)) context.say(line);

  const followUps = await context.followUps(tenant, runId);
  const outcome = followUps[0]?.outcome;
  const waiting = (await context.openReviews(tenant)).filter((review) => review.runId === runId);
  const exact = context.model(tenant) === undefined;
  const wanted = {
    undone: traces.forward.length - traces.left.length,
    left: traces.left.length,
    abandoned: 0,
  };
  const wrong = [
    ...undoDifferences(traces),
    ...stateDifferences(before, recordsOutside(context.stateDir), traces),
    ...(followUps.length === 1 ? [] : [`${followUps.length} undos were ordered`]),
    ...(outcome && outcome.undone === wanted.undone && outcome.left === wanted.left && outcome.abandoned === 0
      ? []
      : [`the ledger says ${JSON.stringify(outcome ?? null)}, the logs ${JSON.stringify(wanted)}`]),
    ...waiting.map(({ reviewNo, kind }) => `review ${reviewNo} is open: ${kind}`),
    ...(exact && traces.forward.length !== ticket.expect.effects.length
      ? [`${traces.forward.length} changes were made, ${ticket.expect.effects.length} were meant`]
      : []),
  ];
  const left = traces.left.map(({ operation }) => operation).join(', ');
  return {
    run: runId,
    tenant,
    state: report?.state ?? 'running',
    stopReason: report?.stopReason ?? '-',
    expected: ends,
    calls: report?.toolCalls ?? 0,
    spendMicroUsd: report?.spentMicroUsd ?? 0,
    ok: wrong.length === 0 && (!exact || report?.stopReason === ends),
    note: `${id} ${wrong.length > 0 ? wrong.slice(0, 3).join('; ') : `undone by ${by}: ${wanted.undone} undone, ${wanted.left} left${left ? ` (${left})` : ''}`}`,
  };
}
