/**
 * What promises Q1, Q2 and Q6 say of amounts per local day, buckets per minute, calls in flight and budgets of a run, once more
 * in plain TypeScript: no SQL, nothing shared with the code under test. A bucket is counted in units times milliseconds of a
 * minute, so that every number is whole.
 */
import type { NamedLimits } from '../../contracts/documents';
import { endOfDay, localDay } from './quota-days';
import { Meter, type Refused } from './quota-meter';
import {
  isWrite,
  MINUTE,
  type Ask,
  type Call,
  type Charge,
  type Quota,
  type Reservation,
  type Result,
  type Said,
} from './quota-words';
import { NOTHING, plus, type Amounts } from './recount';

const BUDGETS = [
  ['steps', 'steps', 'per_run_steps', 1],
  ['activeMs', 'seconds', 'per_run_seconds', 1_000],
  ['microUsd', 'spendMicroUsd', 'per_run_spend_micro_usd', 1],
] as const;
const times = (a: Amounts, by: number): Amounts =>
  Object.fromEntries(Object.entries(a).map(([part, of]) => [part, by * of])) as unknown as Amounts;

export class QuotaModel {
  now: number;
  /** The ledger's time never steps back, and nor does its day. */
  last: number;
  day: number;
  readonly own: Meter;
  readonly named = new Map<string, Meter>();
  readonly runs = new Map<string, { agent: string; used: Amounts; refusals: number; closed: boolean }>();
  readonly calls = new Map<string, Call>();
  /** Attempts that were replaced or reaped: what they hold, until they have reported. */
  readonly lost = new Map<string, Reservation & { trued: boolean }>();
  /** Refusals by reason, with the minute of the last. */
  readonly refused = new Map<string, { count: number; minute: number }>();

  constructor(
    start: number,
    public quota: Quota,
  ) {
    this.now = this.last = start;
    this.day = localDay(start, quota.timeZone);
    this.own = new Meter(start);
  }

