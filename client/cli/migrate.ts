import type { Command } from 'commander';
import { verb, withRuntime, type Common } from './command';
import type { CliContext } from './context';

/** `bulkhead migrate`: brings the database to this version's schema. */
export function registerMigrate(program: Command, context: CliContext): void {
  verb(
    program,
    'migrate',
    'bring the database (DATABASE_URL) to this version’s schema; safe to repeat, and to run twice at once',
    ['DATABASE_URL=postgresql://owner@db:5432/bulkhead bulkhead migrate'],
  ).action(async (options: Common) =>
    withRuntime(context, options, async (runtime) => {
      const { applied, version } = await runtime.migrate((step) => context.say(step));
      context.write(
        options.output === 'json'
          ? `${JSON.stringify({ applied, version })}\n`
          : `schema ${version}: ${applied === 0 ? 'nothing to do' : `${applied} applied`}\n`,
      );
    }),
  );
}
