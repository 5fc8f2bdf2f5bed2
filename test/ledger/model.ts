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
  /** The Temporal run that asks. */
  readonly workflow: string;
  readonly host: string;
  readonly undoOf: string | null;
  readonly pastFence: boolean;
  readonly account: string;
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
  quietMs?: number | null;
  reviewed?: boolean;
  state?: string;
  rule?: string;
  kind?: string;
  value?: number;
  used?: number;
  retryAfterMs?: number;
  policyVersion?: number;
}
export type Result = 'succeeded' | 'failed' | 'open' | 'unknown';

/** What the writer says of an outcome beside its result, as far as a review depends on it. */
export type Doubt = 'none' | 'read_back_mismatch' | 'scope_ambiguous';
export type Resolution = 'happened' | 'did_not_happen' | 'abandon';
export interface Review {
  readonly run: string;
  readonly path: string;
  readonly token: string;
  readonly class: ModelClass;
  readonly kind: 'outcome_unknown' | 'read_back_mismatch' | 'undo_failed' | 'scope_ambiguous';
  resolution: Resolution | null;
}
export interface Letter {
  readonly run: string;
  readonly path: string;
  readonly class: ModelClass;
  readonly rule: 'attempts_exhausted' | 'did_not_happen';
  state: 'dead' | 'retried' | 'discarded';
}
export interface FollowUp {
  readonly run: string;
  readonly kind: 'undo' | 'retry';
  readonly path: string | null;
  /** Which of the letters. */
  readonly letter: number | null;
  state: 'wanted' | 'entered' | 'done';
  epoch: number;
  workflow: string | null;
}

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
export interface Call {
  firstClaimedAt: number;
  digest: string;
  class: ModelClass;
  state: 'claimed' | Result;
  lost: boolean;
  token: string;
  said: Said;
  attempts: number;
  leaseUntil: number;
  sentUntil: number;
  /** Of the last attempt that could send. */
  account: string;
  host: string;
  /** In the order of first claims. */
  order: number;
  undoOf: string | null;
  review: Review | null;
  steps: number;
  rule: string | undefined;
}
interface Run {
  closed: boolean;
  /** An undo of it was entered. */
  undone: boolean;
  workflow: string;
  acceptedAt: number;
  steps: number;
  toolCalls: number;
  microUsd: number;
  refusals: number;
}

