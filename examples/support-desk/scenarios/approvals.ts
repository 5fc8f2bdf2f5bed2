import { setTimeout as sleep } from 'node:timers/promises';
import type { ApprovalRow } from '../../../contracts/approvals';
import type { ExampleContext, ScenarioRow } from '../../../tools/example';
import type { Tenant, TicketCase } from '../data';
import { effectsOutside, secretsOf } from '../world';
import { FIONA, ticketOf } from './approver';
import { lowerRefundLimit } from './live-edit';
import {
  effectsOfRound,
  LARGE_CENTS,
  newTickets,
  nextRound,
  roundReferences,
  type Kind,
} from './round-tickets';
import { handle, rowOf, witnessRow, type Handled } from './runs';
import { signIn, typed, type Typist } from './typed';
import { violations } from './witness';

/** A run waits as long as its person takes: here, as long as a few commands take on a busy machine. */
const PATIENCE_MS = 600_000;
const ASKED_MS = 120_000;
const LOOK_MS = 250;

/** A ticket whose run waits for approval. */
interface Waiting {
  readonly ticket: TicketCase;
  readonly approval: ApprovalRow;
  readonly end: Promise<Handled>;
}

/**
 * People decide what policy asks them about: of three large refunds of acme one is approved and made, one is denied, and one
 * is approved after the policy was edited, which forbids it. A mail that was only suggested is sent when a person says so.
 * Globex's agent does not reach the web, and initech's mail goes when the classifier has passed it, not before.
 */
export async function approvalsScenario(context: ExampleContext): Promise<ScenarioRow[]> {
  const { stateDir } = context;
  const round = nextRound(stateDir, 'approvals');
  const bring = (tenant: Tenant, phase: string, ...kinds: Kind[]): Promise<TicketCase[]> =>
    newTickets(stateDir, round, tenant, phase, kinds);
  const large = await bring('acme', 'A', 'largeApproved', 'largeDenied', 'largeForbidden');
  const [draft] = await bring('acme', 'B', 'mailSuggested');
  const [page] = await bring('globex', 'C', 'page');
  const [mail] = await bring('initech', 'D', 'mailUnjudged');
  if (!draft || !page || !mail) throw new Error('no ticket was written');
  const start = (tenant: Tenant, ticket: TicketCase): Promise<Handled> =>
    handle(context, tenant, ticket, `approvals:${ticket.record.id}`, PATIENCE_MS);

  context.say(`acme: three customers want $${LARGE_CENTS / 100} back, and one wants a mail`);
  const ends = large.map((ticket) => ({ ticket, end: start('acme', ticket) }));
  const drafted = start('acme', draft);
  const others = Promise.all([start('globex', page), start('initech', mail)]);
  // Awaited below; a failure before that must not end the process unheard.
  for (const work of [drafted, others, ...ends.map(({ end }) => end)]) work.catch(() => undefined);

  const [first, second, third] = await asked(context, ends);
  if (!first || !second || !third) throw new Error('not every refund waits');
  const fiona = await signIn(context, FIONA.subject, ['finance']);
  const sam = await signIn(context, 'sam', ['support']);
  const facts = [
    await waits(context, [first, second, third]),
    await notEntitled(context, sam, first),
    await approved(context, fiona, first, [second, third]),
    await denied(context, fiona, second),
    await editedLive(context, fiona, third),
    await promoted(context, await drafted),
    await refusedOutside(context, (await others)[0]),
  ];
  const handled = await Promise.all([...ends.map(({ end }) => end), drafted, others]);
  const effects = effectsOutside(stateDir);
  return [
    ...handled.flat().map((one) => rowOf(one, effects, { exact: context.model(one.tenant) === undefined })),
    ...facts,
    witnessRow(
      'all logs',
      '-',
      violations(effectsOfRound(effects, round), new Set(roundReferences(effects)), secretsOf(stateDir)),
      'each change by its own tenant, each key once',
    ),
  ];
}

