import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** USER_HZ of Linux: it has been 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Whose processor time is told apart. */
export type Groups = Readonly<Record<string, () => readonly number[]>>;

/** Processor time so far, milliseconds of one core. */
export interface Use {
  readonly at: number;
  /** Of all cores, whoever used them. */
  readonly busyMs: number;
  /** Of all cores: they had work, and what the machine itself runs on gave the time to others. 0 where there is nothing beneath it. */
  readonly stolenMs: number;
  readonly groupsMs: Readonly<Record<string, number>>;
}

/** Cores in use, on the average of some time. */
export interface Cores {
  readonly groups: Readonly<Record<string, number>>;
  /** Share of the whole machine, 0 to 1, whoever used it. */
  readonly machine: number;
  /** Share of the whole machine, 0 to 1, that it wanted and was not given: a disturbance from beneath, and nobody's load. */
  readonly stolen: number;
}

/** Reads `/proc`. Of a group, each process with all that descend from it. On a system without `/proc` it throws. */
export function useOf(groups: Groups): Use {
  const parents = processes();
  return {
    at: Date.now(),
    busyMs: machineBusyMs(),
    stolenMs: machineStolenMs(),
    groupsMs: Object.fromEntries(
      Object.entries(groups).map(([name, roots]) => [
        name,
        familyOf(roots(), parents).reduce((sum, pid) => sum + ticksOf(pid), 0) * (1_000 / TICKS_PER_SECOND),
      ]),
    ),
  };
}

export function coresBetween(before: Use, after: Use): Cores {
  const ms = after.at - before.at;
  return {
    groups: Object.fromEntries(
      Object.entries(after.groupsMs).map(([name, now]) => [name, (now - (before.groupsMs[name] ?? 0)) / ms]),
    ),
    machine: (after.busyMs - before.busyMs) / ms / cpus().length,
    stolen: (after.stolenMs - before.stolenMs) / ms / cpus().length,
  };
}

/** The average of several spells, each by its length. */
export function meanCores(spells: readonly { cores: Cores; ms: number }[]): Cores {
  const whole = spells.reduce((sum, { ms }) => sum + ms, 0);
  const mean = (of: (cores: Cores) => number): number =>
    spells.reduce((sum, { cores, ms }) => sum + of(cores) * ms, 0) / whole;
  const names = Object.keys(spells[0]?.cores.groups ?? {});
  return {
    groups: Object.fromEntries(names.map((name) => [name, mean(({ groups }) => groups[name] ?? 0)])),
    machine: mean(({ machine }) => machine),
    stolen: mean(({ stolen }) => stolen),
  };
}

/** Memory in RAM of a process, bytes, with its part of what it shares; 0 for one that is gone. */
export function residentBytes(pid: number): number {
  const found =
    /^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`)) ??
    /^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`));
  return Number(found?.[1] ?? 0) * 1_024;
}

/** The same of a process and all that descend from it. */
export const familyBytes = (pid: number): number =>
  familyOf([pid], processes()).reduce((sum, one) => sum + residentBytes(one), 0);

/** Empty for what is gone, or not ours to read. */
function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** Parent by process. */
function processes(): Map<number, number> {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    const parent = Number.isInteger(pid) ? Number(statOf(pid)?.[1]) : Number.NaN;
    if (!Number.isNaN(parent)) parents.set(pid, parent);
  }
  return parents;
}

function familyOf(roots: readonly number[], parents: ReadonlyMap<number, number>): number[] {
  const family = new Set(roots);
  for (let before = -1; before !== family.size;) {
    before = family.size;
    for (const [pid, parent] of parents) if (family.has(parent)) family.add(pid);
  }
  return [...family];
}

/** Fields from `state` on: the name before them may hold blanks. */
function statOf(pid: number): string[] | undefined {
  const text = read(`/proc/${pid}/stat`);
  return text === '' ? undefined : text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** User and system time of a process, with that of children it has waited for. */
function ticksOf(pid: number): number {
  const fields = statOf(pid);
  return fields ? [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0) : 0;
}

function machineBusyMs(): number {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
}

/** The eighth field of `cpu` in `/proc/stat` (proc_stat(5)); `os.cpus()` does not tell it. */
function machineStolenMs(): number {
  const [all = ''] = read('/proc/stat').split('\n');
  return Number(all.trim().split(/\s+/)[8] ?? 0) * (1_000 / TICKS_PER_SECOND);
}
