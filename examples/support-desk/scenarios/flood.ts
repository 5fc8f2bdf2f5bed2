import { setTimeout as sleep } from 'node:timers/promises';
import type { ExampleContext, RunReport, ScenarioRow } from '../../../tools/example';
import { quotaClassText, WORKSPACES, type Tenant, type TicketCase } from '../data';
import { effectsOutside, secretsOf } from '../world';
import { durations, paceRow, queueRow, statesOf, type States } from './flood-witness';
import { patient } from './patient';
import { effectsOfRound, newTickets, nextRound, roundReferences, type Kind } from './round-tickets';
import { handle, inBatches, rowOf, witnessRow, type Handled } from './runs';
import { typed } from './typed';
import { violations } from './witness';

const NEIGHBOURS = ['acme', 'initech'] as const;
/** Tickets of each neighbour, before the flood and during it: the same kinds in the same order. */
const KINDS: readonly Kind[] = [
  'question',
  'refund',
  'question',
  'refund',
  'question',
  'refund',
  'question',
  'refund',
];
/** Runs of a neighbour at a time: on a small machine two of them at once would be in each other's way already. */
const WIDTH = 1;
const FLOOD = 200;
/** So many of them are there before the neighbours' second half begins; the others come all the while. */
const FLOOD_FIRST = 140;
const MORE_EVERY_MS = 250;
/** Starts at a time. */
const STARTS = 4;
const IN_LINE_WITHIN_MS = 60_000;
/** The whole flood is worked off by then, also on a slow machine. */
const FLOOD_OVER_MS = 300_000;

/** What globex may while the scenario lasts. */
const CONCURRENT_RUNS = 2;
const LIMITS = `{ toolCallsPerDay: 20000, callsInFlight: 2, concurrentRuns: ${CONCURRENT_RUNS}, callsPerMinute: 60 }`;

/**
 * Globex floods: hundreds of runs at once, under a quota class that lets few of them work. Acme and initech do the same work
 * as just before, and it must take as long. Globex's own runs wait, and say so and why; when its class is as before they are
 * worked off, each intended change once.
 */
export async function floodScenario(hurried: ExampleContext): Promise<ScenarioRow[]> {
  const context = patient(hurried);
  const { stateDir } = context;
  const round = nextRound(stateDir, 'flood');
  const bring = (tenant: Tenant, place: string, kinds: readonly Kind[]): Promise<TicketCase[]> =>
    newTickets(stateDir, round, tenant, place, kinds);
  const [calm, flooded] = await Promise.all(
    ['B', 'D'].map((place) => Promise.all(NEIGHBOURS.map((tenant) => bring(tenant, place, KINDS)))),
  );
  const tickets = await bring(
    'globex',
    'W',
    Array.from({ length: FLOOD }, () => 'question' as const),
  );

  context.say(`before the flood: ${KINDS.length} tickets each of ${NEIGHBOURS.join(' and ')}`);
  const before = await ofNeighbours(context, calm ?? []);

  context.say(`globex may have ${CONCURRENT_RUNS} runs at work, and gets ${FLOOD}; its limits: ${LIMITS}`);
  await context.apply(quotaClassText('globex', LIMITS));
  const [during, moments, said] = await flood(context, tickets, () => ofNeighbours(context, flooded ?? []));
  context.say('globex has its own limits again: they hold from the next call on, and the line moves');
  await context.apply(quotaClassText('globex'));
  const ofGlobex = await inBatches(tickets, STARTS, (ticket) =>
    handle(context, 'globex', ticket, keyOf(ticket), FLOOD_OVER_MS),
  );

  const effects = effectsOutside(stateDir);
  const judged = (handled: readonly Handled[]): ScenarioRow[] =>
    handled.map((one) => rowOf(one, effects, { exact: context.model(one.tenant) === undefined }));
  const floodRows = judged(ofGlobex);
  return [
    ...judged([...before, ...during]),
    ...floodRows.filter(({ ok }) => !ok),
    ...NEIGHBOURS.map((tenant) => paceRow(tenant, timesOf(tenant, before), timesOf(tenant, during))),
    queueRow(moments, CONCURRENT_RUNS),
    witnessRow('explained', 'globex', said.wrong, said.note),
    witnessRow(
      'flood',
      'globex',
      floodRows.filter(({ ok }) => !ok).map(({ note }) => note),
      `${floodRows.length} runs, all worked off, each intended change once`,
    ),
    witnessRow(
      'all logs',
      '-',
      violations(effectsOfRound(effects, round), new Set(roundReferences(effects)), secretsOf(stateDir)),
      'each change by its own tenant, each key once',
    ),
  ];
}

