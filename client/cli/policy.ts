import type { Command } from 'commander';
import type { TenantRecord } from '../../contracts/documents';
import { BulkheadError } from '../errors';
import { noun, requireTenant, unknownTenant, verb, withRuntime, type Common } from './command';
import type { CliContext } from './context';
import { readDocuments } from './documents';
import { UsageError } from './exit';
import { printFields, printRows } from './output';
import { registerPolicyBacktest } from './policy-backtest';
import { requireApp } from './policy-documents';
import { historyOf, printHistory, registerPolicyHistory } from './policy-history';
import { registerPolicyPublish } from './policy-publish';
import { registerPolicyTest } from './policy-test';

/** `bulkhead policy …`: an operator's. */
export function registerPolicy(program: Command, context: CliContext): void {
  const group = noun(
    program,
    'policy',
    'check, test, publish and read policies',
    'bulkhead policy validate -f policies/regulated_support.yaml',
  );

  verb(group, 'validate', 'check documents; every mistake with its line, exit code 1 if there is any', [
    'bulkhead policy validate -f policies/regulated_support.yaml',
    'cat policies/*.yaml | bulkhead policy validate -f -',
  ])
    .requiredOption('-f, --file <file...>', 'YAML with PolicyProfile, QuotaClass or Tenant documents, or -')
    .option('--no-app', 'without the app: names of agents and actions, and conditions, are not checked')
    .action(async (options: Common & { file: string[]; app: boolean }) =>
      withRuntime(context, options, async (runtime) => {
        const documents = await readDocuments(
          context,
          options.file,
          options.app ? await requireApp(runtime) : undefined,
        );
        const rows = documents.map(({ kind, document }) => ({ kind, name: document.metadata.name }));
        printRows(
          context,
          options.output,
          rows,
          { KIND: (row) => row.kind, NAME: (row) => row.name, '': () => 'no mistakes' },
          'there is no document in it',
        );
      }),
    );

  registerPolicyTest(group, context);
  registerPolicyBacktest(group, context);
  registerPolicyPublish(group, context);

  verb(group, 'show [profile]', 'a profile’s history, or the text in force for a tenant', [
    'bulkhead policy show regulated_support',
    'bulkhead policy show --tenant acme',
    'bulkhead policy show --tenant acme --version 3',
  ])
    .option('--tenant <tenant>', 'the text in force for it')
    .option('--version <number>', 'that version of its profile instead')
    .action(async (profile: string | undefined, options: Common & { tenant?: string; version?: string }) =>
      withRuntime(context, options, async (runtime) => {
        if ((profile === undefined) === (options.tenant === undefined))
          throw new UsageError('name a profile, or a tenant with --tenant');
        if (profile !== undefined) {
          printHistory(context, options.output, await historyOf(runtime, profile));
          return;
        }
        const tenant = requireTenant(options.tenant);
        const version = options.version === undefined ? undefined : Number(options.version);
        if (version !== undefined && !(Number.isInteger(version) && version > 0))
          throw new UsageError('--version: a whole number from 1');
        const store = (await runtime.storage()).tenant(runtime.operatorScope(tenant));
        const record: TenantRecord | undefined = await store.record();
        if (!record) throw unknownTenant(tenant, runtime.environment);
        const policy = await store.policyText(version);
        if (!policy) {
          throw new BulkheadError(
            'not_found',
            `no such policy is published for ${tenant}; without any, everything is denied`,
            { reason: 'unknown_policy' },
          );
        }
        if (options.output === 'json') {
          printFields(context, 'json', policy, {});
          return;
        }
        context.say(`# profile ${policy.profile}, version ${policy.version}`);
        context.write(policy.text.endsWith('\n') ? policy.text : `${policy.text}\n`);
      }),
    );

  registerPolicyHistory(group, context);
}
