import type { DeadLetter } from '../contracts/reviews';
import { actorOf, entryNumber, noteOf, seenRun, type Caller } from './caller';
import { BulkheadError, reachDatabase } from './errors';
import { begun, type OrderedFollowUp } from './follow-ups';
import { entryPage, type EntryFilter } from './lists';
import type { RunRow } from '../contracts/rows';

/** What is decided about a dead letter, and by whom. */
export interface LetterDecision {
  readonly letterNo: number;
  /** It is journaled: no payload and no personal data in it. */
  readonly note?: string;
  /** On whose word, where that is not the bearer of the token; both are journaled. */
  readonly actor?: string;
}

/** Calls of runs that the caller may see which used up their attempts, the newest first. */
export async function listDeadLetters(caller: Caller, filter: EntryFilter): Promise<DeadLetter[]> {
  const page = await entryPage(caller, filter);
  return reachDatabase(() => caller.store.deadLetters(page));
}

/** One dead letter. Throws `not_found` for another tenant's or workspace's, in the same words as for none. */
export async function findDeadLetter(caller: Caller, letterNo: number): Promise<DeadLetter> {
  return (await found(caller, letterNo)).letter;
}

/**
 * Makes the call again, under its own key and through all of admission. Throws `conflict` where a letter is decided
 * already, or where its call belongs to its run and cannot be made alone (`not_retryable`): the message says what to do.
 */
export async function retryDeadLetter(caller: Caller, decision: LetterDecision): Promise<OrderedFollowUp> {
  const actor = actorOf(caller, decision.actor);
  const note = noteOf(decision.note, { needed: false });
  const { letter, row } = await found(caller, decision.letterNo);
  const answer = await reachDatabase(() =>
    caller.store.retryDeadLetter({ letterNo: letter.letterNo, actor, note }),
  );
  switch (answer.kind) {
    case 'absent':
      throw unknownLetter();
    case 'refused':
      throw new BulkheadError('conflict', answer.message, { reason: 'not_retryable' });
    case 'ordered':
    case 'already':
      return begun(caller, row, answer);
  }
}

/** Gives a call up for good. Throws `conflict` for a letter that is decided already. */
export async function discardDeadLetter(caller: Caller, decision: LetterDecision): Promise<DeadLetter> {
  const actor = actorOf(caller, decision.actor);
  const note = noteOf(decision.note, { needed: true });
  const { letter } = await found(caller, decision.letterNo);
  const answer = await reachDatabase(() =>
    caller.store.discardDeadLetter({ letterNo: letter.letterNo, actor, note }),
  );
  if (answer === 'absent') throw unknownLetter();
  const now = await findDeadLetter(caller, letter.letterNo);
  if (answer === 'discarded') return now;
  throw new BulkheadError(
    'conflict',
    `dead letter ${now.letterNo} was ${now.state} before, by ${now.actor} at ${now.decidedAt}: nothing has changed`,
    { reason: 'already_decided' },
  );
}

async function found(caller: Caller, letterNo: number): Promise<{ letter: DeadLetter; row: RunRow }> {
  const number = entryNumber(letterNo, unknownLetter);
  const letter = await reachDatabase(() => caller.store.deadLetter(number));
  const row = letter && (await seenRun(caller, letter.runId));
  if (letter && row) return { letter, row };
  throw unknownLetter();
}

const unknownLetter = (): BulkheadError =>
  new BulkheadError(
    'not_found',
    'there is no such dead letter in your tenant and workspaces: `bulkhead dead-letter list` shows those there are',
    { reason: 'unknown_dead_letter' },
  );