/** Each of them, once its refund waits. */
async function asked(
  context: ExampleContext,
  ends: readonly { ticket: TicketCase; end: Promise<Handled> }[],
): Promise<Waiting[]> {
  for (const deadline = Date.now() + ASKED_MS; ;) {
    const open = await context.openApprovals('acme');
    const waiting = ends.flatMap(({ ticket, end }) => {
      const approval = open.find(({ args }) => ticketOf(JSON.parse(args)) === ticket.record.id);
      return approval ? [{ ticket, end, approval }] : [];
    });
    if (waiting.length === ends.length) return waiting;
    if (Date.now() > deadline)
      throw new Error(
        `${waiting.length} of ${ends.length} refunds wait for approval after ${ASKED_MS / 1_000} s`,
      );
    await sleep(LOOK_MS);
  }
}

/** What the people see before anybody decides. Nothing is at payments. */
async function waits(context: ExampleContext, waiting: readonly Waiting[]): Promise<ScenarioRow> {
  const [first] = waiting;
  const { runId = '', approvalNo = 0 } = first?.approval ?? {};
  const number = String(approvalNo);
  const ofAcme = ['--tenant', 'acme'];
  const wrong = [
    ...(await typed(context, ['run', 'show', runId, ...ofAcme], { says: ['approval_required', number] }))
      .wrong,
    ...(
      await typed(context, ['run', 'explain', runId, ...ofAcme], { says: ['approval_required', 'finance'] })
    ).wrong,
    ...(
      await typed(context, ['approval', 'list', ...ofAcme], {
        says: waiting.map(({ approval }) => new RegExp(`^ *${approval.approvalNo} +payment\\.refund`, 'm')),
      })
    ).wrong,
    ...(
      await typed(context, ['approval', 'show', number, ...ofAcme], {
        says: [`"amountCents": ${LARGE_CENTS}`, 'large-refund'],
      })
    ).wrong,
    ...atPayments(context, waiting),
  ];
  return witnessRow('waits', 'acme', wrong, 'three refunds wait, and payments knows of none');
}

async function notEntitled(
  context: ExampleContext,
  sam: Typist,
  { approval, ticket, end }: Waiting,
): Promise<ScenarioRow> {
  const words = ['approval', 'approve', String(approval.approvalNo), '--note', 'fine with me'];
  const { wrong } = await typed(context, words, { as: sam, code: 3 });
  return witnessRow(
    'not entitled',
    'acme',
    [...wrong, ...(await decidedBeside(context, [{ approval, ticket, end }]))],
    'sam has not the role: exit code 3, and the refund still waits',
  );
}

/** One is approved: exactly it is made, and the others wait on. */
async function approved(
  context: ExampleContext,
  fiona: Typist,
  { approval, end, ticket }: Waiting,
  others: readonly Waiting[],
): Promise<ScenarioRow> {
  const words = ['approval', 'approve', String(approval.approvalNo), '--note', 'checked with the customer'];
  const { wrong } = await typed(context, words, { as: fiona, says: ['approved'] });
  const { report } = await end;
  context.say(`acme    ${ticket.record.id} ${report?.stopReason ?? 'still open'}`);
  const made = effectsOutside(context.stateDir).filter(
    ({ system, reference }) => system === 'payments' && reference === ticket.record.id,
  );
  return witnessRow(
    'approved',
    'acme',
    [
      ...wrong,
      ...(made.length === 1 ? [] : [`${made.length} refunds at payments`]),
      ...(await decidedBeside(context, others)),
    ],
    `one refund of $${LARGE_CENTS / 100} at payments, the others still wait`,
  );
}

async function denied(context: ExampleContext, fiona: Typist, waiting: Waiting): Promise<ScenarioRow> {
  const { approval, end, ticket } = waiting;
  const words = ['approval', 'deny', String(approval.approvalNo), '--note', 'it was used'];
  const { wrong } = await typed(context, words, { as: fiona, says: ['denied'] });
  const { report } = await end;
  context.say(`acme    ${ticket.record.id} ${report?.stopReason ?? 'still open'}`);
  return witnessRow(
    'denied',
    'acme',
    [...wrong, ...atPayments(context, [waiting])],
    'its run ends, nothing at payments',
  );
}

