import type { SealedCredential, TenantStore } from '../contracts/ports';
import type { TenantSession } from './session';
import { callsSql } from './sql';

/** The tenant's credentials as stored, sealed, and the record of who was lent one. */
export function credentialsOf(session: TenantSession): Pick<TenantStore, 'credential' | 'recordLease'> {
  const { tenantId, environment } = session.scope;
  return {
    async credential(capability) {
      const [row] = await session.call<{
        capability: string;
        version: number;
        ciphertext: Buffer;
        wrapped_key: Buffer;
        key_id: string;
      }>(callsSql('sealed_credential', 3), [tenantId, environment, capability]);
      return (
        row &&
        ({
          capability: row.capability,
          version: row.version,
          ciphertext: row.ciphertext,
          wrappedKey: row.wrapped_key,
          keyId: row.key_id,
        } satisfies SealedCredential)
      );
    },

    async recordLease(lease) {
      await session.call(callsSql('record_lease', 8), [
        tenantId,
        environment,
        lease.leaseId,
        lease.capability,
        lease.runId,
        lease.path,
        lease.epoch,
        lease.expiresAt,
      ]);
    },
  };
}
