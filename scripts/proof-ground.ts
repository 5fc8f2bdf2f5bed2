import { execFileSync } from 'node:child_process';
import os from 'node:os';
import { SingleBar } from 'cli-progress';
import { startSharedTemporal, testTemporal, type TestTemporal } from '../test/support/shared-temporal';
import { reachTemporal } from '../workers/embedded/temporal';

/** Starts a Temporal and bundles the workflows for the time of the work. */
export async function onTemporal<T>(work: (temporal: TestTemporal) => Promise<T>): Promise<T> {
  const stop = await startSharedTemporal();
  try {
    return await work(testTemporal());
  } finally {
    await stop();
  }
}

/** What figures were measured on: they mean little elsewhere. */
export interface Machine {
  readonly cpus: number;
  readonly cpu: string;
  readonly memoryGiB: number;
  readonly platform: string;
  readonly node: string;
  readonly temporal: string;
  readonly postgres: string;
}

export async function machineOf(temporalAddress: string, postgres: string): Promise<Machine> {
  return {
    cpus: os.cpus().length,
    cpu: os.cpus()[0]?.model ?? 'unknown',
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    platform: `${os.platform()} ${os.release()} ${os.arch()}`,
    node: process.version,
    temporal: await reachTemporal(temporalAddress),
    postgres,
  };
}

/** The commit that was measured; `-changed` after it where files that run differ from it. */
export function commitOf(root: string): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  const changed = git('status', '--porcelain', '--', '.', ':!docs') !== '';
  return `${git('rev-parse', 'HEAD')}${changed ? '-changed' : ''}`;
}

/** A bar on a terminal; elsewhere a line every fifth of the way. */
export function progressOf(what: string): { at(done: number, of: number, more?: string): void; end(): void } {
  const bar = process.stderr.isTTY
    ? new SingleBar({
        format: `  ${what} {bar} {value}/{total} effects {more}`,
        hideCursor: true,
        stream: process.stderr,
      })
    : undefined;
  let started = false;
  let fifths = 0;
  return {
    at(done, total, more = '') {
      if (bar) {
        if (!started) bar.start(total, 0, { more });
        started = true;
        bar.update(Math.min(done, total), { more });
        return;
      }
      const now = Math.min(5, Math.floor((done / Math.max(1, total)) * 5));
      if (now > fifths) process.stderr.write(`${what}: ${done}/${total} effects ${more}\n`);
      fifths = Math.max(fifths, now);
    },
    end: () => bar?.stop(),
  };
}
