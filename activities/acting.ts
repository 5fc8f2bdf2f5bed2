import { HttpForbidden, HttpNotSent, HttpRefused, HttpUnavailable } from '../contracts/http-errors';
import { holdsNoNumber, overgrown } from '../contracts/json-shape';
import type { SettleResult } from '../contracts/ledger';
import type { Refusal } from '../contracts/refusal';
import { FenceUnconfirmed } from './fence-watch';
import { isWrite, type GovernedCall } from './governed-call';
import { ForeignContext } from './markers';

/** The call's time is over. Thrown before a request, so nothing was sent by it. */
export class DeadlinePassed extends Error {
  override readonly name = 'DeadlinePassed';
}

/** An action answered out of its own result schema: asking again would answer the same. */
export class ResultOutOfSchema extends Error {
  override readonly name = 'ResultOutOfSchema';
  constructor(action: string) {
    super(`${action} answered out of its result schema`);
  }
}

/** What was answered is more than its call may store: asking again would answer the same. */
export class ResultTooLarge extends Error {
  override readonly name = 'ResultTooLarge';
  /** @param what `answered …`. */
  constructor(action: string, what: string) {
    super(`${action} answered ${what}; all of it was discarded`);
  }
}

/** Throws {@link ResultTooLarge} for what no schema should be asked of: it has too many parts, or is nested too deeply. */
export function requireModest(action: string, result: unknown): void {
  const why = overgrown(result);
  if (why !== undefined) throw new ResultTooLarge(action, why);
}

/**
 * Throws {@link ResultTooLarge} for what has more bytes as JSON, or no digest of its own, and {@link ResultOutOfSchema} for numbers that JSON
 * cannot hold. What is kept is whole, or not kept.
 */
export function requireStorable(action: string, result: unknown, most: number): void {
  requireModest(action, result);
  if (holdsNoNumber(result)) throw new ResultOutOfSchema(action);
  const bytes = Buffer.byteLength(JSON.stringify(result) ?? '', 'utf8');
  if (bytes > most) throw new ResultTooLarge(action, `${bytes} bytes and may answer ${most}`);
}

/** How a failed effect is settled, and whether the same call may be tried again. */
export interface Reading {
  readonly result: SettleResult | 'pending';
  readonly refusal: Refusal;
  /** Of `pending`: the same request may be made again at once, under its key. */
  readonly resend?: boolean;
  /** Of a write that may have been applied: what the system outside is to blame for, which its breaker is told of at once. */
  readonly trouble?: string;
  readonly retryAfterMs?: number;
}

/**
 * Reads a failure of an effect. `open`: surely nothing was applied, so the call may be claimed again. `failed`: final.
 * `pending`: a write may have been applied and the next attempt learns more, by its key or by looking it up once the lease
 * is over.
 * `unknown`: it may have been applied and nothing more can be learned here.
 */
export function readFailure(
  error: unknown,
  call: GovernedCall,
  /**
   * `before`: what may have been applied was by an earlier request than the one that failed. `timedOut`: it was aborted, and
   * because its time was over.
   */
  http: { mayHaveApplied: boolean; before: boolean; aborted: boolean; timedOut: boolean },
): Reading {
  const applied = isWrite(call.callClass) && http.mayHaveApplied;
  const unreached = error instanceof HttpUnavailable || error instanceof HttpNotSent;
  const late = `${call.system ?? call.action} gave no answer in time`;
  const refusal = (
    kind: Refusal['kind'],
    rule: string,
    message: string,
    origin: Refusal['origin'] = 'provider',
  ): Refusal => ({
    kind,
    origin,
    rule,
    rules: [rule],
    message,
  });

  if (applied) {
    const message = `it is not known whether ${call.action} was applied: ${plain(error)}`;
    // Cut off in flight, it may still be applied: the claim stays until its lease is over, and containment waits for it.
    const resend = call.keyValidMs !== null && !http.aborted && mayLearnMore(error, http.before);
    // What the action itself threw says nothing of the write, so it is looked up, once; a result out of schema is no doubt.
    const lookUp =
      call.reconcile !== null &&
      (mayLearnMore(error, http.before) ||
        !(http.before || error instanceof ResultOutOfSchema || error instanceof ResultTooLarge));
    return {
      result: http.aborted || resend || lookUp ? 'pending' : 'unknown',
      resend,
      ...(http.timedOut && { trouble: late }),
      ...(unreached && !http.aborted && { trouble: plain(error) }),
      refusal: refusal('outcome_unknown', 'answer_lost', message),
    };
  }
  if (error instanceof HttpRefused) {
    return { result: 'failed', refusal: refusal('failed', `http_${error.status}`, plain(error)) };
  }
  if (error instanceof HttpForbidden) {
    return { result: 'failed', refusal: refusal('denied', 'egress', plain(error), 'policy') };
  }
  if (error instanceof ResultOutOfSchema)
    return { result: 'failed', refusal: refusal('failed', 'result_schema', plain(error)) };
  if (error instanceof ResultTooLarge)
    return { result: 'failed', refusal: refusal('failed', 'result_size', plain(error)) };
  if (error instanceof ForeignContext) {
    const ambiguous = refusal('scope_ambiguous', 'scope.foreign_context', error.message, 'policy');
    return { result: 'failed', refusal: ambiguous };
  }
  // Whatever a library makes of the abort: a request was out, or could not even get out, until the time was over.
  if (http.timedOut && (unreached || http.mayHaveApplied)) {
    return { result: 'open', refusal: refusal('provider_degraded', 'timed_out', late) };
  }
  if (error instanceof FenceUnconfirmed || error instanceof DeadlinePassed || isLeaseOver(error)) {
    return { result: 'open', refusal: refusal('failed', 'not_sent', plain(error), 'platform') };
  }
  if (http.aborted) {
    return {
      result: 'open',
      refusal: refusal('failed', 'aborted', 'the call was aborted before it was done', 'platform'),
    };
  }
  if (unreached) {
    const told = error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs };
    return {
      result: 'open',
      refusal: { ...refusal('provider_degraded', 'unavailable', plain(error)), ...told },
      ...told,
    };
  }
  return { result: 'failed', refusal: refusal('failed', 'action_error', plain(error), 'platform') };
}

/** Whether what a look-up threw may pass by itself: nobody answered, or its time or grant was over. */
export const mayPass = (error: unknown): boolean => mayLearnMore(error, false);

/**
 * Whether the same key may bring the truth. A 4xx does where an earlier attempt may have been applied (409: that one is
 * still at work); what the action itself threw would be thrown again.
 */
function mayLearnMore(error: unknown, before: boolean): boolean {
  const ways = [
    HttpUnavailable,
    HttpNotSent,
    FenceUnconfirmed,
    DeadlinePassed,
    ...(before ? [HttpRefused] : []),
  ];
  return isLeaseOver(error) || ways.some((type) => error instanceof type);
}

/** A lease that ended before the request it was for; the class itself is the broker's. */
const isLeaseOver = (error: unknown): boolean => error instanceof Error && error.name === 'LeaseOver';

/**
 * What may be said of an error: the messages of our own classes; of any other its name alone, for its message may hold
 * payload or a secret.
 */
function plain(error: unknown): string {
  const ours = [
    HttpRefused,
    HttpForbidden,
    HttpNotSent,
    HttpUnavailable,
    FenceUnconfirmed,
    DeadlinePassed,
    ResultOutOfSchema,
    ResultTooLarge,
  ];
  if (error instanceof Error && ours.some((type) => error instanceof type)) return error.message;
  return `the action threw ${error instanceof Error ? error.name : typeof error}`;
}
