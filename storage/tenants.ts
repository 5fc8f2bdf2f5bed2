import type { TenantRecord } from '../contracts/documents';
import type { Placement, PlatformStore, TenantLane } from '../contracts/platform-ports';
import type { TenantStore } from '../contracts/ports';
import type { PlatformSession, TenantSession } from './session';
import { callsSql } from './sql';

/** A host that has not renewed its row for so long serves nobody: it renews it every three seconds at the latest. */
const SERVES_FOR_MS = 10_000;

/** What is in force for the tenant: its document and quota class as last applied. */
export function recordOf(session: TenantSession): Pick<TenantStore, 'record' | 'lane'> {
  const { tenantId, environment } = session.scope;
  return {
    async record() {
      const [row] = await session.call<{ record: TenantRecord | null }>(
        callsSql('tenant_record', 2, 'record'),
        [tenantId, environment],
      );
      return row?.record ?? undefined;
    },

    async lane() {
      const [row] = await session.call<{
        lane: TenantLane['lane'];
        weight: number;
        worker_ceiling: number;
        expensive_ceiling: number;
        hosts: string;
      }>(callsSql('tenant_lane', 3), [tenantId, environment, SERVES_FOR_MS]);
      return (
        row && {
          lane: row.lane,
          weight: row.weight,
          workerCeiling: row.worker_ceiling,
          expensiveCeiling: row.expensive_ceiling,
          hosts: Number(row.hosts),
        }
      );
    },
  };
}

/** Which lanes the environment's hosts have to serve. */
export function placementsOf(session: PlatformSession): Pick<PlatformStore, 'placements'> {
  return {
    async placements() {
      const rows = await session.call<{
        tenant_id: Placement['tenantId'];
        lane: Placement['lane'];
        worker_ceiling: number;
        expensive_ceiling: number;
      }>(callsSql('placements', 1), [session.environment]);
      return rows.map((row) => ({
        tenantId: row.tenant_id,
        lane: row.lane,
        workerCeiling: row.worker_ceiling,
        expensiveCeiling: row.expensive_ceiling,
      }));
    },
  };
}
