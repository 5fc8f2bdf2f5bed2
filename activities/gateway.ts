import { randomUUID } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { digestOf } from '../contracts/digest';
import type { CallAnswer, StoredPayload } from '../contracts/calls';
import type { Envelope } from '../contracts/envelope';
import type { Admission, RecordedOutcome, SettleRequest, Settlement } from '../contracts/ledger';
import type { OpenHttp } from '../contracts/http-port';
import type { CallFacts, SecretBroker, Storage, TenantStore } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import { isStorageBusy } from '../contracts/storage-busy';
import { DeadlinePassed, readFailure } from './acting';
import { callingRun } from './call-context';
import { failure } from './failure';
import type { FenceWatch } from './fence-watch';
import { isWrite, type Acted, type ActIo, type GovernedCall } from './governed-call';
import { callPath, foreignRecord, idempotencyKey, judge, type Verdict } from './judge';
import type { Policies } from './policies';

/** A refusal that frees this soon is waited for in place; a later one is a value that the workflow waits for. */
const SHORT_WAIT_MS = 10_000;
/** After this many waits in place the refusal is answered as a value, so that the run's state shows it. */
const MAX_WAITS_IN_PLACE = 60;
/** The lease outlives the deadline by this: the abort is done before anybody may take the call over. */
const LEASE_MARGIN_MS = 2_000;
const SETTLE_TRIES = 6;
const MAX_STALE = 8;

export interface GatewayParts {
  readonly storage: Storage;
  readonly policies: Policies;
  readonly broker: SecretBroker;
  readonly openHttp: OpenHttp;
  readonly fence: FenceWatch;
  readonly hostId: string;
}

export interface Gateway {
  /** Takes a call through all seven steps. A governed outcome is a value; what a retry can mend is thrown. */
  govern(call: GovernedCall): Promise<CallAnswer<unknown>>;
}

/** Everything one attempt knows of itself. */
interface Attempt {
  readonly call: GovernedCall;
  readonly envelope: Envelope;
  readonly store: TenantStore;
  readonly path: string;
  readonly token: string;
  readonly temporalRunId: string;
  /** Monotonic; taken before admission, so it ends before the lease does. */
  readonly deadline: number;
}

