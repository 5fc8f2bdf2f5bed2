import { randomUUID } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { Context } from '@temporalio/activity';
import { BREAKER_OPEN } from '../contracts/breakers';
import { canonicalJson, digestOf } from '../contracts/digest';
import type { CallAnswer, StoredPayload } from '../contracts/calls';
import { passCheckpoint } from '../contracts/checkpoint';
import type { Admission, AdmitRequest } from '../contracts/ledger';
import type { Storage } from '../contracts/ports';
import type { CallContext } from '../contracts/rows';
import type { Refusal } from '../contracts/refusal';
import { actAdmitted, type ActingParts } from './admitted';
import { keepRefusal, recorded, refused } from './answers';
import { LEASE_MARGIN_MS, SHORT_WAIT_MS, type Attempt } from './attempt';
import { callingRun } from './call-context';
import { failure } from './failure';
import { FREE, type GovernedCall } from './governed-call';
import { beatWith, seqOfEarlierAttempt } from './heartbeat';
import { accountOf, callPath, judge, type Verdict } from './judge';
import { KnownContexts } from './known-contexts';
import { lineOf, LONGEST_ALONE_MS, PacedLooks } from './paced-looks';
import type { Policies } from './policies';
import type { AskedFor, RememberedRefusals } from './remembered-refusals';
import { ToldSequences } from './told-sequences';

/** After this many waits in place, or when they have lasted so long, the refusal is answered as a value: the run's state shows it. */
const MAX_WAITS_IN_PLACE = 60;
const MAX_IN_PLACE_MS = 60_000;
const MAX_STALE = 8;
/** Waits in place for a limit grow from this on: who waits alone and may go on earlier than told, does so soon. */
const FIRST_WAIT_MS = 250;
/** Runs come back from a breaker no later than this after its moment. */
const LONGEST_JITTER_MS = 30_000;

export interface GatewayParts extends ActingParts {
  readonly storage: Storage;
  readonly policies: Policies;
  readonly hostId: string;
  readonly remembered: RememberedRefusals;
}

export interface Gateway {
  /** Takes a call through all seven steps. A governed outcome is a value; what a retry can mend is thrown. */
  govern(call: GovernedCall): Promise<CallAnswer<unknown>>;
}

