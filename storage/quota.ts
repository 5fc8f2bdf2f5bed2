import type { QuotaOverrides, QuotaState, SharedCapacity } from '../contracts/quotas';
import type { TenantStore } from '../contracts/ports';
import type { TenantSession } from './session';
import { callsSql } from './sql';

interface Row {
  readonly at: string;
  readonly time_zone: string;
  readonly quota_class: string;
  readonly overrides: QuotaOverrides;
  readonly subject: string;
  readonly layer: string;
  readonly cap: string | null;
  readonly used: string | null;
  readonly reserved: string | null;
  readonly frees_ms: string | null;
  readonly frees_at: string | null;
}

interface CapacityRow {
  readonly name: string;
  readonly calls: number;
  readonly share: number;
  readonly inflight: number;
  readonly promised: number;
  readonly guaranteed: number;
}

const STATE = callsSql('quota_state', 2);
const CAPACITY = callsSql('capacity_state', 2);
const COUNT = callsSql('count_refusals', 3);

/** What a tenant may use and what it has used; refusals that a host has answered by itself. */
export function quotasOf(session: TenantSession): Pick<TenantStore, 'quotas' | 'countRefusals'> {
  const { tenantId, environment } = session.scope;
  return {
    async quotas() {
      const rows = await session.call<Row>(STATE, [tenantId, environment]);
      const [first] = rows;
      if (!first) return undefined;
      const { at, time_zone: timeZone, quota_class: quotaClass, overrides } = first;
      const [capacity] = await session.call<CapacityRow>(CAPACITY, [tenantId, environment]);
      return {
        ...{ at, timeZone, quotaClass, overrides, layers: rows.map(layerOf) },
        capacity: capacity ? capacityOf(capacity) : null,
      };
    },

    async countRefusals(refusals) {
      if (refusals.length === 0) return;
      const told = refusals.map(({ runId: run, action, count, refusal }) => ({
        ...{ run, action, count },
        ...{ kind: refusal.kind, origin: refusal.origin, rule: refusal.rule, rules: refusal.rules },
        ...{ message: refusal.message, value: refusal.value, used: refusal.used },
        ...{ retryAfterMs: refusal.retryAfterMs, policyVersion: refusal.policyVersion },
      }));
      await session.call(COUNT, [tenantId, environment, JSON.stringify(told)]);
    },
  };
}

const capacityOf = ({ name, calls, share, inflight, promised, guaranteed }: CapacityRow): SharedCapacity => ({
  ...{ name, callsInFlight: calls, share, used: inflight, promised, guaranteed },
});

function layerOf(row: Row): QuotaState['layers'][number] {
  const cap = numberOf(row.cap);
  const used = numberOf(row.used);
  return {
    of: row.subject,
    limit: row.layer,
    cap,
    used,
    reserved: numberOf(row.reserved),
    free: cap === null || used === null ? null : Math.max(0, cap - used),
    freesAt: row.frees_at,
    freesInMs: numberOf(row.frees_ms),
  };
}

const numberOf = (int8: string | null): number | null => (int8 === null ? null : Number(int8));
