import type { Command } from 'commander';
import type { DeadLetter } from '../../contracts/reviews';
import {
  asBearer,
  asPages,
  asWho,
  durationOption,
  entryPageOf,
  noun,
  verb,
  wholeNumber,
  type Paging,
  type Who,
} from './command';
import type { CliContext } from './context';
import { EXIT, Exit } from './exit';
import { printFields, printPage, type Format } from './output';

interface Deciding extends Who {
  readonly note?: string;
  readonly actor?: string;
}

/** `bulkhead dead-letter …`: calls that used up their attempts. */
export function registerDeadLetter(program: Command, context: CliContext): void {
  const group = noun(
    program,
    'dead-letter',
    'calls that used up their attempts',
    'bulkhead dead-letter list --tenant acme',
  );
  const actor = '--actor <name>';
  const actorHelp = 'on whose word, for the journal (default: whom the token names)';

  asPages(
    asWho(
      verb(group, 'list', 'dead letters of your tenant and workspaces, the newest first', [
        'bulkhead dead-letter list --tenant acme',
        'bulkhead dead-letter list --tenant acme --run 6f1c… --all -o json',
        'bulkhead dead-letter list --tenant acme --limit 200 --before 87',
      ]),
    ),
    'number',
  )
    .option('--run <run>', 'only those of this run')
    .option('--all', 'also those that were retried or discarded')
    .action(async (options: Who & Paging & { run?: string; all?: true }) => {
      const page = entryPageOf(options);
      await asBearer(context, options, async (bulkhead, asking) => {
        const rows = await bulkhead.deadLetters({
          ...asking,
          open: options.all === undefined,
          ...page,
          ...(options.run === undefined ? {} : { runId: options.run }),
        });
        printPage(
          context,
          options.output,
          { rows, limit: page.limit, name: (row) => row.letterNo },
          {
            LETTER: (row) => row.letterNo,
            ACTION: (row) => row.action,
            SYSTEM: (row) => row.system,
            CALL: (row) => row.path,
            RUN: (row) => row.runId,
            ATTEMPTS: (row) => row.attempts,
            DIED: (row) => row.diedAt,
            ...(options.all ? { STATE: (row: DeadLetter) => row.state } : {}),
          },
          options.all ? 'there are no dead letters' : 'no dead letter waits',
        );
      });
    });

  asWho(
    verb(group, 'show <number>', 'one dead letter, and why it died', [
      'bulkhead dead-letter show 87 --tenant acme',
    ]),
  ).action(async (number: string, options: Who) => {
    const letterNo = wholeNumber('the number of a dead letter', number);
    await asBearer(context, options, async (bulkhead, asking) => {
      printLetter(context, options.output, await bulkhead.deadLetter({ ...asking, letterNo }));
    });
  });

  asWho(
    verb(group, 'retry <number>', 'make the call once more, under its own key, through all of admission', [
      'bulkhead dead-letter retry 87 --tenant acme --note "the helpdesk is back"',
    ]),
  )
    .option('--note <text>', 'why, for the journal')
    .option(actor, actorHelp)
    .option('--no-wait', 'return once it is ordered')
    .option('--timeout <duration>', 'how long to watch', '2m')
    .action(async (number: string, options: Deciding & { wait: boolean; timeout: string }) => {
      const letterNo = wholeNumber('the number of a dead letter', number);
      const timeoutMs = durationOption('--timeout', options.timeout);
      await asBearer(context, options, async (bulkhead, asking) => {
        const retry = await bulkhead.retryDeadLetter({ ...asking, letterNo, ...decision(options) });
        if (retry.notice) context.say(retry.notice);
        if (retry.existing) context.say('it was ordered before: this watches that retry');
        if (options.wait) await retry.result({ timeoutMs, signal: context.signal });
        const letter = await bulkhead.deadLetter({ ...asking, letterNo });
        const call = options.wait ? await retry.call() : undefined;
        const outcome = call && {
          state: call.state,
          reviewNo: call.reviewNo,
          refusal: call.refusal,
        };
        printLetter(context, options.output, letter, outcome);
        if (outcome && outcome.state !== 'succeeded') throw new Exit(EXIT.failed);
      });
    });

  asWho(
    verb(group, 'discard <number>', 'give the call up for good; the letter stays in the list of --all', [
      'bulkhead dead-letter discard 87 --tenant acme --note "the ticket is closed"',
    ]),
  )
    .requiredOption('--note <text>', 'why, for the journal')
    .option(actor, actorHelp)
    .action(async (number: string, options: Deciding) => {
      const letterNo = wholeNumber('the number of a dead letter', number);
      await asBearer(context, options, async (bulkhead, asking) => {
        const letter = await bulkhead.discardDeadLetter({ ...asking, letterNo, ...decision(options) });
        printLetter(context, options.output, letter);
      });
    });
}

const decision = ({ note, actor }: Deciding): { note?: string; actor?: string } => ({
  ...(note === undefined ? {} : { note }),
  ...(actor === undefined ? {} : { actor }),
});

interface Outcome {
  readonly state: string;
  readonly reviewNo: number | null;
  readonly refusal: { readonly message: string } | null;
}

function printLetter(context: CliContext, format: Format, letter: DeadLetter, outcome?: Outcome): void {
  printFields(context, format, outcome ? { ...letter, call: outcome } : letter, {
    letter: letter.letterNo,
    run: letter.runId,
    call: letter.path,
    action: `${letter.action} (${letter.callClass})`,
    system: letter.system,
    attempts: letter.attempts,
    told: `${letter.refusal.rule}: ${letter.refusal.message}`,
    died: letter.diedAt,
    state: letter.state,
    ...(letter.state === 'dead'
      ? {}
      : { by: `${letter.actor ?? '-'} at ${letter.decidedAt ?? '-'}`, note: letter.note || null }),
    ...(outcome
      ? {
          'the call': outcome.state,
          ...(outcome.state !== 'succeeded' && outcome.refusal ? { because: outcome.refusal.message } : {}),
          ...(outcome.reviewNo === null ? {} : { review: outcome.reviewNo }),
        }
      : {}),
  });
}
