import type { TenantRecord } from '../contracts/documents';
import type { Placement, PlatformStore, TenantStore } from '../contracts/ports';
import type { PlatformSession, TenantSession } from './session';
import { callsSql } from './sql';

/** What is in force for the tenant: its document and quota class as last applied. */
export function recordOf(session: TenantSession): Pick<TenantStore, 'record'> {
  const { tenantId, environment } = session.scope;
  return {
    async record() {
      const [row] = await session.call<{ record: TenantRecord | null }>(
        callsSql('tenant_record', 2, 'record'),
        [tenantId, environment],
      );
      return row?.record ?? undefined;
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
      }>(callsSql('placements', 1), [session.environment]);
      return rows.map((row) => ({
        tenantId: row.tenant_id,
        lane: row.lane,
        workerCeiling: row.worker_ceiling,
      }));
    },
  };
}
