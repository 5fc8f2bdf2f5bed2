import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Checkpoint, CheckpointCall, CheckpointName } from '../../contracts/checkpoint';
import type { PlannedKill } from './worker-spec';

/** A kill that was done, as the dying process wrote it down. */
export interface DoneKill {
  readonly id: number;
  readonly point: CheckpointName;
  readonly call: CheckpointCall;
  readonly pid: number;
  readonly at: number;
}

/**
 * A checkpoint that kills its own process with SIGKILL at the planned places. What was done is a file of its own, made
 * before the signal and by one process alone, so that a call which comes to the place again, here or on another host,
 * passes it.
 */
export function planDeath(planFile: string, doneDir: string): Checkpoint {
  const plan = JSON.parse(readFileSync(planFile, 'utf8')) as PlannedKill[];
  const passings = new Map<number, number>();
  return (point, call) => {
    for (const kill of plan) {
      if (kill.point !== point) continue;
      if (kill.path !== undefined && kill.path !== call.path) continue;
      if (kill.runId !== undefined && kill.runId !== call.runId) continue;
      const passing = (passings.get(kill.id) ?? 0) + 1;
      passings.set(kill.id, passing);
      if (passing < (kill.passing ?? 1) || !claim(doneDir, { ...kill, call })) continue;
      process.kill(process.pid, 'SIGKILL');
      // The signal is on its way: nothing of the call goes on meanwhile.
      return new Promise<void>(() => undefined);
    }
    return Promise.resolve();
  };
}

function claim(doneDir: string, kill: PlannedKill & { call: CheckpointCall }): boolean {
  const done: DoneKill = {
    id: kill.id,
    point: kill.point,
    call: kill.call,
    pid: process.pid,
    at: Date.now(),
  };
  try {
    const file = openSync(join(doneDir, `${kill.id}.json`), 'wx');
    writeSync(file, JSON.stringify(done));
    closeSync(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** The kills done so far. */
export function doneKills(doneDir: string): DoneKill[] {
  mkdirSync(doneDir, { recursive: true });
  return readdirSync(doneDir).flatMap((name) => {
    const text = readFileSync(join(doneDir, name), 'utf8');
    // Another process may be between making the file and writing it.
    return text === '' ? [] : [JSON.parse(text) as DoneKill];
  });
}
