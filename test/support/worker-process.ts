import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ORDER_VARIABLE, type WorkerOrder } from './worker-spec';

const ROOT = resolve(__dirname, '../..');
const RESTART_PAUSE_MS = 50;
const STOP_MS = 10_000;

/** A worker in a process of its own that is started again whenever it ends, until it is stopped. */
export interface WorkerProcess {
  readonly hostId: string;
  /** Of the process that runs now, once it serves. */
  readonly pid: number | undefined;
  /** How often it was started. */
  readonly starts: number;
  /** Ends by SIGKILL, ours or its own. */
  readonly kills: number;
  /** Ends that nobody ordered, with what it last said. A process that ends because its database is away is among them. */
  readonly ownEnds: readonly string[];
  /** Resolves once the process serves. */
  ready(): Promise<void>;
  /** SIGKILL now. Answers whether there was a process that served. */
  kill(): boolean;
  /** SIGSTOP, and SIGCONT after so long: a worker that stalls and comes back with what it was doing. */
  freeze(forMs: number): Promise<void>;
  /** Ends it for good: in its own time, then by SIGKILL. */
  stop(): Promise<void>;
}

/** Starts it. Never rejects: a start that fails is tried again, and told in `ownEnds`. */
export function startWorkerProcess(order: WorkerOrder): WorkerProcess {
  let child: ChildProcess | undefined;
  let serves = false;
  let stopping = false;
  let waiting: (() => void)[] = [];
  const state = { starts: 0, kills: 0, ownEnds: [] as string[] };

  const launch = (): void => {
    state.starts += 1;
    let words = '';
    const started = spawn(
      process.execPath,
      [resolve(ROOT, 'scripts/run.js'), resolve(__dirname, 'chaos-host.ts')],
      {
        cwd: ROOT,
        env: { ...process.env, [ORDER_VARIABLE]: JSON.stringify(order) },
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      },
    );
    child = started;
    started.stderr?.on('data', (chunk: Buffer) => (words = (words + chunk.toString()).slice(-2_000)));
    started.on('error', () => undefined);
    started.on('message', () => {
      serves = true;
      for (const tell of waiting.splice(0)) tell();
    });
    started.once('close', (code, signal) => {
      serves = false;
      child = undefined;
      if (stopping) return;
      if (signal === 'SIGKILL') state.kills += 1;
      else state.ownEnds.push(`${signal ?? `code ${code}`}: ${words.trim()}`);
      setTimeout(() => stopping || launch(), RESTART_PAUSE_MS);
    });
  };
  launch();

  return {
    hostId: order.hostId,
    get pid() {
      return serves ? child?.pid : undefined;
    },
    get starts() {
      return state.starts;
    },
    get kills() {
      return state.kills;
    },
    get ownEnds() {
      return state.ownEnds;
    },
    ready: () => (serves ? Promise.resolve() : new Promise((done) => (waiting = [...waiting, done]))),
    kill: () => serves && (child?.kill('SIGKILL') ?? false),
    async freeze(forMs) {
      const frozen = child;
      frozen?.kill('SIGSTOP');
      await sleep(forMs);
      frozen?.kill('SIGCONT');
    },
    async stop() {
      stopping = true;
      const last = child;
      if (!last || last.exitCode !== null || last.signalCode !== null) return;
      const closed = once(last, 'close');
      if (serves && last.connected) last.send('stop');
      else last.kill('SIGKILL');
      const timer = setTimeout(() => last.kill('SIGKILL'), STOP_MS);
      await closed;
      clearTimeout(timer);
    },
  };
}
