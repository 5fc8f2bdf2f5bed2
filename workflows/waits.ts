import { condition } from '@temporalio/workflow';
import type { CallAnswer } from '../contracts/calls';
import type { WorkView } from './work-view';

/** How long the answers of one position are waited for, milliseconds. */
export interface WaitBounds {
  /** On limits and on systems that are down. */
  readonly maxWaitMs: number;
  /** On people: a review, or an operator who has frozen the tenant. A week where the platform says nothing. */
  readonly maxReviewWaitMs?: number;
}

const MINUTE = 60_000;
const WEEK = 7 * 24 * 60 * MINUTE;
/**
 * People answer in minutes or in days. Their answer comes as a signal; looking by ourselves only makes up for a lost one,
 * so it grows rarer, and a wait of a week stays far below what a history may hold.
 */
const LOOKS = { review: { first: 5 * MINUTE, last: 60 * MINUTE }, frozen: { last: 5 * MINUTE } };

/**
 * Asks until the answer is not "later". The position stays, the wait is durable and visible, ends early on a wake-up
 * and for good when it has been longer than it may.
 */
export async function throughWaits<T>(
  view: WorkView,
  bounds: WaitBounds,
  ask: () => Promise<CallAnswer<T>>,
): Promise<CallAnswer<T>> {
  const waited = { limits: 0, people: 0 };
  /** Looking whether a person has spoken does not show: the state stays that of the wait. */
  let shown = false;
  for (let looks = 0; ; looks += 1) {
    const seen = view.wakeUps;
    const answer = await ask();
    view.saw(answer.seq);
    const later = laterOf(answer, looks);
    const wait = later ? Math.min(later.pauseMs, boundOf(bounds, later.for) - waited[later.for]) : 0;
    if (shown && (wait <= 0 || later?.for !== 'people')) {
      view.goesOn();
      shown = false;
    }
    if (answer.kind === 'done' || !later || wait <= 0) return answer;
    if (later.reviewNo === undefined) view.waitsFor(answer.refusal);
    else view.waitsForReview(answer.refusal, later.reviewNo);
    const since = Date.now();
    await condition(() => view.wakeUps > seen, wait);
    waited[later.for] += Date.now() - since;
    if (later.for === 'people') shown = true;
    else view.goesOn();
  }
}

interface Later {
  readonly for: 'limits' | 'people';
  readonly pauseMs: number;
  readonly reviewNo?: number;
}

/** When to ask again, and what for; `undefined` for an answer that is final. */
function laterOf(answer: CallAnswer<unknown>, looks: number): Later | undefined {
  if (answer.kind === 'done') return undefined;
  const { review, refusal } = answer;
  if (review?.wait) {
    const pauseMs = Math.min(LOOKS.review.first * 2 ** looks, LOOKS.review.last);
    return { for: 'people', pauseMs, reviewNo: review.no };
  }
  const { retryAfterMs } = refusal;
  if (retryAfterMs === undefined) return undefined;
  if (refusal.kind !== 'frozen') return { for: 'limits', pauseMs: retryAfterMs };
  const rarer = Math.min(retryAfterMs * 2 ** looks, LOOKS.frozen.last);
  return { for: 'people', pauseMs: Math.max(retryAfterMs, rarer) };
}

const boundOf = (bounds: WaitBounds, kind: Later['for']): number =>
  kind === 'limits' ? bounds.maxWaitMs : (bounds.maxReviewWaitMs ?? WEEK);
