import { setTimeout as delay } from 'node:timers/promises';
import type { CallAnswer } from '../contracts/calls';
import type { TenantRecord } from '../contracts/documents';
import { foreignRecord } from '../contracts/ownership';
import type { Admission } from '../contracts/ledger';
import { isStorageBusy } from '../contracts/storage-busy';
import { DeadlinePassed, mayPass, readFailure } from './acting';
import { refusalOf, remaining, type Attempt } from './attempt';
import { FREE, type Acted, type ActIo } from './governed-call';
import { heeding } from './heeding';
import { readBack } from './read-back';
import { pendingUntilLeaseIsOver, settleDone, settleFailure, settleRefused, tellTrouble } from './settle';

/**
 * The way out of one turn of a call. Closed before anything is read or settled from it: what an action left running is
 * cut off, so nothing of a call is sent after the call.
 */
export interface Session {
  readonly io: ActIo;
  /** Requests that may have been applied. */
  readonly mayHaveApplied: () => number;
  /** Throws `ForeignContext` where the action was refused a passage that is not its tenant's. */
  readonly assertOwn: () => void;
  readonly close: () => void;
}
export type OpenSession = (options: { readOnly: boolean }) => Session;

/** Steps 5 to 7: runs the effect; where its answer was lost and the system honours keys, the same key once more while time lasts. */
export async function perform(
  attempt: Attempt,
  openSession: OpenSession,
  { earlier, attemptNo }: { earlier: boolean; attemptNo: number },
): Promise<CallAnswer<unknown>> {
  const { call } = attempt;
  let mayHaveApplied = earlier;
  for (let turn = 1; ; turn += 1) {
    const session = openSession({ readOnly: false });
    let acted: Acted;
    try {
      acted = await heeding(session.io, call.act);
      session.close();
      session.assertOwn();
    } catch (error) {
      session.close();
      if (isStorageBusy(error) || isTemporalFailure(error)) throw error;
      const { signal } = session.io;
      const { aborted } = signal;
      const timedOut = aborted && signal.reason instanceof DeadlinePassed;
      const before = mayHaveApplied;
      mayHaveApplied ||= session.mayHaveApplied() > 0;
      const reading = readFailure(error, call, { mayHaveApplied, before, aborted, timedOut });
      const pause = 200 * 2 ** turn;
      // Without a key that the system honours the same request would be a second write: it is looked up after the lease.
      const again = reading.resend === true && turn <= 3 && remaining(attempt) > pause * 2;
      if (reading.trouble !== undefined && !again) await tellTrouble(attempt, reading.trouble);
      // A provider may bill what it has got, whatever came of it.
      const cost = mayHaveApplied ? attempt.bound : FREE;
      if (reading.result !== 'pending') return await settleFailure(attempt, reading, cost);
      if (!again) {
        throw pendingUntilLeaseIsOver(attempt, reading.refusal.message);
      }
      await delay(pause);
      continue;
    }
    return await accept(attempt, openSession, acted, session.io.record, attemptNo);
  }
}

/** Attempts of one call that a look-up may fail in before a person is asked: an outage of minutes is waited out. */
const LOOK_UPS = 8;

/** No look-up of a call begins after so many attempts: one that takes its host down never comes to an answer. */
const LOOK_UPS_BEGUN = 2 * LOOK_UPS;

/**
 * A write whose last attempt was lost: never a blind second send (promise T3). Looked up where the action declares how;
 * sent again under its key where the system honours keys; proven absent where a look-up after `visibleWithin` finds nothing;
 * else a person has to say.
 */
export async function recover(
  attempt: Attempt,
  claim: Extract<Admission, { answer: 'recover' }>,
  openSession: OpenSession,
): Promise<CallAnswer<unknown>> {
  const { call } = attempt;
  const mayResend = call.keyValidMs !== null && !claim.lookupOnly;
  if (!mayResend && claim.attempt > LOOK_UPS_BEGUN) return await settleLost(attempt);
  const found = await lookUp(attempt, openSession);
  if (found.kind === 'happened')
    return await accept(attempt, openSession, found.acted, found.record, claim.attempt);
  // Absent is not never: the lost attempt may still be at work there, so what it may have applied is remembered.
  if (mayResend) return await perform(attempt, openSession, { earlier: true, attemptNo: claim.attempt });
  switch (found.kind) {
    case 'absent':
      return await settleAbsent(attempt, claim.quietMs);
    case 'unreachable':
      if (claim.attempt < LOOK_UPS) throw pendingUntilLeaseIsOver(attempt, 'the look-up found nobody to ask');
      return await settleLost(attempt);
    case 'unknown':
      return await settleLost(attempt);
  }
}

