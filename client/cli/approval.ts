import type { Command } from 'commander';
import { APPROVAL_STATES, type ApprovalRow } from '../../contracts/approvals';
import { approversOf, argsDigest, rolesNeeded, type DecidedApproval } from '../approvals';
import {
  asBearer,
  asPages,
  asWho,
  entryPageOf,
  durationOption,
  noun,
  verb,
  wholeNumber,
  type Paging,
  type Who,
} from './command';
import type { CliContext } from './context';
import { EXIT, Exit } from './exit';
import { jsonText, printFields, printPage, type Format } from './output';
import { decideHints } from './wording';

interface Deciding extends Who {
  readonly note?: string;
}

/** `bulkhead approval …`: calls that policy lets through only with a person's word. */
export function registerApproval(program: Command, context: CliContext): void {
  const group = noun(
    program,
    'approval',
    'calls that wait for a person to approve them',
    'bulkhead approval list --tenant acme',
  );

  asPages(
    asWho(
      verb(group, 'list', 'open requests of your tenant and workspaces, the newest first', [
        'bulkhead approval list --tenant acme',
        'bulkhead approval list --tenant acme --run 6f1c… --all -o json',
        'bulkhead approval list --tenant acme --limit 200 --before 214',
      ]),
    ),
    'number',
  )
    .option('--run <run>', 'only those of this run')
    .option('--all', 'also those that are decided, expired or superseded')
    .action(async (options: Who & Paging & { run?: string; all?: true }) => {
      const page = entryPageOf(options);
      await asBearer(context, options, async (bulkhead, asking) => {
        const rows = await bulkhead.approvals({
          ...asking,
          open: options.all === undefined,
          ...page,
          ...(options.run === undefined ? {} : { runId: options.run }),
        });
        printPage(
          context,
          options.output,
          { rows, limit: page.limit, name: (row) => row.approvalNo },
          {
            APPROVAL: (row) => row.approvalNo,
            ACTION: (row) => row.action,
            DESTINATION: (row) => row.destination,
            RUN: (row) => row.runId,
            CALL: (row) => row.path,
            'ASKED BY': (row) => row.requester,
            NEEDS: (row) => rolesNeeded(row.terms),
            UNTIL: (row) => row.expiresAt,
            ...(options.all ? { STATE: (row: ApprovalRow) => row.state } : {}),
          },
          options.all ? 'there are no approvals' : 'nothing waits for approval',
        );
      });
    });

  asWho(
    verb(
      group,
      'show <number>',
      'one request: exactly what will be sent, who asked, and who may approve it',
      [
        'bulkhead approval show 214 --tenant acme',
        `bulkhead approval show 214 --tenant acme -o json | jq -r .args`,
      ],
    ),
  ).action(async (number: string, options: Who) => {
    const approvalNo = numberOf(number);
    await asBearer(context, options, async (bulkhead, asking) => {
      const approval = await bulkhead.approval({ ...asking, approvalNo });
      printApproval(context, options.output, approval, options.tenant);
    });
  });

  registerDecision(group, context, {
    decision: 'approve',
    description: 'let exactly this call be made, once; its run goes on',
    example: 'bulkhead approval approve 214 --note "checked with the customer"',
  });
  registerDecision(group, context, {
    decision: 'deny',
    description: 'refuse the call for good; its run ends as approval_denied',
    example: 'bulkhead approval deny 214 --note "the order was never paid"',
  });

  asWho(
    verb(group, 'promote <run> <call>', 'make a call that was only suggested, through all of admission', [
      'bulkhead run show 6f1c… --tenant acme',
      'bulkhead approval promote 6f1c… 2.1 --note "it is right"',
    ]),
  )
    .option('--note <text>', 'why, for the journal')
    .option('--no-wait', 'return once it is ordered')
    .option('--timeout <duration>', 'how long to watch', '2m')
    .action(async (runId: string, path: string, options: Deciding & { wait: boolean; timeout: string }) => {
      const timeoutMs = durationOption('--timeout', options.timeout);
      await asBearer(context, options, async (bulkhead, asking) => {
        const made = await bulkhead.promoteSuggestion({ ...asking, runId, path, ...noteIn(options) });
        if (made.notice) context.say(made.notice);
        if (made.existing) context.say('it was ordered before: this watches that order');
        const order = options.wait ? await made.result({ timeoutMs, signal: context.signal }) : made.order;
        const call = options.wait ? await made.call() : undefined;
        printFields(context, options.output, call ? { ...order, call } : order, {
          run: order.runId,
          call: order.path,
          order: order.followUpNo,
          state: order.state,
          by: order.actor,
          ...(call
            ? {
                'the call': call.state,
                ...(call.state !== 'succeeded' && call.refusal ? { because: call.refusal.message } : {}),
                ...(call.reviewNo === null ? {} : { review: call.reviewNo }),
              }
            : {}),
        });
        if (call && call.state !== 'succeeded') throw new Exit(EXIT.failed);
      });
    });
}

