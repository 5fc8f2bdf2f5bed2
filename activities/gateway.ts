import { randomUUID } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { Context } from '@temporalio/activity';
import { digestOf } from '../contracts/digest';
import type { CallAnswer, StoredPayload } from '../contracts/calls';
import { passCheckpoint, type Checkpoint } from '../contracts/checkpoint';
import type { Admission } from '../contracts/ledger';
import type { OpenHttp } from '../contracts/http-port';
import type { CallContext, Leasing, SecretBroker, Storage } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import { DeadlinePassed } from './acting';
import { keepRefusal, recorded, refused } from './answers';
import { LEASE_MARGIN_MS, remaining, type Attempt } from './attempt';
import { callingRun } from './call-context';
import { failure } from './failure';
import type { FenceWatch } from './fence-watch';
import { isWrite, type ActIo, type GovernedCall } from './governed-call';
import { beatWith, seqOfEarlierAttempt } from './heartbeat';
import { accountOf, callPath, idempotencyKey, judge, type Verdict } from './judge';
import { KnownContexts } from './known-contexts';
import { perform, recover, settleLost, type OpenSession } from './perform';
import type { Policies } from './policies';
import { settleOpen, settleRefused } from './settle';
import { ToldSequences } from './told-sequences';

/** A refusal that frees this soon is waited for in place; a later one is a value that the workflow waits for. */
const SHORT_WAIT_MS = 10_000;
/** After this many waits in place the refusal is answered as a value, so that the run's state shows it. */
const MAX_WAITS_IN_PLACE = 60;
const MAX_STALE = 8;

export interface GatewayParts {
  readonly storage: Storage;
  readonly policies: Policies;
  readonly broker: SecretBroker;
  readonly openHttp: OpenHttp;
  readonly fence: FenceWatch;
  readonly hostId: string;
  /** Called at the named places of each call; production passes them. */
  readonly checkpoint?: Checkpoint | undefined;
}

export interface Gateway {
  /** Takes a call through all seven steps. A governed outcome is a value; what a retry can mend is thrown. */
  govern(call: GovernedCall): Promise<CallAnswer<unknown>>;
}