export function createGateway(parts: GatewayParts): Gateway {
  const { storage, policies, hostId, remembered, checkpoint = passCheckpoint } = parts;
  const contexts = new KnownContexts();
  const told = new ToldSequences();
  const looks = new PacedLooks();

  async function govern(call: GovernedCall): Promise<CallAnswer<unknown>> {
    const asking = newAttempt(call);
    const kept = Context.current().info.attempt > 1 ? await keptRefusal(asking) : undefined;
    if (kept) return kept;
    const { attempt, admission, verdict, context } = await decideAndAdmit(asking);
    attempt.heard(admission.seq);
    switch (admission.answer) {
      case 'refused':
        return await refuse(attempt, admission);
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
        try {
          const way = verdict.effect === 'deny' ? { destination: lookUpDestination(call, context) } : verdict;
          const answer = await actAdmitted(parts, attempt, admission, way, context);
          if (answer.kind === 'done' && call.system !== null) {
            remembered.answered(attempt.store, call.system);
            looks.answered(attempt.store.scope.tenantId, call.system);
          }
          return answer;
        } finally {
          remembered.settled(attempt.store);
          looks.ended(attempt.store.scope.tenantId);
        }
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
      bound: FREE,
      another: false,
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
      const bound = call.bound?.(context.record) ?? FREE;
      const another = policy !== undefined && call.another?.(policy) === true;
      const attempt: Attempt = { ...asking, waitsForReview, bound, another };
      await attempt.checkpoint('decided');
      const reserve = {
        ...call.reserve,
        microUsd: call.reserve.microUsd + bound.microUsd,
        modelTokens: call.reserve.modelTokens + bound.modelTokens,
      };
      const limited = askedFor(attempt, reserve);
      const answered = verdict.effect === 'allow' ? await waitWhileRefused(attempt, limited) : undefined;
      const askedAt = performance.now();
      const admitting = store.admit({
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
        verdict: verdictOf(verdict, attempt),
        decided: verdict.decided,
        leaseMs: call.timeoutMs + LEASE_MARGIN_MS,
        keyValidMs: call.keyValidMs,
        seenSeq: attempt.seenSeq,
        reserve,
        capability: context.sealed?.capability ?? null,
        reversible: call.reversible,
        undoOf: call.undoOf,
        pastFence: call.undoOf !== null && policy?.compensateOnKill === true,
        account: accountOf(call, context),
      });
      const admission = await admitting
        .then((answer) => {
          if (answer.answer === 'refused' && verdict.effect === 'allow')
            remembered.remember(store, limited, answer.refusal, askedAt);
          return answer;
        })
        .finally(answered);
      if (admission.answer === 'admitted' || admission.answer === 'recover')
        await attempt.checkpoint('claimed');
      if (admission.answer !== 'stale' || turn >= MAX_STALE) return { attempt, admission, verdict, context };
    }
  }

  /**
   * Throws `Waiting` where this host knows that the ledger would refuse the call for now. Nothing is decided by that: a
   * refusal that lasts is the ledger's to answer, and a call that may have been sent is asked about there at once. Else
   * answers whom to tell once the ledger has answered, if anybody waits to hear it.
   */
  async function waitWhileRefused(attempt: Attempt, asked: AskedFor): Promise<(() => void) | undefined> {
    const { call, store, envelope, path } = attempt;
    const turn = Context.current().info.attempt;
    if (call.undoOf !== null || !waitsInPlace(turn)) return undefined;
    for (;;) {
      const found = remembered.find(store, asked, turn === 1 ? Number.POSITIVE_INFINITY : SHORT_WAIT_MS);
      // Who may turn to another model is told by the ledger that this one is not to be had.
      if (found?.refusal.kind === 'provider_degraded' && attempt.another) return undefined;
      if (found) {
        if (turn > 1 && (await store.call(envelope.rootRunId, path))?.state === 'claimed') return undefined;
        const { refusal, asOfNow, forMs } = found;
        remembered.count(store, asked, asOfNow);
        const lasts = (refusal.retryAfterMs ?? 0) > SHORT_WAIT_MS;
        const waitMs = lasts ? inTurn(attempt, refusal, turn, forMs) : pauseOf(attempt, refusal, turn);
        throw failure('Waiting', `${refusal.rule}: ${refusal.message}`, waitMs);
      }
      const asks = remembered.begin(store, asked);
      if (!asks || 'answered' in asks) return asks?.answered;
      await asks.others;
    }
  }

  /** A refusal that frees soon is waited for here; any other is the answer, and the conversation's to see. */
  async function refuse(
    attempt: Attempt,
    { refusal, approval, seq }: Extract<Admission, { answer: 'refused' }>,
  ): Promise<CallAnswer<unknown>> {
    // Nothing for the conversation yet: what it will be told is what a person says of the call.
    if (approval) return { kind: refusal.kind, refusal, approval, seq };
    const { retryAfterMs } = refusal;
    const turn = Context.current().info.attempt;
    if (attempt.another && refusal.kind === 'provider_degraded') return refused(attempt, refusal, seq, null);
    if (retryAfterMs !== undefined && retryAfterMs <= SHORT_WAIT_MS && waitsInPlace(turn))
      throw failure('Waiting', `${refusal.rule}: ${refusal.message}`, pauseOf(attempt, refusal, turn));
    if (retryAfterMs !== undefined) return refused(attempt, jittered(refusal), seq, null);
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

  /** How long a refusal is waited for in place, milliseconds: in its turn, where others wait for the same. */
  function pauseOf(attempt: Attempt, refusal: Refusal, turn: number): number {
    return inTurn(attempt, refusal, turn, pauseAlone(refusal, turn));
  }

  function inTurn({ call, store }: Attempt, refusal: Refusal, turn: number, pauseMs: number): number {
    const line = lineOf(refusal, { turn, pauseMs, system: call.system, undo: call.undoOf !== null });
    return line === undefined ? pauseMs : looks.pause(store.scope.tenantId, line, pauseMs);
  }

  return { govern };
}

/** Whether a call that is refused for now is waited for in its activity, and not yet in its run. */
function waitsInPlace(turn: number): boolean {
  const { scheduledTimestampMs, currentAttemptScheduledTimestampMs } = Context.current().info;
  // By Temporal's clock alone. Of the first attempt there is nothing yet; a later one's time holds that in its lane's line, too.
  return (
    turn <= MAX_WAITS_IN_PLACE && currentAttemptScheduledTimestampMs - scheduledTimestampMs <= MAX_IN_PLACE_MS
  );
}

/** How long a refusal is waited for by a call that waits alone, milliseconds: never longer than until it frees. */
function pauseAlone({ origin, retryAfterMs = 0 }: Refusal, turn: number): number {
  if (origin !== 'tenant_cap') return retryAfterMs;
  return Math.min(retryAfterMs, LONGEST_ALONE_MS, FIRST_WAIT_MS * 2 ** (turn - 1));
}

/**
 * The moment at which a breaker lets somebody try is one for all runs that wait for it. They come within half as long again
 * instead, and within half a minute, each when chance says: a crowd at one moment holds up its neighbours, for one probe
 * (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
 */
function jittered(refusal: Refusal): Refusal {
  const { rule, retryAfterMs } = refusal;
  if (rule !== BREAKER_OPEN || retryAfterMs === undefined) return refusal;
  return {
    ...refusal,
    retryAfterMs: Math.round(retryAfterMs + Math.min(retryAfterMs / 2, LONGEST_JITTER_MS) * Math.random()),
  };
}

/** What of a call decides which limits concern it. */
function askedFor({ call, envelope }: Attempt, reserve: AskedFor['reserve']): AskedFor {
  const { action, callClass, system } = call;
  const { runId, rootRunId, agentId } = envelope;
  return {
    ...{ runId: rootRunId, action, callClass, system, reserve, leaseMs: call.timeoutMs + LEASE_MARGIN_MS },
    // Limits of agents are those of the agent at the root.
    agentId: runId === rootRunId ? agentId : null,
  };
}

/** The verdict as the ledger is told it, with exactly what a person would be asked to approve. */
function verdictOf(verdict: Verdict, { call, envelope }: Attempt): AdmitRequest['verdict'] {
  switch (verdict.effect) {
    case 'allow':
      return { effect: 'allow', rules: verdict.rules };
    case 'deny':
      return { effect: 'deny', refusal: verdict.refusal };
    case 'approve':
    case 'suggest': {
      const { effect, rules, terms, schemaDigest, refusal } = verdict;
      const { kind, subject } = envelope.principal;
      const asked = { args: canonicalJson(call.args), schemaDigest, requester: `${kind}:${subject}` };
      return { effect, rules, terms, asked, refusal };
    }
  }
}

/** A look-up goes to the tenant's connection alone, whatever policy now says of sending. */
function lookUpDestination(call: GovernedCall, { record }: CallContext) {
  const destination = call.destination(record);
  return destination && 'url' in destination ? destination : null;
}
