import { Option, type Command } from 'commander';
import type { TenantId } from '../../contracts/ids';
import { isNewAllow, NOT_REPLAYABLE, type Change } from '../../policy/backtest';
import { backtestTenant, type TenantBacktest } from '../policy-backtest';
import {
  durationOption,
  requireTenant,
  unknownTenant,
  verb,
  wholeNumber,
  withRuntime,
  type Common,
} from './command';
import type { CliApp, CliContext, CliRuntime } from './context';
import { UsageError } from './exit';
import { printFields, printRows } from './output';
import { candidatesOf, requireApp, type Candidate } from './policy-documents';
import { showProgress } from './progress';

/** How far back, and how many decisions of a tenant. */
export interface Reach {
  readonly since: string;
  readonly most: string;
}
const MOST = 1_000_000;

/** Options of what replays decisions. */
export const withReach = (command: Command, most: number): Command =>
  command
    .addOption(new Option('--since <duration>', 'how far back').default('7d'))
    .addOption(new Option('--most <number>', 'at most so many decisions of a tenant').default(String(most)));

/** `bulkhead policy backtest`: an operator's. */
export function registerPolicyBacktest(group: Command, context: CliContext): void {
  const command = verb(
    group,
    'backtest <policy>',
    'make a tenant’s recorded decisions again by a candidate, and show what turns out otherwise',
    [
      'bulkhead policy backtest policies/regulated_support.yaml --tenant acme --since 7d',
      'bulkhead policy backtest candidate.yaml --tenant acme --since 24h -o json',
    ],
  ).requiredOption('--tenant <tenant>', 'whose decisions');
  withReach(command, 50_000).action(async (file: string, options: Common & Reach & { tenant: string }) =>
    withRuntime(context, options, async (runtime) => {
      const tenant = requireTenant(options.tenant);
      const app = await requireApp(runtime);
      const candidates = await candidatesOf(context, [file], app);
      const record = await (await runtime.storage()).tenant(runtime.operatorScope(tenant)).record();
      if (!record) throw unknownTenant(tenant, runtime.environment);
      const named = candidates.filter(({ document }) => document.metadata.name === record.policyProfile);
      const [candidate, second] = candidates.length === 1 ? candidates : named;
      if (!candidate || second)
        throw new UsageError(
          `${file} has several profiles, and none is ${tenant}’s (${record.policyProfile}): give one alone`,
        );
      const report = await replay(context, runtime, { tenant, candidate, app, reach: options });
      if (options.output === 'json') printFields(context, 'json', plainReport(report), {});
      else printReport(context, report, options.since);
    }),
  );
}

/** Replays the decisions of one tenant, with a bar on a terminal. */
export async function replay(
  context: CliContext,
  runtime: CliRuntime,
  { tenant, candidate, app, reach }: { tenant: TenantId; candidate: Candidate; app: CliApp; reach: Reach },
): Promise<TenantBacktest> {
  const most = wholeNumber('--most', reach.most, MOST);
  const back = durationOption('--since', reach.since);
  const bar = showProgress(tenant, 'decisions', most);
  try {
    return await backtestTenant({
      store: (await runtime.storage()).tenant(runtime.operatorScope(tenant)),
      policy: candidate.policy,
      registry: app,
      since: new Date(Date.now() - back).toISOString(),
      most,
      progress: (done) => {
        context.signal.throwIfAborted();
        bar.at(done);
      },
    });
  } finally {
    bar.end();
  }
}

/** A report in words and a table. */
export function printReport(context: CliContext, report: TenantBacktest, since: string): void {
  const changed = report.changes.reduce((sum, { decisions }) => sum + decisions, 0);
  const allowed = report.changes.filter(isNewAllow).reduce((sum, { decisions }) => sum + decisions, 0);
  const parts = [
    `${report.tenant}: ${plural(report.decisions, 'decision')} of the last ${since}`,
    changed === 0 ? 'none would be made otherwise' : `${changed} would be made otherwise`,
    ...(allowed > 0 ? [`${allowed} of them would newly be allowed`] : []),
  ];
  context.write(`${parts.join(', ')}\n`);
  if (report.changes.length > 0) printRows(context, 'table', report.changes, COLUMNS, '');
  for (const [why, words] of Object.entries(NOT_REPLAYABLE)) {
    const count = report.notReplayable[why as keyof typeof NOT_REPLAYABLE];
    if (count > 0) context.write(`${plural(count, 'decision')} could not be made again: ${words}\n`);
  }
  if (report.cutAt !== null)
    context.write(`cut after ${report.cutAt}: later decisions were left out, --most takes in more\n`);
}

const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

const COLUMNS: Record<string, (change: Change) => unknown> = {
  CHANGE: ({ from, to }) => `${from} → ${to}`,
  'BY THEN': ({ rulesThen }) => rulesThen.join(', '),
  'BY NOW': ({ rulesNow }) => rulesNow.join(', '),
  AGENT: ({ agent }) => agent,
  ACTION: ({ action }) => action,
  CALLS: ({ decisions }) => decisions,
  'MICRO-USD': ({ microUsd }) => String(microUsd),
  'LAST CALL': ({ last }) => `${last.runId} ${last.path}`,
};

/** A report as JSON holds it: sums of money as text, exact beyond what a number can be. */
export const plainReport = (report: TenantBacktest): object => ({
  ...report,
  changes: report.changes.map((change) => ({ ...change, microUsd: String(change.microUsd) })),
});
