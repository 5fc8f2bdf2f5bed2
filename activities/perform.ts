import { setTimeout as delay } from 'node:timers/promises';
import type { CallAnswer } from '../contracts/calls';
import type { TenantRecord } from '../contracts/documents';
import { isStorageBusy } from '../contracts/storage-busy';
import { readFailure } from './acting';
import { refusalOf, remaining, type Attempt } from './attempt';
import type { Acted, ActIo } from './governed-call';
import { foreignRecord } from './judge';
import { pendingUntilLeaseIsOver, settleDone, settleFailure, settleRefused } from './settle';

/**
 * The way out of one turn of a call. Closed before anything is read or settled from it: what an action left running is
 * cut off, so nothing of a call is sent after the call.
 */
export interface Session {
  readonly io: ActIo;
  /** Requests that may have been applied. */
  readonly mayHaveApplied: () => number;
  readonly close: () => void;
}
export type OpenSession = (options: { readOnly: boolean }) => Session;

/** Steps 5 to 7: runs the effect; where its answer was lost and the system honours keys, the same key once more while time lasts. */
export async function perform(
  attempt: Attempt,
  openSession: OpenSession,
  { earlier }: { earlier: boolean },
): Promise<CallAnswer<unknown>> {
  const { call } = attempt;
  let mayHaveApplied = earlier;
  for (let turn = 1; ; turn += 1) {
    const session = openSession({ readOnly: false });
    let acted: Acted;
    try {
      acted = await call.act(session.io);
      session.close();
    } catch (error) {
      session.close();
      if (isStorageBusy(error) || isTemporalFailure(error)) throw error;
      const { aborted } = session.io.signal;
      const before = mayHaveApplied;
      mayHaveApplied ||= session.mayHaveApplied() > 0;
      const reading = readFailure(error, call, { mayHaveApplied, before, aborted });
      if (reading.result !== 'pending') return await settleFailure(attempt, reading);
      const pause = 200 * 2 ** turn;
      if (turn > 3 || aborted || remaining(attempt) <= pause * 2) {
        throw pendingUntilLeaseIsOver(attempt, reading.refusal.message);
      }
      await delay(pause);
      continue;
    }
    return await accept(attempt, openSession, acted, session.io.record);
  }
}

/** A write whose last attempt was lost: never a blind second send (promise T3). */
export async function recover(
  attempt: Attempt,
  lookupOnly: boolean,
  openSession: OpenSession,
): Promise<CallAnswer<unknown>> {
  const { call } = attempt;
  const { reconcile } = call;
  const mayResend = call.keyValidMs !== null && !lookupOnly;
  if (reconcile) {
    const found = await looking(openSession, async (io) => {
      const answer = await reconcile(io);
      return typeof answer === 'object' ? { acted: answer.acted, record: io.record } : answer;
    }).catch(() => 'unknown' as const);
    if (typeof found === 'object') return await accept(attempt, openSession, found.acted, found.record);
    if (found !== 'absent') return await settleLost(attempt);
  }
  // Absent is not never: the lost attempt may still be at work there, so what it may have applied is remembered.
  if (mayResend) return await perform(attempt, openSession, { earlier: true });
  return await settleLost(attempt);
}

/** Asks the system outside without being able to change it. */
async function looking<T>(openSession: OpenSession, look: (io: ActIo) => Promise<T>): Promise<T> {
  const session = openSession({ readOnly: true });
  try {
    return await look(session.io);
  } finally {
    session.close();
  }
}

/** The truth of a lost attempt cannot be learned: a person has to say. */
export async function settleLost(attempt: Attempt): Promise<CallAnswer<unknown>> {
  const message = `an earlier attempt of ${attempt.call.action} was lost; whether it was applied is not known`;
  const refusal = refusalOf('outcome_unknown', 'provider', 'attempt_lost', message);
  return await settleRefused(attempt, 'unknown', refusal, 0);
}

/** Step 6: what came back is believed only if it is in its schema, the tenant's own, and read back. */
async function accept(
  attempt: Attempt,
  openSession: OpenSession,
  acted: Acted,
  record: TenantRecord,
): Promise<CallAnswer<unknown>> {
  const { verify, action } = attempt.call;
  const foreign = foreignRecord(acted.records, record);
  if (foreign) {
    const message = `a ${foreign.system} record in the result is not shown to be this tenant's; the result was discarded`;
    const refusal = refusalOf('scope_ambiguous', 'policy', 'scope.foreign_result', message);
    return await settleRefused(attempt, 'failed', refusal, acted.microUsd);
  }
  if (verify) {
    const matches = await looking(openSession, (io) => verify(io, acted)).catch(() => undefined);
    if (matches !== true) {
      const rule = matches === false ? 'read_back_mismatch' : 'read_back_unavailable';
      const message = `${action} answered, but reading it back did not confirm it`;
      const refusal = refusalOf('outcome_unknown', 'provider', rule, message);
      return await settleRefused(attempt, 'unknown', refusal, acted.microUsd);
    }
  }
  return await settleDone(attempt, acted);
}

function isTemporalFailure(error: unknown): boolean {
  return error instanceof Error && (error.name === 'ApplicationFailure' || error.name === 'CancelledFailure');
}
