import type { Command } from 'commander';
import type { JournalEntry } from '../../contracts/ledger';
import { journalEntries } from '../journal';
import { noun, requireTenant, tokenFor, verb, withRuntime, type Common } from './command';
import type { CliContext, JournalCheck } from './context';
import { EXIT, Exit, UsageError } from './exit';
import { printRows } from './output';

/** `bulkhead journal …`. */
export function registerJournal(program: Command, context: CliContext): void {
  const group = noun(
    program,
    'journal',
    'what was admitted, refused and done, in order',
    'bulkhead journal show --tenant acme',
  );

  verb(group, 'show', 'the journal of a run, or, for an operator, of a tenant', [
    'bulkhead journal show --tenant acme --run 6f1c…',
    'bulkhead journal show --tenant acme -o json',
  ])
    .option('--tenant <tenant>', 'the tenant; must agree with the token, if one is given')
    .option('--run <run>', 'only what this run did')
    .option('--token <jwt>', 'bearer token (default: BULKHEAD_TOKEN)')
    .action(async (options: Common & { tenant?: string; run?: string; token?: string }) =>
      withRuntime(context, options, async (runtime) => {
        const entries: JournalEntry[] = [];
        if (options.run === undefined) {
          if (options.token !== undefined)
            throw new UsageError('a token reads the journal of a run: name it with --run');
          const store = (await runtime.storage()).tenant(
            runtime.operatorScope(requireTenant(options.tenant)),
          );
          for await (const entry of journalEntries(store)) entries.push(entry);
        } else {
          const asking = {
            token: await tokenFor(context, runtime, options),
            runId: options.run,
            ...(options.tenant === undefined ? {} : { tenantId: options.tenant }),
          };
          const bulkhead = await runtime.bulkhead();
          for (let afterSeq = 0; ;) {
            const page = await bulkhead.journal({ ...asking, afterSeq });
            entries.push(...page);
            const last = page.at(-1);
            if (!last) break;
            afterSeq = last.seq;
          }
        }
        if (options.output === 'json') {
          printRows(context, 'json', entries, {}, '');
          return;
        }
        printRows(
          context,
          'table',
          entries.map(readable),
          {
            SEQ: (row) => row.seq,
            AT: (row) => row.at,
            KIND: (row) => row.kind,
            RUN: (row) => row.run,
            CALL: (row) => row.path,
            ACTION: (row) => row.action,
            WHAT: (row) => row.what,
          },
          'the journal is empty',
        );
      }),
    );

  verb(group, 'verify', 'recompute a tenant’s whole chain; exits 1 at the first link that does not hold', [
    'bulkhead journal verify --tenant acme',
    'bulkhead journal verify --tenant acme --head 412:9f0c…',
  ])
    .requiredOption('--tenant <tenant>', 'whose journal')
    .option(
      '--head <seq:hash>',
      'a head printed earlier and kept elsewhere: it must still be in the chain, or the tail was cut or all rewritten',
    )
    .action(async (options: Common & { tenant: string; head?: string }) =>
      withRuntime(context, options, async (runtime) => {
        const kept = options.head === undefined ? undefined : parseHead(options.head);
        const scope = runtime.operatorScope(requireTenant(options.tenant));
        const entries: JournalEntry[] = [];
        for await (const entry of journalEntries((await runtime.storage()).tenant(scope)))
          entries.push(entry);
        const { broken: link, lost } = runtime.checkJournal(scope, entries);
        const broken = link ?? (kept && missing(kept, entries, lost));
        const head = entries.at(-1);
        const answer = {
          tenant: options.tenant,
          entries: entries.length,
          holds: broken === undefined,
          head: head ? { seq: head.seq, hash: head.hash } : null,
          broken: broken ?? null,
          lost,
        };
        if (options.output === 'json') context.write(`${JSON.stringify(answer, null, 2)}\n`);
        else if (broken === undefined) {
          context.write(
            `${entries.length} entries, every link holds; head ${head ? `${head.seq}:${head.hash}` : 'none'}\n`,
          );
          for (const gap of lost)
            context.write(
              `${numbers(gap)} went with a restore of the database, as its recovery has recorded\n`,
            );
        } else
          context.write(
            `the chain is broken: ${broken}\nKeep the database as it is, and compare it with an exported copy or a backup.\n`,
          );
        if (broken !== undefined) throw new Exit(EXIT.failed);
      }),
    );
}

/** What is wrong with a head that was kept elsewhere; `undefined` where it is in the chain. */
function missing(
  { seq, hash }: { seq: number; hash: string },
  entries: readonly JournalEntry[],
  lost: JournalCheck['lost'],
): string | undefined {
  // By its number, not by its place: numbers are missing where a restore took entries with it.
  if (entries.find((entry) => entry.seq === seq)?.hash === hash) return undefined;
  const gap = lost.find(({ first, last }) => first <= seq && seq <= last);
  return `the head ${seq}, kept elsewhere, is not in it${gap ? ` (${numbers(gap)} went with a restore of the database)` : ''}`;
}

const numbers = ({ first, last }: { first: number; last: number }): string =>
  first === last ? `number ${first}` : `numbers ${first} to ${last}`;

function parseHead(text: string): { seq: number; hash: string } {
  const match = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text);
  if (!match?.[2]) throw new UsageError('--head is sequence:hash, as `journal verify` prints it');
  return { seq: Number(match[1]), hash: match[2] };
}

/** A line of the table. Everything of the entry is in `-o json`. */
function readable(entry: JournalEntry): {
  seq: number;
  at: string;
  kind: unknown;
  run: unknown;
  path: unknown;
  action: unknown;
  what: string;
} {
  const facts = JSON.parse(entry.facts) as Record<string, unknown>;
  const { kind, run, path, action, at: _at, token: _token, ...rest } = facts;
  const what = Object.entries(rest)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ');
  return {
    seq: entry.seq,
    at: entry.at,
    kind,
    run,
    path,
    action,
    what: what.length > 120 ? `${what.slice(0, 119)}…` : what,
  };
}
