import type { ApprovalRow, SuggestionRow } from '../../contracts/approvals';
import type { DeadLetter, FollowUp, ReviewRow } from '../../contracts/reviews';

import { rolesNeeded } from '../approvals';
import { jsonText } from './output';

/** One line each for what is kept beside a run. Ids, rules and counts: no payload, but of a suggestion. */

/** `over`: nothing of the run can make the call any more. */
export function approvalLine(approval: ApprovalRow, over = false): string {
  const { state, terms, expiresAt, approver, decidedAt, usedAt } = approval;
  const decided = approver === null ? '' : ` by ${approver} at ${decidedAt ?? '-'}`;
  const became =
    state === 'pending'
      ? over
        ? 'not decided'
        : `waits for ${rolesNeeded(terms)} until ${expiresAt}`
      : `${state}${decided}${usedAt === null ? '' : ', used'}`;
  return `${approval.approvalNo}  ${approval.action} at ${approval.path}, ${became}`;
}

/** With what would have been sent, on a line of its own. */
export function suggestionLine(suggestion: SuggestionRow): string {
  const { path, action, destination, rules, approvalNo } = suggestion;
  const where = destination === null ? '' : ` to ${destination}`;
  const since = approvalNo === null ? '' : `, made a call by approval ${approvalNo}`;
  return `${path}  ${action}${where} (${rules.join(', ')})${since}\n${jsonText(JSON.parse(suggestion.args), 0)}`;
}

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

/**
 * What can be typed to decide a request. With `tenant` it is a development stack: the token that a command makes for
 * itself there has not the roles, so an approver's comes first.
 */
export function decideHints({ approvalNo, terms }: ApprovalRow, tenant?: string): string[] {
  const roles = new Set(terms.roles.flatMap(([first]) => first ?? []));
  return [
    ...(tenant === undefined
      ? []
      : [
          `export BULKHEAD_TOKEN=$(bulkhead token --tenant ${tenant} --role ${[...roles].join(' ')} --subject alice)`,
        ]),
    `bulkhead approval approve ${approvalNo} --note "why"`,
    `bulkhead approval deny ${approvalNo} --note "why not"`,
  ];
}

/** What can be typed to have suggestions made that are none yet. */
export function promoteHints(suggestions: readonly SuggestionRow[], tenant?: string): string[] {
  const who = tenant === undefined ? '' : ` --tenant ${tenant}`;
  return suggestions
    .filter(({ approvalNo }) => approvalNo === null)
    .map(({ runId, path }) => `bulkhead approval promote ${runId} ${path}${who} --note "why"`);
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
