#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { CliContext } from '../client/cli/context';
import { EXIT } from '../client/cli/exit';
import { buildProgram, runProgram } from '../client/cli/program';
import { openRuntime } from './cli-runtime';
import { inheritedEnvironment, loadConfigOfStack } from './config';
import { registerDoctor } from './doctor';
import { packageRoot } from './package-paths';
import { registerUp } from './up';
import { userName } from './user-name';
import { registerWorker } from './worker-command';

/** The `bulkhead` command: settings, database, Temporal and terminal put together. */

const interrupt = new AbortController();
let answered = false;

/** For commands that only wait; `up` and `worker` end in an order of their own. */
function listenForInterrupt(): void {
  if (process.listenerCount('SIGINT') > 0) return;
  process.on('SIGINT', () => {
    interrupt.abort();
    // Whatever does not heed the signal by then would keep a person waiting.
    setTimeout(() => {
      if (!answered) context.say('interrupted');
      process.exit(answered ? process.exitCode : EXIT.interrupted);
    }, 1_000).unref();
  });
}

async function standardInput(): Promise<string | undefined> {
  if (process.stdin.isTTY) return undefined;
  const parts: Buffer[] = [];
  for await (const part of process.stdin) parts.push(part as Buffer);
  return Buffer.concat(parts).toString('utf8');
}

const context: CliContext = {
  open(environment) {
    listenForInterrupt();
    return openRuntime(loadConfigOfStack(), environment);
  },
  write: (text) => void process.stdout.write(text),
  say: (text) => void process.stderr.write(`${text}\n`),
  stdin: standardInput,
  user: userName(inheritedEnvironment()),
  signal: interrupt.signal,
};

// `bulkhead run list | head -1`: a reader that has seen enough is no failure.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

const { version } = JSON.parse(readFileSync(path.join(packageRoot, 'package.json'), 'utf8')) as {
  version: string;
};
const program = buildProgram(context, version, [registerUp, registerDoctor, registerWorker]);

void runProgram(program, context, process.argv.slice(2)).then((code) => {
  answered = true;
  process.exitCode = code;
});
