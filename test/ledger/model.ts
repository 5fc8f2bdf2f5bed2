/**
 * What docs/ledger.md promises, said once more in plain TypeScript: no SQL, nothing shared with the code under test.
 * Times are milliseconds since 1970.
 */

export type ModelClass = 'read' | 'model' | 'write' | 'high_risk_write';
export interface Ask {
  readonly run: string;
  readonly path: string;
  readonly digest: string;
  readonly action: string;
  readonly class: ModelClass;
  readonly token: string;
  readonly policyVersion: number;
  readonly denied: boolean;
  readonly entered: boolean;
  readonly ahead: number;
  readonly leaseMs: number;
  readonly toolCalls: number;
  readonly steps: number;
  readonly microUsd: number;
}
export interface Said {
  answer: 'admitted' | 'recover' | 'replayed' | 'in_flight' | 'stale' | 'refused';
  attempt?: number;
  epoch?: number;
  lookupOnly?: boolean;
  state?: string;
  rule?: string;
  kind?: string;
  value?: number;
  used?: number;
  retryAfterMs?: number;
  policyVersion?: number;
}
export type Result = 'succeeded' | 'failed' | 'open' | 'unknown';

interface Cost {
  toolCalls: number;
  microUsd: number;
}
interface Attempt extends Cost {
  day: number;
  /** What it is charged so far, and whether that is the truth already. */
  charged: Cost;
  true: boolean;
}
interface Call {
  firstClaimedAt: number;
  digest: string;
  class: ModelClass;
  state: 'claimed' | Result;
  lost: boolean;
  token: string;
  said: Said;
  attempts: number;
  leaseUntil: number;
  steps: number;
  rule: string | undefined;
}
interface Run {
  closed: boolean;
  steps: number;
  toolCalls: number;
  microUsd: number;
  refusals: number;
}

const DAY = 86_400_000;
const MINUTE = 60_000;
const isWrite = (of: ModelClass) => of === 'write' || of === 'high_risk_write';

export class LedgerModel {
  now: number;
  last: number;
  mode: 'normal' | 'killed' = 'normal';
  epoch = 0;
  controlVersion = 0;
  policyVersion = 1;
  inflight = 0;
  rewound = 0;
  acknowledged = 0;
  readonly days = new Map<number, number>();
  readonly runs = new Map<string, Run>();
  readonly refusals = new Map<string, number>();
  readonly #acceptedUnder = new Map<string, number>();
  readonly #calls = new Map<string, Call>();
  readonly #attempts = new Map<string, Attempt>();
  readonly #floods = new Map<string, number>();

  constructor(
    start: number,
    public limits: { callsInFlight: number; toolCallsPerDay: number; perRunSteps: number },
  ) {
    this.now = this.last = start;
  }

  get time(): number {
    return Math.max(this.now, this.last);
  }
  get today(): number {
    return Math.floor(this.time / DAY);
  }

