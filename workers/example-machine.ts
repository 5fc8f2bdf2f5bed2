import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { ExampleMachine } from '../tools/example';
import type { Stack } from './bring-up';
import { inheritedEnvironment } from './config';
import { identify } from './embedded/owned-processes';
import { systemName } from './example-host';
import { compiledModule } from './package-paths';

/** A command that takes longer has gone wrong. */
const COMMAND_MS = 60_000;

/** The processes of a stack, for scenarios that hurt them. Only processes that the stack started are ever signalled. */
export function machineOf(stack: Stack): ExampleMachine {
  const workers = (): { name: string; pid: number }[] =>
    stack.children.names().flatMap((name) => {
      const pid = name.startsWith(systemName('')) ? undefined : stack.children.pidOf(name);
      return pid === undefined ? [] : [{ name, pid }];
    });
  return {
    workers,
    killWorker: ({ name, pid }) => stack.children.pidOf(name) === pid && signal(pid, 'SIGKILL'),
    ownsDatabase: stack.database !== undefined,
    stopDatabaseAtOnce() {
      const pid = stack.database?.pid();
      return pid !== undefined && signal(pid, 'SIGQUIT') ? pid : undefined;
    },
    endSystem: (name) => stack.children.stop(systemName(name)),
  };
}

/** Beside which stack a command runs, who sees it, and as whom: without, as nobody in particular. */
export interface TypedBy {
  readonly stack: Stack;
  readonly say: (line: string) => void;
  readonly as?: { readonly who: string; readonly token: string };
}

function signal(pid: number, name: NodeJS.Signals): boolean {
  if (!identify(pid)) return false;
  process.kill(pid, name);
  return true;
}

/**
 * Runs `bulkhead …` in a process of its own with the settings of the stack, and shows what a person would have typed; of a
 * token only whose it is.
 */
export async function typedCommand(
  words: readonly string[],
  { stack, say, as }: TypedBy,
): Promise<{ code: number; output: string }> {
  const typed = words.map((word) => (/[\s'"]/.test(word) ? JSON.stringify(word) : word)).join(' ');
  say(`$ ${as ? `BULKHEAD_TOKEN=<${as.who}> ` : ''}npx bulkhead ${typed}`);
  const child = spawn(process.execPath, [compiledModule('workers/main'), ...words], {
    env: {
      ...inheritedEnvironment('worker'),
      ...stack.addresses.env,
      ...(as && { BULKHEAD_TOKEN: as.token }),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: COMMAND_MS,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (part: Buffer) => (output += part.toString('utf8')));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? -1, output };
}
