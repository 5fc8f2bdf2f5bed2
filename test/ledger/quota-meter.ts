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
  readonly buckets: Record<'calls' | 'modelTokens', Bucket>;
  inflight = 0;

  constructor(at: number) {
    this.buckets = { calls: { level: 0, at }, modelTokens: { level: 0, at } };
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

  /** Reserves, where the limits let it. */
  reserve(of: NamedLimits, amounts: Amounts, time: number): void {
    this.inflight += 1;
    this.#fill(this.buckets.calls, of.callsPerMinute, Math.min(1, amounts.steps + amounts.toolCalls), time);
    this.#fill(this.buckets.modelTokens, of.modelTokensPerMinute, amounts.modelTokens, time);
  }

  charge(day: number, by: Amounts): void {
    this.days.set(day, plus(this.days.get(day) ?? NOTHING, by));
  }

  /** What a call used beside what it had reserved: more is known of from now on, and less frees no more than there is. */
  correct(of: NamedLimits, modelTokens: number, time: number): void {
    const bucket = this.buckets.modelTokens;
    if (modelTokens > 0) drain(bucket, of.modelTokensPerMinute, time);
    bucket.level = Math.max(0, bucket.level + modelTokens * MINUTE);
  }

  /** What nothing limits is in no bucket. */
  #fill(bucket: Bucket, limit: number | undefined, units: number, time: number): void {
    if (limit === undefined || units === 0) return;
    drain(bucket, limit, time);
    bucket.level += units * MINUTE;
  }
}

/** A bucket without a limit holds nothing. */
function drain(bucket: Bucket, limit: number | undefined, time: number): void {
  bucket.level = limit === undefined ? 0 : Math.max(0, bucket.level - (time - bucket.at) * limit);
  bucket.at = time;
}