const DAY = 86_400_000;
const MINUTE = 60_000;
export const HORIZON = 90 * DAY;
export const isWrite = (of: ModelClass) => of === 'write' || of === 'high_risk_write';

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
  /** In the order of their numbers. */
  readonly reviews: Review[] = [];
  readonly letters: Letter[] = [];
  readonly followUps: FollowUp[] = [];
  protected readonly acceptedUnder = new Map<string, number>();
  readonly calls = new Map<string, Call>();
  protected readonly attempts = new Map<string, Attempt>();
  #claims = 0;
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
    const call = this.calls.get(key);
    let attempt = 1;
    let passesSlotOn = false;
    const run = this.runs.get(ask.run);
    const own = run !== undefined && !run.closed && run.workflow === ask.workflow;
    const undoes = ask.undoOf !== null;
    const past = undoes && ask.pastFence;
    const followUp =
      undoes || !own
        ? this.followUps.findLast(
            (each) =>
              each.run === ask.run &&
              each.state === 'entered' &&
              each.workflow === ask.workflow &&
              (each.kind === 'undo' || each.path === ask.path),
          )
        : undefined;
    const under = (undoes ? followUp?.epoch : undefined) ?? this.acceptedUnder.get(ask.run) ?? this.epoch;
    const fenced = under < this.epoch && !past;
    if (call) {
      if (call.state === 'claimed' && call.token === ask.token) return call.said;
      if (call.state === 'claimed' && n < call.leaseUntil) {
        return { answer: 'in_flight', retryAfterMs: Math.min(1_000, call.leaseUntil - n) };
      }
      if (rewound && call.state !== 'succeeded')
        return this.refuse(ask, true, { kind: 'frozen', rule: 'ledger_rewound', retryAfterMs: 30_000 });
      const over = call.state !== 'claimed';
      if (isWrite(call.class) && call.digest !== ask.digest && !(undoes && over)) {
        if (!over) {
          this.lose(key, call, 'arguments_changed');
          if (undoes) {
            this.runOf(ask.run).refusals += 1;
            return replayed(call);
          }
        }
        return this.refuse(ask, rewound, { kind: 'idempotency_conflict', rule: 'idempotency_conflict' });
      }
      const finished = call.state === 'succeeded' || call.state === 'failed' || call.state === 'unknown';
      if (finished && (call.digest === ask.digest || undoes) && (!call.lost || call.token === ask.token)) {
        return replayed(call);
      }
      if (call.state === 'claimed' && isWrite(call.class)) {
        if (this.policyVersion !== ask.policyVersion)
          return { answer: 'stale', policyVersion: this.policyVersion };
        const elsewhere = call.account !== ask.account;
        const barred =
          (this.mode === 'killed' && !past) ||
          elsewhere ||
          ask.denied ||
          fenced ||
          (!own && !followUp) ||
          call.attempts >= 8 ||
          n + ask.leaseMs > call.firstClaimedAt + DAY;
        const said: Said = {
          answer: 'recover',
          lookupOnly: barred,
          attempt: call.attempts + 1,
          epoch: this.epoch,
          quietMs: elsewhere ? null : n - call.sentUntil,
        };
        const held = this.attempts.get(call.token);
        if (held) {
          this.attempts.delete(call.token);
          this.attempts.set(ask.token, held);
        }
        Object.assign(call, {
          token: ask.token,
          said,
          attempts: call.attempts + 1,
          leaseUntil: n + ask.leaseMs,
          sentUntil: barred ? call.sentUntil : n + ask.leaseMs,
          account: barred ? call.account : ask.account,
          host: ask.host,
        });
        this.last = n;
        return said;
      }
      passesSlotOn = call.state === 'claimed';
      attempt = call.digest === ask.digest || undoes ? call.attempts + 1 : 1;
    }

    if (rewound)
      return this.refuse(ask, true, { kind: 'frozen', rule: 'ledger_rewound', retryAfterMs: 30_000 });
    if (this.mode === 'killed' && !past)
      return this.refuse(ask, false, { kind: 'killed', rule: 'tenant_killed' });
    if (fenced) return this.refuse(ask, false, { kind: 'killed', rule: 'run_fenced' });
    if (!call && run && run.acceptedAt <= n - HORIZON)
      return this.refuse(ask, false, { kind: 'failed', rule: 'key_expired' });
    if (undoes && followUp?.kind !== 'undo')
      return this.refuse(ask, false, { kind: 'denied', rule: 'undo_not_entered' });
    if (undoes && this.calls.get(`${ask.run}|${ask.undoOf}`)?.state !== 'succeeded')
      return this.refuse(ask, false, { kind: 'denied', rule: 'undo_not_due' });
    if (this.policyVersion !== ask.policyVersion)
      return { answer: 'stale', policyVersion: this.policyVersion };
    if (ask.denied && !undoes) return this.refuse(ask, false, { kind: 'denied', rule: 'no-mail' });
    if (!run) return this.refuse(ask, false, { kind: 'denied', rule: 'run_not_entered' });
    const retries = followUp?.kind === 'retry' && call !== undefined;
    if (!undoes && !retries && !ask.denied) {
      if (run.closed) return this.refuse(ask, false, { kind: 'denied', rule: 'run_closed' });
      if (!own) return this.refuse(ask, false, { kind: 'denied', rule: 'run_not_entered' });
    }
    if (run.undone && !undoes) return this.refuse(ask, false, { kind: 'denied', rule: 'run_undone' });
    if (ask.denied || (call && attempt > 8)) {
      if (passesSlotOn) this.inflight -= 1;
      const ended = call ?? this.#claim(ask, n, 0, undefined);
      const rule = ask.denied ? 'no-mail' : 'attempts_exhausted';
      Object.assign(ended, { state: 'failed', lost: false, token: ask.token, rule });
      run.refusals += 1;
      this.last = n;
      if (undoes) {
        this.review(key, ended, 'undo_failed');
        return replayed(ended);
      }
      this.letters.push({
        run: ask.run,
        path: ask.path,
        class: ended.class,
        rule: 'attempts_exhausted',
        state: 'dead',
      });
      if (!call) throw new Error('nothing can be used up that was never tried');
      return { answer: 'refused', kind: 'failed', rule: 'attempts_exhausted', value: 8, used: call.attempts };
    }
    if (!passesSlotOn && !undoes && this.inflight >= this.limits.callsInFlight) {
      const why = { value: this.limits.callsInFlight, used: this.inflight, retryAfterMs: 500 };
      return this.refuse(ask, false, { kind: 'throttled', rule: 'calls_in_flight', ...why });
    }
    const used = this.days.get(this.today) ?? 0;
    if (ask.toolCalls > 0 && used + ask.toolCalls > this.limits.toolCallsPerDay) {
      const why = { value: this.limits.toolCallsPerDay, used, retryAfterMs: (this.today + 1) * DAY - n };
      return this.refuse(ask, false, { kind: 'throttled', rule: 'tool_calls_per_day', ...why });
    }
    if (ask.steps > 0 && run.steps + ask.steps > this.limits.perRunSteps) {
      const why = { value: this.limits.perRunSteps, used: run.steps };
      return this.refuse(ask, false, { kind: 'budget_exceeded', rule: 'per_run_steps', ...why });
    }

    const said: Said = { answer: 'admitted', attempt, epoch: this.epoch };
    this.calls.set(key, { ...this.#claim(ask, n, attempt, call), said });
    const cost = { toolCalls: ask.toolCalls, microUsd: ask.microUsd };
    this.attempts.set(ask.token, { ...cost, day: this.today, charged: cost, true: false });
    if (!passesSlotOn) this.inflight += 1;
    this.charge(ask.run, this.today, cost);
    run.steps += ask.steps;
    this.last = n;
    return said;
  }

  #claim(ask: Ask, n: number, attempts: number, before: Call | undefined): Call {
    const claim: Call = {
      firstClaimedAt: before?.firstClaimedAt ?? n,
      digest: ask.digest,
      class: ask.class,
      state: 'claimed',
      lost: false,
      token: ask.token,
      said: { answer: 'admitted' },
      attempts,
      leaseUntil: n + ask.leaseMs,
      sentUntil: n + ask.leaseMs,
      account: ask.account,
      host: ask.host,
      order: before?.order ?? (this.#claims += 1),
      undoOf: ask.undoOf,
      review: before?.review ?? null,
      steps: ask.steps,
      rule: undefined,
    };
    if (!before) this.calls.set(`${ask.run}|${ask.path}`, claim);
    return claim;
  }

  protected review(key: string, call: Call, kind: Review['kind']): void {
    const [run = '', path = ''] = key.split('|');
    call.review = { run, path, token: call.token, class: call.class, kind, resolution: null };
    this.reviews.push(call.review);
  }

  settle(
    run: string,
    path: string,
    token: string,
    result: Result,
    charge: Cost,
    doubt: Doubt = 'none',
  ): string {
    const call = this.calls.get(`${run}|${path}`);
    const attempt = this.attempts.get(token);
    const truth = result === 'open' ? { toolCalls: 0, microUsd: 0 } : charge;
    const charged = (to: Cost) => {
      if (!attempt) return;
      const { toolCalls, microUsd } = attempt.charged;
      this.charge(run, attempt.day, {
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
      if (result === 'open') this.runOf(run).steps -= call.steps;
      Object.assign(call, { state: result, rule: doubt === 'none' ? undefined : doubt });
      if (!call.review && (result === 'failed' || result === 'unknown')) {
        const key = `${run}|${path}`;
        if (call.undoOf && result === 'failed') this.review(key, call, 'undo_failed');
        else if (doubt === 'scope_ambiguous') this.review(key, call, doubt);
        else if (result === 'unknown' && isWrite(call.class))
          this.review(key, call, doubt === 'read_back_mismatch' ? doubt : 'outcome_unknown');
      }
      this.last = this.time;
      return 'settled';
    }
    const misjudged =
      (call?.state === 'open' || call?.state === 'failed') &&
      this.reviews.some(
        (each) =>
          each.run === run &&
          each.path === path &&
          each.token === token &&
          each.kind === 'outcome_unknown' &&
          (each.resolution === 'did_not_happen' || each.resolution === 'abandon'),
      );
    if (call?.token === token && (call.state === 'unknown' || misjudged) && result === 'succeeded') {
      charged(truth);
      if (call.state === 'open') this.runOf(run).steps += call.steps;
      if (call.review) call.review.resolution = 'happened';
      Object.assign(call, { state: 'succeeded', rule: undefined, review: null });
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
    for (const [key, call] of this.calls) {
      if (call.state !== 'claimed' || call.leaseUntil > this.now) continue;
      const closed = this.runs.get(key.split('|')[0] ?? '')?.closed ?? true;
      const run = key.split('|')[0] ?? '';
      const followed = this.followUps.some((each) => each.run === run && each.state !== 'done');
      if (isWrite(call.class) && (!closed || followed)) continue;
      this.lose(key, call, 'lost');
      reaped += 1;
    }
    const minute = (at: number) => Math.floor(at / MINUTE);
    if ([...this.#floods.values()].some((at) => at < minute(this.now))) {
      for (const [key, at] of this.#floods) if (at < minute(this.time)) this.#floods.delete(key);
      this.last = this.time;
    }
    return reaped;
  }

  /** Ends a claimed call that nobody will bring an outcome. */
  protected lose(key: string, call: Call, rule: string): void {
    const write = isWrite(call.class);
    Object.assign(call, { state: write ? 'unknown' : 'failed', lost: !write, rule });
    if (write) Object.assign(this.attempts.get(call.token) ?? {}, { true: true });
    if (write) this.review(key, call, 'outcome_unknown');
    this.inflight -= 1;
    this.last = this.time;
  }

  start(run: string): boolean {
    if (this.rewound > 0 || this.mode === 'killed') {
      const kind = this.rewound > 0 ? 'frozen' : 'killed';
      this.count(this.rewound > 0 ? 'ledger_rewound' : 'tenant_killed', 'run.accept', kind);
      return false;
    }
    this.acceptedUnder.set(run, this.epoch);
    this.runs.set(run, {
      closed: false,
      undone: false,
      workflow: `${run}/1`,
      acceptedAt: this.time,
      steps: 0,
      toolCalls: 0,
      microUsd: 0,
      refusals: 0,
    });
    this.last = this.time;
    return true;
  }

  kill(): void {
    if (this.mode === 'killed') return;
    this.mode = 'killed';
    this.epoch += 1;
    this.act();
  }

  release(): void {
    if (this.mode === 'normal') return;
    this.mode = 'normal';
    this.act();
  }

  /** What was lost is put back, and the ledger opened again. */
  recover(): void {
    this.acknowledged = Math.max(this.acknowledged, this.rewound);
    this.rewound = 0;
    this.act();
  }

  publish(version: number): void {
    this.policyVersion = version;
    this.act();
  }

  setLimits(limits: LedgerModel['limits']): void {
    this.limits = limits;
    this.act();
  }

  protected act(): void {
    this.controlVersion += 1;
    this.last = this.time;
  }

  protected refuse(
    ask: Ask,
    rewound: boolean,
    why: Omit<Said, 'answer'> & { rule: string; kind: string },
  ): Said {
    const run = this.runs.get(ask.run);
    if (run) run.refusals += 1;
    if (rewound && this.rewound === 0) this.controlVersion += 1;
    if (rewound) this.rewound = Math.max(this.rewound, ask.ahead);
    this.count(why.rule, ask.action, why.kind);
    return { answer: 'refused', ...why };
  }

  protected count(rule: string, action: string, kind: string): void {
    const key = [rule, this.policyVersion, action, kind].join('/');
    this.refusals.set(key, (this.refusals.get(key) ?? 0) + 1);
    this.#floods.set(key, Math.floor(this.time / MINUTE));
    this.last = this.time;
  }

  protected charge(run: string, day: number, cost: Cost): void {
    this.days.set(day, (this.days.get(day) ?? 0) + cost.toolCalls);
    const row = this.runOf(run);
    row.toolCalls += cost.toolCalls;
    row.microUsd += cost.microUsd;
  }

  protected runOf(run: string): Run {
    const row = this.runs.get(run);
    if (!row) throw new Error(`the model charges a run that it does not know: ${run}`);
    return row;
  }
}

const replayed = (call: Call): Said => ({
  answer: 'replayed',
  state: call.state,
  reviewed: call.review !== null,
  ...(call.rule !== undefined && { rule: call.rule }),
});
