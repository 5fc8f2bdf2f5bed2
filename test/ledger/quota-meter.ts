import type { NamedLimits } from '../../contracts/documents';
import { MINUTE, type Said } from './quota-words';
import { NOTHING, plus, type Amounts } from './recount';

/** One meter of the model: amounts by day, two buckets, calls in flight. Times are milliseconds since 1970. */

export type Refused = Said & { readonly kind: string; readonly rule: string };

/** In the order in which they are asked: the part, its limit's name in documents and in refusals, how many are one of its units. */
const DAYS = [
  ['toolCalls', 'toolCallsPerDay', 'tool_calls_per_day', 1],
  ['steps', 'stepsPerDay', 'steps_per_day', 1],
  ['activeMs', 'activeSecondsPerDay', 'active_seconds_per_day', 1_000],
  ['microUsd', 'spendMicroUsdPerDay', 'spend_micro_usd_per_day', 1],
  ['modelTokens', 'modelTokensPerDay', 'model_tokens_per_day', 1],
  ['highRiskWrites', 'highRiskWritesPerDay', 'high_risk_writes_per_day', 1],
] as const;
const BUCKETS = [
  ['calls', 'callsPerMinute', 'calls_per_minute'],
  ['modelTokens', 'modelTokensPerMinute', 'model_tokens_per_minute'],
] as const;

/** What is in it, in units times the milliseconds of a minute, at a moment. */
export interface Bucket {
  level: number;
  at: number;
}
/** When it is asked: the tenant's day, and when that ends. */
export interface Moment {
  readonly time: number;
  readonly today: number;
  readonly midnight: number;
}

/** Who has used what on which day, how much a minute, and how many at once. */
export class Meter {
  readonly days = new Map<number, Amounts>();
  readonly buckets: { readonly calls: Bucket; readonly modelTokens: Line };
  inflight = 0;

  constructor(at: number) {
    this.buckets = { calls: { level: 0, at }, modelTokens: new Line(at) };
  }

  /** The first limit that refuses; changes nothing. */
  limit(
    prefix: string,
    of: NamedLimits,
    amounts: Amounts,
    slot: boolean,
    { time, today, midnight }: Moment,
  ): Refused | undefined {
    const refused = (rule: string, value: number, used: number, retryAfterMs?: number): Refused => ({
      answer: 'refused',
      kind: 'throttled',
      rule: `${prefix}${rule}`,
      value,
      used,
      ...(retryAfterMs !== undefined && { retryAfterMs }),
    });
    if (slot && this.inflight >= (of.callsInFlight ?? Infinity)) {
      return refused('calls_in_flight', of.callsInFlight ?? NaN, this.inflight, 500);
    }
    const used = this.days.get(today) ?? NOTHING;
    for (const [part, cap, rule, unit] of DAYS) {
      const most = of[cap];
      if (most === undefined || amounts[part] === 0 || used[part] + amounts[part] <= most * unit) continue;
      const frees = amounts[part] <= most * unit ? midnight - time : undefined;
      return refused(rule, most, Math.ceil(used[part] / unit), frees);
    }
    for (const [part, cap, rule] of BUCKETS) {
      const most = of[cap];
      const units =
        part === 'modelTokens' ? amounts.modelTokens : Math.min(1, amounts.steps + amounts.toolCalls);
      if (most === undefined || units === 0) continue;
      const { level, at } = this.buckets[part];
      const left = Math.max(0, level - (time - at) * most);
      const over = left + (units - most) * MINUTE;
      if (over <= 0 && most > 0) continue;
      return refused(rule, most, Math.ceil(left / MINUTE), units > most ? undefined : Math.ceil(over / most));
    }
    return undefined;
  }

  /** Reserves, where the limits let it. What nothing limits is in no bucket. */
  reserve(of: NamedLimits, attempt: string, amounts: Amounts, time: number): void {
    this.inflight += 1;
    const { callsPerMinute, modelTokensPerMinute } = of;
    const { calls, modelTokens } = this.buckets;
    if (callsPerMinute !== undefined && amounts.steps + amounts.toolCalls > 0) {
      calls.level = Math.max(0, calls.level - (time - calls.at) * callsPerMinute) + MINUTE;
      calls.at = time;
    }
    if (modelTokensPerMinute !== undefined && amounts.modelTokens > 0) {
      modelTokens.drain(modelTokensPerMinute, time);
      modelTokens.join(attempt, amounts.modelTokens);
    }
  }

  charge(day: number, by: Amounts): void {
    this.days.set(day, plus(this.days.get(day) ?? NOTHING, by));
  }

  /** What an attempt used beside what it had reserved: more is known of from now on, and less frees only what is still there of its own. */
  correct(of: NamedLimits, attempt: string, modelTokens: number, time: number): void {
    if (modelTokens === 0) return;
    const line = this.buckets.modelTokens;
    line.drain(of.modelTokensPerMinute, time);
    if (modelTokens > 0) line.join('', modelTokens);
    else line.giveBack(attempt, -modelTokens);
  }
}

/** A bucket whose parcels are known one by one: they leave in the order in which they came. */
class Line implements Bucket {
  #parcels: { of: string; left: number }[] = [];
  constructor(public at: number) {}

  get level(): number {
    return this.#parcels.reduce((sum, { left }) => sum + left, 0);
  }
  /** Without a limit it holds nothing. */
  drain(limit: number | undefined, time: number): void {
    this.#leave(limit === undefined ? Infinity : Math.max(0, time - this.at) * limit);
    this.at = time;
  }
  join(of: string, units: number): void {
    this.#parcels.push({ of, left: units * MINUTE });
  }
  /** Room for as much as is left of its own, made at the front. */
  giveBack(of: string, units: number): void {
    const own = this.#parcels.find((parcel) => parcel.of === of)?.left ?? 0;
    this.#leave(Math.min(own, units * MINUTE));
  }
  #leave(amount: number): void {
    for (const parcel of this.#parcels) {
      const gone = Math.min(parcel.left, amount);
      parcel.left -= gone;
      amount -= gone;
    }
    this.#parcels = this.#parcels.filter(({ left }) => left > 0);
  }
}