/** The policy is edited while a run waits: its call is decided by the new version, approved or not. */
async function editedLive(context: ExampleContext, fiona: Typist, waiting: Waiting): Promise<ScenarioRow> {
  const { approval, end, ticket } = waiting;
  const edit = await lowerRefundLimit(context);
  const wrong = [...edit.wrong];
  try {
    const words = ['approval', 'approve', String(approval.approvalNo), '--note', 'seen'];
    wrong.push(...(await typed(context, words, { as: fiona })).wrong);
    const { report, refusals } = await end;
    context.say(`acme    ${ticket.record.id} ${report?.stopReason ?? 'still open'}`);
    const refused = refusals.find(({ rules }) => rules.includes('refund-limit'));
    if (approval.policyVersion !== edit.before)
      wrong.push(`it was asked under version ${approval.policyVersion}, and ${edit.before} was in force`);
    if (refused?.policyVersion !== edit.now)
      wrong.push(`the journal has version ${refused?.policyVersion ?? '-'}, and ${edit.now} is in force`);
    wrong.push(...atPayments(context, [waiting]));
  } finally {
    wrong.push(...(await edit.back()));
  }
  return witnessRow(
    'policy edited',
    'acme',
    wrong,
    `asked under version ${edit.before}, refused by version ${edit.now} although approved`,
  );
}

/** What was only suggested is shown, and made once when a person wants it. */
async function promoted(context: ExampleContext, { tenant, runId, ticket }: Handled): Promise<ScenarioRow> {
  const mails = (): number =>
    effectsOutside(context.stateDir).filter(
      ({ system, reference }) => system === 'mail' && reference === ticket.record.id,
    ).length;
  const early = mails();
  const [suggestion] = await context.suggestions(tenant, runId);
  const ofAcme = ['--tenant', tenant];
  const shown = await typed(context, ['run', 'show', runId, ...ofAcme], {
    says: ['email.send', 'draft-mail'],
  });
  const words = ['approval', 'promote', runId, suggestion?.path ?? '-', ...ofAcme, '--note', 'reads well'];
  const made = await typed(context, words, { says: ['succeeded'] });
  return witnessRow(
    'suggested',
    tenant,
    [
      ...shown.wrong,
      ...made.wrong,
      ...(early === 0 ? [] : [`${early} mails went before anybody wanted them`]),
      ...(mails() === 1 ? [] : [`${mails()} mails went`]),
    ],
    'no mail until a person wanted it, then one',
  );
}

async function refusedOutside(context: ExampleContext, { tenant, runId }: Handled): Promise<ScenarioRow> {
  const words = ['journal', 'show', '--run', runId, '--tenant', tenant];
  const { wrong } = await typed(context, words, {
    says: [/refused .* web\.fetch .*no-outside-web/],
    shown: /^SEQ|refused/,
  });
  return witnessRow('no web', tenant, wrong, 'the journal has the refusal with its rule');
}

/** What payments has of refunds that nobody has approved. */
function atPayments(context: ExampleContext, waiting: readonly Waiting[]): string[] {
  const tickets = waiting.map(({ ticket }) => ticket.record.id);
  return effectsOutside(context.stateDir)
    .filter(({ system, reference }) => system === 'payments' && tickets.includes(String(reference)))
    .map(({ operation, recordId }) => `${operation} of ${recordId} at payments`);
}

/** Refunds that should wait, and are decided or made. */
async function decidedBeside(context: ExampleContext, waiting: readonly Waiting[]): Promise<string[]> {
  const open = await context.openApprovals('acme');
  return [
    ...waiting
      .filter(({ approval }) => !open.some(({ approvalNo }) => approvalNo === approval.approvalNo))
      .map(({ approval }) => `approval ${approval.approvalNo} does not wait any more`),
    ...atPayments(context, waiting),
  ];
}