  admit(ask: Ask): Said {
    const n = this.time;
    const rewound = this.rewound > 0 || ask.ahead > this.acknowledged;
    const key = `${ask.run}|${ask.path}`;
    const call = this.#calls.get(key);
    let attempt = 1;
    let passesSlotOn = false;
    if (call) {
      if (call.state === 'claimed' && call.token === ask.token) return call.said;
      if (call.state === 'claimed' && n < call.leaseUntil) {
        return { answer: 'in_flight', retryAfterMs: Math.min(1_000, call.leaseUntil - n) };
      }
      if (isWrite(call.class) && call.digest !== ask.digest) {
        return this.#refuse(ask, rewound, { kind: 'idempotency_conflict', rule: 'idempotency_conflict' });
      }
      const finished = call.state === 'succeeded' || call.state === 'failed' || call.state === 'unknown';
      if (finished && call.digest === ask.digest && (!call.lost || call.token === ask.token)) {
        return { answer: 'replayed', state: call.state, ...(call.rule !== undefined && { rule: call.rule }) };
      }
      if (call.state === 'claimed' && isWrite(call.class)) {
        const barred =
          rewound ||
          this.mode === 'killed' ||
          this.policyVersion !== ask.policyVersion ||
          ask.denied ||
          this.#fenced(ask.run) ||
          call.attempts >= 8 ||
          n > call.firstClaimedAt + DAY;
        const said: Said = {
          answer: 'recover',
          lookupOnly: barred,
          attempt: call.attempts + 1,
          epoch: this.epoch,
        };
        const held = this.#attempts.get(call.token);
        if (held) {
          this.#attempts.delete(call.token);
          this.#attempts.set(ask.token, held);
        }
        Object.assign(call, {
          token: ask.token,
          said,
          attempts: call.attempts + 1,
          leaseUntil: n + ask.leaseMs,
        });
        this.last = n;
        return said;
      }
      passesSlotOn = call.state === 'claimed';
      attempt = call.digest === ask.digest ? call.attempts + 1 : 1;
    }

    if (rewound) return this.#refuse(ask, true, { kind: 'failed', rule: 'ledger_rewound' });
    if (this.mode === 'killed') return this.#refuse(ask, false, { kind: 'killed', rule: 'tenant_killed' });
    if (this.#fenced(ask.run)) return this.#refuse(ask, false, { kind: 'killed', rule: 'run_fenced' });
    if (this.policyVersion !== ask.policyVersion)
      return { answer: 'stale', policyVersion: this.policyVersion };
    if (ask.denied) return this.#refuse(ask, false, { kind: 'denied', rule: 'no-mail' });
    const run = this.runs.get(ask.run);
    if (!run) return this.#refuse(ask, false, { kind: 'denied', rule: 'run_not_entered' });
    if (run.closed) return this.#refuse(ask, false, { kind: 'denied', rule: 'run_closed' });
    if (!ask.entered) return this.#refuse(ask, false, { kind: 'denied', rule: 'run_not_entered' });
    if (call && attempt > 8) {
      if (passesSlotOn) this.inflight -= 1;
      Object.assign(call, { state: 'failed', lost: false, token: ask.token, rule: 'attempts_exhausted' });
      run.refusals += 1;
      this.last = n;
      return { answer: 'refused', kind: 'failed', rule: 'attempts_exhausted', value: 8, used: call.attempts };
    }
    if (!passesSlotOn && this.inflight >= this.limits.callsInFlight) {
      const why = { value: this.limits.callsInFlight, used: this.inflight, retryAfterMs: 500 };
      return this.#refuse(ask, false, { kind: 'throttled', rule: 'calls_in_flight', ...why });
    }
    const used = this.days.get(this.today) ?? 0;
    if (ask.toolCalls > 0 && used + ask.toolCalls > this.limits.toolCallsPerDay) {
      const why = { value: this.limits.toolCallsPerDay, used, retryAfterMs: (this.today + 1) * DAY - n };
      return this.#refuse(ask, false, { kind: 'throttled', rule: 'tool_calls_per_day', ...why });
    }
    if (ask.steps > 0 && run.steps + ask.steps > this.limits.perRunSteps) {
      const why = { value: this.limits.perRunSteps, used: run.steps };
      return this.#refuse(ask, false, { kind: 'budget_exceeded', rule: 'per_run_steps', ...why });
    }

    const said: Said = { answer: 'admitted', attempt, epoch: this.epoch };
    this.#calls.set(key, {
      firstClaimedAt: call?.firstClaimedAt ?? n,
      digest: ask.digest,
      class: ask.class,
      state: 'claimed',
      lost: false,
      token: ask.token,
      said,
      attempts: attempt,
      leaseUntil: n + ask.leaseMs,
      steps: ask.steps,
      rule: undefined,
    });
    const cost = { toolCalls: ask.toolCalls, microUsd: ask.microUsd };
    this.#attempts.set(ask.token, { ...cost, day: this.today, charged: cost, true: false });
    if (!passesSlotOn) this.inflight += 1;
    this.#charge(ask.run, this.today, cost);
    run.steps += ask.steps;
    this.last = n;
    return said;
  }

  settle(run: string, path: string, token: string, result: Result, charge: Cost): string {
    const call = this.#calls.get(`${run}|${path}`);
    const attempt = this.#attempts.get(token);
    const truth = result === 'open' ? { toolCalls: 0, microUsd: 0 } : charge;
    const charged = (to: Cost) => {
      if (!attempt) return;
      const { toolCalls, microUsd } = attempt.charged;
      this.#charge(run, attempt.day, {
        toolCalls: to.toolCalls - toolCalls,
        microUsd: to.microUsd - microUsd,
      });
      attempt.charged = to;
      attempt.true = true;
    };
    if (call?.token === token && call.state === 'claimed') {
      if (result === 'unknown') Object.assign(attempt ?? {}, { true: true });
      else charged(truth);
      this.inflight -= 1;
      if (result === 'open') this.#run(run).steps -= call.steps;
      Object.assign(call, { state: result, rule: undefined });
      this.last = this.time;
      return 'settled';
    }
    if (call?.token === token && call.state === 'unknown' && result === 'succeeded') {
      charged(truth);
      Object.assign(call, { state: 'succeeded', rule: undefined });
      this.last = this.time;
      return 'reconciled';
    }
    if (call?.token === token && !(attempt && !attempt.true)) return 'already';
    if (attempt && !attempt.true && result !== 'unknown') charged(truth);
    this.last = this.time;
    return 'late';
  }

  /** Ends what outlived its lease; closes the minutes that are over. Answers how many calls it ended. */
  reap(): number {
    let reaped = 0;
    for (const [key, call] of this.#calls) {
      if (call.state !== 'claimed' || call.leaseUntil > this.now) continue;
      const closed = this.runs.get(key.split('|')[0] ?? '')?.closed ?? true;
      if (isWrite(call.class) && !closed) continue;
      Object.assign(call, {
        state: isWrite(call.class) ? 'unknown' : 'failed',
        lost: !isWrite(call.class),
        rule: 'lost',
      });
      if (isWrite(call.class)) Object.assign(this.#attempts.get(call.token) ?? {}, { true: true });
      this.inflight -= 1;
      this.last = this.time;
      reaped += 1;
    }
    const minute = (at: number) => Math.floor(at / MINUTE);
    if ([...this.#floods.values()].some((at) => at < minute(this.now))) {
      for (const [key, at] of this.#floods) if (at < minute(this.time)) this.#floods.delete(key);
      this.last = this.time;
    }
    return reaped;
  }

  start(run: string): boolean {
    if (this.rewound > 0 || this.mode === 'killed') {
      const kind = this.rewound > 0 ? 'failed' : 'killed';
      this.#count(this.rewound > 0 ? 'ledger_rewound' : 'tenant_killed', 'run.accept', kind);
      return false;
    }
    this.#acceptedUnder.set(run, this.epoch);
    this.runs.set(run, {
      closed: false,
      steps: 0,
      toolCalls: 0,
      microUsd: 0,
      refusals: 0,
    });
    this.last = this.time;
    return true;
  }

  leave(run: string): void {
    const row = this.runs.get(run);
    if (!row || row.closed) return;
    row.closed = true;
    this.last = this.time;
  }

  kill(): void {
    if (this.mode === 'killed') return;
    this.mode = 'killed';
    this.epoch += 1;
    this.#act();
  }

  release(): void {
    if (this.mode === 'normal' && this.rewound === 0) return;
    this.mode = 'normal';
    this.acknowledged = Math.max(this.acknowledged, this.rewound);
    this.rewound = 0;
    this.#act();
  }

  publish(version: number): void {
    this.policyVersion = version;
    this.#act();
  }

  setLimits(limits: LedgerModel['limits']): void {
    this.limits = limits;
    this.#act();
  }

  #act(): void {
    this.controlVersion += 1;
    this.last = this.time;
  }

  #refuse(ask: Ask, rewound: boolean, why: Omit<Said, 'answer'> & { rule: string; kind: string }): Said {
    const run = this.runs.get(ask.run);
    if (run) run.refusals += 1;
    if (rewound && this.rewound === 0) this.controlVersion += 1;
    if (rewound) this.rewound = Math.max(this.rewound, ask.ahead);
    this.#count(why.rule, ask.action, why.kind);
    return { answer: 'refused', ...why };
  }

  #count(rule: string, action: string, kind: string): void {
    const key = [rule, this.policyVersion, action, kind].join('/');
    this.refusals.set(key, (this.refusals.get(key) ?? 0) + 1);
    this.#floods.set(key, Math.floor(this.time / MINUTE));
    this.last = this.time;
  }

  #charge(run: string, day: number, cost: Cost): void {
    this.days.set(day, (this.days.get(day) ?? 0) + cost.toolCalls);
    const row = this.#run(run);
    row.toolCalls += cost.toolCalls;
    row.microUsd += cost.microUsd;
  }

  #fenced(run: string): boolean {
    return (this.#acceptedUnder.get(run) ?? this.epoch) < this.epoch;
  }

  #run(run: string): Run {
    const row = this.runs.get(run);
    if (!row) throw new Error(`the model charges a run that it does not know: ${run}`);
    return row;
  }
}
