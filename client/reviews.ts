import type { Action } from '../contracts/action';
import type { StoredToolResult } from '../contracts/calls';
import { digestOf } from '../contracts/digest';
import { RunId } from '../contracts/ids';
import { foreignRecord } from '../contracts/ownership';
import type { Resolution, ResolveReview, ReviewRow } from '../contracts/reviews';
import { shownBy, type Shown } from '../contracts/shown';
import { SIGNALS } from '../contracts/workflow-io';
import { actorOf, entryNumber, noteOf, seenRun, type Caller } from './caller';
import { BulkheadError, reachDatabase, scopeAmbiguous } from './errors';
import { requireBoundedJson } from './json-bounds';
import { entryPage, type EntryFilter } from './lists';
import { tellDecided } from './wake';

/** What a person says of a review. */
export interface ReviewVerdict {
  readonly reviewNo: number;
  readonly resolution: Resolution;
  /** With `happened`: what the call brought, in its action's result schema. Of an undo it may be left out. */
  readonly result?: unknown;
  /** How you know it. It is journaled: no payload and no personal data in it. */
  readonly note: string;
  /** On whose word, where that is not the bearer of the token; both are journaled. */
  readonly actor?: string;
}

export interface ResolvedReview {
  readonly review: ReviewRow;
  /** `false`: Temporal did not answer. What waits looks again by itself, within the hour, or when it is resolved again. */
  readonly told: boolean;
}

/** Reviews of runs that the caller may see, the newest first. */
export async function listReviews(caller: Caller, filter: EntryFilter): Promise<ReviewRow[]> {
  const page = await entryPage(caller, filter);
  return reachDatabase(() => caller.store.reviews(page));
}

/** One review. Throws `not_found` for another tenant's or workspace's, in the same words as for none. */
export async function findReview(caller: Caller, reviewNo: number): Promise<ReviewRow> {
  const number = entryNumber(reviewNo, unknownReview);
  const review = await reachDatabase(() => caller.store.review(number));
  if (review && (await seenRun(caller, review.runId))) return review;
  throw unknownReview();
}

/**
 * Records what a person says of a review, and tells the run that waits for it. With `happened` the result is held
 * against the action's schema and the tenant's accounts, as the gateway would have done, before anything is written.
 * Throws `not_found`, `invalid` (a result out of schema; nothing but `abandon` for a read), `refused` (a record that is not
 * the tenant's), `conflict` (resolved before), `unavailable`.
 */
export async function resolveReview(caller: Caller, verdict: ReviewVerdict): Promise<ResolvedReview> {
  const review = await findReview(caller, verdict.reviewNo);
  const actor = actorOf(caller, verdict.actor);
  const note = noteOf(verdict.note, { needed: true });
  if (review.resolvedAt !== null) throw await alreadyResolved(caller, review);
  const isWrite = review.callClass === 'write' || review.callClass === 'high_risk_write';
  if (!isWrite && verdict.resolution !== 'abandon') {
    throw new BulkheadError(
      'invalid',
      `review ${review.reviewNo} is about ${review.action}, which changes nothing outside: there is only to abandon it, or to correct the tenant’s scope and start or fork the run again`,
      { reason: 'only_abandon' },
    );
  }
  if (verdict.resolution !== 'happened' && verdict.result !== undefined)
    throw new BulkheadError(
      'invalid',
      `a result goes with \`happened\`, and with nothing else: leave it out`,
    );

  const brought: Brought =
    verdict.resolution === 'happened'
      ? await believed(caller, review, verdict.result)
      : { payload: null, shown: null };
  const answer = await reachDatabase(() =>
    caller.store.resolveReview({
      reviewNo: review.reviewNo,
      resolution: verdict.resolution,
      ...brought,
      payloadDigest: brought.payload && digestOf(brought.payload),
      actor,
      note,
    }),
  );
  if (answer.kind === 'absent') throw unknownReview();
  if (answer.kind === 'already') throw await alreadyResolved(caller, answer.review);
  return { review: answer.review, told: await told(caller, review) };
}

/** What is recorded of a call that happened, as its settlement would have. */
type Brought = Pick<ResolveReview, 'shown'> & { readonly payload: StoredToolResult | null };

/** More than a person mends at once. */
const MOST_MISTAKES = 10;

