import { setTimeout as delay } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { digestOf } from '../contracts/digest';
import type { CallAnswer } from '../contracts/calls';
import type { SettleRequest, Settlement } from '../contracts/ledger';
import type { Refusal } from '../contracts/refusal';
import { isStorageBusy } from '../contracts/storage-busy';
import type { Reading } from './acting';
import { refused } from './answers';
import { LEASE_MARGIN_MS, refusalOf, remaining, SHORT_WAIT_MS, type Attempt } from './attempt';
import { failure } from './failure';
import { FREE, type Acted, type Cost } from './governed-call';

const SETTLE_TRIES = 6;

type Refused = Exclude<CallAnswer<unknown>, { kind: 'done' }>;

type Truth = Omit<SettleRequest, 'runId' | 'path' | 'token'>;

const NOTHING: Omit<Truth, 'result'> = {
  charge: { toolCalls: 0, microUsd: 0, modelTokens: 0 },
  refusal: null,
  value: null,
  payload: null,
  payloadDigest: null,
  facts: {},
  records: [],
  dataClasses: [],
};

/** Step 7. The truth is known here and nowhere else, so the ledger is asked again before giving up. */
async function settle(attempt: Attempt, truth: Truth): Promise<Settlement> {
  const { store, envelope, path, token } = attempt;
  await attempt.checkpoint('before_settle');
  for (let turn = 1; ; turn += 1) {
    try {
      const settled = await store.settle({ runId: envelope.rootRunId, path, token, ...truth });
      attempt.heard(settled.seq);
      await attempt.checkpoint('after_settle');
      if (settled.answer === 'late') {
        throw failure('OutcomePending', 'another attempt has taken this call over', 500);
      }
      return settled;
    } catch (error) {
      if (!isStorageBusy(error)) throw error;
      if (turn >= SETTLE_TRIES)
        throw pendingUntilLeaseIsOver(attempt, 'the ledger could not take the outcome');
      await delay(50 * 2 ** turn);
    }
  }
}

/**
 * What is thrown where the claim stays: the next attempt takes it over once the lease is over, and not before
 * `afterMs` where asking earlier would learn nothing.
 */
export function pendingUntilLeaseIsOver(attempt: Attempt, why: string, afterMs = 0): Error {
  return failure(
    'OutcomePending',
    `${why}; it is asked again after the lease`,
    Math.max(remaining(attempt) + LEASE_MARGIN_MS, afterMs) + 100,
  );
}

const chargeOf = ({ call }: Attempt, { microUsd, modelTokens }: Cost): Truth['charge'] => ({
  toolCalls: call.reserve.toolCalls,
  microUsd,
  modelTokens,
});

/** The effect happened and what it brought is believed. */
export async function settleDone(attempt: Attempt, acted: Acted): Promise<CallAnswer<unknown>> {
  const payloadDigest = digestOf(acted.payload);
  const settled = await settle(attempt, {
    result: 'succeeded',
    charge: chargeOf(attempt, acted),
    refusal: null,
    value: acted.value,
    payload: acted.payload,
    payloadDigest,
    facts: acted.facts,
    records: acted.records,
    dataClasses: acted.dataClasses,
  });
  return { kind: 'done', value: acted.value, ref: attempt.path, digest: payloadDigest, seq: settled.seq };
}

/** The call is over without a result that may be believed: the refusal is its answer, also to the conversation. */
export async function settleRefused(
  attempt: Attempt,
  result: 'failed' | 'unknown',
  refusal: Refusal,
  cost: Cost,
): Promise<CallAnswer<unknown>> {
  const payload = attempt.call.refusalPayload(refusal);
  const settled = await settle(attempt, {
    ...NOTHING,
    result,
    charge: chargeOf(attempt, cost),
    refusal,
    payload,
    payloadDigest: payload && digestOf(payload),
  });
  return refused(attempt, refusal, settled.seq, settled.reviewNo);
}

/**
 * Nothing was done: everything is given back, and the call may be claimed again. Of a model all but what its provider may bill
 * for a request that was sent.
 */
export async function settleOpen(attempt: Attempt, refusal: Refusal, cost: Cost = FREE): Promise<Refused> {
  const charge = { toolCalls: 0, microUsd: cost.microUsd, modelTokens: cost.modelTokens } as const;
  const settled = await settle(attempt, { ...NOTHING, result: 'open', charge, refusal });
  return { kind: refusal.kind, refusal, seq: settled.seq };
}

/**
 * Tells the breaker of a system what it did to a call that stays claimed: its outcome may be known much later, and then says
 * nothing of the system. The call itself does not hang on it, so a busy ledger is not asked again.
 */
export async function tellTrouble({ store, envelope, path, token }: Attempt, message: string): Promise<void> {
  const refusal = refusalOf('provider_degraded', 'provider', 'answer_lost', message);
  try {
    await store.trouble({ runId: envelope.rootRunId, path, token, refusal });
  } catch (error) {
    if (!isStorageBusy(error)) throw error;
  }
}

/**
 * Settles a failed effect as it was read. Throws where a later attempt of the same activity may still succeed soon.
 *
 * @param cost what is charged although it brought nothing.
 */
export async function settleFailure(
  attempt: Attempt,
  reading: Reading,
  cost: Cost,
): Promise<CallAnswer<unknown>> {
  if (reading.result !== 'open') {
    return await settleRefused(attempt, reading.result as 'failed' | 'unknown', reading.refusal, cost);
  }
  const answer = await settleOpen(attempt, reading.refusal, cost);
  Context.current().cancellationSignal.throwIfAborted();
  if (attempt.another && answer.kind === 'provider_degraded') return answer;
  return askAgain(answer, reading.retryAfterMs);
}

/**
 * A call that may be claimed again: soon in place, by the activity's own retry; later as a value, so that the run shows what it
 * waits for and holds no worker meanwhile.
 */
export function askAgain(answer: Refused, retryAfterMs = answer.refusal.retryAfterMs): Refused {
  if (retryAfterMs !== undefined && retryAfterMs > SHORT_WAIT_MS) return answer;
  throw failure('ProviderUnavailable', answer.refusal.message, retryAfterMs);
}