export function createGateway(parts: GatewayParts): Gateway {
  const { storage, policies, broker, openHttp, fence, hostId } = parts;

  async function govern(call: GovernedCall): Promise<CallAnswer<unknown>> {
    const { scope, signed, temporalRunId } = callingRun();
    const attempt: Attempt = {
      call,
      envelope: signed.envelope,
      store: storage.tenant(scope),
      path: callPath(signed.envelope, call),
      token: randomUUID(),
      temporalRunId,
      deadline: performance.now() + call.timeoutMs,
    };
    const kept = Context.current().info.attempt > 1 ? await keptRefusal(attempt) : undefined;
    if (kept) return kept;
    const { admission, verdict, facts } = await decideAndAdmit(attempt);
    switch (admission.answer) {
      case 'refused':
        return await refuse(attempt, admission.refusal, admission.seq);
      case 'replayed':
        return recorded(attempt.path, admission.outcome, admission.seq);
      case 'in_flight':
        throw failure('Waiting', `${call.action} is in flight elsewhere`, admission.retryAfterMs);
      case 'stale':
        throw failure('PlatformBusy', 'the policy changes faster than this call can be decided');
      case 'admitted':
      case 'recover':
        // A look-up alone never sends, so a verdict that says no does not matter to it.
        if (verdict.effect === 'deny' && admission.answer === 'admitted') throw failure('ContractBroken', 'the ledger admitted a denied call');
        return await act(attempt, admission, verdict, facts);
    }
  }

  /** Steps 1 to 3. Decides again whenever the policy moved between the decision and the lock. */
  async function decideAndAdmit(attempt: Attempt): Promise<{ admission: Admission; verdict: Verdict; facts: CallFacts }> {
    const { call, envelope, store } = attempt;
    for (let turn = 1; ; turn += 1) {
      const facts = await store.callFacts(envelope.rootRunId);
      if (!facts) throw failure('PlatformBusy', 'the run or its tenant is not in the ledger; nothing was done');
      const verdict = await judge(call, envelope, facts, store, policies);
      const admission = await store.admit({
        runId: envelope.rootRunId,
        path: attempt.path,
        digest: digestOf({ site: call.site, action: call.action, target: envelope.target, args: call.args }),
        action: call.action,
        callClass: call.callClass,
        system: call.system,
        token: attempt.token,
        temporalRunId: attempt.temporalRunId,
        hostId,
        policyVersion: facts.policyVersion,
        verdict: verdict.effect === 'allow' ? { effect: 'allow', rules: verdict.rules } : verdict,
        leaseMs: call.timeoutMs + LEASE_MARGIN_MS,
        seenSeq: call.seenSeq,
        reserve: call.reserve,
      });
      if (admission.answer !== 'stale' || turn >= MAX_STALE) return { admission, verdict, facts };
    }
  }

  /** Steps 4 to 7 of an admitted call, or the recovery of one whose last attempt was lost. */
  async function act(
    attempt: Attempt,
    admission: Extract<Admission, { answer: 'admitted' | 'recover' }>,
    verdict: Verdict,
    facts: CallFacts,
  ): Promise<CallAnswer<unknown>> {
    const { call, envelope, path } = attempt;
    const inFlight = fence.enter(envelope.tenantId, admission.epoch);
    const context = Context.current();
    const timer = new AbortController();
    const deadlineTimer = setTimeout(() => timer.abort(new DeadlinePassed('the time of the call is over')), remaining(attempt));
    const signal = AbortSignal.any([inFlight.signal, context.cancellationSignal, timer.signal]);
    try {
      const leased = call.secret ? await lease(attempt, admission.epoch) : null;
      if (leased?.kind === 'refused') return await refuseLease(attempt, leased.refusal);
      const destination = verdict.effect === 'allow' ? verdict.destination : lookUpDestination(call, facts);
      const http = openHttp({
        poolKey: `${envelope.tenantId} ${envelope.environment} ${call.system ?? 'none'}`,
        baseUrl: destination?.url ?? null,
        privateGranted: destination?.connection ?? false,
        authorization: leased ? () => leased.lease.authorization() : null,
        idempotencyKey: isWrite(call.callClass) ? idempotencyKey(envelope, path) : null,
        signal,
        remainingMs: () => Math.max(1, remaining(attempt)),
        beforeSend: () => {
          if (remaining(attempt) <= 0) throw new DeadlinePassed('the time of the call is over; nothing was sent');
          fence.assertOpen(envelope.tenantId, admission.epoch);
        },
      });
      const io: ActIo = {
        http,
        fetch: http.fetch,
        baseUrl: destination?.url ?? null,
        knowledge: { search: (query, limit) => attempt.store.searchKnowledge(query, limit) },
        idempotencyKey: idempotencyKey(envelope, path),
        signal,
        record: facts.record,
      };
      if (admission.answer === 'recover') return await recover(attempt, admission, io, http);
      return await perform(attempt, io, http);
    } finally {
      clearTimeout(deadlineTimer);
      inFlight.leave();
    }
  }

  /** Runs the effect; where its answer was lost and the system honours keys, the same key once more while time lasts. */
  async function perform(attempt: Attempt, io: ActIo, http: { mayHaveApplied(): number }): Promise<CallAnswer<unknown>> {
    const { call } = attempt;
    for (let turn = 1; ; turn += 1) {
      try {
        return await accept(attempt, io, await call.act(io));
      } catch (error) {
        if (isStorageBusy(error) || isTemporalFailure(error)) throw error;
        const reading = readFailure(error, call, { mayHaveApplied: http.mayHaveApplied(), aborted: io.signal.aborted });
        if (reading.result === 'pending') {
          const pause = 200 * 2 ** turn;
          if (turn <= 3 && !io.signal.aborted && remaining(attempt) > pause * 2) {
            await delay(pause);
            continue;
          }
          // The claim stays: the next attempt takes it over once the lease is over, and sends the same key again.
          throw failure('OutcomePending', reading.refusal.message, remaining(attempt) + LEASE_MARGIN_MS + 100);
        }
        return await settleFailure(attempt, reading);
      }
    }
  }

  /** Step 6: what came back is believed only if it is in its schema, the tenant's own, and read back. */
  async function accept(attempt: Attempt, io: ActIo, acted: Acted): Promise<CallAnswer<unknown>> {
    const { call } = attempt;
    const foreign = foreignRecord(acted.records, io.record);
    if (foreign) {
      return await settleRefused(attempt, 'failed', refusalOf('scope_ambiguous', 'policy', 'scope.foreign_result', `a ${foreign.system} record in the result is not shown to be this tenant's; the result was discarded`), acted.microUsd);
    }
    if (call.verify) {
      const matches = await call.verify(io, acted).catch(() => undefined);
      if (matches !== true) {
        const rule = matches === false ? 'read_back_mismatch' : 'read_back_unavailable';
        return await settleRefused(attempt, 'unknown', refusalOf('outcome_unknown', 'provider', rule, `${call.action} answered, but reading it back did not confirm it`), acted.microUsd);
      }
    }
    const payloadDigest = digestOf(acted.payload);
    const settled = await settle(attempt, {
      result: 'succeeded',
      charge: { toolCalls: call.reserve.toolCalls, microUsd: acted.microUsd },
      refusal: null,
      value: acted.value,
      payload: acted.payload,
      payloadDigest,
      facts: acted.facts,
      records: acted.records,
    });
    return { kind: 'done', value: acted.value, ref: attempt.path, digest: payloadDigest, seq: settled.seq };
  }

  /** A write whose last attempt was lost: never a blind second send (promise T3). */
  async function recover(
    attempt: Attempt,
    admission: Extract<Admission, { answer: 'recover' }>,
    io: ActIo,
    http: { mayHaveApplied(): number },
  ): Promise<CallAnswer<unknown>> {
    const { call } = attempt;
    if (call.reconcile) {
      const found = await call.reconcile(io).catch(() => 'unknown' as const);
      if (typeof found === 'object') return await accept(attempt, io, found.acted);
      if (found === 'absent' && !admission.lookupOnly && call.remoteHonoursKeys) return await perform(attempt, io, http);
    } else if (call.remoteHonoursKeys && !admission.lookupOnly) return await perform(attempt, io, http);
    return await settleRefused(attempt, 'unknown', refusalOf('outcome_unknown', 'provider', 'attempt_lost', `an earlier attempt of ${call.action} was lost; whether it was applied is not known`), 0);
  }

  /** Without a credential nothing was sent: the call is open again, or failed where no later attempt would get one. */
  async function refuseLease(attempt: Attempt, refusal: Refusal): Promise<CallAnswer<unknown>> {
    if (refusal.kind !== 'killed') return await settleRefused(attempt, 'failed', refusal, 0);
    const settled = await settle(attempt, { ...NOTHING, result: 'open', refusal });
    return { kind: refusal.kind, refusal, seq: settled.seq };
  }

  async function settleFailure(attempt: Attempt, reading: ReturnType<typeof readFailure>): Promise<CallAnswer<unknown>> {
    if (reading.result !== 'open') return await settleRefused(attempt, reading.result as 'failed' | 'unknown', reading.refusal, 0);
    await settle(attempt, { ...NOTHING, result: 'open', refusal: reading.refusal });
    Context.current().cancellationSignal.throwIfAborted();
    throw failure('ProviderUnavailable', reading.refusal.message, reading.retryAfterMs);
  }

  async function settleRefused(attempt: Attempt, result: 'failed' | 'unknown', refusal: Refusal, microUsd: number): Promise<CallAnswer<unknown>> {
    const payload = attempt.call.refusalPayload(refusal);
    const settled = await settle(attempt, {
      ...NOTHING,
      result,
      charge: { toolCalls: attempt.call.reserve.toolCalls, microUsd },
      refusal,
      payload,
      payloadDigest: payload && digestOf(payload),
    });
    return { kind: refusal.kind, refusal, seq: settled.seq };
  }

  /** Step 7. The truth is known here and nowhere else, so the ledger is asked again before giving up. */
  async function settle(attempt: Attempt, truth: Omit<SettleRequest, 'runId' | 'path' | 'token'>): Promise<Settlement> {
    for (let turn = 1; ; turn += 1) {
      try {
        const settled = await attempt.store.settle({ runId: attempt.envelope.rootRunId, path: attempt.path, token: attempt.token, ...truth });
        if (settled.answer === 'late') throw failure('OutcomePending', 'another attempt has taken this call over', 500);
        return settled;
      } catch (error) {
        if (!isStorageBusy(error)) throw error;
        if (turn >= SETTLE_TRIES) throw failure('OutcomePending', 'the ledger could not take the outcome; it is asked again after the lease', remaining(attempt) + LEASE_MARGIN_MS + 100);
        await delay(50 * 2 ** turn);
      }
    }
  }

  async function lease(attempt: Attempt, epoch: number) {
    const { call, envelope, store, path } = attempt;
    return await broker.lease({ store, runId: envelope.rootRunId, path, capability: call.secret ?? '', epoch, ttlMs: call.timeoutMs + LEASE_MARGIN_MS });
  }

  /** A refusal that frees soon is waited for here; any other is the answer, and the conversation's to see. */
  async function refuse(attempt: Attempt, refusal: Refusal, seq: number): Promise<CallAnswer<unknown>> {
    const { retryAfterMs } = refusal;
    if (retryAfterMs !== undefined && retryAfterMs <= SHORT_WAIT_MS && Context.current().info.attempt <= MAX_WAITS_IN_PLACE) {
      throw failure('Waiting', `${refusal.rule}: ${refusal.message}`, retryAfterMs);
    }
    if (retryAfterMs === undefined) await keepRefusal(attempt, refusal);
    return { kind: refusal.kind, refusal, seq };
  }

  async function keepRefusal(attempt: Attempt, refusal: Refusal): Promise<void> {
    const payload = attempt.call.refusalPayload(refusal);
    if (payload) await attempt.store.putPayload(attempt.envelope.rootRunId, attempt.path, payload);
  }

  /** A refusal that the conversation already holds stays the answer, also when the activity is tried again. */
  async function keptRefusal(attempt: Attempt): Promise<CallAnswer<unknown> | undefined> {
    const kept: StoredPayload | undefined = await attempt.store.payload(attempt.envelope.rootRunId, attempt.path);
    if (kept?.kind !== 'tool' || kept.outcome === 'done') return undefined;
    return { kind: kept.outcome, refusal: kept.refusal, seq: attempt.call.seenSeq };
  }

  return { govern };
}

