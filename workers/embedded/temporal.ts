import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { z } from 'zod';
import { SEARCH_ATTRIBUTES } from '../../contracts/states';
import { ensureNamespace } from './namespaces';
import { endProcess, identify } from './owned-processes';
import { freePort, freePortFrom, isFree } from './ports';
import { privateDirectory, readJson, writePrivate } from './private-files';
import { settingArguments, stateArguments } from './server-settings';

const HOST = '127.0.0.1';
/** Temporal's own defaults, so that its CLI needs no `--address` beside a running stack. */
const USUAL_PORT = 7233;
const USUAL_UI_PORT = 8233;
const START_MS = 60_000;
const STOP_MS = 10_000;

export interface TemporalOptions {
  /** Path of the Temporal CLI. */
  readonly binary: string;
  /** Where the server keeps its database, its ports and its log: a second start resumes. Or nowhere. */
  readonly state: { readonly stateDir: string } | 'inMemory';
  /** Created where missing, with Bulkhead's search attributes. */
  readonly namespaces: readonly string[];
  /** Lines of the server itself, where there is no state directory to log to. */
  readonly log?: (line: string) => void;
  /** Called as soon as the process exists, before it is usable, so that it can be recorded. */
  readonly onSpawn?: (pid: number) => void;
}

export interface RunningTemporal {
  /** host:port */
  readonly address: string;
  readonly uiUrl: string;
  readonly pid: number;
  /** Resolves when the server ended, with the reason if nobody asked for it. */
  readonly ended: Promise<string | undefined>;
  /** Ends the server. Safe to call twice. */
  stop(): Promise<void>;
}

const Ports = z.strictObject({ port: z.int(), uiPort: z.int() });
type Ports = z.infer<typeof Ports>;

/**
 * Starts a Temporal development server with Bulkhead's settings and waits until its namespaces are usable.
 * The server is in a process group of its own: a Ctrl-C in the terminal does not reach it, its starter stops it last.
 * Throws an Error with the server's last words where it does not come up.
 */
export async function startTemporal(options: TemporalOptions): Promise<RunningTemporal> {
  for (let attempt = 1; ; attempt++) {
    const ports = await choosePorts(options.state);
    const server = launch(options, ports);
    try {
      await untilReady(server, `${HOST}:${ports.port}`, options.namespaces);
      if (options.state !== 'inMemory')
        writePrivate(portsFile(options.state.stateDir), `${JSON.stringify(ports)}\n`);
      return server.running;
    } catch (error) {
      // It ends at once where somebody took a port between the choice and the start; on a port in use it may even panic.
      const endedByItself = server.child.exitCode !== null || server.child.signalCode !== null;
      await server.running.stop();
      if (attempt === 3 || !endedByItself) throw error;
    }
  }
}

/** Makes the namespaces of a Temporal that is not ours usable. Throws where it cannot be reached, with the remedy. */
export async function prepareTemporal(address: string, namespaces: readonly string[]): Promise<void> {
  const connection = await Connection.connect({ address, connectTimeout: '10 seconds' }).catch(
    (cause: unknown) => {
      throw new Error(
        `no Temporal answers at ${address}: start it, or correct TEMPORAL_ADDRESS, or unset it for the embedded one`,
        { cause },
      );
    },
  );
  try {
    for (const namespace of namespaces) await ensureNamespace(connection, namespace);
  } finally {
    await connection.close();
  }
}

const portsFile = (stateDir: string): string => path.join(stateDir, 'temporal', 'ports.json');

/** Remembered ports keep bookmarks and open terminals right over restarts. */
async function choosePorts(state: TemporalOptions['state']): Promise<Ports> {
  if (state === 'inMemory') {
    const port = await freePort();
    let uiPort = await freePort();
    while (uiPort === port) uiPort = await freePort();
    return { port, uiPort };
  }
  const known = readJson(portsFile(state.stateDir), Ports);
  const port = known && (await isFree(known.port)) ? known.port : await freePortFrom(USUAL_PORT);
  const uiPort =
    known && known.uiPort !== port && (await isFree(known.uiPort))
      ? known.uiPort
      : await freePortFrom(USUAL_UI_PORT, [port]);
  return { port, uiPort };
}

interface Launched {
  readonly running: RunningTemporal;
  readonly child: ChildProcess;
}

