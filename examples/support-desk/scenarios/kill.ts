import { setTimeout as sleep } from 'node:timers/promises';
import type { ExampleContext, JournaledWrite, ScenarioRow } from '../../../tools/example';
import type { Tenant, TicketCase } from '../data';
import type { EffectRow } from '../systems/store';
import { effectsOutside, secretsOf } from '../world';
import { effectsOfRound, newTickets, nextRound, roundReferences, type Kind } from './round-tickets';
import { handle, rowOf, witnessRow, type Handled } from './runs';
import { differences, violations } from './witness';

const ACME_RUNS = 16;
const OTHERS_RUNS = 6;
/** The kill comes when acme is in the middle of its work. */
const EFFECTS_BEFORE_KILL = 4;
const STEP_MS = 60_000;
const QUIET_MS = 1_500;

type Control = Awaited<ReturnType<ExampleContext['controlState']>>;

/**
 * Acme is killed while it works, by the signal that an operator types; the others work on. The systems' logs show when
 * each change happened, the journal when its call was admitted: after the fence only what was admitted before it, after
 * containment nothing. Then acme is released.
 */
export async function killScenario(context: ExampleContext): Promise<ScenarioRow[]> {
  const { stateDir } = context;
  const round = nextRound(stateDir, 'kill');
  await releaseAcme(context);
  const [acme, globex, initech] = await Promise.all([
    newTickets(stateDir, round, 'acme', 'W', someKinds(ACME_RUNS)),
    newTickets(stateDir, round, 'globex', 'W', someKinds(OTHERS_RUNS)),
    newTickets(stateDir, round, 'initech', 'W', someKinds(OTHERS_RUNS)),
  ]);
  const start = (tenant: Tenant, tickets: readonly TicketCase[]): Promise<Handled[]> =>
    Promise.all(tickets.map((ticket) => handle(context, tenant, ticket, `kill:${ticket.record.id}`)));
  const works = Promise.all([start('acme', acme), start('globex', globex), start('initech', initech)]);
  // Awaited below; a failure before that must not end the process unheard.
  works.catch(() => undefined);

  const ofAcme = (): EffectRow[] => effectsOf(stateDir, acme);
  await until('acme works', () => Promise.resolve(ofAcme().length >= EFFECTS_BEFORE_KILL), works);
  context.say(`kill acme: temporal workflow signal --name kill, while ${acme.length} runs of it are open`);
  await context.signalControl('acme', 'kill', {
    scope: { kind: 'tenant' },
    reason: 'the example kills acme',
    actor: 'support-desk example',
  });
  await until(
    'acme is drained',
    async () => (await context.controlState('acme')).drainedAt !== null,
    undefined,
  );
  const control = await context.controlState('acme');
  context.say(
    `acme: fenced ${control.fencedAt}, contained ${control.containedAt}, drained ${control.drainedAt}`,
  );
  await sleep(QUIET_MS);
  const [killed, ...others] = await works;

  const effects = effectsOutside(stateDir);
  const rows = [
    ...killed.map((one) => killedRow(one, effects)),
    ...others.flat().map((one) => rowOf(one, effects, exactFor(context, one.tenant))),
    fenceRow(control, ofAcme(), killed, await context.writes('acme')),
  ];

  context.say('release acme');
  await releaseAcme(context);
  const after = await newTickets(stateDir, round, 'acme', 'R', someKinds(3));
  const released = await start('acme', after);
  const now = effectsOutside(stateDir);
  const references = new Set(roundReferences(now));
  return [
    ...rows,
    ...released.map((one) => rowOf(one, now, exactFor(context, 'acme'))),
    witnessRow(
      'all logs',
      '-',
      violations(effectsOfRound(now, round), references, secretsOf(stateDir)),
      'each change by its own tenant, each key once',
    ),
  ];
}

