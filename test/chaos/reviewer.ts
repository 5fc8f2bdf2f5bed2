import { digestOf } from '../../contracts/digest';
import type { StoredToolResult } from '../../contracts/calls';
import type { ReviewRow } from '../../contracts/reviews';
import { runWorkflowId } from '../../contracts/workflow-ids';
import { TenantId, RunId } from '../../contracts/ids';
import { SIGNALS } from '../../contracts/workflow-io';
import { isStorageBusy } from '../../contracts/storage-busy';
import type { TestStack } from '../support/stack';
import type { PlannedRun } from './plan';
import { resultOf, type ChaosSystems } from './systems';

export interface Reviewed {
  happened: number;
  didNotHappen: number;
}

/**
 * The person of a chaos run: looks each open review up in the log of the systems outside, says what is true, and wakes
 * the run. Answers how many are left open, or `undefined` while the database is away.
 *
 * @param mayStillArrive a request that is on its way yet: nobody can say that it did not happen.
 */
export async function resolveReviews(
  stack: TestStack,
  systems: ChaosSystems,
  runs: ReadonlyMap<string, PlannedRun>,
  tenants: readonly string[],
  reviewed: Reviewed,
  mayStillArrive: (intent: string) => boolean = () => false,
  onDidNotHappen: (intent: string) => void = () => undefined,
): Promise<number | undefined> {
  let left = 0;
  try {
    for (const tenant of tenants) {
      const store = stack.store(tenant);
      for (const review of await store.reviews({ open: true, limit: 100 })) {
        const { isUndo, kind, intent } = writeOf(runs.get(review.runId), review);
        const effect = systems.effectOf(tenant, kind, intent);
        if (!effect && mayStillArrive(intent)) {
          left += 1;
          continue;
        }
        const payload: StoredToolResult | null = effect
          ? { kind: 'tool', outcome: 'done', action: review.action, result: isUndo ? null : resultOf(effect) }
          : null;
        const answer = await store.resolveReview({
          reviewNo: review.reviewNo,
          resolution: effect ? 'happened' : 'did_not_happen',
          payload,
          payloadDigest: payload && digestOf(payload),
          shown: null,
          actor: 'chaos',
          note: 'looked up in the log of the system outside',
        });
        if (answer.kind !== 'resolved') left += 1;
        else if (effect) reviewed.happened += 1;
        else {
          reviewed.didNotHappen += 1;
          onDidNotHappen(intent);
        }
        await stack.temporal.workflow
          .getHandle(runWorkflowId(TenantId.parse(tenant), stack.environment, RunId.parse(review.runId)))
          .signal(SIGNALS.reviewDecided)
          .catch(() => undefined);
      }
    }
  } catch (error) {
    if (isStorageBusy(error)) return undefined;
    throw error;
  }
  return left;
}

/** What the call was to do: a person knows no keys. */
function writeOf(run: PlannedRun | undefined, review: ReviewRow) {
  const [, step, ordinal, undo] = /^(\d+)\.(\d+)(\/undo)?$/.exec(review.path) ?? [];
  const write = run?.steps[Number(step)]?.[Number(ordinal) - 1];
  if (!write) throw new Error(`review ${review.reviewNo} is about ${review.path}, which nobody planned`);
  const isUndo = undo !== undefined;
  return { isUndo, intent: write.intent, kind: isUndo ? ('undo' as const) : write.kind };
}