  get time(): number {
    return Math.max(this.now, this.last);
  }
  get #today(): number {
    return Math.max(this.day, localDay(this.time, this.quota.timeZone));
  }

  start(run: string, agent: string): void {
    this.#act();
    this.runs.set(run, { agent, used: NOTHING, refusals: 0, closed: false });
  }

  leave(run: string): void {
    this.#run(run).closed = true;
    this.last = this.time;
  }

  /** In force for the next call; the day that has begun by the old time zone has begun. */
  setQuota(quota: Quota): void {
    this.#act();
    this.quota = quota;
  }

  admit(ask: Ask): Said {
    const key = `${ask.run}|${ask.path}`;
    const call = this.calls.get(key);
    if (call?.state === 'claimed' && call.token === ask.token) return call.said;
    if (call?.state === 'claimed' && this.time < call.leaseUntil) {
      return { answer: 'in_flight', retryAfterMs: Math.min(1_000, call.leaseUntil - this.time) };
    }
    if (call && isWrite(call.class) && call.digest !== ask.digest) {
      this.#act();
      if (call.state === 'claimed') this.#end(call, 'unknown');
      return this.#refuse(ask, {
        answer: 'refused',
        kind: 'idempotency_conflict',
        rule: 'idempotency_conflict',
      });
    }
    const over = call !== undefined && call.state !== 'claimed' && call.state !== 'open';
    if (over && call.digest === ask.digest && !(call.lost && call.token !== ask.token)) {
      return { answer: 'replayed', state: call.state };
    }
    if (call?.state === 'claimed' && isWrite(call.class)) return this.#takeOver(call, ask);

    const replaces = call?.state === 'claimed' ? call : undefined;
    const amounts: Amounts = {
      toolCalls: ask.toolCalls,
      steps: ask.steps,
      microUsd: ask.microUsd,
      modelTokens: ask.modelTokens,
      // It may be at work for as long as its lease, and not longer.
      activeMs: ask.leaseMs,
      highRiskWrites: ask.class === 'high_risk_write' ? 1 : 0,
    };
    const limited = this.#limited(ask);
    const no = ask.denied
      ? ({ answer: 'refused', kind: 'denied', rule: 'no-mail' } as const)
      : this.#limits(ask, amounts, limited, replaces);
    this.#act();
    if (no) return this.#refuse(ask, no);

    if (replaces) this.#replace(replaces);
    const metered = limited.map(([name]) => name);
    const reservation = { by: ask.token, at: this.time, day: this.day, metered, amounts };
    const attempts = call && call.digest === ask.digest ? call.attempts + 1 : 1;
    const said: Said = { answer: 'admitted', attempt: attempts };
    this.calls.set(key, {
      token: ask.token,
      digest: ask.digest,
      class: ask.class,
      state: 'claimed',
      said,
      attempts,
      looks: 0,
      leaseUntil: this.time + ask.leaseMs,
      reservation,
      charged: amounts,
      lost: false,
    });
    for (const [meter, of] of this.#meters(limited)) meter.reserve(of, ask.token, amounts, this.time);
    this.#charge(ask.run, this.day, metered, amounts);
    return said;
  }

  settle(run: string, path: string, token: string, result: Result, charge: Charge): string {
    const call = this.calls.get(`${run}|${path}`);
    if (call?.token === token && call.state === 'claimed') {
      const truth = this.#truth(call.reservation, result, charge);
      this.#vacate(call.reservation);
      this.#correct(run, call.reservation, call.charged, truth);
      Object.assign(call, { state: result, charged: truth });
      this.last = this.time;
      return 'settled';
    }
    if (call?.token === token && call.state === 'unknown' && result === 'succeeded') {
      const truth = this.#truth(call.reservation, result, charge);
      this.#correct(run, call.reservation, call.charged, truth);
      Object.assign(call, { state: result, charged: truth });
      this.last = this.time;
      return 'reconciled';
    }
    const lost = this.lost.get(token);
    if (call?.token === token && (!lost || lost.trued)) return 'already';
    if (lost && !lost.trued && result !== 'unknown') {
      // The step was taken, whatever came of it.
      const truth = { ...this.#truth(lost, result, charge), steps: lost.amounts.steps };
      this.#correct(run, lost, lost.amounts, truth);
      lost.trued = true;
    }
    this.last = this.time;
    return 'late';
  }

  /** Ends what outlived its lease: what has no effect, and writes of runs that are closed. */
  reap(): void {
    for (const [key, call] of this.calls) {
      if (call.state !== 'claimed' || call.leaseUntil > this.now) continue;
      const closed = this.#run(key.split('|')[0] ?? '').closed;
      if (isWrite(call.class)) {
        if (!closed) continue;
        this.#end(call, 'unknown');
      } else {
        this.#keep(call);
        this.#end(call, 'failed');
        call.lost = true;
      }
      this.last = this.time;
    }
    for (const each of this.refused.values()) {
      if (each.minute >= Math.floor(this.now / MINUTE)) continue;
      each.minute = Infinity;
      this.last = this.time;
    }
  }

  /** The limits that concern a call beside the tenant's own, in the order of their names. */
  #limited(ask: Ask): [string, NamedLimits][] {
    const { agent } = this.#run(ask.run);
    const action = this.quota.perAction[ask.action];
    const ofAgent = this.quota.perAgent[agent];
    return [
      ...(action ? [[`action:${ask.action}`, action] as [string, NamedLimits]] : []),
      ...(ofAgent ? [[`agent:${agent}`, ofAgent] as [string, NamedLimits]] : []),
    ];
  }

  #meters(limited: readonly [string, NamedLimits][]): [Meter, NamedLimits][] {
    return [
      [this.own, this.quota.limits],
      ...limited.map(([name, of]): [Meter, NamedLimits] => [this.#known(name), of]),
    ];
  }

  #limits(
    ask: Ask,
    amounts: Amounts,
    limited: [string, NamedLimits][],
    replaces: Call | undefined,
  ): Refused | undefined {
    const today = this.#today;
    const moment = { time: this.time, today, midnight: endOfDay(today, this.quota.timeZone) };
    const no =
      this.own.limit('', this.quota.limits, amounts, !replaces, moment) ??
      limited
        .map(([name, of]) => {
          const slot = !replaces?.reservation.metered.includes(name);
          return (this.named.get(name) ?? new Meter(this.time)).limit(`${name}/`, of, amounts, slot, moment);
        })
        .find((each) => each !== undefined);
    if (no) return no;
    const { used } = this.#run(ask.run);
    for (const [part, cap, rule, unit] of BUDGETS) {
      const most = this.quota.perRun[cap];
      if (most === undefined || amounts[part] === 0 || used[part] + amounts[part] <= most * unit) continue;
      return {
        answer: 'refused',
        kind: 'budget_exceeded',
        rule,
        value: most,
        used: Math.ceil(used[part] / unit),
      };
    }
    return undefined;
  }

  #takeOver(call: Call, ask: Ask): Said {
    this.#act();
    const lookupOnly = ask.denied || call.attempts >= 8;
    const attempt = call.attempts + call.looks + 1;
    if (lookupOnly) call.looks += 1;
    else call.attempts += 1;
    const said: Said = { answer: 'recover', lookupOnly, attempt };
    Object.assign(call, { token: ask.token, leaseUntil: this.time + ask.leaseMs, said });
    return said;
  }

  #truth(of: Reservation, result: Result, charge: Charge): Amounts {
    // What came to nothing costs what its provider bills all the same.
    if (result === 'open') return { ...NOTHING, microUsd: charge.microUsd, modelTokens: charge.modelTokens };
    if (result === 'unknown') return of.amounts;
    return { ...of.amounts, ...charge, activeMs: Math.min(of.amounts.activeMs, this.time - of.at) };
  }

  #correct(run: string, { by, day, metered }: Reservation, from: Amounts, to: Amounts): void {
    const delta = plus(to, times(from, -1));
    this.#charge(run, day, metered, delta);
    const { modelTokens } = delta;
    this.own.correct(this.quota.limits, by, modelTokens, this.time);
    for (const name of metered) this.#known(name).correct(this.limitsOf(name), by, modelTokens, this.time);
  }

  limitsOf(name: string): NamedLimits {
    if (name === '') return this.quota.limits;
    const [kind, id = ''] = name.split(/:(.*)/s);
    return (kind === 'action' ? this.quota.perAction : this.quota.perAgent)[id] ?? {};
  }

  #charge(run: string, day: number, metered: readonly string[], by: Amounts): void {
    for (const meter of [this.own, ...metered.map((name) => this.#known(name))]) meter.charge(day, by);
    const row = this.#run(run);
    row.used = plus(row.used, by);
  }

  #replace(call: Call): void {
    this.#vacate(call.reservation);
    this.#keep(call);
  }
  #keep({ token, reservation }: Call): void {
    if (!this.lost.has(token)) this.lost.set(token, { ...reservation, trued: false });
  }
  #end(call: Call, state: 'unknown' | 'failed'): void {
    this.#vacate(call.reservation);
    call.state = state;
  }
  #vacate({ metered }: Reservation): void {
    this.own.inflight -= 1;
    for (const name of metered) this.#known(name).inflight -= 1;
  }

  #refuse(ask: Ask, no: Refused): Said {
    this.#run(ask.run).refusals += 1;
    const key = `${no.rule}/1/${ask.action}/${no.kind}`;
    const count = (this.refused.get(key)?.count ?? 0) + 1;
    this.refused.set(key, { count, minute: Math.floor(this.time / MINUTE) });
    return no;
  }

  #act(): void {
    this.day = this.#today;
    this.last = this.time;
  }

  #known(name: string): Meter {
    const meter = this.named.get(name) ?? new Meter(this.time);
    this.named.set(name, meter);
    return meter;
  }
  #run(run: string) {
    const row = this.runs.get(run);
    if (!row) throw new Error(`the model does not know run ${run}`);
    return row;
  }
}
