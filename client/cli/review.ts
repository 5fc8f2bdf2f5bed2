import type { Command } from 'commander';
import { RESOLUTIONS, REVIEW_KINDS, type Resolution, type ReviewRow } from '../../contracts/reviews';
import {
  asBearer,
  asPages,
  asWho,
  entryPageOf,
  jsonOf,
  noun,
  textOf,
  verb,
  wholeNumber,
  type Paging,
  type Who,
} from './command';
import type { CliContext } from './context';
import { UsageError } from './exit';
import { printFields, printPage, type Format } from './output';
import { resolveHints } from './wording';

interface Said extends Who {
  readonly happened?: true;
  readonly didNotHappen?: true;
  readonly abandon?: true;
  readonly result?: string;
  readonly note: string;
  readonly actor?: string;
}

/** `bulkhead review …`: what waits for a person to say what happened. */
export function registerReview(program: Command, context: CliContext): void {
  const group = noun(
    program,
    'review',
    'calls whose outcome a person has to say',
    'bulkhead review list --tenant acme',
  );

  asPages(
    asWho(
      verb(group, 'list', 'open reviews of your tenant and workspaces, the newest first', [
        'bulkhead review list --tenant acme',
        'bulkhead review list --tenant acme --run 6f1c… --all -o json',
        'bulkhead review list --tenant acme --limit 200 --before 214',
      ]),
    ),
    'number',
  )
    .option('--run <run>', 'only those of this run')
    .option('--all', 'also those that are resolved')
    .action(async (options: Who & Paging & { run?: string; all?: true }) => {
      const page = entryPageOf(options);
      await asBearer(context, options, async (bulkhead, asking) => {
        const rows = await bulkhead.reviews({
          ...asking,
          open: options.all === undefined,
          ...page,
          ...(options.run === undefined ? {} : { runId: options.run }),
        });
        printPage(
          context,
          options.output,
          { rows, limit: page.limit, name: (row) => row.reviewNo },
          {
            REVIEW: (row) => row.reviewNo,
            WHY: (row) => row.kind,
            ACTION: (row) => row.action,
            CALL: (row) => row.path,
            RUN: (row) => row.runId,
            OPENED: (row) => row.openedAt,
            ...(options.all ? { RESOLVED: (row: ReviewRow) => row.resolution ?? 'open' } : {}),
          },
          options.all ? 'there are no reviews' : 'nothing waits for a review',
        );
      });
    });

  asWho(
    verb(group, 'show <number>', 'one review: what is not known, and how to look it up at the other system', [
      'bulkhead review show 214 --tenant acme',
    ]),
  ).action(async (number: string, options: Who) => {
    const reviewNo = wholeNumber('the number of a review', number);
    await asBearer(context, options, async (bulkhead, asking) => {
      printReview(context, options.output, await bulkhead.review({ ...asking, reviewNo }), options.tenant);
    });
  });

  asWho(
    verb(group, 'resolve <number>', 'say what happened, so that what waits for it goes on', [
      'bulkhead review resolve 214 --tenant acme --happened --result refund.json --note "found it in the provider’s log"',
      `echo '{"id":"re_7","account":"acct_acme"}' | bulkhead review resolve 214 --tenant acme --happened --result - --note "ticket 81"`,
      'bulkhead review resolve 214 --tenant acme --did-not-happen --note "the provider has no such key"',
      'bulkhead review resolve 214 --tenant acme --abandon --note "the customer was refunded by hand"',
    ]),
  )
    .option('--happened', RESOLUTIONS.happened)
    .option('--result <file>', 'with --happened: the result as JSON, a file or - for standard input')
    .option('--did-not-happen', RESOLUTIONS.did_not_happen)
    .option('--abandon', RESOLUTIONS.abandon)
    .requiredOption('--note <text>', 'how you know, for the journal')
    .option('--actor <name>', 'on whose word, for the journal (default: whom the token names)')
    .action(async (number: string, options: Said) => {
      const reviewNo = wholeNumber('the number of a review', number);
      const resolution = resolutionOf(options);
      if (options.result !== undefined && resolution !== 'happened')
        throw new UsageError('--result goes with --happened alone: leave it out');
      const result =
        options.result === undefined
          ? {}
          : { result: jsonOf('--result', await textOf(context, options.result)) };
      await asBearer(context, options, async (bulkhead, asking) => {
        const { review, told } = await bulkhead.resolveReview({
          ...asking,
          reviewNo,
          resolution,
          note: options.note,
          ...result,
          ...(options.actor === undefined ? {} : { actor: options.actor }),
        });
        printReview(context, options.output, review);
        if (!told)
          context.say(
            'Temporal could not be reached, so nobody was told: what waits for this looks again within the hour, or when you repeat the command',
          );
      });
    });
}

/** Exactly one is said. Throws {@link UsageError}. */
function resolutionOf({ happened, didNotHappen, abandon }: Said): Resolution {
  const said: Resolution[] = [
    ...(happened ? (['happened'] as const) : []),
    ...(didNotHappen ? (['did_not_happen'] as const) : []),
    ...(abandon ? (['abandon'] as const) : []),
  ];
  const [resolution] = said;
  if (resolution === undefined || said.length > 1)
    throw new UsageError('say one of --happened, --did-not-happen and --abandon');
  return resolution;
}

function printReview(context: CliContext, format: Format, review: ReviewRow, tenant?: string): void {
  printFields(context, format, review, {
    review: review.reviewNo,
    why: `${review.kind} (${REVIEW_KINDS[review.kind]})`,
    run: review.runId,
    call: review.path,
    action: `${review.action} (${review.callClass})`,
    system: review.system,
    'idempotency key': review.idempotencyKey,
    told: `${review.refusal.rule}: ${review.refusal.message}`,
    opened: review.openedAt,
    ...(review.resolution === null
      ? { 'resolve with': resolveHints(review, tenant).join('\n') }
      : {
          resolved: `${review.resolution} (${RESOLUTIONS[review.resolution]})`,
          by: `${review.actor ?? '-'} at ${review.resolvedAt ?? '-'}`,
          note: review.note,
        }),
  });
}
