import type { Breaker } from '../contracts/breakers';
import type { TenantStore } from '../contracts/ports';
import type { TenantSession } from './session';
import { callsSql } from './sql';

interface Row {
  readonly system: string;
  readonly state: Breaker['state'];
  readonly failures: number;
  readonly cause: string;
  readonly openings: number;
  readonly opened: string | null;
  readonly until: string | null;
}

const TROUBLE = callsSql('call_trouble', 6, 'seq');
const BREAKERS = `select system, state, failures, cause, openings, bulkhead.iso(opened_at) as opened, bulkhead.iso(open_until) as until
  from bulkhead.breakers where tenant_id = $1 and environment = $2 and failures > 0 order by state = 'closed', system`;

/** Breakers of one tenant, a row per system outside (promise N5). */
export function breakersOf(session: TenantSession): Pick<TenantStore, 'breakers' | 'trouble'> {
  const { tenantId, environment } = session.scope;
  return {
    async breakers() {
      const rows = await session.read<Row>(BREAKERS, [tenantId, environment]);
      return rows.map(({ opened, until, ...row }) => ({ ...row, openedAt: opened, openUntil: until }));
    },

    async trouble({ runId, path, token, refusal }) {
      await session.call(TROUBLE, [tenantId, environment, runId, path, token, JSON.stringify(refusal)]);
    },
  };
}
