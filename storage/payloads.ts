import { ConversationTooLarge, MAX_CONVERSATION_BYTES, type StoredPayload } from '../contracts/calls';
import type { TenantStore } from '../contracts/ports';
import type { StoredItem } from '../contracts/rows';
import type { TenantSession } from './session';
import { callsSql } from './sql';

const PAYLOADS = callsSql('payloads_of', 5);
const PUT = callsSql('put_payload', 5);

/** What a run has said and been told; history holds references to it. */
export function payloadsOf(
  session: TenantSession,
): Pick<TenantStore, 'payload' | 'conversation' | 'putPayload'> {
  const { tenantId, environment } = session.scope;
  type Row<P = StoredPayload> = {
    ref: string;
    payload: P;
    tenant_id: string | null;
    environment: string | null;
    run_id: string | null;
  };
  /** In the place of a conversation that is too large. */
  type TooLarge = { ref: null; payload: number };
  return {
    async payload(runId, ref) {
      const [row] = await session.call<Row>(PAYLOADS, [tenantId, environment, runId, ref, null]);
      return row?.payload;
    },

    async conversation(runId, mostBytes = MAX_CONVERSATION_BYTES) {
      const rows = await session.call<Row | TooLarge>(PAYLOADS, [
        tenantId,
        environment,
        runId,
        null,
        mostBytes,
      ]);
      return rows
        .map((row): StoredItem => {
          if (row.ref === null) throw new ConversationTooLarge(row.payload, mostBytes);
          return {
            ref: row.ref,
            payload: row.payload,
            marker: { tenantId: row.tenant_id, environment: row.environment, runId: row.run_id },
          };
        })
        .sort((a, b) => byPosition(a.ref, b.ref));
    },

    async putPayload(runId, ref, payload) {
      await session.call(PUT, [tenantId, environment, runId, ref, JSON.stringify(payload)]);
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
