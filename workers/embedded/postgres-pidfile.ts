import { execFile } from 'node:child_process';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** What `postmaster.pid` says: line 1 the process, 4 the port, 8 the state, as `pg_ctl` reads it. */
export interface PidFile {
  readonly pid: number;
  readonly port: number;
  readonly ready: boolean;
}

/** Reads the cluster's pid file; `undefined` where there is none or it is still being written. */
export async function readPidFile(cluster: string): Promise<PidFile | undefined> {
  const text = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => undefined);
  const lines = text?.split('\n') ?? [];
  const pid = Number.parseInt(lines[0] ?? '', 10);
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  return { pid, port: Number.parseInt(lines[3] ?? '', 10), ready: lines[7]?.trim() === 'ready' };
}

/** Whether a process has this number now. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Whether that process is the server of this cluster. */
export async function isServerOf(cluster: string, pid: number): Promise<boolean> {
  return isAlive(pid) && (await commandOf(pid)).includes(cluster);
}

/**
 * Whether any process works in the cluster's directory, as a backend does that has outlived its killed server. True
 * where this cannot be known (no /proc).
 */
export async function anyProcessIn(cluster: string): Promise<boolean> {
  const processes = await readdir('/proc').catch(() => undefined);
  if (!processes) return true;
  for (const id of processes) {
    if (!/^\d+$/.test(id)) continue;
    if ((await readlink(`/proc/${id}/cwd`).catch(() => undefined)) === cluster) return true;
  }
  return false;
}

async function commandOf(pid: number): Promise<string> {
  const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => undefined);
  if (line !== undefined) return line.replaceAll('\0', ' ');
  const ps = await exec('ps', ['-o', 'command=', '-p', String(pid)]).catch(() => undefined);
  return ps?.stdout ?? '';
}