function registerDecision(
  group: Command,
  context: CliContext,
  { decision, description, example }: { decision: 'approve' | 'deny'; description: string; example: string },
): void {
  asWho(
    verb(group, `${decision} <number>`, description, [
      'export BULKHEAD_TOKEN=$(bulkhead token --tenant acme --role finance --subject alice)',
      'bulkhead approval show 214',
      example,
    ]),
  )
    .option('--note <text>', 'why, for the journal')
    .action(async (number: string, options: Deciding) => {
      const approvalNo = numberOf(number);
      await asBearer(context, options, async (bulkhead, asking) => {
        const decided = await bulkhead[decision]({ ...asking, approvalNo, ...noteIn(options) });
        sayHow(context, decided);
        printApproval(context, options.output, decided.approval);
      });
    });
}

function sayHow(context: CliContext, { approval, existing, told }: DecidedApproval): void {
  if (existing)
    context.say(
      `it was ${approval.state} already, by ${approval.approver ?? 'nobody'} at ${approval.decidedAt ?? '-'}: nothing has changed`,
    );
  if (!told)
    context.say(
      'the decision stands; Temporal could not be reached, so the run was not told: it looks again within the hour, or when you repeat the command',
    );
}

const numberOf = (text: string): number => wholeNumber('the number of an approval', text);

const noteIn = ({ note }: Deciding): { note?: string } => (note === undefined ? {} : { note });

function printApproval(context: CliContext, format: Format, approval: ApprovalRow, tenant?: string): void {
  const { terms } = approval;
  const digest = argsDigest(approval);
  const asked = approval.kind === 'rule' ? 'asked by' : 'suggested for';
  printFields(
    context,
    format,
    { ...approval, argsDigest: digest },
    {
      approval: approval.approvalNo,
      state: `${approval.state} (${approval.usedAt === null ? APPROVAL_STATES[approval.state] : 'used: its call was let in'})`,
      action: `${approval.action} (${approval.callClass})`,
      system: approval.system,
      destination: approval.destination ?? 'none: it stays inside',
      arguments: jsonText(JSON.parse(approval.args)),
      sha256: digest,
      run: approval.runId,
      call: approval.path,
      [asked]: approval.requester,
      rules: `${terms.rules.join(', ')} (policy version ${approval.policyVersion})`,
      needs: approversOf(approval),
      requested: approval.requestedAt,
      until: approval.expiresAt,
      ...(approval.decidedAt === null
        ? {}
        : {
            decided: `${approval.decidedAt}, by ${approval.approver ?? '-'}`,
            note: approval.note === '' ? null : approval.note,
          }),
      ...(approval.usedAt === null ? {} : { used: approval.usedAt }),
      ...(approval.state === 'pending' ? { 'decide with': decideHints(approval, tenant).join('\n') } : {}),
    },
  );
}
