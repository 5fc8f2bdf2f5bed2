import { condition } from '@temporalio/workflow';
import type { CallAnswer } from '../contracts/calls';
import type { WaitForPerson } from '../contracts/workflow-io';
import type { Slot } from './slot';
import type { WorkView } from './work-view';

/** How long the answers of one position are waited for, milliseconds. */
export interface WaitBounds {
  /** On limits and on systems that are down. */
  readonly maxWaitMs: number;
  /** On people: a review, or an operator who has frozen the tenant. A week where the platform says nothing. */
  readonly maxReviewWaitMs?: number;
  /** On approvals. Left out: each as long as it stays open, for its own expiry ends it. */
  readonly maxApprovalWaitMs?: number;
}

const MINUTE = 60_000;
const WEEK = 7 * 24 * 60 * MINUTE;
/**
 * People answer in minutes or in days. Their answer comes as a signal; looking by ourselves only makes up for a lost one,
 * so it grows rarer, and a wait of a week stays far below what a history may hold.
 */
const LOOKS = { people: { first: 5 * MINUTE, last: 60 * MINUTE }, frozen: { last: 5 * MINUTE } };
/**
 * The ledger's word for a run that holds no slot, though it believes so: the database was put back to a time at which it
 * waited for a person. No waiting gives it one; it has to stand in line.
 */
const NO_SLOT = 'concurrent_runs';
/** The ledger's clock and Temporal's are two: looked right after the expiry, not on it. */
const AFTER_EXPIRY_MS = 1_000;

/**
 * Asks until the answer is not "later". The position stays, the wait is durable and visible, ends early on a wake-up
 * and for good when it has been longer than it may.
 *
 * @param what the action that is asked for, where a person may have to approve it.
 */
export async function throughWaits<T>(
  view: WorkView,
  bounds: WaitBounds,
  ask: () => Promise<CallAnswer<T>>,
  what = 'a call',
): Promise<CallAnswer<T>> {
  const waited = { limits: 0, people: 0, approval: 0 };
  /** Looking whether a person has spoken does not show: the state stays that of the wait. */
  let shown = false;
  let approvalNo: number | undefined;
  let looksAtIt = 0;
  /** By which limit it was refused last, and how long it has waited for that one. */
  let limit = { rule: '', waitedMs: 0 };
  for (let looks = 0; ; looks += 1) {
    const seen = view.wakeUps;
    const answer = await ask();
    view.saw(answer.seq);
    looksAtIt = approvalOf(answer) === approvalNo ? looksAtIt + 1 : 0;
    approvalNo = approvalOf(answer);
    const rule = answer.kind === 'done' ? '' : answer.refusal.rule;
    if (rule !== limit.rule) limit = { rule, waitedMs: 0 };
    const later = laterOf(answer, looks, looksAtIt, limit.waitedMs);
    const wait = later ? Math.min(later.pauseMs, boundOf(bounds, later.for) - waited[later.for]) : 0;
    if (shown && (wait <= 0 || (later?.for === 'limits' && !view.slot))) {
      view.goesOn();
      shown = false;
    }
    if (answer.kind === 'done' || !later || wait <= 0) return answer;
    if (rule === NO_SLOT && view.slot) {
      const { kind } = await view.slot.takeAgain({ state: 'frozen' });
      if (kind === 'goesOn') view.goesOn();
      continue;
    }
    if (later.for === 'approval') view.waitsForApproval(later.approvalNo, what);
    else if (later.reviewNo === undefined) view.waitsFor(answer.refusal);
    else view.waitsForReview(answer.refusal, later.reviewNo);
    const person = personOf(later);
    if (person && view.slot) {
      const bound = boundOf(bounds, later.for) - waited[later.for];
      const waitedOut = await withoutSlot(view, view.slot, { person, seen, pauseMs: wait, bound });
      waited[later.for] += waitedOut.ms;
      looks += waitedOut.looks;
      looksAtIt += waitedOut.looks;
      if (waitedOut.shown) view.goesOn();
      shown = !waitedOut.shown;
      // It ends, or its undo is given up: nothing more is done that would need a slot.
      if (!waitedOut.hasSlot) return answer;
      continue;
    }
    const since = Date.now();
    await condition(() => view.wakeUps > seen, wait);
    waited[later.for] += Date.now() - since;
    limit.waitedMs += Date.now() - since;
    // Histories of before slots have each change of the attribute in them.
    if (later.for !== 'limits') shown = true;
    else if (!view.slot) view.goesOn();
    else {
      view.asksAgain();
      shown = true;
    }
  }
}

