import { rmSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { identify, type ProcessIdentity } from './embedded/owned-processes';
import { readJson, writePrivate } from './embedded/private-files';

/** Where a running stack can be reached: what `bulkhead up` writes to `stack.json` and the commands read. */
export interface StackAddresses {
  readonly supervisor: ProcessIdentity;
  readonly startedAt: string;
  readonly temporalAddress: string;
  /** Absent for a Temporal that is not ours: its UI is where its operator put it. */
  readonly temporalUiUrl: string | null;
  /** The Temporal CLI used for the embedded server; absent where none was needed or found. */
  readonly temporalBinary: string | null;
  readonly environments: readonly string[];
  /** Settings that make a process part of this stack: addresses, and the paths of keys, never keys. */
  readonly env: Readonly<Record<string, string>>;
}

const Stack = z.strictObject({
  supervisor: z.strictObject({ pid: z.int().positive(), startedAt: z.string(), command: z.string() }),
  startedAt: z.string(),
  temporalAddress: z.string(),
  temporalUiUrl: z.string().nullable(),
  temporalBinary: z.string().nullable(),
  environments: z.array(z.string()),
  env: z.record(z.string(), z.string()),
});

const fileOf = (stateDir: string): string => path.join(stateDir, 'stack.json');

/** The stack that runs on this state directory; `undefined` where none was written or its supervisor is gone. */
export function readStack(stateDir: string): StackAddresses | undefined {
  const found = readJson(fileOf(stateDir), Stack);
  if (!found) return undefined;
  const now = identify(found.supervisor.pid);
  return now?.startedAt === found.supervisor.startedAt ? found : undefined;
}

/** Mode 0600: the database's address holds its password. */
export function writeStack(stateDir: string, stack: StackAddresses): void {
  writePrivate(fileOf(stateDir), `${JSON.stringify(stack, null, 2)}\n`);
}

export function removeStack(stateDir: string): void {
  rmSync(fileOf(stateDir), { force: true });
}
