import { Context } from '@temporalio/activity';
import type { Action } from '../contracts/action';
import type { TenantId } from '../contracts/ids';
import { queuesOf } from '../contracts/names';
import type { TenantLane } from '../contracts/platform-ports';
import type { Storage, TenantStore } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import type { CallLane, FollowUpActivities } from '../contracts/workflow-io';
import { callingRun } from './call-context';
import { failure } from './failure';

/** How often a run without a worker looks whether there is one: rarer and rarer, in place, so that no history grows. */
const LOOKS = { firstMs: 500, lastMs: 15_000 };

export interface LaneParts {
  readonly storage: Storage;
  readonly actions: ReadonlyMap<string, Action>;
  /** After so long a call that no worker has taken is looked after, milliseconds. */
  readonly takenWithinMs: number;
}

/** What runs are told of lanes: where their calls go, at entry and when nobody takes them there (promise N2). */
export function createLanes({ storage, actions, takenWithinMs }: LaneParts) {
  const laneOf = (tenantId: TenantId, { lane, weight }: TenantLane): CallLane => ({
    queues: queuesOf(tenantId, lane),
    weight,
    takenWithinMs,
  });
  const placed = async (store: TenantStore): Promise<TenantLane> => {
    const lane = await store.lane();
    if (!lane)
      throw failure('PlatformBusy', 'the tenant has no placement, so nobody knows where its calls go');
    return lane;
  };

  return {
    /** Where the tenant's calls go now, and which of these actions go to the queue of expensive ones. */
    async told(
      store: TenantStore,
      named: readonly string[],
    ): Promise<{ queue: string; lane: CallLane; expensive?: readonly string[] }> {
      const lane = laneOf(store.scope.tenantId, await placed(store));
      const expensive = [...new Set(named)].filter((name) => actions.get(name)?.lane === 'expensive');
      return { queue: lane.queues.calls, lane, ...(expensive.length > 0 && { expensive }) };
    },

    findLane: (async ({ queue, untilServed }) => {
      const { scope } = callingRun();
      const { tenantId } = scope;
      const now = await placed(storage.tenant(scope));
      const lane = laneOf(tenantId, now);
      const { calls, expensive } = lane.queues;
      const moved = queue !== calls && queue !== expensive;
      const served = now.hosts > 0;
      const refusal = moved && served ? null : whyNotTaken(tenantId, now, queue === expensive);
      if (untilServed && !served) {
        const { attempt } = Context.current().info;
        throw failure(
          'Waiting',
          refusal?.message ?? 'no worker serves this lane',
          Math.min(LOOKS.firstMs * attempt, LOOKS.lastMs),
        );
      }
      return { lane, refusal, served };
    }) satisfies FollowUpActivities['findLane'],
  };
}

/** A lane that nobody serves is the platform's; one whose every worker is busy is the tenant's own ceiling, or a shared one. */
function whyNotTaken(tenantId: TenantId, now: TenantLane, expensive: boolean): Refusal {
  const { lane, hosts, workerCeiling, expensiveCeiling } = now;
  if (hosts === 0) {
    const start =
      lane === 'dedicated'
        ? `start one with \`bulkhead worker --role host --tenant ${tenantId}\``
        : 'start one with `bulkhead worker --role host`';
    return throttled(
      'platform',
      'lane_unserved',
      `no worker serves the ${lane} lane of this tenant: ${start}; the run goes on by itself`,
    );
  }
  if (lane === 'shared')
    return throttled(
      'platform',
      'shared_lane_busy',
      'every worker of the shared lane is busy: the call is taken when its turn comes',
    );
  const ceiling = expensive ? expensiveCeiling : workerCeiling;
  return {
    ...throttled(
      'tenant_cap',
      expensive ? 'expensive_ceiling' : 'worker_ceiling',
      `this tenant's ${hosts === 1 ? 'worker is' : `${hosts} workers are`} busy with as many calls as its quota class lets ${hosts === 1 ? 'it' : 'each'} make at once`,
    ),
    value: ceiling * hosts,
    used: ceiling * hosts,
  };
}

const throttled = (origin: Refusal['origin'], rule: string, message: string): Refusal => ({
  kind: 'throttled',
  origin,
  rule,
  rules: [rule],
  message,
});
