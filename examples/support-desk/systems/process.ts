import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { systemServer, type SystemDefinition } from './server';
import { systemSettings } from './settings';

const PARENT_POLL_MS = 250;
/** A predecessor notices the death of its parent within one poll; beyond this it is alive and wanted. */
const PREDECESSOR_GRACE_MS = 5_000;

const Place = z.object({ port: z.int().min(1).max(65_535) });
const Health = z.object({ system: z.string(), pid: z.int() });

/**
 * Runs a system as this process: waits for a predecessor on the same state to be gone, listens on the port it had
 * before (or a free one), prints `{"url": …}`, ends with its parent. Exits 1 with a line on standard error otherwise.
 */
export function runSystem(definition: SystemDefinition): void {
  serveAlone(definition).catch((error: unknown) => {
    process.stderr.write(`${definition.name}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}

async function serveAlone(definition: SystemDefinition): Promise<void> {
  endWithParent();
  const settings = systemSettings(process.env);
  await predecessorGone(settings.stateDir, definition.name);
  const { server } = systemServer(definition, settings);
  process.stdout.write(`${JSON.stringify({ url: await listenAsBefore(server, settings.stateDir) })}\n`);
}

/** A stack that was killed leaves no system behind that would write to the same log as its successor. */
export function endWithParent(): void {
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.exit(0);
  }, PARENT_POLL_MS).unref();
  process.on('SIGTERM', () => process.exit(0));
}

/** Two processes on one log would each miss what the other applied. Throws while another one serves this state. */
export async function predecessorGone(stateDir: string, name: string): Promise<void> {
  const port = placeOf(stateDir);
  if (port === undefined) return;
  const deadline = Date.now() + PREDECESSOR_GRACE_MS;
  for (;;) {
    const there = await healthOf(port);
    if (there?.system !== name) return;
    if (Date.now() > deadline) {
      throw new Error(
        `process ${there.pid} already serves ${stateDir}; end it, or choose another state folder`,
      );
    }
    await sleep(100);
  }
}

/** Listens on loopback, on the remembered port where it is free. */
export async function listenAsBefore(server: Server, stateDir: string): Promise<string> {
  mkdirSync(stateDir, { recursive: true });
  const port = await listen(server, placeOf(stateDir) ?? 0).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return listen(server, 0);
    throw error;
  });
  writeFileSync(path.join(stateDir, 'place.json'), JSON.stringify({ port }));
  return `http://127.0.0.1:${port}`;
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.removeListener('error', reject);
      const address = server.address();
      if (address === null || typeof address === 'string') return reject(new Error('the server has no port'));
      resolve(address.port);
    });
  });
}

function placeOf(stateDir: string): number | undefined {
  let text: string;
  try {
    text = readFileSync(path.join(stateDir, 'place.json'), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  // A place cut short by a crash is no place: any free port will do.
  return Place.safeParse(jsonOf(text)).data?.port;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function healthOf(port: number): Promise<z.infer<typeof Health> | undefined> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(1_000) });
    return Health.safeParse(await response.json()).data;
  } catch (error) {
    // Nobody there, or somebody who is not a system of ours.
    if (error instanceof Error) return undefined;
    throw error;
  }
}