const remaining = (attempt: Attempt): number => attempt.deadline - performance.now();

const refusalOf = (kind: Refusal['kind'], origin: Refusal['origin'], rule: string, message: string): Refusal => ({ kind, origin, rule, rules: [rule], message });

const NOTHING: Omit<SettleRequest, 'runId' | 'path' | 'token' | 'result'> = {
  charge: { toolCalls: 0, microUsd: 0 },
  refusal: null,
  value: null,
  payload: null,
  payloadDigest: null,
  facts: {},
  records: [],
};

/** A look-up goes to the tenant's connection alone, whatever policy now says of sending. */
function lookUpDestination(call: GovernedCall, facts: CallFacts) {
  const destination = call.destination(facts.record);
  return destination && 'url' in destination ? destination : null;
}

function recorded(path: string, outcome: RecordedOutcome, seq: number): CallAnswer<unknown> {
  if (outcome.state === 'succeeded' && outcome.digest) {
    return { kind: 'done', value: outcome.value, ref: outcome.ref ?? path, digest: outcome.digest, seq };
  }
  const refusal = outcome.refusal ?? refusalOf('outcome_unknown', 'platform', 'not_recorded', 'the recorded outcome names no reason');
  return { kind: refusal.kind, refusal, seq };
}

function isTemporalFailure(error: unknown): boolean {
  return error instanceof Error && (error.name === 'ApplicationFailure' || error.name === 'CancelledFailure');
}