const keyOf = (ticket: TicketCase): string => `flood:${ticket.record.id}`;

const timesOf = (tenant: Tenant, handled: readonly Handled[]): number[] =>
  durations(handled.flatMap((one) => (one.tenant === tenant ? [one.report] : [])));

/** The neighbours' tickets, by tenant, in order. */
async function ofNeighbours(
  context: ExampleContext,
  tickets: readonly (readonly TicketCase[])[],
): Promise<Handled[]> {
  const handled = await Promise.all(
    NEIGHBOURS.map((tenant, index) =>
      inBatches(tickets[index] ?? [], WIDTH, (ticket) => handle(context, tenant, ticket, keyOf(ticket))),
    ),
  );
  return handled.flat();
}

interface Said {
  readonly wrong: string[];
  readonly note: string;
}

/** Starts the flood, has the neighbours work in it, and looks at what globex's runs say before and after that. */
async function flood(
  context: ExampleContext,
  tickets: readonly TicketCase[],
  work: () => Promise<Handled[]>,
): Promise<[Handled[], States[], Said]> {
  const ids = new Set(
    await inBatches(tickets.slice(0, FLOOD_FIRST), STARTS, (ticket) => startFlooding(context, ticket)),
  );
  const first = await untilAllEntered(context, ids);
  context.say(`globex: ${JSON.stringify(first)}; acme and initech get the same tickets as before`);
  let done = false;
  const more = (async () => {
    for (const ticket of tickets.slice(FLOOD_FIRST)) {
      ids.add(await startFlooding(context, ticket));
      if (!done) await sleep(MORE_EVERY_MS);
    }
  })();
  more.catch(() => undefined);
  const during = await work();
  done = true;
  const last = await ofFlood(context, ids);
  const said = await explained(context, last);
  await more;
  return [during, [first, statesOf(last)], said];
}

async function startFlooding(context: ExampleContext, ticket: TicketCase): Promise<string> {
  const { id } = ticket.record;
  const { runId } = await context.startRun({
    tenant: 'globex',
    workspace: WORKSPACES.globex,
    agent: 'support_triage',
    input: { ticketId: id, task: 'Handle this support ticket.' },
    target: { system: 'helpdesk', recordId: id },
    idempotencyKey: keyOf(ticket),
  });
  return runId;
}

const ofFlood = async (context: ExampleContext, ids: ReadonlySet<string>): Promise<RunReport[]> =>
  (await context.runs('globex')).filter(({ runId }) => ids.has(runId));

/** Until each of them works or stands in line. Answers how it is then, also where it did not come to that. */
async function untilAllEntered(context: ExampleContext, ids: ReadonlySet<string>): Promise<States> {
  const deadline = Date.now() + IN_LINE_WITHIN_MS;
  for (;;) {
    const states = statesOf(await ofFlood(context, ids));
    if ((states['accepted'] ?? 0) === 0 || Date.now() > deadline) return states;
    await sleep(250);
  }
}

/** `bulkhead run explain`, of a run that waits for a slot and of one that has one. */
async function explained(context: ExampleContext, runs: readonly RunReport[]): Promise<Said> {
  const inLine = runs.find(({ state }) => state === 'queued');
  if (!inLine) return { wrong: ['no run of globex stands in line, so none was asked why'], note: '' };
  const why = await typed(context, ['run', 'explain', inLine.runId, '--tenant', 'globex'], {
    says: [/queued/, /concurrent_runs/, new RegExp(`\\b${CONCURRENT_RUNS}\\b`)],
  });
  const atWork = runs.find(({ state }) => !['queued', 'accepted', 'closed'].includes(state));
  // It is over before it is asked, or has met no limit yet: shown, and held to nothing.
  if (atWork) await typed(context, ['run', 'explain', atWork.runId, '--tenant', 'globex']);
  const reason = why.output.split('\n').find((line) => /^\s*waits for/.test(line)) ?? '';
  return { wrong: why.wrong, note: `a run in line says: ${reason.replace(/\s+/g, ' ').trim()}` };
}
