import type { Command } from 'commander';
import type { PolicyVersion } from '../../contracts/platform-ports';
import { checkDocuments } from '../../policy/compile';
import { formatMistakes } from '../../policy/documents';
import { BulkheadError } from '../errors';
import { verb, wholeNumber, withRuntime, type Common } from './command';
import type { CliContext, CliRuntime } from './context';
import { EXIT, Exit } from './exit';
import { printRows, type Format } from './output';
import { compiled, requireApp } from './policy-documents';
import { asPublishing, publish, type Publishing } from './policy-publish';

/** `bulkhead policy history` and `back`: an operator's. */
export function registerPolicyHistory(group: Command, context: CliContext): void {
  verb(group, 'history <profile>', 'a profile’s versions: when, by whom, why, and which is in force', [
    'bulkhead policy history regulated_support',
  ]).action(async (profile: string, options: Common) =>
    withRuntime(context, options, async (runtime) =>
      printHistory(context, options.output, await historyOf(runtime, profile)),
    ),
  );

  asPublishing(
    verb(group, 'back <profile>', 'publish what an earlier version says, as a new version', [
      'bulkhead policy back regulated_support --to 12 --reason "refunds went wrong"',
    ]).requiredOption('--to <version>', 'as `policy history` shows it'),
    context,
  ).action(async (profile: string, options: Publishing & { to: string }) =>
    withRuntime(context, options, async (runtime) => {
      const version = wholeNumber('--to', options.to, MAX_VERSION);
      const app = await requireApp(runtime);
      const published = await (await runtime.operator()).policyPublished(profile, version);
      if (!published) {
        await historyOf(runtime, profile);
        throw new BulkheadError(
          'not_found',
          `${profile} has no version ${version}: \`bulkhead policy history ${profile}\` shows those it has`,
          { reason: 'unknown_policy' },
        );
      }
      const name = `${profile}, version ${version}`;
      const checked = checkDocuments(published.text, app);
      const [one] = checked.ok ? checked.documents : [];
      if (!checked.ok || one?.kind !== 'PolicyProfile') {
        // It was right when it was published: the app has changed since.
        context.say(formatMistakes(checked.ok ? [] : checked.mistakes, name));
        throw new Exit(EXIT.failed);
      }
      const { document, text } = one;
      const candidate = { document, text, policy: compiled(context, name, text, app) };
      const reason = `back to version ${version}: ${options.reason}`;
      await publish(context, runtime, { candidates: [candidate], app, options: { ...options, reason } });
    }),
  );
}

/** As the database numbers them. */
const MAX_VERSION = 2_147_483_647;

/** Throws `not_found` for a profile that was never published. */
export async function historyOf(runtime: CliRuntime, profile: string): Promise<PolicyVersion[]> {
  const history = await (await runtime.operator()).policyHistory(profile);
  if (history.length > 0) return history;
  throw new BulkheadError(
    'not_found',
    `profile ${profile} was never published: bulkhead policy publish -f … --reason …`,
    { reason: 'unknown_policy' },
  );
}

export function printHistory(context: CliContext, format: Format, history: readonly PolicyVersion[]): void {
  printRows(
    context,
    format,
    history,
    {
      VERSION: (row) => row.version,
      PUBLISHED: (row) => row.publishedAt,
      BY: (row) => row.actor,
      REASON: (row) => row.reason,
      ENVIRONMENTS: (row) => row.environments.join(', '),
      'IN FORCE FOR': (row) =>
        row.tenants === 0 ? 'nobody' : `${row.tenants} ${row.tenants === 1 ? 'tenant' : 'tenants'}`,
    },
    '',
  );
}
