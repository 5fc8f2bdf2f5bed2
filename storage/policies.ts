import type { TenantStore } from '../contracts/ports';
import type { TenantSession } from './session';
import { callsSql } from './sql';

/**
 * The policy of the tenant's profile: of a version, or of the one in force. Versions count across profiles, so one
 * number names one text for ever. `undefined` where nothing is published, or the version is of another profile.
 */
export function policyOf(session: TenantSession): Pick<TenantStore, 'policyText'> {
  const { tenantId, environment } = session.scope;
  return {
    async policyText(version) {
      const [row] = await session.call<{ version: number; profile: string; text: string }>(
        callsSql('policy_text', 3),
        [tenantId, environment, version ?? null],
      );
      return row;
    },
  };
}
