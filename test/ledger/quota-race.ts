import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunId } from '../../contracts/ids';
import type { TestDatabase } from '../support/database';
import { seeded } from '../support/hostile-urls';
import { LedgerWorld, type LedgerTenant } from './harness';
import { breachesOf, figuresOf, type RaceFigures } from './quota-race-check';
import { RACE_ZONES, racingLimits } from './quota-race-limits';
import { RACE_ORDER, type RaceOrder, type RacerWord, type RaceWord } from './quota-racer';
import { race, RACE_LEASE_MS, untilHeard } from './quota-racing';

const ROOT = resolve(__dirname, '../..');
const TENANT_RUNS = 4;
/** Answers that no limit had a part in. */
const NO_RESERVATION = new Set([
  'in_flight',
  'replayed',
  'recover',
  'idempotency_conflict',
  'run_fenced',
  'tenant_killed',
  'run_closed',
]);

export interface RaceOptions {
  readonly seed: number;
  /** Answers to reservations, admitted and refused, that are heard at least. */
  readonly reservations: number;
  /** Processes that are killed again and again, and the racers in each; as many racers are in this process. */
  readonly processes: number;
  readonly lanes: number;
  /** SIGKILLs, spread over the race; fences and changes of limits, too. */
  readonly kills: number;
  readonly fences: number;
  readonly limitChanges: number;
  readonly database?: TestDatabase;
  readonly onProgress?: (done: number) => void;
}
export interface RaceReport extends RaceFigures {
  /** Answers to reservations that were heard, by rule or answer. */
  readonly heard: Readonly<Record<string, number>>;
  /** Answers that a cut connection took away, asked for again. */
  readonly unheard: number;
  readonly kills: number;
  readonly fences: number;
  readonly limitChanges: number;
  /** What does not hold, in words. */
  readonly breaches: readonly string[];
}

