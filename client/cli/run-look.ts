import type { Command } from 'commander';
import type { RunRow } from '../../contracts/rows';
import type { BesideRun } from '../beside';
import type { Explanation } from '../run';
import { REFUSAL_ORIGINS } from '../../contracts/states';
import { asBearer, asWho, verb, type Who } from './command';
import type { CliContext } from './context';
import { printFields } from './output';
import {
  approvalLine,
  decideHints,
  letterLine,
  orderLine,
  promoteHints,
  resolveHints,
  reviewLine,
  suggestionLine,
} from './wording';

/** `bulkhead run show|explain`: a run as it is, and why. */
export function registerRunLook(group: Command, context: CliContext): void {
  asWho(
    verb(group, 'show <run>', 'a run as it is now, and what waits for a person or was only suggested', [
      'bulkhead run show 6f1c… --tenant acme',
    ]),
  ).action(async (runId: string, options: Who) =>
    asBearer(context, options, async (bulkhead, asking) => {
      const run = await bulkhead.run({ ...asking, runId });
      const row = await run.row();
      const beside = await run.beside();
      printFields(
        context,
        options.output,
        { ...row, ...beside },
        { ...runFields(row), ...besideFields(row, beside, options.tenant) },
      );
    }),
  );

  asWho(
    verb(group, 'explain <run>', 'what a run waits for, which limit or rule binds, and since when', [
      'bulkhead run explain 6f1c… --tenant acme',
    ]),
  ).action(async (runId: string, options: Who) =>
    asBearer(context, options, async (bulkhead, asking) => {
      const why = await (await bulkhead.run({ ...asking, runId })).explain();
      printFields(context, options.output, why, explained(why, options.tenant));
    }),
  );
}

/** A run's row in words. */
export function runFields(row: RunRow, existing?: boolean): Record<string, unknown> {
  return {
    run: row.runId,
    state: row.state,
    'stop reason': row.stopReason,
    agent: `${row.agentId} (${row.agentVersion})`,
    workspace: row.workspaceId,
    ...(row.priority === 3 ? {} : { priority: row.priority }),
    target: row.target ? `${row.target.system}:${row.target.recordId}` : null,
    accepted: existing ? `${row.acceptedAt} (an earlier run with this key)` : row.acceptedAt,
    entered: row.enteredAt,
    closed: row.closedAt,
    steps: row.steps,
    'tool calls': row.toolCalls,
    refused: row.refusals,
    'spent (µ$)': row.spentMicroUsd,
    workflow: row.workflowId,
  };
}

function besideFields(row: RunRow, beside: BesideRun, tenant?: string): Record<string, unknown> {
  const over = row.state === 'closed' && beside.followUps.every(({ state }) => state === 'done');
  const lines = {
    approvals: beside.approvals.map((approval) => approvalLine(approval, over)),
    suggestions: beside.suggestions.map(suggestionLine),
    'promote with': promoteHints(beside.suggestions, tenant),
    reviews: beside.reviews.map(reviewLine),
    'dead letters': beside.deadLetters.map(letterLine),
    'ordered since': beside.followUps.map(orderLine),
  };
  return Object.fromEntries(
    Object.entries(lines)
      .filter(([, found]) => found.length > 0)
      .map(([name, found]) => [name, found.join('\n')]),
  );
}

/** States in which a person is waited for, so that no limit binds. */
const FOR_PEOPLE: ReadonlySet<string> = new Set(['review_required', 'approval_required']);

function explained(why: Explanation, tenant: string | undefined): Record<string, unknown> {
  const { waitsFor, lastRefusal, approvals, reviews } = why;
  return {
    run: why.runId,
    state: why.state,
    ...(why.stopReason === null ? {} : { 'stop reason': why.stopReason }),
    means: why.means,
    since: why.since,
    ...(why.until === null ? {} : { until: why.until }),
    ...(why.queue === null ? {} : { position: `${why.queue.position} of ${why.queue.waiting}` }),
    ...(waitsFor
      ? {
          'waits for': waitsFor.message,
          rule: `${waitsFor.rule} (${REFUSAL_ORIGINS[waitsFor.origin]})`,
          ...(FOR_PEOPLE.has(why.state)
            ? {}
            : {
                limit: waitsFor.value,
                used: waitsFor.used,
                'frees at': why.freesAt ?? (why.queue ? 'as soon as one of those ends' : undefined),
              }),
        }
      : {}),
    ...(approvals.length > 0
      ? {
          approvals: approvals.map((approval) => approvalLine(approval)).join('\n'),
          'decide with': approvals
            .flatMap((approval) => [
              `bulkhead approval show ${approval.approvalNo}${tenant === undefined ? '' : ` --tenant ${tenant}`}`,
              ...decideHints(approval, tenant),
            ])
            .join('\n'),
        }
      : {}),
    ...(reviews.length > 0
      ? {
          reviews: reviews.map(reviewLine).join('\n'),
          'resolve with': reviews.flatMap((review) => resolveHints(review, tenant)).join('\n'),
        }
      : {}),
    ...(lastRefusal && !waitsFor
      ? {
          'last refused': `${lastRefusal.action} at ${lastRefusal.at}, by ${lastRefusal.refusal.origin} (${lastRefusal.refusal.rule}): ${lastRefusal.refusal.message}`,
        }
      : {}),
  };
}
