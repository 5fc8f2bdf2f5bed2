import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { readJson, writePrivate } from './private-files';

/** A process, told apart from any later one that gets its number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** As the system gives it: clock ticks since boot on Linux, a date elsewhere. Only compared, never read. */
  readonly startedAt: string;
  /** Its command line. */
  readonly command: string;
}

/** Who runs under this number now; `undefined` for nobody, and for a process that only waits to be reaped. */
export function identify(pid: number): ProcessIdentity | undefined {
  return process.platform === 'linux' ? identifyInProc(pid) : identifyByPs(pid);
}

function identifyInProc(pid: number): ProcessIdentity | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the name in parentheses, which may itself hold spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const startedAt = fields[19];
    if (fields[0] === 'Z' || startedAt === undefined) return undefined;
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim();
    return { pid, startedAt: `${boot}:${startedAt}`, command };
  } catch (error) {
    if (gone(error)) return undefined;
    throw error;
  }
}

function identifyByPs(pid: number): ProcessIdentity | undefined {
  try {
    const line = execFileSync('ps', ['-o', 'stat=,lstart=,command=', '-p', String(pid)], {
      encoding: 'utf8',
    }).trim();
    const match = /^(\S+)\s+(\S+\s+\S+\s+\S+\s+\S+\s+\S+)\s+(.*)$/.exec(line);
    if (!match?.[2] || match[1]?.startsWith('Z')) return undefined;
    return { pid, startedAt: match[2], command: match[3] ?? '' };
  } catch (error) {
    if (typeof (error as { status?: unknown }).status === 'number') return undefined;
    throw error;
  }
}

const gone = (error: unknown): boolean =>
  ['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '');

const Entry = z.strictObject({
  name: z.string(),
  pid: z.int().positive(),
  startedAt: z.string(),
  command: z.string(),
  stopSignal: z.enum(['SIGTERM', 'SIGINT']),
});
type Entry = z.infer<typeof Entry>;

/**
 * The processes that a state directory's stack has started, in a file, so that the next start can end what a killed
 * supervisor left behind. A process is touched only when its number, its start and its program are all as recorded: a
 * number that went to somebody else is left alone.
 */
export class OwnedProcesses {
  readonly #file: string;
  readonly #entries: Entry[];

  constructor(stateDir: string) {
    this.#file = path.join(stateDir, 'processes.json');
    this.#entries = readJson(this.#file, z.array(Entry)) ?? [];
  }

  /** Records a process just started. `stopSignal` is how it ends cleanly: PostgreSQL closes its clients on SIGINT. */
  record(name: string, pid: number, stopSignal: Entry['stopSignal'] = 'SIGTERM'): void {
    const identity = identify(pid);
    if (!identity) return;
    this.#entries.push({ name, ...identity, stopSignal });
    this.#save();
  }

  forget(pid: number): void {
    const index = this.#entries.findIndex((entry) => entry.pid === pid);
    if (index < 0) return;
    this.#entries.splice(index, 1);
    this.#save();
  }

  /** Ends what is left of an earlier start, newest first, and forgets it. Answers the names of those that still ran. */
  async endLeftovers(graceMs: number): Promise<string[]> {
    const ended: string[] = [];
    for (const entry of [...this.#entries].reverse()) {
      if (isSame(entry)) {
        await endProcess(entry, graceMs, entry.stopSignal);
        ended.push(entry.name);
      }
      this.forget(entry.pid);
    }
    return ended;
  }

  #save(): void {
    writePrivate(this.#file, `${JSON.stringify(this.#entries, null, 2)}\n`);
  }
}

/**
 * Whether exactly this process still runs: same number, same start, same program. The arguments are left out, since
 * some programs rewrite them to show what they do. One that is just being ended has no command line any more, and is not gone yet.
 */
function isSame(known: ProcessIdentity): boolean {
  const now = identify(known.pid);
  if (now?.startedAt !== known.startedAt) return false;
  return now.command === '' || now.command.split(' ')[0] === known.command.split(' ')[0];
}

/** Ends one process: the signal, then after the grace SIGKILL. Returns once it is gone. Never signals another one. */
export async function endProcess(
  known: ProcessIdentity,
  graceMs: number,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<void> {
  if (!signalTo(known, signal)) return;
  if (await isGone(known, graceMs)) return;
  signalTo(known, 'SIGKILL');
  if (!(await isGone(known, 5_000)))
    throw new Error(`process ${known.pid} (${known.command.slice(0, 80)}) does not end; end it by hand`);
}

function signalTo(known: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isSame(known)) return false;
  try {
    process.kill(known.pid, signal);
    return true;
  } catch (error) {
    if (gone(error)) return false;
    throw error;
  }
}

async function isGone(known: ProcessIdentity, withinMs: number): Promise<boolean> {
  const until = performance.now() + withinMs;
  while (isSame(known)) {
    if (performance.now() > until) return false;
    await sleep(20);
  }
  return true;
}
