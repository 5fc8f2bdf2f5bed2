import type { Command } from 'commander';
import type { RecoveryReport } from '../../contracts/recovery';
import { BulkheadError } from '../errors';
import { durationOption, requireTenant, unknownTenant, verb, withRuntime, type Common } from './command';
import type { CliContext } from './context';
import { EXIT, Exit, UsageError } from './exit';
import { printFields, printRows } from './output';

interface RecoverOptions extends Common {
  readonly tenant: string;
  readonly dryRun?: boolean;
  readonly actor: string;
  readonly since: string;
}

/** `bulkhead recover`: after the database was restored from a backup, or failed over with loss. */
export function registerRecover(program: Command, context: CliContext): void {
  verb(
    program,
    'recover',
    'after a restore of the database: put back what histories know, then let the tenant work again',
    ['bulkhead recover --tenant acme --dry-run', 'bulkhead recover --tenant acme'],
  )
    .requiredOption('--tenant <tenant>', 'whose ledger')
    .option('--dry-run', 'change nothing: only say what would be done')
    .option('--actor <name>', 'who does it, for the journal', context.user)
    .option(
      '--since <duration>',
      'how long before the ledger’s newest entry workflows that are closed are still read',
      '15m',
    )
    .action(async (options: RecoverOptions) =>
      withRuntime(context, options, async (runtime) => {
        const tenantId = requireTenant(options.tenant);
        const app = await runtime.app();
        if (!app)
          throw new UsageError(
            'what lost calls were is read from their actions: set BULKHEAD_APP to the module of your app',
          );
        const answer = await runtime.recover({
          tenantId,
          app,
          dryRun: options.dryRun ?? false,
          actor: options.actor,
          marginMs: durationOption('--since', options.since),
          say: (line) => context.say(line),
        });
        if (answer.kind === 'absent') throw unknownTenant(tenantId, runtime.environment);
        if (answer.kind === 'at_work') {
          throw new BulkheadError(
            'refused',
            `tenant ${tenantId} is at work: nothing to recover, for its ledger holds all that any run or sweep was told of it`,
            { reason: 'not_rewound' },
          );
        }
        print(context, options, answer.report);
        if (answer.report.refused.length > 0) throw new Exit(EXIT.failed);
      }),
    );
}

function print(context: CliContext, options: RecoverOptions, report: RecoveryReport): void {
  if (options.output === 'json') {
    printFields(context, 'json', report, {});
    return;
  }
  printRows(
    context,
    'table',
    report.rows,
    {
      RUN: (row) => row.runId || '-',
      CALL: (row) => row.path,
      ACTION: (row) => row.action,
      'THE HISTORY SAYS': (row) => row.history,
      'THE LEDGER SAYS': (row) => row.ledger,
      [report.dryRun ? 'WOULD BE DONE' : 'DONE']: (row) => row.done,
    },
    'nothing of what histories know is missing',
  );
  context.say(
    `the ledger knew of ${report.asOf ?? 'nothing'} and entry ${report.journalSeq}; entry ${report.seenSeq} had been told`,
  );
  for (const { workflowId, because } of report.refused) context.say(`left alone: ${workflowId}: ${because}`);
  context.say(
    report.dryRun
      ? 'a dry run: nothing was changed'
      : report.mode === 'killed'
        ? 'recovered; the tenant is killed, and stays so until `bulkhead release`'
        : `recovered: the tenant works again, under policy version ${report.policyVersion}; \`bulkhead review list\` has what waits for a person`,
  );
}
