import type { TenantStore } from '../contracts/ports';
import type { CallContext } from '../contracts/rows';
import type { TenantSession } from './session';
import { callsSql } from './sql';
import { storable } from './storable';

const CONTEXT = callsSql('call_context', 6);

/** The credential's columns are null together. */
interface Row extends Pick<CallContext, 'facts' | 'record'> {
  readonly policy_version: string;
  readonly record_version: string;
  readonly facts_version: number;
  readonly data_classes: string[];
  readonly known: readonly { system: string; id: string; account: string | null }[];
  readonly credential_version: number | null;
  readonly ciphertext: Buffer;
  readonly wrapped_key: Buffer;
  readonly key_id: string;
}

/** What a call is judged by and done with: one statement, one round trip. */
export function callContextOf(session: TenantSession): Pick<TenantStore, 'callContext'> {
  const { tenantId, environment } = session.scope;
  return {
    async callContext({ runId, records, capability }) {
      const asked = records.filter(storable);
      const [row] = await session.call<Row>(CONTEXT, [
        tenantId,
        environment,
        runId,
        asked.map(({ system }) => system),
        asked.map(({ id }) => id),
        capability,
      ]);
      return row && contextOf(row, capability);
    },
  };
}

function contextOf(row: Row, capability: string | null): CallContext {
  return {
    versions: {
      policyVersion: Number(row.policy_version),
      recordVersion: Number(row.record_version),
      factsVersion: row.facts_version,
    },
    facts: row.facts,
    dataClasses: row.data_classes,
    record: row.record,
    known: row.known.map(({ system, id, account }) => ({ system, id, account: account ?? undefined })),
    sealed:
      capability === null || row.credential_version === null
        ? null
        : {
            capability,
            version: row.credential_version,
            ciphertext: row.ciphertext,
            wrappedKey: row.wrapped_key,
            keyId: row.key_id,
          },
  };
}
