import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

const REGISTER = path.join(__dirname, 'register-typescript.cjs');

/** Processes and folders of one test file: processes are ended by their ids. */
export class Processes {
  readonly #children = new Set<ChildProcess>();
  readonly #folders: string[] = [];

  /** A folder that goes with the processes. */
  folder(prefix: string): string {
    const made = mkdtempSync(path.join(tmpdir(), prefix));
    this.#folders.push(made);
    return made;
  }

  /** Starts a TypeScript module as a process; resolves once it printed its address. */
  start = async (
    name: string,
    modulePath: string,
    env: Record<string, string>,
  ): Promise<{ pid: number; url: string }> => {
    const child = spawn(process.execPath, ['--require', REGISTER, modulePath], {
      env: { PATH: process.env.PATH ?? '', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.add(child);
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString('utf8')));
    const exited = once(child, 'exit').then(([code]) => {
      throw new Error(`${name} ended with ${String(code)}: ${errors}`);
    });
    const line = once(createInterface({ input: child.stdout }), 'line').then(
      ([text]) => JSON.parse(String(text)) as { url: string },
    );
    const ready = await Promise.race([line, exited]);
    exited.catch(() => undefined);
    return { pid: child.pid ?? 0, url: ready.url };
  };

  /** SIGKILL, as a crash is. Resolves when the process is gone. */
  async kill(pid: number): Promise<void> {
    const child = [...this.#children].find((one) => one.pid === pid);
    if (!child) throw new Error(`process ${pid} is not one of ours`);
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
    this.#children.delete(child);
  }

  /** Ends every process and removes every folder. */
  async end(): Promise<void> {
    for (const { pid, exitCode, signalCode } of [...this.#children]) {
      if (exitCode === null && signalCode === null && pid !== undefined) await this.kill(pid);
    }
    for (const folder of this.#folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  }
}
