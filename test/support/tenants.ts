import { Client } from 'pg';
import type { TestStack } from './stack';

/** A tenant, acme, with a quota class of defaults, and no policy yet. */
export const PLAIN_ACME = `
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: small }
---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: acme }
environments: { \${ENV}: { policyProfile: careful, quotaClass: small } }
workspaces: [main]
`;

/** Documents of a plain test tenant on a system outside, with everything allowed that a test does not forbid. */
export function tenantYaml(parts: {
  name: string;
  keeper: string;
  models: string;
  account?: string;
  rules?: string;
  /** More of the profile than its rules, as top-level lines. */
  policy?: string;
  /** `models.allow` of the profile, as YAML on one line. */
  modelRules?: string;
  /** More connections, by system. */
  connections?: Readonly<Record<string, string>>;
  /** `prices` of the Tenant document. */
  prices?: Readonly<Record<string, object>>;
  /** `pools` of the Tenant document. */
  pools?: Readonly<Record<string, string>>;
  /** `capacity` of the Tenant document, and what its quota class guarantees of it. */
  capacity?: string;
  guaranteed?: number;
  weight?: number;
  expensiveCeiling?: number;
  limits?: string;
  perRun?: string;
  perAction?: string;
  perAgent?: string;
  ceiling?: number;
  lane?: string;
}): string {
  const { name } = parts;
  return `
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: quota_${name.replaceAll('-', '_')} }
lane: ${parts.lane ?? 'own'}
workerCeiling: ${parts.ceiling ?? 8}
weight: ${parts.weight ?? 1}
guaranteed: { callsInFlight: ${parts.guaranteed ?? 0} }
expensiveCeiling: ${parts.expensiveCeiling ?? 2}
limits: ${parts.limits ?? '{}'}
perRun: ${parts.perRun ?? '{}'}
perAction: ${parts.perAction ?? '{}'}
perAgent: ${parts.perAgent ?? '{}'}
---
${policyYaml(name, parts.rules, parts.policy, parts.modelRules)}
---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: ${name} }
environments: { \${ENV}: { policyProfile: profile_${name.replaceAll('-', '_')}, quotaClass: quota_${name.replaceAll('-', '_')} } }
workspaces: [main]
pools: ${JSON.stringify(parts.pools ?? {})}
${parts.capacity === undefined ? '' : `capacity: ${parts.capacity}`}
prices: ${JSON.stringify(parts.prices ?? {})}
connections: ${JSON.stringify({ keeper: parts.keeper, models: parts.models, ...parts.connections })}
scope: [{ system: keeper, account: ${parts.account ?? 'acct'} }]
`;
}

/** The profile of {@link tenantYaml}: the given rules, or one that allows every action. */
export function policyYaml(
  name: string,
  rules?: string,
  more = '',
  modelRules = '[{ model: "models/*" }]',
): string {
  return `
apiVersion: bulkhead/v1
kind: PolicyProfile
metadata: { name: profile_${name.replaceAll('-', '_')} }
environments: [\${ENV}]
rules:
${rules ?? '  - { id: all, effect: allow, actions: ["*"] }'}
models: { allow: ${modelRules} }
secrets:
  - { capability: "keeper:read", agents: ["test_*"] }
  - { capability: "keeper:write", agents: ["test_*"] }
  - { capability: "models:generate", agents: ["test_*"] }
${more}`;
}

/**
 * Creates the tenant and its three credentials; the secret of each is `secret-<tenant>-<capability>`. Record `r1` is known
 * to be its own, as after a read.
 */
export async function readyTenant(
  stack: TestStack,
  parts: Parameters<typeof tenantYaml>[0] & { credentials?: string[] },
): Promise<void> {
  await stack.apply(
    tenantYaml({ ...parts, models: parts.models.endsWith('/v1') ? parts.models : `${parts.models}/v1` }),
  );
  for (const capability of parts.credentials ?? ['keeper:read', 'keeper:write', 'models:generate']) {
    await stack.credential(parts.name, capability, `secret-${parts.name}-${capability}`);
  }
  const admin = new Client({ connectionString: stack.database.adminUrl });
  await admin.connect();
  try {
    await admin.query(
      `insert into bulkhead.resources (tenant_id, environment, system, record_id, account, known_at)
       values ($1, $2, 'keeper', 'r1', $3, now()) on conflict do nothing`,
      [parts.name, stack.environment, parts.account ?? 'acct'],
    );
  } finally {
    await admin.end();
  }
}