const exactFor = (context: ExampleContext, tenant: Tenant) => ({
  exact: context.model(tenant) === undefined,
});
/** Every second ticket asks for a small refund, the others ask a question. */
const someKinds = (count: number): Kind[] =>
  Array.from({ length: count }, (_, index) => (index % 2 === 1 ? 'refund' : 'question'));

function effectsOf(stateDir: string, tickets: readonly TicketCase[]): EffectRow[] {
  const ids = new Set(tickets.map(({ record }) => record.id));
  return effectsOutside(stateDir).filter(({ reference }) => reference !== null && ids.has(reference));
}

/** Leaves acme as it should be, also where an earlier watching was broken off. */
async function releaseAcme(context: ExampleContext): Promise<void> {
  if ((await context.controlState('acme')).mode !== 'killed') return;
  await context.signalControl('acme', 'release', {
    scope: { kind: 'tenant' },
    reason: 'the example is done',
    actor: 'support-desk example',
  });
  await until(
    'acme is released',
    async () => (await context.controlState('acme')).mode === 'normal',
    undefined,
  );
}

/** A run of acme ended before the kill, whole, or was killed with what it had done, each thing once. */
function killedRow(handled: Handled, effects: readonly EffectRow[]): ScenarioRow {
  const { report, ticket } = handled;
  if (report?.stopReason === 'completed')
    return { ...rowOf(handled, effects, { exact: false }), expected: 'killed or completed' };
  const own = effects.filter((row) => row.reference === ticket.record.id);
  const wrong = differences(ticket.expect.effects, own, false);
  const row = rowOf(handled, effects, { exact: false });
  return {
    ...row,
    expected: 'killed or completed',
    ok: report?.stopReason === 'killed' && wrong.length === 0,
    note: `${ticket.record.id} ${wrong.length > 0 ? wrong.join('; ') : `${own.length} of ${ticket.expect.effects.length} changes were done`}`,
  };
}

function fenceRow(
  control: Control,
  effects: readonly EffectRow[],
  runs: readonly Handled[],
  admissions: readonly JournaledWrite[],
): ScenarioRow {
  const { fencedAt, containedAt } = control;
  if (fencedAt === null || containedAt === null)
    return witnessRow('fence', 'acme', ['control does not say when it fenced and contained'], '');
  const after = (moment: string): EffectRow[] =>
    effects.filter(({ at }) => Date.parse(at) > Date.parse(moment));
  const late = after(containedAt);
  const inFlight = after(fencedAt);
  const killed = runs.filter(({ report }) => report?.stopReason === 'killed').length;
  const wrong = [
    ...late.map((row) => `${row.operation} ${row.recordId} at ${row.at}, after containment`),
    ...inFlight
      .filter(({ idempotencyKey }) => !admittedBefore(admissions, idempotencyKey, fencedAt))
      .map(
        (row) => `${row.operation} ${row.recordId} at ${row.at} belongs to no call admitted before the fence`,
      ),
    ...(killed === 0 ? ['no run was killed: acme was done before the signal'] : []),
  ];
  return witnessRow(
    'fence',
    'acme',
    wrong,
    `${effects.length} changes, ${inFlight.length} after the fence, each admitted before it; none after containment; ${killed} runs killed`,
  );
}

function admittedBefore(
  admissions: readonly { key: string; admittedAt: string }[],
  key: string | null,
  moment: string,
): boolean {
  return admissions.some((call) => call.key === key && Date.parse(call.admittedAt) <= Date.parse(moment));
}

/** Polls until it holds. Throws after a minute, or when `work` ended without it. */
async function until(
  what: string,
  holds: () => Promise<boolean>,
  work: Promise<unknown> | undefined,
): Promise<void> {
  const deadline = Date.now() + STEP_MS;
  let over = false;
  const end = (): void => {
    over = true;
  };
  work?.then(end, end);
  while (!(await holds())) {
    if (over && !(await holds())) throw new Error(`the runs ended before: ${what}`);
    if (Date.now() > deadline) throw new Error(`waited ${STEP_MS / 1_000} s in vain until ${what}`);
    await sleep(50);
  }
}
