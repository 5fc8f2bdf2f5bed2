import { digestOf } from '../contracts/digest';
import type { CallAnswer } from '../contracts/calls';
import type { RecordedOutcome } from '../contracts/ledger';
import type { Refusal } from '../contracts/refusal';
import { refusalOf, type Attempt } from './attempt';

/** What a workflow is told of a governed call that is not done, with the review that it opened, if it did. */
export function refused(
  attempt: Pick<Attempt, 'waitsForReview'>,
  refusal: Refusal,
  seq: number,
  reviewNo: number | null,
): CallAnswer<never> {
  if (reviewNo === null) return { kind: refusal.kind, refusal, seq };
  // Ambiguous scope stops the work (promise E4): nobody can say afterwards that it was the tenant's.
  const wait = attempt.waitsForReview && refusal.kind !== 'scope_ambiguous';
  return { kind: refusal.kind, refusal, review: { no: reviewNo, wait }, seq };
}

/** Shows the conversation a refusal that it has not seen: a model that does not see one would try again. */
export async function keepRefusal(attempt: Attempt, refusal: Refusal): Promise<void> {
  const payload = attempt.call.refusalPayload(refusal);
  if (payload) await attempt.store.putPayload(attempt.envelope.rootRunId, attempt.path, payload);
}

/**
 * The answer of a call that the ledger knows already. A refusal may be without its words, because its host died before it
 * kept them or the sweep ended the call: they are kept now.
 */
export async function recorded(
  attempt: Attempt,
  outcome: RecordedOutcome,
  seq: number,
): Promise<CallAnswer<unknown>> {
  // What an undo brings nobody reads, so a person may say that it happened and give no result.
  const digest = outcome.digest ?? (attempt.call.undoOf === null ? null : digestOf(null));
  if (outcome.state === 'succeeded' && digest) {
    const { value } = outcome;
    return { kind: 'done', value, ref: outcome.ref ?? attempt.path, digest, seq };
  }
  const refusal =
    outcome.refusal ??
    refusalOf('outcome_unknown', 'platform', 'not_recorded', 'the recorded outcome names no reason');
  await keepRefusal(attempt, refusal);
  return refused(attempt, refusal, seq, outcome.reviewNo);
}