/**
 * Waits for a person without a slot, and takes one before it goes on: none while nobody has decided. Until then it looks by
 * itself, as ever, at the ledger alone.
 */
async function withoutSlot(
  view: WorkView,
  slot: Slot,
  of: { person: WaitForPerson; seen: number; pauseMs: number; bound: number },
): Promise<{ ms: number; looks: number; hasSlot: boolean; shown: boolean }> {
  await slot.giveUp(of.person);
  let { seen, pauseMs } = of;
  let ms = 0;
  for (let looks = 0; ; looks += 1) {
    const since = Date.now();
    await condition(() => view.wakeUps > seen, pauseMs);
    ms += Date.now() - since;
    seen = view.wakeUps;
    const resumed = await slot.takeAgain(of.person);
    if (resumed.kind === 'goesOn') return { ms, looks, hasSlot: true, shown: resumed.queued };
    const { expiresInMs } = resumed;
    pauseMs = Math.min(
      expiresInMs === null ? rarer(looks + 1) : untilExpiry(looks + 1, expiresInMs),
      of.bound - ms,
    );
    if (pauseMs <= 0) return { ms, looks, hasSlot: false, shown: true };
  }
}

/** Whom to wait for without a slot; `undefined` where a limit or a system is waited for. */
function personOf(later: Later): WaitForPerson | undefined {
  if (later.for === 'limits') return undefined;
  if (later.for === 'approval') return { state: 'approval_required', approvalNo: later.approvalNo };
  return later.reviewNo === undefined
    ? { state: 'frozen' }
    : { state: 'review_required', reviewNo: later.reviewNo };
}

type Later =
  | { readonly for: 'limits' | 'people'; readonly pauseMs: number; readonly reviewNo?: number }
  | { readonly for: 'approval'; readonly pauseMs: number; readonly approvalNo: number };

/** When to ask again, and what for; `undefined` for an answer that is final. */
function laterOf(
  answer: CallAnswer<unknown>,
  looks: number,
  looksAtIt: number,
  waitedMs: number,
): Later | undefined {
  if (answer.kind === 'done') return undefined;
  const { review, approval, refusal } = answer;
  if (approval) {
    const pauseMs = untilExpiry(looksAtIt, approval.expiresInMs);
    return { for: 'approval', pauseMs, approvalNo: approval.no };
  }
  if (review?.wait) return { for: 'people', pauseMs: rarer(looks), reviewNo: review.no };
  const { retryAfterMs } = refusal;
  if (retryAfterMs === undefined) return undefined;
  if (refusal.kind !== 'frozen') return { for: 'limits', pauseMs: pauseFor(retryAfterMs, waitedMs) };
  const again = Math.min(retryAfterMs * 2 ** looks, LOOKS.frozen.last);
  return { for: 'people', pauseMs: Math.max(retryAfterMs, again) };
}

/**
 * When a limit is asked for again, milliseconds: when it frees, and where others were faster, no sooner than after as long
 * as it was waited for already. So a wait of a day is a dozen looks, however short the limit's own window is.
 */
export const pauseFor = (retryAfterMs: number, waitedMs: number): number => Math.max(retryAfterMs, waitedMs);

const untilExpiry = (looksAtIt: number, expiresInMs: number): number =>
  Math.min(rarer(looksAtIt), Math.max(0, expiresInMs) + AFTER_EXPIRY_MS);

const rarer = (looks: number): number => Math.min(LOOKS.people.first * 2 ** looks, LOOKS.people.last);

const approvalOf = (answer: CallAnswer<unknown>): number | undefined =>
  answer.kind === 'done' ? undefined : answer.approval?.no;

function boundOf(bounds: WaitBounds, kind: Later['for']): number {
  if (kind === 'limits') return bounds.maxWaitMs;
  return kind === 'people' ? (bounds.maxReviewWaitMs ?? WEEK) : (bounds.maxApprovalWaitMs ?? Infinity);
}
