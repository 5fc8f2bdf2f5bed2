import { fork, type ChildProcess } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChildLog } from './child-log';
import { endProcess, identify, type OwnedProcesses } from './embedded/owned-processes';
import { privateDirectory } from './embedded/private-files';
import { compiledModule } from './package-paths';
import type { GuardOrder } from './parent-guard';

/** A Node process to run beside this one. */
export interface ChildSpec<Ready> {
  /** Unique among the children; names its log. */
  readonly name: string;
  /** Absolute path of a compiled module. */
  readonly module: string;
  readonly args?: readonly string[];
  /** The whole environment of the process: nothing is added. */
  readonly env: Readonly<Record<string, string>>;
  /** What a line on its standard output says about being ready; `undefined` for any other line. */
  readonly ready: (line: string) => Ready | undefined;
  /** Started again when it ends by itself. */
  readonly restart: boolean;
  readonly readyWithinMs?: number;
}

export interface ChildrenOptions {
  /** Where `<name>.log` goes. */
  readonly logDir: string;
  readonly owned: OwnedProcesses;
  /** How long a child may take to stop, milliseconds; also where this process is gone by then. */
  readonly graceMs: number;
  /** Told to the person who watches: restarts and failures. */
  readonly say: (line: string) => void;
}

const FIRST_BACKOFF_MS = 250;
const LONGEST_BACKOFF_MS = 10_000;
/** A child that ran this long was well: its next restart waits the first backoff again. */
const WELL_AFTER_MS = 30_000;

interface Running {
  readonly spec: ChildSpec<unknown>;
  process: ChildProcess | undefined;
  /** Set once by whoever wants it ended; its restarts stop. */
  stopping: Promise<void> | undefined;
  readonly stopped: AbortController;
  supervised: Promise<void>;
}

/**
 * Processes that live and die with this one. Each gets a process group of its own, so that a Ctrl-C in the terminal
 * reaches the supervisor alone and it stops them in order; each ends by itself when the supervisor is gone.
 */
export class Children {
  readonly #options: ChildrenOptions;
  readonly #running = new Map<string, Running>();

  constructor(options: ChildrenOptions) {
    this.#options = options;
    privateDirectory(options.logDir);
  }

  names(): string[] {
    return [...this.#running.keys()];
  }

  /** Process of a child now; `undefined` for a name that does not run, or is just being started again. */
  pidOf(name: string): number | undefined {
    const child = this.#running.get(name)?.process;
    return child?.exitCode === null && child.signalCode === null ? child.pid : undefined;
  }

  /**
   * Starts a child and waits for its ready line. Rejects where the name is taken, or where it ends or stays silent
   * before it is ready: then it is stopped, and the message shows its last lines.
   */
  async start<Ready>(spec: ChildSpec<Ready>): Promise<{ pid: number; ready: Ready }> {
    if (this.#running.has(spec.name)) throw new Error(`a child called ${spec.name} runs already`);
    const entry: Running = {
      spec,
      process: undefined,
      stopping: undefined,
      stopped: new AbortController(),
      supervised: Promise.resolve(),
    };
    this.#running.set(spec.name, entry);
    try {
      const first = await this.#launch(entry, spec);
      if (spec.restart) entry.supervised = this.#keepRunning(entry, first.ended);
      else void first.ended.then((how) => this.#endedAlone(entry, how));
      return { pid: first.pid, ready: first.ready };
    } catch (error) {
      await this.stop(spec.name);
      throw error;
    }
  }

  /**
   * Ends a child: SIGTERM, after the grace SIGKILL. Resolves at once for a name that does not run. Rejects where it does not end:
   * the name stays taken, and the next stop tries again.
   */
  async stop(name: string): Promise<void> {
    const entry = this.#running.get(name);
    if (!entry) return;
    entry.stopping ??= this.#end(entry).catch((error: unknown) => {
      entry.stopping = undefined;
      throw error;
    });
    await entry.stopping;
  }

  /** Ends all children at once. */
  async stopAll(): Promise<void> {
    await Promise.all(this.names().map((name) => this.stop(name)));
  }

  async #end(entry: Running): Promise<void> {
    entry.stopped.abort();
    const pid = entry.process?.pid;
    const identity = pid === undefined ? undefined : identify(pid);
    if (identity) await endProcess(identity, this.#options.graceMs);
    await entry.supervised;
    if (pid !== undefined) this.#note((owned) => owned.forget(pid));
    this.#running.delete(entry.spec.name);
  }

  #endedAlone(entry: Running, how: string): void {
    if (entry.stopped.signal.aborted) return;
    this.#options.say(`${entry.spec.name} ended by itself (${how}); see ${this.#logOf(entry.spec.name)}`);
    this.#running.delete(entry.spec.name);
  }