/** Layers, without the names that some are put behind, that the race has to be stopped by to prove anything. */
export const BINDING: readonly string[] = [
  'calls_in_flight',
  'tool_calls_per_day',
  'steps_per_day',
  'active_seconds_per_day',
  'spend_micro_usd_per_day',
  'model_tokens_per_day',
  'high_risk_writes_per_day',
  'calls_per_minute',
  'model_tokens_per_minute',
  'per_run_steps',
];
/** Those of the layers that refused nothing in the race. */
export function unbound({ refusals }: RaceReport, layers: readonly string[]): string[] {
  const bound = new Set(Object.keys(refusals).map((rule) => rule.replace(/^.*\//, '')));
  return layers.filter((layer) => !bound.has(layer));
}

/**
 * Racers in several processes reserve at caps on every layer at once, while processes are killed, connections cut, lost attempts
 * reaped, fences raised and limits changed. Then everybody goes home, and tables, journal and what was told are held against
 * each other (promise Q2).
 */
export async function quotaRace(options: RaceOptions): Promise<RaceReport> {
  const world = await LedgerWorld.open(options.lanes, options.database);
  const racing = new Race(world, options);
  try {
    return await racing.run();
  } finally {
    await racing.end();
    await world.close();
  }
}

class Race {
  #tenant!: LedgerTenant;
  #runs: readonly RunId[] = [];
  #over = false;
  #done = 0;
  #kills = 0;
  #fences = 0;
  #limitChanges = 0;
  #unheard = 0;
  #starts = 0;
  readonly #heard: Record<string, number> = {};
  readonly #told = { admitted: new Set<string>(), settled: new Set<string>() };
  readonly #children = new Set<ChildProcess>();
  readonly #faults: string[] = [];
  readonly #below;

  constructor(
    readonly world: LedgerWorld,
    readonly options: RaceOptions,
  ) {
    this.#below = seeded(options.seed);
  }

  async run(): Promise<RaceReport> {
    const { processes, lanes, reservations, seed } = this.options;
    this.#tenant = await this.world.tenant({ callsInFlight: 14, timeZone: RACE_ZONES[0]! });
    await this.#startRuns();
    for (let no = 0; no < processes; no += 1) this.#launch();
    const here = Array.from({ length: lanes }, (_, no) =>
      race(this.#tenant, {
        name: `here-${no}`,
        seed: seed * 1_000 + no,
        runs: () => this.#runs,
        over: () => this.#over,
        asked: (what) => this.#hear({ [what]: 1 }),
        unheard: () => (this.#unheard += 1),
        told: (kind, token) => this.#told[kind].add(token),
      }),
    );
    await this.#together([...here, this.#operate(reservations), this.#reap(), this.#cut()]);
    await this.#goHome();
    const { verdict, breaches } = await breachesOf(this.#tenant, this.#told);
    const figures = figuresOf(verdict);
    return {
      ...figures,
      heard: Object.fromEntries(Object.entries(this.#heard).sort()),
      unheard: this.#unheard,
      kills: this.#kills,
      fences: this.#fences,
      limitChanges: this.#limitChanges,
      breaches: [...this.#faults, ...breaches],
    };
  }

  async end(): Promise<void> {
    this.#over = true;
    const left = [...this.#children];
    for (const child of left) child.kill('SIGKILL');
    const ending = left.filter((child) => (child.exitCode ?? child.signalCode) === null);
    await Promise.all(ending.map((child) => once(child, 'close')));
  }

  /** All of them to their end; the first that fails ends the race for the others, and is thrown. */
  async #together(parts: readonly Promise<void>[]): Promise<void> {
    const failures: unknown[] = [];
    const failed = (error: unknown) => {
      failures.push(error);
      this.#over = true;
    };
    await Promise.all(parts.map((part) => part.catch(failed)));
    if (failures.length > 0) throw failures[0];
  }

  /** Kills, fences and changes limits, each at its share of the way. */
  async #operate(reservations: number): Promise<void> {
    const due = (times: number, done: number): boolean =>
      done < Math.floor((this.#done / reservations) * (times + 1));
    const { limitChanges } = this.options;
    while (!this.#over && (this.#done < reservations || this.#kills < this.options.kills)) {
      if (due(limitChanges, this.#limitChanges)) {
        this.#limitChanges += 1;
        const quota = await racingLimits(this.#tenant, {
          turn: this.#limitChanges,
          turns: limitChanges,
          reservations,
          below: this.#below,
        });
        await untilHeard(() => this.#tenant.setLimits(quota));
      }
      if (due(this.options.fences, this.#fences)) {
        this.#fences += 1;
        await untilHeard(() => this.#tenant.store.kill({ reason: 'race', actor: 'op' }));
        await sleep(20);
        await untilHeard(() => this.#tenant.store.release({ reason: 'race', actor: 'op' }));
        await this.#leaveRuns();
        await this.#startRuns();
      }
      if (due(this.options.kills, this.#kills)) await this.#kill();
      this.options.onProgress?.(Math.min(this.#done, reservations));
      await sleep(15);
    }
    this.#over = true;
    for (const child of this.#children) if (child.connected) child.send('stop' satisfies RaceWord);
    await Promise.all([...this.#children].map((child) => once(child, 'close')));
  }

  async #reap(): Promise<void> {
    while (!this.#over) {
      await untilHeard(() => this.world.platform.reapCalls(100));
      await sleep(60);
    }
  }

  /** Connections of this process's racers and of the others' end in the middle of whatever they do. */
  async #cut(): Promise<void> {
    while (!this.#over) {
      await this.world.admin.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name = 'test/ledger' order by random() limit 1`,
      );
      await sleep(80);
    }
  }

  /** One that serves dies, and another takes its place. */
  async #kill(): Promise<void> {
    const serving = [...this.#children].filter((child) => this.#serving.has(child));
    const victim = serving[this.#below(Math.max(1, serving.length))];
    if (!victim) return;
    const closed = once(victim, 'close');
    victim.kill('SIGKILL');
    await closed;
    this.#kills += 1;
    this.#launch();
  }

  readonly #serving = new WeakSet<ChildProcess>();
  #launch(): void {
    const { adminUrl, appUrl, operatorUrl, name } = this.world.database;
    const order: RaceOrder = {
      database: { adminUrl, appUrl, operatorUrl, name },
      tenantId: this.#tenant.tenantId,
      name: `p${(this.#starts += 1)}`,
      seed: this.options.seed * 1_000 + this.#starts,
      lanes: this.options.lanes,
      runs: this.#runs,
    };
    let words = '';
    const child = spawn(
      process.execPath,
      [resolve(ROOT, 'scripts/run.js'), resolve(__dirname, 'quota-racer.ts')],
      {
        cwd: ROOT,
        env: { ...process.env, [RACE_ORDER]: JSON.stringify(order) },
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      },
    );
    this.#children.add(child);
    child.stderr?.on('data', (chunk: Buffer) => (words = (words + chunk.toString()).slice(-2_000)));
    child.on('message', (word: RacerWord) => {
      if (word === 'ready') {
        this.#serving.add(child);
        child.send({ runs: this.#runs } satisfies RaceWord);
        return;
      }
      this.#hear(word.asked);
      this.#unheard += word.unheard;
    });
    child.once('close', (code, signal) => {
      this.#children.delete(child);
      if (signal === 'SIGKILL' || code === 0) return;
      this.#faults.push(`a process of racers ended by itself (${signal ?? `code ${code}`}): ${words.trim()}`);
      this.#over = true;
    });
  }

  #hear(asked: Readonly<Record<string, number>>): void {
    for (const [what, count] of Object.entries(asked)) {
      this.#heard[what] = (this.#heard[what] ?? 0) + count;
      if (!NO_RESERVATION.has(what)) this.#done += count;
    }
  }

  async #startRuns(): Promise<void> {
    this.#runs = await Promise.all(
      Array.from({ length: TENANT_RUNS }, () => untilHeard(() => this.#tenant.run())),
    );
    for (const child of this.#children)
      if (child.connected) child.send({ runs: this.#runs } satisfies RaceWord);
  }
  async #leaveRuns(): Promise<void> {
    for (const runId of this.#runs) {
      const undo = { onFailure: false, onKill: false };
      const left = { runId, temporalRunId: null, stopReason: 'cancelled', outputRef: null, undo } as const;
      await untilHeard(() => this.#tenant.store.leaveRun(left));
    }
  }

  /** Nobody works any more: what was claimed outlives its lease, and is reaped. */
  async #goHome(): Promise<void> {
    await this.#leaveRuns();
    await sleep(RACE_LEASE_MS + 100);
    while ((await untilHeard(() => this.world.platform.reapCalls(500))) > 0);
  }
}