export function createGateway(parts: GatewayParts): Gateway {
  const { storage, policies, broker, openHttp, fence, hostId, checkpoint = passCheckpoint } = parts;
  const contexts = new KnownContexts();
  const told = new ToldSequences();

  async function govern(call: GovernedCall): Promise<CallAnswer<unknown>> {
    const asking = newAttempt(call);
    const kept = Context.current().info.attempt > 1 ? await keptRefusal(asking) : undefined;
    if (kept) return kept;
    const { attempt, admission, verdict, context } = await decideAndAdmit(asking);
    attempt.heard(admission.seq);
    switch (admission.answer) {
      case 'refused':
        return await refuse(attempt, admission.refusal, admission.seq);
      case 'replayed':
        return await recorded(attempt, admission.outcome, admission.seq);
      case 'in_flight':
        throw failure('Waiting', `${call.action} is in flight elsewhere`, admission.retryAfterMs);
      case 'stale':
        throw failure('PlatformBusy', 'the policy changes faster than this call can be decided');
      case 'admitted':
      case 'recover':
        // A look-up alone never sends, so a verdict that says no does not matter to it.
        if (verdict.effect === 'deny' && admission.answer === 'admitted') {
          throw failure('ContractBroken', 'the ledger admitted a denied call');
        }
        beatWith({ seq: admission.seq });
        await attempt.checkpoint('admitted');
        return await act(attempt, admission, verdict, context);
    }
  }

  function newAttempt(call: GovernedCall): Attempt {
    const { scope, signed, temporalRunId } = callingRun();
    const { envelope } = signed;
    const path = callPath(envelope, call);
    const { tenantId, rootRunId } = envelope;
    const place = {
      tenantId,
      runId: rootRunId,
      path,
      action: call.action,
      attempt: Context.current().info.attempt,
    };
    return {
      call,
      envelope,
      store: storage.tenant(scope),
      path,
      token: randomUUID(),
      temporalRunId,
      deadline: performance.now() + call.timeoutMs,
      seenSeq: Math.max(call.seenSeq, seqOfEarlierAttempt(), told.highest(scope)),
      waitsForReview: call.undoOf !== null,
      checkpoint: (point) => checkpoint(point, place),
      heard: (seq) => told.hear(scope, seq),
    };
  }

  /** Steps 1 to 3. Decides again whenever something it was decided by has moved before the lock. */
  async function decideAndAdmit(
    asking: Attempt,
  ): Promise<{ attempt: Attempt; admission: Admission; verdict: Verdict; context: CallContext }> {
    const { call, envelope, store } = asking;
    const runId = envelope.rootRunId;
    const { site, action, args } = call;
    const digest = digestOf({ site, action, target: envelope.target, args });
    // A later attempt may be a take-over, which is judged by what is in force now.
    const first = Context.current().info.attempt === 1;
    const asked = { runId, records: call.records, capability: call.secret };
    for (let turn = 1; ; turn += 1) {
      const recalled = first && turn === 1 ? contexts.recall(store, asked) : undefined;
      const context = recalled ?? (await contexts.read(store, asked));
      if (!context) throw failure('PlatformBusy', 'the tenant is not in the ledger; nothing was done');
      const verdict = await judge(call, envelope, context, (version) => policies.inForce(store, version));
      if (recalled && verdict.effect === 'deny') continue;
      const inForce = await policies.inForce(store, context.versions.policyVersion);
      const policy = 'policy' in inForce ? inForce.policy : undefined;
      const waitsForReview = asking.waitsForReview || policy?.onUnknownOutcome === 'review';
      const attempt: Attempt = { ...asking, waitsForReview };
      await attempt.checkpoint('decided');
      const admission = await store.admit({
        runId,
        path: attempt.path,
        digest,
        action,
        callClass: call.callClass,
        system: call.system,
        token: attempt.token,
        temporalRunId: attempt.temporalRunId,
        hostId,
        decidedBy: context.versions,
        verdict: verdict.effect === 'allow' ? { effect: 'allow', rules: verdict.rules } : verdict,
        leaseMs: call.timeoutMs + LEASE_MARGIN_MS,
        keyValidMs: call.keyValidMs,
        seenSeq: attempt.seenSeq,
        reserve: call.reserve,
        capability: context.sealed?.capability ?? null,
        reversible: call.reversible,
        undoOf: call.undoOf,
        pastFence: call.undoOf !== null && policy?.compensateOnKill === true,
        account: accountOf(call, context),
      });
      if (admission.answer === 'admitted' || admission.answer === 'recover')
        await attempt.checkpoint('claimed');
      if (admission.answer !== 'stale' || turn >= MAX_STALE) return { attempt, admission, verdict, context };
    }
  }

  /** Steps 4 to 7 of an admitted call, or the recovery of one whose last attempt was lost. */
  async function act(
    attempt: Attempt,
    admission: Extract<Admission, { answer: 'admitted' | 'recover' }>,
    verdict: Verdict,
    context: CallContext,
  ): Promise<CallAnswer<unknown>> {
    const { call, envelope, path, store } = attempt;
    const { tenantId, environment } = envelope;
    const { abort, leave } = fence.enter(tenantId, admission.epoch);
    const { signal } = abort;
    const cancelled = Context.current().cancellationSignal;
    const cancel = (): void => abort.abort(cancelled.reason);
    if (cancelled.aborted) cancel();
    cancelled.addEventListener('abort', cancel);
    const timer = setTimeout(
      () => abort.abort(new DeadlinePassed('the time of the call is over')),
      remaining(attempt),
    );
    try {
      const leased = call.secret === null ? null : lend(attempt, call.secret, admission, context);
      if (leased?.kind === 'refused') return await refuseLease(attempt, admission, leased.refusal);
      await attempt.checkpoint('leased');
      if (call.undoOf !== null) await attempt.checkpoint('before_undo');
      const destination = verdict.effect === 'allow' ? verdict.destination : lookUpDestination(call, context);
      const key = idempotencyKey(envelope, path);
      const openSession: OpenSession = ({ readOnly }) => {
        const over = new AbortController();
        const end = (): void => over.abort(signal.reason);
        if (signal.aborted) end();
        signal.addEventListener('abort', end);
        const http = openHttp({
          poolKey: `${tenantId} ${environment} ${call.system ?? 'none'}`,
          baseUrl: destination?.url ?? null,
          privateGranted: destination?.connection ?? false,
          authorization: leased ? () => leased.lease.authorization() : null,
          idempotencyKey: isWrite(call.callClass) ? key : null,
          readOnly,
          signal: over.signal,
          ...(parts.checkpoint ? { checkpoint: attempt.checkpoint } : {}),
          remainingMs: () => Math.max(1, remaining(attempt)),
          beforeSend: () => {
            over.signal.throwIfAborted();
            if (remaining(attempt) <= 0) {
              throw new DeadlinePassed('the time of the call is over; nothing was sent');
            }
            fence.assertOpen(tenantId, admission.epoch);
          },
        });
        const io: ActIo = {
          http,
          fetch: http.fetch,
          baseUrl: destination?.url ?? null,
          knowledge: { search: (query, limit) => store.searchKnowledge(query, limit) },
          idempotencyKey: key,
          signal,
          record: context.record,
        };
        return {
          io,
          mayHaveApplied: http.mayHaveApplied,
          close: () => {
            signal.removeEventListener('abort', end);
            over.abort(new DeadlinePassed('the call is over; nothing was sent'));
          },
        };
      };
      if (admission.answer === 'recover') return await recover(attempt, admission, openSession);
      return await perform(attempt, openSession, { earlier: false, attemptNo: admission.attempt });
    } finally {
      clearTimeout(timer);
      cancelled.removeEventListener('abort', cancel);
      leave();
    }
  }

  /** Step 4: the admission has recorded the lease; here it is opened, to end no later than the record says. */
  function lend(
    attempt: Attempt,
    capability: string,
    admission: { leaseId: string | null; epoch: number },
    { sealed }: CallContext,
  ): Leasing {
    const { scope } = attempt.store;
    return broker.lease({
      scope,
      capability,
      sealed,
      admission,
      ttlMs: remaining(attempt) + LEASE_MARGIN_MS,
    });
  }

  /** Without a credential nothing was sent by this attempt; what an earlier one may have sent stays unknown. */
  async function refuseLease(
    attempt: Attempt,
    { answer }: { answer: 'admitted' | 'recover' },
    refusal: Refusal,
  ): Promise<CallAnswer<unknown>> {
    if (answer === 'recover') return await settleLost(attempt);
    if (refusal.kind === 'killed') return await settleOpen(attempt, refusal);
    return await settleRefused(attempt, 'failed', refusal, 0);
  }

  /** A refusal that frees soon is waited for here; any other is the answer, and the conversation's to see. */
  async function refuse(attempt: Attempt, refusal: Refusal, seq: number): Promise<CallAnswer<unknown>> {
    const { retryAfterMs } = refusal;
    if (
      retryAfterMs !== undefined &&
      retryAfterMs <= SHORT_WAIT_MS &&
      Context.current().info.attempt <= MAX_WAITS_IN_PLACE
    ) {
      throw failure('Waiting', `${refusal.rule}: ${refusal.message}`, retryAfterMs);
    }
    if (retryAfterMs !== undefined) return refused(attempt, refusal, seq, null);
    await keepRefusal(attempt, refusal);
    // An undo that may not be made is for a person to look at; the ledger has opened the review with its refusal.
    const { call, store, envelope, path } = attempt;
    const row = call.undoOf === null ? undefined : await store.call(envelope.rootRunId, path);
    return refused(attempt, refusal, seq, row?.reviewNo ?? null);
  }

  /**
   * A refusal that the conversation already holds stays the answer, also when the activity is tried again. Of a call that was
   * ever claimed the ledger answers: its refusal may have been reviewed since.
   */
  async function keptRefusal(attempt: Attempt): Promise<CallAnswer<unknown> | undefined> {
    const { store, envelope, path, seenSeq } = attempt;
    const kept: StoredPayload | undefined = await store.payload(envelope.rootRunId, path);
    if (kept?.kind !== 'tool' || kept.outcome === 'done') return undefined;
    if (await store.call(envelope.rootRunId, path)) return undefined;
    return refused(attempt, kept.refusal, seenSeq, null);
  }

  return { govern };
}

/** A look-up goes to the tenant's connection alone, whatever policy now says of sending. */
function lookUpDestination(call: GovernedCall, { record }: CallContext) {
  const destination = call.destination(record);
  return destination && 'url' in destination ? destination : null;
}