  async #keepRunning(entry: Running, firstEnd: Promise<string>): Promise<void> {
    let backoff = FIRST_BACKOFF_MS;
    let ended = firstEnd;
    for (;;) {
      const since = performance.now();
      const how = await ended;
      if (entry.stopped.signal.aborted) return;
      if (performance.now() - since > WELL_AFTER_MS) backoff = FIRST_BACKOFF_MS;
      this.#options.say(
        `${entry.spec.name} ended (${how}); started again in ${backoff} ms; see ${this.#logOf(entry.spec.name)}`,
      );
      if (!(await pause(backoff, entry.stopped.signal))) return;
      backoff = Math.min(backoff * 2, LONGEST_BACKOFF_MS);
      const next = await this.#launch(entry, entry.spec).catch((error: unknown) => error as Error);
      ended = next instanceof Error ? Promise.resolve(next.message.split('\n')[0] ?? '') : next.ended;
    }
  }

  #logOf(name: string): string {
    return path.join(this.#options.logDir, `${name}.log`);
  }

  /** Notes in the file what runs, where that can be: a full disk ends no child, and keeps none from being started again. */
  #note(work: (owned: OwnedProcesses) => void): void {
    try {
      work(this.#options.owned);
    } catch (error) {
      this.#options.say(
        `what runs could not be noted: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  async #launch<Ready>(
    entry: Running,
    spec: ChildSpec<Ready>,
  ): Promise<{ pid: number; ready: Ready; ended: Promise<string> }> {
    const log = new ChildLog(this.#logOf(spec.name), this.#options.say);
    const child = fork(spec.module, [...(spec.args ?? [])], {
      env: { ...spec.env },
      execArgv: ['--require', compiledModule('workers/parent-guard')],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      detached: true,
    });
    entry.process = child;
    const { pid } = child;
    if (pid !== undefined) this.#note((owned) => owned.record(spec.name, pid));
    const order: GuardOrder = { cutOffMs: this.#options.graceMs };
    // One that ended before it could be told is seen below.
    child.send(order, () => undefined);
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('close', (code, signal) => {
        if (pid !== undefined) this.#note((owned) => owned.forget(pid));
        log.end();
        resolve(signal ?? `code ${code}`);
      });
    });
    const ready = await this.#awaitReady(child, spec, log, ended).catch(async (error: unknown) => {
      const identity = pid === undefined ? undefined : identify(pid);
      if (identity) await endProcess(identity, this.#options.graceMs);
      throw error;
    });
    if (pid === undefined) throw new Error(`${spec.name} could not be started`);
    return { pid, ready, ended };
  }

  async #awaitReady<Ready>(
    child: ChildProcess,
    spec: ChildSpec<Ready>,
    log: ChildLog,
    ended: Promise<string>,
  ): Promise<Ready> {
    const lastLines: string[] = [];
    const becameReady = new Promise<Ready>((resolve) => {
      for (const stream of [child.stdout, child.stderr]) {
        if (!stream) continue;
        createInterface({ input: stream }).on('line', (line) => {
          log.write(`[${spec.name}] ${line}`);
          if (lastLines.push(line) > 20) lastLines.shift();
          const answer = stream === child.stdout ? spec.ready(line) : undefined;
          if (answer !== undefined) resolve(answer);
        });
      }
    });
    const readyWithinMs = spec.readyWithinMs ?? 60_000;
    const over = new AbortController();
    try {
      return await Promise.race([
        becameReady,
        ended.then((how) =>
          Promise.reject(
            new Error(`${spec.name} ended before it was ready (${how}):\n${lastLines.join('\n')}`),
          ),
        ),
        sleep(readyWithinMs, undefined, { signal: over.signal }).then(() =>
          Promise.reject(
            new Error(
              `${spec.name} was not ready within ${readyWithinMs / 1_000} s; see ${this.#logOf(spec.name)}\n${lastLines.join('\n')}`,
            ),
          ),
        ),
      ]);
    } finally {
      over.abort();
    }
  }
}

/** Waits; answers `false` where it was cut short. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(ms, undefined, { signal });
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  }
}
