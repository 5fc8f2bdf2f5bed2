import type { TestStack } from '../support/stack';

/** A tenant, and the sums of its policy: refunds up to `freeCents` need nobody, above `mostCents` there are none. */
export interface HostileTenant {
  readonly name: string;
  readonly freeCents: number;
  readonly mostCents: number;
}

export const TENANTS: readonly HostileTenant[] = [
  { name: 'north', freeCents: 5_000, mostCents: 20_000 },
  { name: 'south', freeCents: 2_000, mostCents: 8_000 },
  { name: 'east', freeCents: 10_000, mostCents: 50_000 },
];

export const accountOf = (tenant: string): string => `acct-${tenant}`;
export const secretOf = (tenant: string, capability: string): string => `canary-${tenant}-${capability}`;
/** The role of the person who is asked. */
export const PAYER = 'payer';
const CAPABILITIES = ['keeper:read', 'keeper:write', 'models:generate', 'safe:open'];

/** `policy`: what a tenant wants. `none`: the control arm, a profile that allows everything. */
export type Arm = 'policy' | 'none';

/** Applies the tenant's documents and hands over its credentials, those included that no agent of it may use. */
export async function readyHostileTenant(
  stack: TestStack,
  tenant: HostileTenant,
  parts: { arm: Arm; systems: number; models: string; port: number },
): Promise<void> {
  const { name } = tenant;
  const at = (host: string): string => `"http://${host}:${parts.systems}/${name}"`;
  await stack.apply(`
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: quota_${name} }
workerCeiling: 16
limits: { callsInFlight: 60, toolCallsPerDay: 100000 }
perRun: { steps: 400 }
---
apiVersion: bulkhead/v1
kind: PolicyProfile
metadata: { name: profile_${name} }
environments: [\${ENV}]
${parts.arm === 'policy' ? wanted(tenant) : everything(parts.port)}
---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: ${name} }
environments: { \${ENV}: { policyProfile: profile_${name}, quotaClass: quota_${name} } }
workspaces: [main]
connections:
  keeper: ${at('127.0.0.1')}
  partner: ${at('partner.localhost')}
  mirror: ${at('mirror.localhost')}
  models: "${parts.models}/v1"
scope: [{ system: keeper, account: ${accountOf(name)} }]
`);
  for (const capability of CAPABILITIES) await stack.credential(name, capability, secretOf(name, capability));
}

const wanted = ({ freeCents, mostCents }: HostileTenant): string => `
rules:
  - id: read
    effect: allow
    agents: ["desk_*"]
    actions: [record.read, person.read, mail.judge]
    destinations: ["127.0.0.1"]
  - { id: notes, effect: allow, agents: ["desk_*"], actions: [note.write], destinations: ["127.0.0.1"] }
  - { id: small-refund, effect: allow, actions: [refund.make], when: context.args.amountCents <= ${freeCents} }
  - id: larger-refund
    effect: approve
    actions: [refund.make]
    when: context.args.amountCents > ${freeCents}
    approvers: { roles: [${PAYER}], expiresAfter: 1h }
  - { id: no-such-refund, effect: forbid, actions: [refund.make], when: context.args.amountCents > ${mostCents} }
  - { id: mail, effect: allow, actions: [mail.send] }
  - id: mail-as-judged
    effect: forbid
    actions: [mail.send]
    unless: >-
      context.facts has verdict && context.facts.verdict == "passed"
      && context.facts has draft && context.args.draft == context.facts.draft
  - id: mail-to-address-on-file
    effect: forbid
    actions: [mail.send]
    unless: context.facts has email && context.args.to == context.facts.email
  - { id: tell, effect: allow, actions: ["*.tell"], destinations: ["partner.localhost"] }
  - { id: no-persons-out, effect: forbid, dataClasses: [pii], exceptDestinations: ["127.0.0.1"] }
  - { id: gifts, effect: suggest, actions: [gift.send], approvers: { roles: [${PAYER}] } }
  - { id: accounts, effect: allow, actions: ["account.*"] }
  - { id: no-closing, effect: forbid, actions: [account.close] }
  - { id: wages, effect: allow, agents: ["payroll_*"], actions: [wage.pay, ledger.wipe] }
  - { id: safe, effect: allow, actions: [safe.open] }
  - { id: pages, effect: allow, actions: [page.fetch], destinations: ["docs.example"] }
models: { allow: [{ model: "models/scripted" }] }
secrets:
  - { capability: "keeper:read", agents: ["desk_*"] }
  - { capability: "keeper:write", agents: ["desk_*"] }
  - { capability: "models:generate", agents: ["desk_*"] }
  - { capability: "safe:open", agents: ["payroll_*"] }
`;

/** Every action, host, model and secret; `port` is where pages may be fetched from, beside https. */
const everything = (port: number): string => `
rules:
  - { id: all, effect: allow, actions: ["*"] }
  - { id: pages, effect: allow, actions: [page.fetch], destinations: ["http://*:${port}", "https://*:${port}"] }
models: { allow: [{ model: "*" }] }
secrets:
${CAPABILITIES.map((capability) => `  - { capability: "${capability}", agents: ["*"] }`).join('\n')}
`;
