import type { DeadLetter, FollowUp, ReviewRow } from '../../contracts/reviews';

/** One line each for what is kept beside a run. Ids, rules and counts: no payload. */

export function reviewLine(review: ReviewRow): string {
  const became =
    review.resolution === null
      ? 'open'
      : `${review.resolution} by ${review.actor ?? 'nobody'} at ${review.resolvedAt ?? '-'}`;
  return `${review.reviewNo}  ${review.kind}: ${review.action} at ${review.path}, ${became}`;
}

export function letterLine(letter: DeadLetter): string {
  const became =
    letter.state === 'dead'
      ? 'dead'
      : `${letter.state} by ${letter.actor ?? 'nobody'} at ${letter.decidedAt}`;
  return `${letter.letterNo}  ${letter.action} at ${letter.path}, after ${letter.attempts} attempts (${letter.refusal.rule}), ${became}`;
}

export function orderLine(order: FollowUp): string {
  const what = order.path === null ? order.kind : `${order.kind} of ${order.path}`;
  const counts =
    order.outcome === null
      ? ''
      : `: ${order.outcome.undone} undone, ${order.outcome.left} left, ${order.outcome.abandoned} given up`;
  return `${order.followUpNo}  ${what} (${order.reason}) by ${order.actor}, ${order.state}${counts}`;
}

/** What can be typed to resolve a review: a line each for what may be said of it. */
export function resolveHints(review: ReviewRow, tenant?: string): string[] {
  const who = tenant === undefined ? '' : ` --tenant ${tenant}`;
  const happened = review.path.endsWith('/undo') ? '--happened' : '--happened --result result.json';
  const answers = isWrite(review) ? [happened, '--did-not-happen', '--abandon'] : ['--abandon'];
  return answers.map(
    (answer) => `bulkhead review resolve ${review.reviewNo}${who} ${answer} --note "how you know"`,
  );
}

const isWrite = ({ callClass }: ReviewRow): boolean =>
  callClass === 'write' || callClass === 'high_risk_write';
