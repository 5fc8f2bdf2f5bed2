import type { TestStack } from '../support/stack';

const CAPABILITIES = ['keeper:write', 'models:generate'];

/** A tenant that may do everything the chaos app does, and whose runs wait for a person where an outcome is not known. */
export async function readyChaosTenant(
  stack: TestStack,
  parts: { name: string; keeper: string; models: string; lane?: string; asks?: boolean },
): Promise<void> {
  const { name } = parts;
  await stack.apply(`
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: quota_${name} }
lane: ${parts.lane ?? 'own'}
workerCeiling: 16
limits: { callsInFlight: 60, toolCallsPerDay: 100000 }
perRun: { steps: 1000 }
---
apiVersion: bulkhead/v1
kind: PolicyProfile
metadata: { name: profile_${name} }
environments: [\${ENV}]
onUnknownOutcome: review
rules:
  - { id: all, effect: allow, actions: ["keyed.write", "looked.write", "blind.write"] }
${parts.asks ? '  - { id: asked, effect: approve, actions: ["keyed.write"], approvers: { roles: [payer] } }' : ''}
models: { allow: [{ model: "models/*" }] }
secrets:
${CAPABILITIES.map((capability) => `  - { capability: "${capability}", agents: ["chaos_*"] }`).join('\n')}
---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: ${name} }
environments: { \${ENV}: { policyProfile: profile_${name}, quotaClass: quota_${name} } }
workspaces: [main]
connections: { keeper: "${parts.keeper}/${name}", models: "${parts.models}/v1" }
scope: [{ system: keeper, account: acct }]
`);
  for (const capability of CAPABILITIES) await stack.credential(name, capability, secretOf(name, capability));
}

/** What the systems outside are shown by this tenant, and by no other. */
export const secretOf = (tenant: string, capability: string): string => `secret-${tenant}-${capability}`;
