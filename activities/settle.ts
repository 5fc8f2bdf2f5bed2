import { setTimeout as delay } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { digestOf } from '../contracts/digest';
import type { CallAnswer } from '../contracts/calls';
import type { SettleRequest, Settlement } from '../contracts/ledger';
import type { Refusal } from '../contracts/refusal';
import { isStorageBusy } from '../contracts/storage-busy';
import type { Reading } from './acting';
import { refused } from './answers';
import { LEASE_MARGIN_MS, remaining, type Attempt } from './attempt';
import { failure } from './failure';
import type { Acted } from './governed-call';

const SETTLE_TRIES = 6;

type Truth = Omit<SettleRequest, 'runId' | 'path' | 'token'>;

const NOTHING: Omit<Truth, 'result'> = {
  charge: { toolCalls: 0, microUsd: 0 },
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

/** The effect happened and what it brought is believed. */
export async function settleDone(attempt: Attempt, acted: Acted): Promise<CallAnswer<unknown>> {
  const payloadDigest = digestOf(acted.payload);
  const settled = await settle(attempt, {
    result: 'succeeded',
    charge: { toolCalls: attempt.call.reserve.toolCalls, microUsd: acted.microUsd },
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
  microUsd: number,
): Promise<CallAnswer<unknown>> {
  const payload = attempt.call.refusalPayload(refusal);
  const settled = await settle(attempt, {
    ...NOTHING,
    result,
    charge: { toolCalls: attempt.call.reserve.toolCalls, microUsd },
    refusal,
    payload,
    payloadDigest: payload && digestOf(payload),
  });
  return refused(attempt, refusal, settled.seq, settled.reviewNo);
}

/** Surely nothing was sent: everything is given back, and the call may be claimed again. */
export async function settleOpen(attempt: Attempt, refusal: Refusal): Promise<CallAnswer<unknown>> {
  const settled = await settle(attempt, { ...NOTHING, result: 'open', refusal });
  return { kind: refusal.kind, refusal, seq: settled.seq };
}

/** Settles a failed effect as it was read. Throws where a later attempt of the same activity may still succeed. */
export async function settleFailure(attempt: Attempt, reading: Reading): Promise<CallAnswer<unknown>> {
  if (reading.result !== 'open') {
    return await settleRefused(attempt, reading.result as 'failed' | 'unknown', reading.refusal, 0);
  }
  await settleOpen(attempt, reading.refusal);
  Context.current().cancellationSignal.throwIfAborted();
  throw failure('ProviderUnavailable', reading.refusal.message, reading.retryAfterMs);
}
