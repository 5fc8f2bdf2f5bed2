import { randomBytes } from 'node:crypto';
import { mkdir, readdir, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { ensureNamespace } from '../../workers/embedded/namespaces';

/** More than test files begin while one is made. */
const READY = 6;
const LOOK_MS = 200;

/** The name of a namespace of nobody else. */
export const freshNamespace = (): string => `t${randomBytes(5).toString('hex')}`;

/**
 * Keeps namespaces ready for the test files of a run: the server takes two seconds to know a new one, which every file would
 * wait for. Each is a file in the folder, and whoever removes the file has taken it. Answers how to end it.
 */
export async function keepNamespacesReady(address: string, folder: string): Promise<() => Promise<void>> {
  await mkdir(folder);
  const connection = await Connection.connect({ address });
  const over = new AbortController();
  const making = new Set<Promise<void>>();
  const make = async (): Promise<void> => {
    const name = freshNamespace();
    await ensureNamespace(connection, name);
    await writeFile(join(folder, name), '');
  };
  const keeping = (async () => {
    while (!over.signal.aborted) {
      for (let ready = (await readdir(folder)).length + making.size; ready < READY; ready += 1) {
        // A file that finds none makes its own, and is told what is wrong.
        const one = make().catch(() => undefined);
        making.add(one);
        void one.finally(() => making.delete(one));
      }
      await sleep(LOOK_MS, undefined, { signal: over.signal }).catch(() => undefined);
    }
    await Promise.all(making);
  })();
  return async () => {
    over.abort();
    await keeping;
    await connection.close();
  };
}

/** Takes a namespace that is ready; `undefined` where there is none. */
export async function takeNamespace(folder: string): Promise<string | undefined> {
  for (const name of await readdir(folder)) {
    try {
      await unlink(join(folder, name));
      return name;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return undefined;
}
