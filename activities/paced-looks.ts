/** So often a second all calls of a tenant that wait for one limit may look together, however slowly its calls end. */
const LEAST_PER_SECOND = 10;
/** Looks for each call that ended: a little more than ends, or what was freed would stand idle. */
const LOOKS_PER_END = 1.5;
/** Nobody is put off for longer, milliseconds, however large the crowd. */
const LONGEST_MS = 5_000;
/** Nor for longer than this after the moment that it was told. */
const LONGEST_AFTER_MS = 15_000;
const SECOND_MS = 1_000;
/** Tenants beyond which those that wait for nothing are forgotten. */
const MANY = 1_000;

interface Pace {
  /** When the last of a line looks, monotonic, by what it waits for. */
  readonly last: Map<string, number>;
  /** Calls that ended in the second that began then, and in the one before. */
  second: { readonly began: number; ended: number; before: number };
}

/**
 * When calls that wait in place look again. Each look is an attempt that Temporal has to keep, time and hand out, and a crowd that
 * waits for a place among the calls in flight looked as often as it was large: hundreds of times a second, for a handful
 * of places. So those of a tenant that wait for one limit look one after the other, about as often as its calls end on this host: a
 * crowd costs its neighbours little more than the work that it is let do. Nothing is put off for longer than
 * five seconds; beyond what that lets look in turns, a crowd looks more often again.
 */
export class PacedLooks {
  readonly #tenants = new Map<string, Pace>();

  constructor(private readonly now: () => number = () => performance.now()) {}

  /** How long a call of the tenant that was refused by this rule waits, whole milliseconds: never shorter than `pauseMs`. */
  pause(tenantId: string, rule: string, pauseMs: number): number {
    const pace = this.#of(tenantId, this.now());
    const perSecond = Math.max(LEAST_PER_SECOND, LOOKS_PER_END * endedPerSecond(pace));
    return this.#turn(tenantId, rule, perSecond, pauseMs, LONGEST_MS);
  }

  /**
   * How long a call waits that is told when to come again, and told the same as all others of its line, whole milliseconds: they come one
   * after the other from then on, ten a second, for what ends meanwhile is none of theirs. All at once they held up the whole machine,
   * each time that a breaker let one of them try.
   */
  after(tenantId: string, line: string, toldMs: number): number {
    return this.#turn(tenantId, line, LEAST_PER_SECOND, toldMs, toldMs + LONGEST_AFTER_MS);
  }

  #turn(tenantId: string, line: string, perSecond: number, soonestMs: number, latestMs: number): number {
    const now = this.now();
    const { last } = this.#of(tenantId, now);
    const turn = (last.get(line) ?? 0) + SECOND_MS / perSecond;
    const at = Math.max(now + soonestMs, Math.min(turn, now + latestMs));
    last.set(line, at);
    return Math.round(at - now);
  }

  /** Tenants of which something is kept. */
  get size(): number {
    return this.#tenants.size;
  }

  /** A call of the tenant is over. */
  ended(tenantId: string): void {
    this.#of(tenantId, this.now()).second.ended += 1;
  }

  #of(tenantId: string, now: number): Pace {
    let pace = this.#tenants.get(tenantId);
    if (!pace) {
      if (this.#tenants.size >= MANY) this.#forget(now);
      pace = { last: new Map(), second: { began: now, ended: 0, before: 0 } };
      this.#tenants.set(tenantId, pace);
    }
    const { began, ended } = pace.second;
    if (now - began >= SECOND_MS)
      pace.second = { began: now, ended: 0, before: now - began < 2 * SECOND_MS ? ended : 0 };
    return pace;
  }

  #forget(now: number): void {
    for (const [tenantId, { last, second }] of this.#tenants)
      if (now - second.began > SECOND_MS && [...last.values()].every((at) => at < now))
        this.#tenants.delete(tenantId);
  }
}

const endedPerSecond = ({ second: { ended, before } }: Pace): number => Math.max(ended, before);
