import type { Action } from '../contracts/action';
import type { Agent } from '../contracts/agent';
import { digestOfTuple } from '../contracts/digest';
import type { CompiledPolicy } from '../contracts/policy-decision';
import type { TenantStore } from '../contracts/ports';
import { compileInTurns } from '../policy/compile';

/** What a call can be decided by, or why nothing can: then it is refused, origin `platform`. */
export type PolicyInForce = { readonly policy: CompiledPolicy } | { readonly missing: string };

/**
 * Compiled policies of this host: of each tenant the version that the ledger names, kept until another is asked for. Tenants of one
 * profile share what was compiled of it, for compiling takes the host's time from everybody. A text that does not compile against
 * today's actions is no policy.
 */
export function createPolicies(parts: {
  actions: ReadonlyMap<string, Action>;
  agents: ReadonlyMap<string, Agent>;
}) {
  const ofTenants = new Map<string, { version: number; inForce: Promise<PolicyInForce> }>();
  /** By version and text: being compiled, or for as long as a tenant has it in force. */
  const compiled = new Map<string, Promise<PolicyInForce> | WeakRef<PolicyInForce>>();

  const compile = async ({ text, version }: { text: string; version: number }): Promise<PolicyInForce> => {
    const result = await compileInTurns({ text, version, ...parts });
    if (result.ok) return { policy: result.policy };
    const first = result.mistakes[0];
    return {
      missing: `version ${version} of the tenant's policy does not compile: ${first?.message ?? 'unknown mistake'}`,
    };
  };

  const shared = async (stored: { text: string; version: number }): Promise<PolicyInForce> => {
    const key = digestOfTuple([String(stored.version), stored.text]);
    const known = compiled.get(key);
    const held = known instanceof WeakRef ? known.deref() : known;
    if (held) return held;
    for (const [old, one] of compiled) if (one instanceof WeakRef && !one.deref()) compiled.delete(old);
    const compiling = compile(stored);
    compiled.set(key, compiling);
    const inForce = await compiling;
    compiled.set(key, new WeakRef(inForce));
    return inForce;
  };

  return {
    /** The tenant's policy in the version given. Rejects where the store is unreachable; the call is then retried. */
    async inForce(store: TenantStore, version: number): Promise<PolicyInForce> {
      const key = `${store.scope.tenantId}/${store.scope.environment}`;
      const known = ofTenants.get(key);
      if (known?.version === version) return known.inForce;
      const loading = store.policyText(version);
      const inForce = loading.then((stored) =>
        stored ? shared(stored) : { missing: `version ${version} of the tenant's policy is not to be found` },
      );
      ofTenants.set(key, { version, inForce });
      inForce.catch(() => ofTenants.delete(key));
      return inForce;
    },
  };
}
export type Policies = ReturnType<typeof createPolicies>;
