import type { ExampleContext, ScenarioRow } from '../../../tools/example';
import { TENANTS, type Tenant, type TicketCase } from '../data';
import { effectsOutside, secretsOf } from '../world';
import { blows, type Blow } from './blows';
import { account, tableOfAccounts, type Account } from './accounts';
import { patient } from './patient';
import { effectsOfRound, newTickets, nextRound, roundReferences, type Kind } from './round-tickets';
import { handle, inBatches, rowOf, witnessRow, type Handled } from './runs';
import { violations } from './witness';

/** Runs of one tenant at a time: the work outlasts the blows. */
const WIDTH = 3;

/** What each tenant's customers write; acme's agent may neither change the CRM nor mail. */
const WRITTEN: Readonly<Record<Tenant, readonly Kind[]>> = {
  acme: repeated(['refund', 'question'], 9),
  globex: repeated(['refund', 'change', 'mail', 'question'], 9),
  initech: repeated(['change', 'refund', 'mail', 'refund'], 9),
};

/** Whom it hits, in this order: each right after a change of theirs was logged outside and before much else can happen. */
const PLAN: readonly Blow[] = [
  { at: 'worker', serves: 'globex' },
  { at: 'worker', serves: 'acme' },
  { at: 'database', serves: 'initech' },
  { at: 'worker', serves: 'control' },
  { at: 'worker', serves: 'initech' },
  { at: 'worker', serves: 'acme' },
  { at: 'database', serves: 'globex' },
];

/**
 * Tickets of all three tenants are worked on while worker processes are killed and PostgreSQL is stopped at once, again and
 * again. Each comes back by itself. In the end every intended change is in the logs outside exactly once, and the journal says
 * the same as they do.
 */
export async function crashScenario(hurt: ExampleContext): Promise<ScenarioRow[]> {
  const context = patient(hurt);
  const { stateDir } = context;
  const round = nextRound(stateDir, 'crash');
  const tickets = await Promise.all(
    TENANTS.map(async (tenant) => {
      const own = await newTickets(stateDir, round, tenant, 'W', WRITTEN[tenant]);
      return [tenant, own] as const;
    }),
  );
  context.say(
    `${tickets.flatMap(([, own]) => own).length} tickets of ${TENANTS.join(', ')}, ${WIDTH} runs of each at a time`,
  );
  const works = Promise.all(tickets.map(([tenant, own]) => workOn(context, tenant, own)));
  const landed = await blows(context, PLAN, works);
  const handled = (await works).flat();

  const effects = effectsOutside(stateDir);
  const accounts = await Promise.all(
    TENANTS.map((tenant) => {
      const own = handled.filter((one) => one.tenant === tenant);
      return account(context, tenant, own, effects);
    }),
  );
  for (const line of tableOfAccounts(accounts)) context.say(line);
  const exact = (tenant: Tenant) => ({ exact: context.model(tenant) === undefined });
  return [
    ...handled.map((one) => rowOf(one, effects, exact(one.tenant))),
    witnessRow('blows', '-', landed.missed, landed.told),
    ...accounts.map((one) =>
      witnessRow(
        'account',
        one.tenant,
        wrongIn(one),
        'each intended change once, journal and logs agree both ways',
      ),
    ),
    witnessRow(
      'all logs',
      '-',
      violations(effectsOfRound(effects, round), new Set(roundReferences(effects)), secretsOf(stateDir)),
      'each change by its own tenant, each key once',
    ),
  ];
}

async function workOn(
  context: ExampleContext,
  tenant: Tenant,
  tickets: readonly TicketCase[],
): Promise<Handled[]> {
  return inBatches(tickets, WIDTH, async (ticket) => {
    const one = await handle(context, tenant, ticket, `crash:${ticket.record.id}`);
    context.say(
      `${tenant.padEnd(7)} ${ticket.record.id} ${one.report?.stopReason ?? 'still open'}: "${ticket.record.subject}"`,
    );
    return one;
  });
}

function wrongIn({ duplicates, lost, waiting, unlogged, unjournaled }: Account): string[] {
  return [
    ...duplicates,
    ...lost.map((what) => `lost: ${what}`),
    ...waiting.map((what) => `waits for a person: ${what}`),
    ...unlogged.map((what) => `in the journal and in no log: ${what}`),
    ...unjournaled.map((what) => `in a log and not in the journal: ${what}`),
  ];
}

function repeated(kinds: readonly Kind[], count: number): Kind[] {
  return Array.from({ length: count }, (_, index) => kinds[index % kinds.length] ?? 'question');
}
