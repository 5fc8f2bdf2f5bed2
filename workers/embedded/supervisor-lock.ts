import { linkSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { identify } from './owned-processes';
import { privateDirectory, readJson } from './private-files';

const Holder = z.strictObject({ pid: z.int().positive(), startedAt: z.string(), command: z.string() });

/**
 * Makes this process the only supervisor of a state directory. Throws where another one lives; takes over from one
 * that is gone. Answers how to give it up.
 */
export function lockStateDir(stateDir: string): () => void {
  const file = path.join(privateDirectory(stateDir), 'supervisor.json');
  const me = identify(process.pid);
  if (!me) throw new Error('this process cannot be identified: is /proc mounted?');
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, JSON.stringify(me), { mode: 0o600 });
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      // A link appears whole or not at all: nobody reads a holder that is still being written.
      linkSync(draft, file);
      rmSync(draft);
      return () => rmSync(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = readJson(file, Holder);
    if (holder && identify(holder.pid)?.startedAt === holder.startedAt) {
      rmSync(draft, { force: true });
      throw new Error(
        `a stack runs on ${stateDir} already (process ${holder.pid}): stop it, or name another directory with --state-dir`,
      );
    }
    rmSync(file, { force: true });
  }
  rmSync(draft, { force: true });
  throw new Error(
    `another stack is just starting on ${stateDir}: wait for it, or name another directory with --state-dir`,
  );
}
