import type { TenantId } from '../contracts/ids';
import { SHARED_EXPENSIVE_QUEUE, SHARED_QUEUE, queuesOf } from '../contracts/names';
import type { Placement } from '../contracts/platform-ports';

/** Bounds of lanes that are settings of the platform. */
export interface LaneSettings {
  /** A call that no worker has taken after so long is looked after, milliseconds. */
  readonly takenWithinMs: number;
  /** Calls at once on the shared lane, per host. */
  readonly sharedCalls: number;
  /** Expensive calls at once of all tenants on the shared lane, per host. */
  readonly sharedExpensive: number;
}

export const LANE_SETTINGS: LaneSettings = { takenWithinMs: 10_000, sharedCalls: 40, sharedExpensive: 4 };

/** One worker that a host has to have. */
export interface PlannedLane {
  readonly queue: string;
  /** Calls at once. */
  readonly ceiling: number;
  /** Whose it is alone; left out for the shared lane. */
  readonly tenantId?: TenantId;
}

/**
 * The lanes that a host serves under these placements, by queue: of every tenant with a lane of its own, and the shared lane
 * once somebody is placed on it. A process for one dedicated tenant serves that tenant's alone, wherever it is placed, so that
 * what was scheduled there before a move is still taken.
 */
export function planLanes(
  placements: readonly Placement[],
  host: {
    readonly only?: TenantId | undefined;
    readonly settings: LaneSettings;
    readonly anyExpensive: boolean;
  },
): Map<string, PlannedLane> {
  const { only, settings, anyExpensive } = host;
  const lanes: PlannedLane[] = [];
  const mine = placements.filter(({ tenantId, lane }) => (only ? tenantId === only : lane === 'own'));
  for (const { tenantId, workerCeiling, expensiveCeiling } of mine) {
    const { calls, expensive } = queuesOf(tenantId, 'own');
    lanes.push({ queue: calls, ceiling: workerCeiling, tenantId });
    if (anyExpensive) lanes.push({ queue: expensive, ceiling: expensiveCeiling, tenantId });
  }
  if (!only && placements.some(({ lane }) => lane === 'shared')) {
    lanes.push({ queue: SHARED_QUEUE, ceiling: settings.sharedCalls });
    if (anyExpensive) lanes.push({ queue: SHARED_EXPENSIVE_QUEUE, ceiling: settings.sharedExpensive });
  }
  return new Map(lanes.map((lane) => [lane.queue, lane]));
}