function launch(options: TemporalOptions, ports: Ports): Launched {
  const { state } = options;
  const directory =
    state === 'inMemory' ? undefined : privateDirectory(path.join(state.stateDir, 'temporal'));
  const args = [
    'server',
    'start-dev',
    '--ip',
    HOST,
    '--port',
    String(ports.port),
    '--ui-port',
    String(ports.uiPort),
  ];
  args.push('--log-level', 'warn', '--ui-disable-news-fetch', ...settingArguments());
  args.push(...options.namespaces.flatMap((namespace) => ['--namespace', namespace]));
  args.push(...SEARCH_ATTRIBUTES.flatMap((name) => ['--search-attribute', `${name}=Keyword`]));
  if (directory) args.push(...stateArguments(path.join(directory, 'temporal.db')));

  // A file and not a pipe: were this process killed, the server's next line into a broken pipe would end it too.
  const log = directory ? openLog(path.join(directory, 'temporal.log')) : undefined;
  const child = spawn(options.binary, args, {
    stdio: ['ignore', log?.fd ?? 'pipe', log?.fd ?? 'pipe'],
    detached: true,
  });
  log?.close();
  if (child.pid !== undefined) options.onSpawn?.(child.pid);
  let words = '';
  let asked = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      words = (words + chunk.toString()).slice(-4_000);
      options.log?.(chunk.toString().trimEnd());
    });
  }
  const lastWords = (): string => log?.written() ?? words;
  const ended = new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => resolve(`Temporal did not start: ${error.message}`));
    child.once('close', (code, signal) => {
      resolve(
        asked
          ? undefined
          : `Temporal ended by itself (${signal ?? `code ${code}`}): ${tellingPart(lastWords())}`,
      );
    });
  });
  let stopping: Promise<void> | undefined;
  const running: RunningTemporal = {
    address: `${HOST}:${ports.port}`,
    uiUrl: `http://${HOST}:${ports.uiPort}`,
    pid: child.pid ?? -1,
    ended,
    stop: () => (stopping ??= stop()),
  };
  async function stop(): Promise<void> {
    asked = true;
    const identity = child.pid === undefined ? undefined : identify(child.pid);
    if (child.exitCode === null && child.signalCode === null && identity) await endProcess(identity, STOP_MS);
    await ended;
  }
  return { running, child };
}

/** A log that a child writes to itself; `written` is what came since, at most its last 4,000 bytes. */
function openLog(file: string): { fd: number; close: () => void; written: () => string } {
  const fd = openSync(file, 'a', 0o600);
  const start = statSync(file).size;
  return {
    fd,
    close: () => closeSync(fd),
    written: () => readFileSync(file).subarray(start).subarray(-4_000).toString(),
  };
}

async function untilReady(
  { running }: Launched,
  address: string,
  namespaces: readonly string[],
): Promise<void> {
  const gone = running.ended.then((reason) => {
    throw new Error(reason ?? 'Temporal was stopped while it started');
  });
  let over = false;
  const ready = (async () => {
    const connection = await connect(address, () => over);
    try {
      // The server makes the namespaces itself; asking for them also waits until each can be used.
      for (const namespace of namespaces) await ensureNamespace(connection, namespace);
    } finally {
      await connection.close();
    }
  })();
  ready.catch(() => undefined);
  try {
    await Promise.race([ready, gone]);
  } finally {
    over = true;
  }
}

async function connect(address: string, givenUp: () => boolean): Promise<Connection> {
  const until = performance.now() + START_MS;
  for (;;) {
    try {
      return await Connection.connect({ address, connectTimeout: '1 second' });
    } catch (cause) {
      if (givenUp() || performance.now() > until)
        throw new Error(`Temporal did not answer at ${address} within ${START_MS / 1_000} s`, { cause });
      await sleep(50);
    }
  }
}

/** The version of the server at an address. Rejects where none answers. */
export async function reachTemporal(address: string): Promise<string> {
  const connection = await Connection.connect({ address, connectTimeout: '3 seconds' });
  try {
    const { serverVersion } = await connection.workflowService.getSystemInfo({});
    return serverVersion ?? 'of unknown version';
  } finally {
    await connection.close();
  }
}

/** What a server said of its own end: a panic from its beginning, for the stack below it says little. */
function tellingPart(words: string): string {
  const panic = words.indexOf('panic:');
  return panic >= 0 ? words.slice(panic, panic + 600) : words.trim().slice(-1_000);
}
