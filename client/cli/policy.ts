import type { Command } from 'commander';
import type { TenantRecord } from '../../contracts/documents';
import { BulkheadError } from '../errors';
import { noun, requireTenant, unknownTenant, verb, withRuntime, type Common } from './command';
import type { CliApp, CliContext, CliRuntime } from './context';
import { readDocuments } from './documents';
import { UsageError } from './exit';
import { printFields, printRows } from './output';

/** `bulkhead policy …`: an operator's. */
export function registerPolicy(program: Command, context: CliContext): void {
  const group = noun(
    program,
    'policy',
    'check, publish and read policies',
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

  verb(group, 'publish', 'make profiles the policy in force, from the next call of running runs on', [
    'bulkhead policy publish -f policies/regulated_support.yaml --reason "allow refunds up to 50"',
  ])
    .requiredOption('-f, --file <file...>', 'YAML with PolicyProfile documents, or -')
    .requiredOption('--reason <text>', 'why, for the history')
    .option('--actor <name>', 'who does it, for the history', context.user)
    .action(async (options: Common & { file: string[]; reason: string; actor: string }) =>
      withRuntime(context, options, async (runtime) => {
        const documents = await readDocuments(context, options.file, await requireApp(runtime));
        const profiles = documents.filter((one) => one.kind === 'PolicyProfile');
        if (profiles.length !== documents.length || profiles.length === 0) {
          throw new UsageError(
            'only PolicyProfile documents are published; Tenant and QuotaClass go through `bulkhead tenant create`',
          );
        }
        const operator = await runtime.operator();
        const rows: { profile: string; version: number; tenants: number }[] = [];
        for (const { document, text } of profiles) {
          const { name } = document.metadata;
          const published = await operator.publishPolicy(
            { name, environments: document.environments, text },
            options.actor,
            options.reason,
          );
          rows.push({ profile: name, ...published });
        }
        printRows(
          context,
          options.output,
          rows,
          {
            PROFILE: (row) => row.profile,
            VERSION: (row) => row.version,
            'IN FORCE FOR': (row) => `${row.tenants} tenants`,
          },
          '',
        );
      }),
    );

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
          const history = await (await runtime.operator()).policyHistory(profile);
          if (history.length === 0) {
            throw new BulkheadError(
              'not_found',
              `profile ${profile} was never published: bulkhead policy publish -f … --reason …`,
              { reason: 'unknown_policy' },
            );
          }
          printRows(
            context,
            options.output,
            history,
            {
              VERSION: (row) => row.version,
              PUBLISHED: (row) => row.publishedAt,
              BY: (row) => row.actor,
              REASON: (row) => row.reason,
            },
            '',
          );
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
}

/** Without the app, a mistyped agent or action would be published and never match. */
async function requireApp(runtime: CliRuntime): Promise<CliApp> {
  const app = await runtime.app();
  if (!app)
    throw new UsageError(
      'which app? Set BULKHEAD_APP to the module that exports `app`: profiles are checked against its agents and actions (`policy validate --no-app` checks the form alone)',
    );
  return app;
}