/** The result as the gateway would have kept it. */
async function believed(caller: Caller, review: ReviewRow, result: unknown): Promise<Brought> {
  const { action: name } = review;
  const isUndo = review.path.endsWith('/undo');
  if (isUndo) {
    // No schema says what an undo brings, and nothing reads it.
    const given = result ?? null;
    requireBoundedJson(given, 'result');
    return { payload: { kind: 'tool', outcome: 'done', action: name, result: given }, shown: null };
  }
  if (result === undefined) {
    throw new BulkheadError(
      'invalid',
      `what did ${name} bring? Give the result as the other system has it, as JSON: the run goes on with it`,
      { reason: 'result_missing' },
    );
  }
  requireBoundedJson(result, 'result');
  const action = await requireAction(caller, name);
  const parsed = action.result.safeParse(result);
  if (!parsed.success) {
    const mistakes = parsed.error.issues
      .slice(0, MOST_MISTAKES)
      .map((issue) => `${['result', ...issue.path].join('.')}: ${issue.message}`);
    throw new BulkheadError(
      'invalid',
      `this is no result of ${name} (${mistakes.join('; ')}): correct it and resolve again`,
      { reason: 'result_out_of_schema' },
    );
  }
  return {
    payload: { kind: 'tool', outcome: 'done', action: name, result: parsed.data },
    shown: await shownTo(caller, review, action, parsed.data),
  };
}

async function requireAction(caller: Caller, name: string): Promise<Action> {
  const actions = await caller.actions();
  if (!actions) {
    throw new BulkheadError(
      'invalid',
      `the result of ${name} has to be held against its schema, and no app is known here: set BULKHEAD_APP to the module that exports \`app\`, or give \`app\` to Bulkhead.connect`,
      { reason: 'no_app' },
    );
  }
  const action = actions.get(name);
  if (action) return action;
  throw new BulkheadError(
    'invalid',
    `the app has no action ${name}, so its result cannot be checked: set BULKHEAD_APP to the version of the app that has it`,
    { reason: 'unknown_action' },
  );
}

/** What the result shows. Each record has to be shown to be the tenant's (promise T6), whoever says that it happened. */
async function shownTo(
  caller: Caller,
  review: ReviewRow,
  action: Action,
  result: unknown,
): Promise<ResolveReview['shown']> {
  // Who looks at no arguments can be told what it brought also where they are not kept any more.
  const args = action.records || action.facts ? await storedArguments(caller, review, action) : undefined;
  const tenant = await reachDatabase(() => caller.store.record());
  if (!tenant) throw unknownReview();
  let shown: Shown;
  try {
    shown = shownBy(action, args, result);
  } catch (error) {
    throw new BulkheadError(
      'invalid',
      `${action.name} cannot say which records this result names or which facts it sets: it failed on it; compare the result with the system outside`,
      { reason: 'records_failed', cause: error },
    );
  }
  const foreign = foreignRecord(shown.records, tenant);
  if (foreign) {
    throw scopeAmbiguous(
      `the result names a ${foreign.system} record that is not shown to be this tenant’s: nothing was recorded; look again which account it is of, or abandon the review`,
    );
  }
  return shown;
}

/** What the model asked for: it is kept with the step that asked, at ordinal 0. */
async function storedArguments({ store }: Caller, review: ReviewRow, action: Action): Promise<unknown> {
  const position = /(?:^|\/)(\d+)\.(\d+)$/.exec(review.path);
  const step = position
    ? await reachDatabase(() => store.payload(RunId.parse(review.runId), `${position[1]}.0`))
    : undefined;
  const asked = step?.kind === 'model' ? step.toolCalls[Number(position?.[2]) - 1] : undefined;
  const args = action.args.safeParse(asked?.args);
  if (args.success) return args.data;
  throw new BulkheadError(
    'invalid',
    `the arguments of this call are not kept any more, or ${action.name} has changed since: its result cannot be checked; resolve it with the version of the app that made the call, or abandon it`,
    { reason: 'arguments_unusable' },
  );
}

const unknownReview = (): BulkheadError =>
  new BulkheadError(
    'not_found',
    'there is no such review in your tenant and workspaces: `bulkhead review list` shows those that are open',
    { reason: 'unknown_review' },
  );

/** Tells what waits for it once more: whoever resolves twice may have seen that nobody was told the first time. */
async function alreadyResolved(caller: Caller, review: ReviewRow): Promise<BulkheadError> {
  await told(caller, review);
  return new BulkheadError(
    'conflict',
    `review ${review.reviewNo} was resolved before, as ${review.resolution}, by ${review.actor} at ${review.resolvedAt}: nothing has changed, and what waits for it was told again`,
    { reason: 'already_resolved' },
  );
}

async function told(caller: Caller, review: ReviewRow): Promise<boolean> {
  const row = await seenRun(caller, review.runId);
  return row === undefined || (await tellDecided(caller, row, SIGNALS.reviewDecided));
}