type Found =
  | { readonly kind: 'happened'; readonly acted: Acted; readonly record: TenantRecord }
  | { readonly kind: 'absent' | 'unknown' | 'unreachable' };

async function lookUp({ call }: Attempt, openSession: OpenSession): Promise<Found> {
  const { reconcile } = call;
  if (!reconcile) return { kind: 'unknown' };
  let signal: AbortSignal | undefined;
  try {
    return await looking(openSession, async (io) => {
      ({ signal } = io);
      const answer = await reconcile(io);
      return typeof answer === 'object'
        ? { kind: 'happened', acted: answer.acted, record: io.record }
        : { kind: answer };
    });
  } catch (error) {
    return { kind: signal?.aborted || mayPass(error) ? 'unreachable' : 'unknown' };
  }
}

/**
 * A look-up found nothing. It proves that nothing was applied only if every attempt that could send has been over for as
 * long as a write takes to show: then the call is made again, through all of admission. Of one that was sent to another
 * account (`quietMs` null) it proves nothing.
 */
async function settleAbsent(attempt: Attempt, quietMs: number | null): Promise<CallAnswer<unknown>> {
  const { action, visibleWithinMs } = attempt.call;
  if (visibleWithinMs === null || quietMs === null) return await settleLost(attempt);
  const early = visibleWithinMs - quietMs;
  if (early > 0) throw pendingUntilLeaseIsOver(attempt, `${action} does not show yet`, early);
  const message = `an earlier attempt of ${action} was lost, and a look-up proves that it was not applied`;
  const refusal = refusalOf('provider_degraded', 'provider', 'proven_absent', message);
  return await settleFailure(attempt, { result: 'open', refusal, retryAfterMs: 50 }, FREE);
}

/** Asks the system outside without being able to change it. */
async function looking<T>(openSession: OpenSession, look: (io: ActIo) => Promise<T>): Promise<T> {
  const session = openSession({ readOnly: true });
  try {
    return await heeding(session.io, look);
  } finally {
    session.close();
  }
}

/** The truth of a lost attempt cannot be learned: a person has to say. */
export async function settleLost(attempt: Attempt): Promise<CallAnswer<unknown>> {
  const message = `an earlier attempt of ${attempt.call.action} was lost; whether it was applied is not known`;
  const refusal = refusalOf('outcome_unknown', 'provider', 'attempt_lost', message);
  return await settleRefused(attempt, 'unknown', refusal, FREE);
}

/** Step 6: what came back is believed only if it is in its schema, the tenant's own, and read back. */
async function accept(
  attempt: Attempt,
  openSession: OpenSession,
  acted: Acted,
  record: TenantRecord,
  attemptNo: number,
): Promise<CallAnswer<unknown>> {
  const { verify, action, undoOf, keyValidMs, reconcile } = attempt.call;
  if (undoOf !== null) await attempt.checkpoint('after_undo');
  const foreign = foreignRecord(acted.records, record);
  if (foreign) {
    const message = `a ${foreign.system} record in the result is not shown to be this tenant's; the result was discarded`;
    const refusal = refusalOf('scope_ambiguous', 'policy', 'scope.foreign_result', message);
    return await settleRefused(attempt, 'failed', refusal, acted);
  }
  if (verify) {
    const seen = await readBack(attempt, acted, verify, (look) => looking(openSession, look));
    // The next attempt finds the write by its key or a look-up, and reads it back then.
    if (seen === 'later' && attemptNo < LOOK_UPS && (keyValidMs !== null || reconcile))
      throw pendingUntilLeaseIsOver(attempt, `${action} answered, and could not be read back yet`);
    if (seen !== 'matches') {
      const refusal =
        seen === 'differs'
          ? refusalOf(
              'read_back_mismatch',
              'provider',
              'read_back_mismatch',
              `${action} answered, and reading it back showed something else`,
            )
          : refusalOf(
              'outcome_unknown',
              'provider',
              'read_back_unavailable',
              `${action} answered, but it could not be read back`,
            );
      return await settleRefused(attempt, 'unknown', refusal, acted);
    }
  }
  return await settleDone(attempt, acted);
}

function isTemporalFailure(error: unknown): boolean {
  return error instanceof Error && (error.name === 'ApplicationFailure' || error.name === 'CancelledFailure');
}
