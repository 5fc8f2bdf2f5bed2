import type { Command } from 'commander';
import { DevTokenRequest } from '../dev-issuer';
import { BulkheadError } from '../errors';
import {
  durationOption,
  optionOf,
  requireTenant,
  unknownTenant,
  verb,
  withRuntime,
  type Common,
} from './command';
import type { CliContext } from './context';

const {
  workspaces: Workspaces,
  roles: Roles,
  subject: Subject,
  ttlSeconds: TtlSeconds,
} = DevTokenRequest.shape;

/** `bulkhead token`: a bearer token of the development issuer, alone on standard output. */
export function registerToken(program: Command, context: CliContext): void {
  verb(program, 'token', 'make a bearer token of the development issuer', [
    'export BULKHEAD_TOKEN=$(bulkhead token --tenant acme)',
    'bulkhead token --tenant acme --workspace main --role operator --subject alice --ttl 10m',
    'export BULKHEAD_TOKEN=$(bulkhead token --tenant acme --role finance --subject alice)   # approves as alice',
  ])
    .requiredOption('--tenant <tenant>', 'whom it is for')
    .option('--workspace <workspace...>', 'for these workspaces (default: all of the tenant)')
    .option(
      '--role <role...>',
      'with these roles: operator resolves reviews; approvers hold those that policy names',
      [],
    )
    .option('--subject <id>', 'who the bearer is (default: you)')
    .option('--service', 'the bearer is a service, not a person')
    .option('--ttl <duration>', 'how long it is valid, at most 24h', '1h')
    .action(
      async (
        options: Common & {
          tenant: string;
          workspace?: string[];
          role: string[];
          subject?: string;
          service?: true;
          ttl: string;
        },
      ) =>
        withRuntime(context, options, async (runtime) => {
          const issuer = runtime.devIssuer();
          if (!issuer) {
            throw new BulkheadError(
              'refused',
              'this stack has no development issuer: take a token from your identity provider, or set BULKHEAD_DEV_ISSUER_KEY on a development machine',
              { reason: 'no_issuer' },
            );
          }
          const tenant = requireTenant(options.tenant);
          const roles = optionOf('--role', Roles, options.role);
          const subject = optionOf('--subject', Subject, options.subject ?? `dev:${context.user}`);
          const seconds = Math.floor(durationOption('--ttl', options.ttl) / 1_000);
          const ttlSeconds = optionOf('--ttl', TtlSeconds, seconds);
          let workspaces: string[] | undefined =
            options.workspace && optionOf('--workspace', Workspaces, options.workspace);
          if (!workspaces) {
            const record = await (await runtime.storage()).tenant(runtime.operatorScope(tenant)).record();
            if (!record) throw unknownTenant(tenant, runtime.environment);
            workspaces = [...record.workspaces];
          }
          const token = await issuer.token({
            tenant,
            environment: runtime.environment,
            workspaces,
            roles,
            subject,
            kind: options.service ? 'service' : 'user',
            ttlSeconds,
          });
          context.write(
            options.output === 'json'
              ? `${JSON.stringify({ token, expiresInSeconds: ttlSeconds })}\n`
              : `${token}\n`,
          );
        }),
    );
}
