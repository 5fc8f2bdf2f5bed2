import { z } from 'zod';
import { TenantId } from '../contracts/ids';
import { mintScope } from '../contracts/scope-mint';
import { parseDocuments } from '../policy/documents';
import { defineApp } from '../tools/app';
import { defineAction } from '../tools/define-action';
import { defineAgent } from '../tools/define-agent';
import type { BenchStack } from './stack';

/** What one call of a load does: the system outside obeys it, so it needs no state. */
export interface Job {
  /** The system outside waits so long before it answers, milliseconds. */
  readonly takesMs: number;
  /** Size of its answer. */
  readonly bytes: number;
  /** It answers 503. */
  readonly fails: boolean;
  /** Policy refuses it where not. */
  readonly allowed: boolean;
}

const job = defineAction({
  name: 'job.do',
  description: 'Has a job done outside.',
  effect: 'write',
  args: z.object({
    takesMs: z.int().nonnegative(),
    bytes: z.int().nonnegative(),
    fails: z.boolean(),
    allowed: z.boolean(),
  }),
  result: z.object({ text: z.string() }),
  system: 'keeper',
  secret: 'keeper:write',
  // A run that leaves waits this long for a write that it gave up: each spell of a benchmark ends with that.
  timeout: '5s',
  remoteHonoursKeys: true,
  run: async (ctx, args) => (await ctx.http.post('/job', args)).body as { text: string },
});

/** The app of benchmarks that make load: one action that waits outside, one agent. */
export const loadApp = defineApp({
  name: 'load',
  actions: [job],
  agents: [
    defineAgent({
      id: 'bench',
      class: 'bench',
      model: 'models/none',
      instructions: 'none',
      actions: ['job.do'] as never,
      budget: { steps: 10_000, maxOutputTokens: 1 },
    }),
  ],
});

const POLICY = `
apiVersion: bulkhead/v1
kind: PolicyProfile
metadata: { name: load }
environments: [bench]
rules:
  - { id: work, effect: allow, actions: [job.do] }
  - { id: refused, effect: forbid, actions: [job.do], when: context.args.allowed == false }
secrets: [{ capability: "keeper:write", agents: [bench] }]
`;

/** A quota class of a load's tenants; what is left out is as the product has it. */
export interface LoadClass {
  readonly name: string;
  readonly lane: 'own' | 'shared' | 'dedicated';
  readonly weight?: number;
  readonly callsInFlight?: number;
  /** Of a lane of its own: calls at once on each host. */
  readonly workerCeiling?: number;
}

const classText = ({ name, lane, weight = 1, callsInFlight, workerCeiling }: LoadClass): string => `
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: ${name} }
lane: ${lane}
weight: ${weight}
${workerCeiling === undefined ? '' : `workerCeiling: ${workerCeiling}\n`}limits:
  toolCallsPerDay: 100000000
  concurrentRuns: 1000
  runStartsPerMinute: 100000
${callsInFlight === undefined ? '' : `  callsInFlight: ${callsInFlight}\n`}perRun: { steps: 10000 }
`;

const tenantText = (name: string, quotaClass: string, outside: string): string => `
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: ${name} }
environments: { bench: { policyProfile: load, quotaClass: ${quotaClass} } }
workspaces: [main]
connections: { keeper: "${outside}" }
`;

/** Puts policy and classes in force. */
export async function applyClasses(stack: BenchStack, classes: readonly LoadClass[]): Promise<void> {
  await apply(stack, [POLICY, ...classes.map(classText)].join('---'));
}

/** Creates tenants of a class, each with its credential for the system outside. */
export async function createTenants(
  stack: BenchStack,
  names: readonly string[],
  { quotaClass, outside }: { quotaClass: string; outside: string },
): Promise<void> {
  for (const name of names) {
    await apply(stack, tenantText(name, quotaClass, outside));
    const scope = mintScope(TenantId.parse(name), stack.parts.environment, 'operator');
    await stack.operator.putCredential(scope, 'keeper:write', name, 'bench');
  }
}

async function apply(stack: BenchStack, yaml: string): Promise<void> {
  const parsed = parseDocuments(yaml);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.mistakes));
  for (const { kind, document, text } of parsed.documents) {
    if (kind === 'ProviderPool') await stack.operator.putProviderPool(document, 'bench');
    else if (kind === 'CallCapacity') await stack.operator.putCallCapacity(document, 'bench');
    else if (kind === 'QuotaClass') await stack.operator.putQuotaClass(document, 'bench');
    else if (kind === 'Tenant') await stack.operator.putTenant(document, 'bench');
    else
      await stack.operator.publishPolicy(
        { name: document.metadata.name, environments: document.environments, text },
        'bench',
        'bench',
      );
  }
}
