import type { Command } from 'commander';
import type { Breaker } from '../../contracts/breakers';
import type { TenantRecord } from '../../contracts/documents';
import { noun, requireTenant, unknownTenant, verb, withRuntime, type Common } from './command';
import type { CliContext } from './context';
import { readDocuments } from './documents';
import { UsageError } from './exit';
import { printFields, printRows } from './output';
import { putDocuments } from './tenant-documents';

/** `bulkhead tenant …`: an operator's, with the operator's own access to the database. */
export function registerTenant(program: Command, context: CliContext): void {
  const group = noun(
    program,
    'tenant',
    'create tenants and see what they are',
    'bulkhead tenant create -f tenants/acme.yaml',
  );

  verb(
    group,
    'create',
    'create or update tenants, quota classes, provider pools and shared capacity from documents; none where one has a mistake or names what there is not',
    [
      'bulkhead tenant create -f tenants/acme.yaml',
      'bulkhead tenant create -f quota-classes.yaml -f tenants/acme.yaml --actor release-42',
    ],
  )
    .requiredOption(
      '-f, --file <file...>',
      'YAML with Tenant, QuotaClass, ProviderPool and CallCapacity documents, or - for standard input',
    )
    .option('--actor <name>', 'who does it, for the journal', context.user)
    .action(async (options: Common & { file: string[]; actor: string }) => {
      const documents = await readDocuments(context, options.file);
      if (documents.some(({ kind }) => kind === 'PolicyProfile')) {
        throw new UsageError(
          'a PolicyProfile is published, with a reason: bulkhead policy publish -f … --reason …',
        );
      }
      if (documents.length === 0)
        throw new UsageError(
          'there is no document in it: write a Tenant, QuotaClass, ProviderPool or CallCapacity',
        );
      await withRuntime(context, options, (runtime) => putDocuments(context, runtime, documents, options));
    });

  verb(group, 'list', 'the tenants of the environment', [
    'bulkhead tenant list',
    'bulkhead tenant list --env staging -o json',
  ]).action(async (options: Common) =>
    withRuntime(context, options, async (runtime) => {
      const all = await (await runtime.operator()).tenants();
      const rows = all.filter((row) => row.environment === runtime.environment);
      printRows(
        context,
        options.output,
        rows,
        {
          TENANT: (row) => row.tenantId,
          'POLICY PROFILE': (row) => row.policyProfile,
          'QUOTA CLASS': (row) => row.quotaClass,
          LANE: (row) => row.lane,
          WORKSPACES: (row) => row.workspaces.join(', '),
        },
        `environment ${runtime.environment} has no tenants: bulkhead tenant create -f tenant.yaml`,
      );
    }),
  );

  verb(group, 'show [tenant]', 'a tenant’s settings, limits and mode', ['bulkhead tenant show acme'])
    .option('--tenant <tenant>', 'the same, as an option')
    .action(async (named: string | undefined, options: Common & { tenant?: string }) =>
      withRuntime(context, options, async (runtime) => {
        if (named !== undefined && options.tenant !== undefined && named !== options.tenant)
          throw new UsageError('two tenants are named: name one');
        const tenant = requireTenant(named ?? options.tenant);
        const store = (await runtime.storage()).tenant(runtime.operatorScope(tenant));
        const record: TenantRecord | undefined = await store.record();
        if (!record) throw unknownTenant(tenant, runtime.environment);
        const control = await store.control();
        const policy = await store.policyText();
        const breakers = await store.breakers();
        printFields(
          context,
          options.output,
          { ...record, control, policyVersion: policy?.version ?? null, breakers },
          {
            tenant: record.tenantId,
            environment: record.environment,
            mode: control?.mode,
            'policy profile': `${record.policyProfile} (${policy ? `version ${policy.version}` : 'not published: everything is denied'})`,
            'quota class': `${record.quotaClass}, lane ${record.lane}, ${record.lane === 'shared' ? `weight ${record.weight}` : `${record.workerCeiling} calls at once per host`}`,
            limits: Object.entries(record.limits)
              .map(([name, value]) => `${name} ${value}`)
              .join('\n'),
            'per run': Object.entries(record.perRun)
              .map(([name, value]) => `${name} ${value}`)
              .join('\n'),
            workspaces: record.workspaces.join(', '),
            connections:
              Object.entries(record.connections)
                .map(([system, url]) => `${system} ${url}`)
                .join('\n') || null,
            scope: record.scope.map(({ system, account }) => `${system}:${account}`).join('\n') || null,
            'left alone':
              breakers
                .filter(({ state }) => state !== 'closed')
                .map(inWords)
                .join('\n') || null,
          },
        );
      }),
    );
}

/** Why calls to a system wait, and until when at the earliest. */
function inWords({ system, state, failures, openedAt, openUntil, cause }: Breaker): string {
  const next =
    state === 'open' ? `let alone until ${openUntil}` : 'one call finds out whether it is well again';
  return `${system}: failing since ${openedAt}, ${failures} times; ${next}; last: ${cause}`;
}
