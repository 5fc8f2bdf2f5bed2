import type { Command } from 'commander';
import { Capability } from '../../contracts/ids';
import { noun, requireTenant, unknownTenant, verb, withRuntime, type Common } from './command';
import type { CliContext } from './context';
import { UsageError } from './exit';
import { printFields } from './output';

/** `bulkhead secret put`: the secret comes on standard input, so that it is in no shell history and no process list. */
export function registerSecret(program: Command, context: CliContext): void {
  const group = noun(
    program,
    'secret',
    'keep tenants’ credentials',
    'bulkhead secret put payments:refund --tenant acme < refund-token.txt',
  );

  verb(group, 'put <capability>', 'keep a credential, read from standard input; the next call uses it', [
    'bulkhead secret put payments:refund --tenant acme < refund-token.txt',
    'pass show acme/payments | bulkhead secret put payments:refund --tenant acme',
  ])
    .requiredOption('--tenant <tenant>', 'whose')
    .option('--actor <name>', 'who does it, for the journal', context.user)
    .action(async (capability: string, options: Common & { tenant: string; actor: string }) => {
      const parsed = Capability.safeParse(capability);
      if (!parsed.success)
        throw new UsageError(parsed.error.issues[0]?.message ?? 'a capability is system:verb');
      const tenant = requireTenant(options.tenant);
      const secret = (await context.stdin())?.replace(/\r?\n$/, '');
      if (!secret)
        throw new UsageError('the secret comes on standard input: pipe it in, it is not an option');
      if (secret.length > 16_384)
        throw new UsageError('the secret is longer than 16 kB: that is no credential');
      await withRuntime(context, options, async (runtime) => {
        const scope = runtime.operatorScope(tenant);
        if (!(await (await runtime.storage()).tenant(scope).record()))
          throw unknownTenant(tenant, runtime.environment);
        const { version } = await (
          await runtime.operator()
        ).putCredential(scope, parsed.data, secret, options.actor);
        printFields(
          context,
          options.output,
          { tenant, capability: parsed.data, version },
          { tenant, capability: parsed.data, version },
        );
      });
    });
}
