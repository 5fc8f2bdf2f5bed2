import { Command } from 'commander';
import { registerAgent } from './agent';
import { registerApproval } from './approval';
import { registerControl } from './control';
import type { CliContext } from './context';
import { registerDeadLetter } from './dead-letter';
import { exitOf } from './exit';
import { registerJournal } from './journal';
import { registerMigrate } from './migrate';
import { printable } from './output';
import { registerPolicy } from './policy';
import { registerQuota } from './quota';
import { registerRecover } from './recover';
import { registerReview } from './review';
import { registerRun } from './run';
import { registerSecret } from './secret';
import { registerTenant } from './tenant';
import { registerToken } from './token';

/** The whole command line; `more` registers the commands that run processes (`up`, `doctor`, `worker`). */
export function buildProgram(
  context: CliContext,
  version: string,
  more: readonly ((program: Command) => void)[],
): Command {
  const program = new Command('bulkhead')
    .description('Runs AI agents for many customers, each behind walls of its own.')
    .version(version)
    // Its options come before the command's name: `--version 3` after one is the command's.
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.write(text),
      writeErr: (text) => context.say(text.trimEnd()),
    })
    .showHelpAfterError('(add --help for usage and examples)')
    .addHelpText(
      'after',
      '\nSettings are environment variables, see .env.example; beside a running `bulkhead up`, none is needed.\nExit codes: 0 done, 1 failed, 2 usage, 3 refused by policy, quota or scope, 4 not found, 130 interrupted.\n',
    );
  for (const register of more) register(program);
  for (const register of [
    registerMigrate,
    registerToken,
    registerTenant,
    registerRun,
    registerApproval,
    registerReview,
    registerDeadLetter,
    registerPolicy,
    registerQuota,
    registerControl,
    registerRecover,
    registerJournal,
    registerSecret,
    registerAgent,
  ]) {
    register(program, context);
  }
  return program;
}

/** Runs one command line and answers its exit code; every error is printed as one message with its remedy. */
export async function runProgram(
  program: Command,
  context: CliContext,
  args: readonly string[],
): Promise<number> {
  try {
    await program.parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    const { code, message } = exitOf(error, context.signal.aborted);
    if (message !== undefined) context.say(printable(message));
    return code;
  }
}
