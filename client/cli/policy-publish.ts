import type { Command } from 'commander';
import type { Environment } from '../../contracts/ids';
import { isNewAllow } from '../../policy/backtest';
import type { TenantBacktest } from '../policy-backtest';
import { durationOption, verb, wholeNumber, withRuntime, type Common } from './command';
import type { CliApp, CliContext, CliRuntime } from './context';
import { EXIT, Exit, UsageError } from './exit';
import { printFields, printRows } from './output';
import { plainReport, printReport, replay, withReach, type Reach } from './policy-backtest';
import { candidatesOf, requireApp, type Candidate } from './policy-documents';

/** Options of what brings a policy into force. */
export interface Publishing extends Common, Reach {
  readonly reason: string;
  readonly actor: string;
  readonly backtest: boolean;
  readonly refuseNewAllows?: true;
}

/** Decisions replayed of each tenant before a policy is published. */
const MOST = 5_000;

/** Adds the options of {@link Publishing}. */
export const asPublishing = (command: Command, context: CliContext): Command =>
  withReach(
    command
      .requiredOption('--reason <text>', 'why, for the history')
      .option('--actor <name>', 'who does it, for the history', context.user)
      .option(
        '--refuse-new-allows',
        'publish only if nothing that was not allowed would be: exit code 3 otherwise, or where that is not known',
      )
      .option('--no-backtest', 'publish at once, without replaying decisions'),
    MOST,
  );

/** `bulkhead policy publish`: an operator's. */
export function registerPolicyPublish(group: Command, context: CliContext): void {
  asPublishing(
    verb(
      group,
      'publish',
      'show what would be decided otherwise, then make profiles the policy in force, from the next call of running runs on',
      [
        'bulkhead policy publish -f policies/regulated_support.yaml --reason "allow refunds up to 50"',
        'bulkhead policy publish -f policies/*.yaml --reason "tidied up" --refuse-new-allows',
      ],
    ).requiredOption('-f, --file <file...>', 'YAML with PolicyProfile documents, or -'),
    context,
  ).action(async (options: Publishing & { file: string[] }) =>
    withRuntime(context, options, async (runtime) => {
      const app = await requireApp(runtime);
      const candidates = await candidatesOf(context, options.file, app, { alone: true });
      await publish(context, runtime, { candidates, app, options });
    }),
  );
}

/** Replays first, then publishes all or, where one is refused, none. Where publishing one fails, those before it are printed. */
export async function publish(
  context: CliContext,
  runtime: CliRuntime,
  { candidates, app, options }: { candidates: readonly Candidate[]; app: CliApp; options: Publishing },
): Promise<void> {
  if (options.refuseNewAllows && !options.backtest)
    throw new UsageError('--refuse-new-allows needs the backtest: leave --no-backtest out');
  // Before anything is read, so that a slip in an option does not cost a wait.
  durationOption('--since', options.since);
  wholeNumber('--most', options.most);
  const json = options.output === 'json';
  const looks = options.backtest ? await lookAtAll(context, runtime, { candidates, app, options }) : [];
  for (const { backtests } of json ? [] : looks)
    for (const report of backtests) printReport(context, report, options.since);
  if (options.refuseNewAllows) {
    const reasons = looks.flatMap(refusalsOf);
    if (reasons.length > 0) {
      if (json) printFields(context, 'json', looks.map(plainLook), {});
      context.say(`nothing was published:\n${reasons.map((reason) => `  ${reason}`).join('\n')}`);
      throw new Exit(EXIT.refused);
    }
  }
  const operator = await runtime.operator();
  const rows: { profile: string; version: number; tenants: number }[] = [];
  try {
    for (const { document, text } of candidates) {
      const { name } = document.metadata;
      const published = await operator.publishPolicy(
        { name, environments: document.environments, text },
        options.actor,
        options.reason,
      );
      const look = looks.find(({ profile }) => profile === name);
      rows.push({ profile: name, ...published, ...(look && plainLook(look)) });
    }
  } finally {
    // Where one fails, those before it are in force.
    if (rows.length > 0)
      printRows(
        context,
        options.output,
        rows,
        {
          PROFILE: (row) => row.profile,
          VERSION: (row) => row.version,
          'IN FORCE FOR': (row) => `${row.tenants} ${row.tenants === 1 ? 'tenant' : 'tenants'}`,
        },
        '',
      );
  }
}

/** What publishing a profile would change. */
interface Look {
  readonly profile: string;
  readonly backtests: readonly TenantBacktest[];
  /** Environments with tenants that it reaches, and that this command does not speak to. */
  readonly unseen: readonly Environment[];
}

const plainLook = ({ backtests, unseen }: Look): object => ({
  backtests: backtests.map(plainReport),
  unseenEnvironments: unseen,
});

async function lookAtAll(
  context: CliContext,
  runtime: CliRuntime,
  { candidates, app, options }: { candidates: readonly Candidate[]; app: CliApp; options: Publishing },
): Promise<Look[]> {
  const tenants = await (await runtime.operator()).tenants();
  const looks: Look[] = [];
  for (const candidate of candidates) {
    const { metadata, environments } = candidate.document;
    const reached = tenants.filter(
      (one) =>
        one.policyProfile === metadata.name &&
        environments.some((environment) => environment === one.environment),
    );
    const backtests: TenantBacktest[] = [];
    for (const { tenantId: tenant, environment } of reached) {
      if (environment !== runtime.environment) continue;
      backtests.push(await replay(context, runtime, { tenant, candidate, app, reach: options }));
    }
    const others = reached.filter(({ environment }) => environment !== runtime.environment);
    const unseen = [...new Set(others.map(({ environment }) => environment))].sort();
    if (unseen.length > 0)
      context.say(
        `${metadata.name} reaches tenants in ${unseen.join(', ')} too, whose decisions are not replayed here: \`bulkhead policy backtest … --env ${unseen[0]}\` shows them`,
      );
    looks.push({ profile: metadata.name, backtests, unseen });
  }
  return looks;
}

/** Why a profile may not be published, if nothing may newly be allowed. What is not known counts as allowed. */
function refusalsOf({ profile, backtests, unseen }: Look): string[] {
  const elsewhere = unseen.map(
    (environment) => `${profile}: the decisions of its tenants in ${environment} were not replayed`,
  );
  return [
    ...elsewhere,
    ...backtests.flatMap(({ tenant, changes, unknown, cutAt }) => {
      const allowed = changes.filter(isNewAllow);
      return [
        ...allowed.map(
          ({ agent, action, decisions, rulesNow }) =>
            `${tenant}: ${action} by ${agent} would newly be allowed by ${rulesNow.join(', ')} (${decisions} of its calls)`,
        ),
        ...(unknown > 0
          ? [`${tenant}: ${unknown} calls that were not allowed could not be asked about again`]
          : []),
        ...(cutAt === null ? [] : [`${tenant}: decisions after ${cutAt} were not replayed; raise --most`]),
      ];
    }),
  ];
}
