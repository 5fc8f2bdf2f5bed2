/** What a breaker does, written down a second time: plain numbers, no database. Times are milliseconds. */

export type Verdict = 'well' | 'ill' | 'none';

/** Of `breaker_terms()`, as production has them. */
export const TERMS = { failures: 10, within: 60_000, first: 5_000, longest: 300_000, look: 2_000 };

export interface ModelAttempt {
  readonly token: string;
  readonly system: string;
  readonly path: string;
  readonly admittedAt: number;
  readonly leaseUntil: number;
  readonly attemptNo: number;
  state: 'claimed' | 'open' | 'over' | 'replaced';
}

type State =
  | { readonly is: 'closed'; readonly since: number }
  | { readonly is: 'open'; readonly until: number; readonly openings: number }
  | {
      readonly is: 'half_open';
      readonly openings: number;
      readonly probe: { token: string; until: number } | null;
    };

export type Asked =
  { readonly let: 'in' } | { readonly let: 'wait'; readonly ms: number; readonly used: number };

export class BreakerModel {
  readonly #systems = new Map<string, { state: State; troubles: number[] }>();

  #of(system: string) {
    const known = this.#systems.get(system) ?? {
      state: { is: 'closed', since: -Infinity } as State,
      troubles: [] as number[],
    };
    this.#systems.set(system, known);
    return known;
  }

  ask(system: string, token: string, now: number, leaseMs: number): Asked {
    const breaker = this.#of(system);
    const { state } = breaker;
    if (state.is === 'closed') return { let: 'in' };
    const used = breaker.troubles.length;
    if (state.is === 'open' && now < state.until) return { let: 'wait', ms: state.until - now, used };
    if (state.is === 'half_open' && state.probe && now < state.probe.until)
      return { let: 'wait', ms: Math.min(TERMS.look, state.probe.until - now), used };
    breaker.state = { is: 'half_open', openings: state.openings, probe: { token, until: now + leaseMs } };
    return { let: 'in' };
  }

  /** An attempt that holds its call ended, or told of trouble. */
  heard(attempt: ModelAttempt, verdict: Verdict, now: number): void {
    const breaker = this.#of(attempt.system);
    const { state } = breaker;
    if (state.is === 'open') return;
    if (state.is === 'half_open') {
      if (state.probe?.token !== attempt.token) return;
      if (verdict === 'ill') {
        breaker.troubles.push(now);
        breaker.state = this.#opened(state.openings + 1, now);
      } else if (verdict === 'well') {
        breaker.troubles = [];
        breaker.state = { is: 'closed', since: now };
      } else breaker.state = { ...state, probe: null };
      return;
    }
    if (attempt.admittedAt < state.since || verdict === 'none') return;
    if (verdict === 'well') {
      breaker.troubles = [];
      return;
    }
    breaker.troubles.push(now);
    const recent = breaker.troubles.filter((at) => at > now - TERMS.within);
    if (recent.length >= TERMS.failures) breaker.state = this.#opened(1, now);
  }

  #opened(openings: number, now: number): State {
    return {
      is: 'open',
      openings,
      until: now + Math.min(TERMS.longest, TERMS.first * 2 ** (openings - 1)),
    };
  }

  /** Rows as `breakers()` shows them, by system. */
  shown(): Record<string, { state: string; failures: number; openings: number; openUntil?: number }> {
    return Object.fromEntries(
      [...this.#systems]
        .filter(([, { troubles }]) => troubles.length > 0)
        .map(([system, { state, troubles }]) => [
          system,
          {
            state: state.is,
            failures: troubles.length,
            openings: state.is === 'closed' ? 0 : state.openings,
            ...(state.is === 'open' && { openUntil: state.until }),
          },
        ]),
    );
  }
}
