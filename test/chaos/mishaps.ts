import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkerProcess } from '../support/worker-process';
import type { ChaosPlan, Moment } from './plan';

/** The planned mishaps that come at moments of the work: kills of a whole process, crashes of the database. */
export class Mishaps {
  #kills: (Moment & { host: number })[];
  #crashes: Moment[];
  #under: Promise<void>[] = [];
  #crashing: Promise<void> = Promise.resolve();
  #running = 0;
  killed = 0;
  crashed = 0;

  constructor(
    plan: ChaosPlan,
    private readonly hosts: readonly WorkerProcess[],
    private readonly crashDatabase: () => Promise<void>,
  ) {
    this.#kills = plan.kills.flatMap((kill) => (kill.at === 'moment' ? [kill] : []));
    this.#crashes = [...plan.crashes];
  }

  /** Starts what is due after so many effects. */
  look(effects: number): void {
    const isDue = (moment: Moment): boolean => moment.afterEffects <= effects;
    for (const kill of this.#kills.filter(isDue)) this.#start(() => this.#kill(kill));
    this.#kills = this.#kills.filter((kill) => !isDue(kill));
    for (const crash of this.#crashes.filter(isDue)) {
      this.#start(() => {
        // One at a time: a server that is down cannot be crashed.
        this.#crashing = this.#crashing.then(async () => {
          await sleep(crash.delayMs);
          await this.crashDatabase();
          this.crashed += 1;
        });
        return this.#crashing;
      });
    }
    this.#crashes = this.#crashes.filter((crash) => !isDue(crash));
  }

  /** Something is under way. */
  get busy(): boolean {
    return this.#running > 0;
  }

  /** Resolves once nothing is under way; rejects with what went wrong in it. */
  async settled(): Promise<void> {
    await Promise.all(this.#under);
  }

  async #kill({ host, delayMs }: Moment & { host: number }): Promise<void> {
    await sleep(delayMs);
    const victim = this.hosts[host] as WorkerProcess;
    await victim.ready();
    if (victim.kill()) this.killed += 1;
  }

  #start(body: () => Promise<void>): void {
    this.#running += 1;
    this.#under.push(body().finally(() => (this.#running -= 1)));
  }
}
