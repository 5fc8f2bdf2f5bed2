import { condition } from '@temporalio/workflow';
import type { CallAnswer } from '../contracts/calls';
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
  for (let looks = 0; ; looks += 1) {
    const seen = view.wakeUps;
    const answer = await ask();
    view.saw(answer.seq);
    looksAtIt = approvalOf(answer) === approvalNo ? looksAtIt + 1 : 0;
    approvalNo = approvalOf(answer);
    const later = laterOf(answer, looks, looksAtIt);
    const wait = later ? Math.min(later.pauseMs, boundOf(bounds, later.for) - waited[later.for]) : 0;
    if (shown && (wait <= 0 || later?.for === 'limits')) {
      view.goesOn();
      shown = false;
    }
    if (answer.kind === 'done' || !later || wait <= 0) return answer;
    if (later.for === 'approval') view.waitsForApproval(later.approvalNo, what);
    else if (later.reviewNo === undefined) view.waitsFor(answer.refusal);
    else view.waitsForReview(answer.refusal, later.reviewNo);
    const since = Date.now();
    await condition(() => view.wakeUps > seen, wait);
    waited[later.for] += Date.now() - since;
    if (later.for === 'limits') view.goesOn();
    else shown = true;
  }
}

type Later =
  | { readonly for: 'limits' | 'people'; readonly pauseMs: number; readonly reviewNo?: number }
  | { readonly for: 'approval'; readonly pauseMs: number; readonly approvalNo: number };

/** When to ask again, and what for; `undefined` for an answer that is final. */
function laterOf(answer: CallAnswer<unknown>, looks: number, looksAtIt: number): Later | undefined {
  if (answer.kind === 'done') return undefined;
  const { review, approval, refusal } = answer;
  if (approval) {
    const pauseMs = Math.min(rarer(looksAtIt), Math.max(0, approval.expiresInMs) + AFTER_EXPIRY_MS);
    return { for: 'approval', pauseMs, approvalNo: approval.no };
  }
  if (review?.wait) return { for: 'people', pauseMs: rarer(looks), reviewNo: review.no };
  const { retryAfterMs } = refusal;
  if (retryAfterMs === undefined) return undefined;
  if (refusal.kind !== 'frozen') return { for: 'limits', pauseMs: retryAfterMs };
  const again = Math.min(retryAfterMs * 2 ** looks, LOOKS.frozen.last);
  return { for: 'people', pauseMs: Math.max(retryAfterMs, again) };
}

const rarer = (looks: number): number => Math.min(LOOKS.people.first * 2 ** looks, LOOKS.people.last);

const approvalOf = (answer: CallAnswer<unknown>): number | undefined =>
  answer.kind === 'done' ? undefined : answer.approval?.no;

function boundOf(bounds: WaitBounds, kind: Later['for']): number {
  if (kind === 'limits') return bounds.maxWaitMs;
  return kind === 'people' ? (bounds.maxReviewWaitMs ?? WEEK) : (bounds.maxApprovalWaitMs ?? Infinity);
}
