import type { CompiledPolicy } from '../../contracts/policy-decision';
import { compileProfile } from '../../policy/compile';
import { formatMistakes } from '../../policy/documents';
import type { PolicyProfile } from '../../policy/profile';
import type { CliApp, CliContext, CliRuntime } from './context';
import { readDocuments } from './documents';
import { EXIT, Exit, UsageError } from './exit';

/** A profile that may become a policy, and how it would decide. */
export interface Candidate {
  readonly document: PolicyProfile;
  readonly text: string;
  readonly policy: CompiledPolicy;
}

/** Without the app, a mistyped agent or action would be published and never match. */
export async function requireApp(runtime: CliRuntime): Promise<CliApp> {
  const app = await runtime.app();
  if (!app)
    throw new UsageError(
      'which app? Set BULKHEAD_APP to the module that exports `app`: profiles are checked against its agents and actions (`policy validate --no-app` checks the form alone)',
    );
  return app;
}

/**
 * The profiles of the files; other documents beside them are passed over, or with `alone` a mistake of usage. Mistakes in
 * the files are told, and end the command with exit code 1.
 */
export async function candidatesOf(
  context: CliContext,
  files: readonly string[],
  app: CliApp,
  { alone = false }: { alone?: boolean } = {},
): Promise<Candidate[]> {
  const documents = await readDocuments(context, files, app);
  const profiles = documents.filter((one) => one.kind === 'PolicyProfile');
  if (alone && profiles.length < documents.length) {
    throw new UsageError(
      'only PolicyProfile documents are published; Tenant and QuotaClass go through `bulkhead tenant create`',
    );
  }
  if (profiles.length === 0) throw new UsageError(`there is no PolicyProfile in ${files.join(', ')}`);
  return profiles.map(({ document, text }) => ({
    document,
    text,
    policy: compiled(context, document.metadata.name, text, app),
  }));
}

/** A text that is stored, or was checked before. What was right once may name actions that the app has no more. */
export function compiled(context: CliContext, name: string, text: string, app: CliApp): CompiledPolicy {
  const result = compileProfile({ text, version: 0, ...app });
  if (result.ok) return result.policy;
  context.say(formatMistakes(result.mistakes, name));
  throw new Exit(EXIT.failed);
}
