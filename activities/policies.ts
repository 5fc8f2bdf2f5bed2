import type { Action } from '../contracts/action';
import type { Agent } from '../contracts/agent';
import type { CompiledPolicy } from '../contracts/policy-decision';
import type { TenantStore } from '../contracts/ports';
import { compileProfile } from '../policy/compile';

/** What a call can be decided by, or why nothing can: then it is refused, origin `platform`. */
export type PolicyInForce = { readonly policy: CompiledPolicy } | { readonly missing: string };

/**
 * Compiled policies of this host, by tenant: the version that the ledger names, kept until another is asked for. A
 * text that does not compile against today's actions is no policy.
 */
export function createPolicies(parts: {
  actions: ReadonlyMap<string, Action>;
  agents: ReadonlyMap<string, Agent>;
}) {
  const compiled = new Map<string, { version: number; inForce: Promise<PolicyInForce> }>();

  const load = async (store: TenantStore, version: number): Promise<PolicyInForce> => {
    const stored = await store.policyText(version);
    if (!stored) return { missing: `version ${version} of the tenant's policy is not to be found` };
    const result = compileProfile({ text: stored.text, version: stored.version, ...parts });
    if (result.ok) return { policy: result.policy };
    const first = result.mistakes[0];
    return {
      missing: `version ${version} of the tenant's policy does not compile: ${first?.message ?? 'unknown mistake'}`,
    };
  };

  return {
    /** The tenant's policy in the version given. Rejects where the store is unreachable; the call is then retried. */
    async inForce(store: TenantStore, version: number): Promise<PolicyInForce> {
      const key = `${store.scope.tenantId}/${store.scope.environment}`;
      const known = compiled.get(key);
      if (known?.version === version) return known.inForce;
      const inForce = load(store, version);
      compiled.set(key, { version, inForce });
      inForce.catch(() => compiled.delete(key));
      return inForce;
    },
  };
}
export type Policies = ReturnType<typeof createPolicies>;
