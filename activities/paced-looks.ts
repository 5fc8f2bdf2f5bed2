import { BREAKER_OPEN } from '../contracts/breakers';
import type { Refusal } from '../contracts/refusal';

/** So often a second all calls of a tenant in one line may look together, however slowly its calls end. */
const LEAST_PER_SECOND = 10;
/** Looks for each call that ended: a little more than ends, or what was freed would stand idle. */
const LOOKS_PER_END = 1.5;
/** Nobody is put off for longer, milliseconds, however large the crowd. */
const LONGEST_MS = 20_000;
const SECOND_MS = 1_000;
/** Tenants beyond which those that wait for nothing are forgotten. */
const MANY = 1_000;

/** The longest of the pauses between looks of one that waits alone for a limit, milliseconds. Who is told a later moment, comes then. */
export const LONGEST_ALONE_MS = 1_000;

/**
 * The line in which a call that waits in place takes its turn; `undefined` where it waits alone, as every undo does. An open breaker
 * tells all that it keeps waiting one moment, so they take turns from it on. Who is refused by a limit for the first time waits
 * alone, for a crowd may be gone by now.
 */
export function lineOf(
  { rule, kind }: Pick<Refusal, 'rule' | 'kind'>,
  { turn, pauseMs, system, undo }: { turn: number; pauseMs: number; system: string | null; undo: boolean },
): string | undefined {
  if (undo) return undefined;
  if (rule === BREAKER_OPEN) return breakerLine(system);
  return turn > 1 && kind === 'throttled' && pauseMs <= LONGEST_ALONE_MS ? rule : undefined;
}

const breakerLine = (system: string | null): string => `${BREAKER_OPEN} ${system}`;

interface Pace {
  /** When the last of each line looks, monotonic. */
  readonly last: Map<string, number>;
  /** Calls that ended in the second that began then, and in the one before. */
  second: { readonly began: number; ended: number; before: number };
}

/**
 * When calls that wait in place look again. Each look is an attempt that Temporal has to keep, time and hand out, and a crowd that
 * waits for a place among the calls in flight looked as often as it was large: hundreds of times a second, for a handful
 * of places. So those of a tenant that wait for one limit, or for one breaker, look one after the other, about as often as its
 * calls end on this host: a crowd costs its neighbours little more than the work that it is let do. Nothing is put off for longer
 * than twenty seconds; a crowd that is larger than what that lets look in turns, two hundred, looks more often again.
 */
export class PacedLooks {
  readonly #tenants = new Map<string, Pace>();

  constructor(private readonly now: () => number = () => performance.now()) {}

  /** How long a call of the tenant in this line waits, whole milliseconds: never shorter than `pauseMs`. */
  pause(tenantId: string, line: string, pauseMs: number): number {
    const now = this.now();
    const pace = this.#of(tenantId, now);
    const apart = SECOND_MS / Math.max(LEAST_PER_SECOND, LOOKS_PER_END * endedPerSecond(pace));
    const turn = (pace.last.get(line) ?? 0) + apart;
    const at = Math.max(now + pauseMs, Math.min(turn, now + LONGEST_MS));
    pace.last.set(line, at);
    return Math.round(at - now);
  }

  /** Tenants of which something is kept. */
  get size(): number {
    return this.#tenants.size;
  }

  /** A system has answered a call of the tenant: nobody has to stand behind those that its breaker kept waiting. */
  answered(tenantId: string, system: string): void {
    this.#tenants.get(tenantId)?.last.delete(breakerLine(system));
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
