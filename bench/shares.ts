import type { CallTimes } from './call-times';
import { jainIndex } from './statistics';

/** A tenant of a shared lane and its calls, as they were served. */
export interface Served {
  readonly tenant: string;
  readonly weight: number;
  /** What one of its calls costs: how long the system outside takes, milliseconds. */
  readonly costMs: number;
  readonly calls: readonly CallTimes[];
}

/** Wall-clock milliseconds. */
export interface Window {
  readonly from: number;
  readonly until: number;
}

/** How a lane was shared in a window of time. */
export interface Shares {
  /** Per tenant: calls that ended in it, and the slots held, on the average. */
  readonly tenants: readonly {
    tenant: string;
    weight: number;
    costMs: number;
    calls: number;
    slots: number;
  }[];
  /** Of calls by weight: what the lane shares out is dispatches, each of which counts the same. */
  readonly jain: number;
  /** Of slots held by weight: who asks for longer calls has more of it. Nothing promises it. */
  readonly jainOfSlots: number;
  /** Slots held by all together, on the average. */
  readonly slots: number;
  /** The most that one tenant was ever ahead of another, in calls per unit of weight. */
  readonly largestGap: number;
}

/** Reads the shares off the calls' times. */
export function sharesIn(served: readonly Served[], window: Window): Shares {
  const tenants = served.map(({ tenant, weight, costMs, calls }) => ({
    tenant,
    weight,
    costMs,
    calls: calls.filter((call) => within(call, window)).length,
    slots: calls.reduce((sum, call) => sum + heldMs(call, window), 0) / (window.until - window.from),
  }));
  return {
    tenants,
    jain: jainIndex(tenants.map(({ calls, weight }) => calls / weight)),
    jainOfSlots: jainIndex(tenants.map(({ slots, weight }) => slots / weight)),
    slots: tenants.reduce((sum, { slots }) => sum + slots, 0),
    largestGap: largestGap(served, window),
  };
}

const within = ({ endedAt }: CallTimes, { from, until }: Window): boolean =>
  endedAt >= from && endedAt < until;

const heldMs = ({ startedAt, endedAt }: CallTimes, { from, until }: Window): number =>
  Math.max(0, Math.min(endedAt, until) - Math.max(startedAt, from));

function largestGap(served: readonly Served[], window: Window): number {
  const ends = served
    .flatMap(({ calls, weight }, tenant) =>
      calls.filter((call) => within(call, window)).map(({ endedAt }) => ({ endedAt, tenant, weight })),
    )
    .sort((a, b) => a.endedAt - b.endedAt);
  const service = served.map(() => 0);
  let largest = 0;
  for (const { tenant, weight } of ends) {
    service[tenant] = (service[tenant] ?? 0) + 1 / weight;
    largest = Math.max(largest, Math.max(...service) - Math.min(...service));
  }
  return largest;
}
