import type { StoredPayload } from '../contracts/calls';
import type { TenantRecord } from '../contracts/documents';
import type { RecordRef } from '../contracts/action';
import type { CallFacts, TenantStore } from '../contracts/ports';
import type { TenantSession } from './session';
import { callsSql } from './sql';
import { storable } from './storable';

const PAYLOADS = callsSql('payloads_of', 4);
const PUT = callsSql('put_payload', 5);
const FACTS = callsSql('call_facts', 3);
const RECORDS = callsSql('known_records', 4);

/** What a run has said and been told, and what its calls are judged by; history holds references to it. */
export function payloadsOf(
  session: TenantSession,
): Pick<TenantStore, 'payload' | 'conversation' | 'putPayload' | 'callFacts' | 'knownRecords'> {
  const { tenantId, environment } = session.scope;
  type Row = { ref: string; payload: StoredPayload };
  return {
    async payload(runId, ref) {
      const [row] = await session.call<Row>(PAYLOADS, [tenantId, environment, runId, ref]);
      return row?.payload;
    },

    async conversation(runId) {
      const rows = await session.call<Row>(PAYLOADS, [tenantId, environment, runId, null]);
      return rows.map(({ ref, payload }) => ({ ref, payload })).sort((a, b) => byPosition(a.ref, b.ref));
    },

    async putPayload(runId, ref, payload) {
      await session.call(PUT, [tenantId, environment, runId, ref, JSON.stringify(payload)]);
    },

    async callFacts(runId) {
      const [row] = await session.call<{
        policy_version: string;
        facts: CallFacts['facts'];
        record: TenantRecord | null;
      }>(FACTS, [tenantId, environment, runId]);
      if (!row?.record) return undefined;
      return { policyVersion: Number(row.policy_version), facts: row.facts, record: row.record };
    },

    async knownRecords(records) {
      const asked = records.filter(storable);
      if (asked.length === 0) return [];
      const rows = await session.call<{ system: string; id: string; account: string | null }>(RECORDS, [
        tenantId,
        environment,
        asked.map((record) => record.system),
        asked.map((record) => record.id),
      ]);
      return rows.map(({ system, id, account }): RecordRef => ({
        system,
        id,
        account: account ?? undefined,
      }));
    },
  };
}

/** `input` first, then by step and ordinal as numbers: `2.0` before `10.0`. */
function byPosition(a: string, b: string): number {
  if (a === b) return 0;
  if (a === 'input' || b === 'input') return a === 'input' ? -1 : 1;
  const [left, right] = [a, b].map((ref) => ref.split('.').map(Number));
  for (let index = 0; index < 2; index += 1) {
    const difference = (left?.[index] ?? 0) - (right?.[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return a < b ? -1 : 1;
}
