import { randomUUID } from 'node:crypto';
import { bundleWorkflowCode, DefaultLogger, Worker } from '@temporalio/worker';
import { z } from 'zod';
import { digestOf } from '../contracts/digest';
import { AgentId, RunId, SystemName, TenantId, WorkspaceId } from '../contracts/ids';
import { RUNS_QUEUE } from '../contracts/names';
import { runWorkflowId } from '../contracts/workflow-ids';
import { mintScope } from '../contracts/scope-mint';
import { parseDocuments } from '../policy/documents';
import { defineAction } from '../tools/define-action';
import { defineAgent } from '../tools/define-agent';
import { defineApp } from '../tools/app';
import type { BenchStack } from './stack';

const noteWrite = defineAction({
  name: 'note.write',
  description: 'Writes a note.',
  effect: 'write',
  args: z.object({ recordId: z.string(), text: z.string() }),
  result: z.object({ id: z.string(), account: z.string() }),
  system: 'keeper',
  secret: 'keeper:write',
  timeout: '10s',
  remoteHonoursKeys: true,
  records: ({ recordId }, result) => [{ system: 'keeper', id: recordId, account: result?.account }],
  run: async (ctx, args) => (await ctx.http.post('/notes', args)).body as { id: string; account: string },
});
const agent = defineAgent({
  id: 'bench',
  class: 'bench',
  model: 'models/none',
  instructions: 'none',
  actions: ['note.write'] as never,
  budget: { steps: 10_000, maxOutputTokens: 1 },
});

/** The app of the benches that make calls: one action that writes, one agent. */
export const benchApp = defineApp({ name: 'bench', actions: [noteWrite], agents: [agent] });

export const TENANT = TenantId.parse('bench-tenant');

/** The policy of the tenant; `rules` in YAML flow, a line each. */
export const policyText = (rules: readonly string[]): string => `
apiVersion: bulkhead/v1
kind: PolicyProfile
metadata: { name: bench }
environments: [bench]
rules:
${rules.map((rule) => `  - ${rule}`).join('\n')}
secrets: [{ capability: "keeper:write", agents: [bench] }]
`;

/** Two rules: the call is allowed, after a look at its arguments. */
const RULES = [
  '{ id: write, effect: allow, actions: [note.write], when: context.args.text != "" }',
  '{ id: never, effect: forbid, actions: [note.write], when: context.args.text == "forbidden" }',
];

/** Creates the tenant, which writes to the system at `url`. */
export async function createTenant(stack: BenchStack, url: string): Promise<void> {
  const yaml = `
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: bench }
lane: dedicated
limits: { toolCallsPerDay: 1000000 }
perRun: { steps: 10000 }
---
${policyText(RULES)}---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: ${TENANT} }
environments: { bench: { policyProfile: bench, quotaClass: bench } }
workspaces: [main]
connections: { keeper: "${url}" }
scope: [{ system: keeper, account: acct }]
`;
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
  // As after a read: a record is written to only once it is known to be the tenant's.
  await stack.admin.query(
    `insert into bulkhead.resources (tenant_id, environment, system, record_id, account, known_at)
     values ($1, 'bench', 'keeper', 'r1', 'acct', now())`,
    [TENANT],
  );
  await stack.operator.putCredential(
    mintScope(TENANT, stack.parts.environment, 'operator'),
    'keeper:write',
    'secret',
    'bench',
  );
}

/** Accepts a run of so many calls and starts its workflow, of the given type. */
export async function startCalls(stack: BenchStack, workflow: string, calls: number) {
  const { environment } = stack.parts;
  const runId = RunId.parse(randomUUID());
  const workflowId = runWorkflowId(TENANT, environment, runId);
  const signed = await stack.signer.sign({
    schemaVersion: 1,
    workflowId,
    tenantId: TENANT,
    environment,
    workspaceId: WorkspaceId.parse('main'),
    agentId: AgentId.parse('bench'),
    agentVersion: agent.version,
    runId,
    parentRunId: null,
    rootRunId: runId,
    policyProfile: 'bench',
    quotaClass: 'bench',
    requestedAction: 'bench',
    target: { system: SystemName.parse('keeper'), recordId: 'r1' },
    principal: { kind: 'service', subject: 'bench' },
    inputDigest: digestOf('bench'),
    acceptedAt: new Date().toISOString(),
  });
  const store = stack.storage.tenant(mintScope(TENANT, environment, 'token'));
  await store.acceptRun({ signed, idempotencyKey: null, bodyDigest: digestOf(runId), input: 'bench' });
  // As after a first read of it: nothing is written to a record whose account is not known.
  await stack.admin.query(`update bulkhead.resources set account = 'acct'`);
  await store.putPayload(runId, '0.0', {
    kind: 'model',
    text: '',
    toolCalls: Array.from({ length: calls }, (_, index) => ({
      id: `c${index}`,
      name: 'note__write',
      args: { recordId: 'r1', text: `note ${index}` },
    })),
    inputTokens: 0,
    outputTokens: 0,
  });
  return await stack.client.workflow.start(workflow, {
    workflowId,
    taskQueue: RUNS_QUEUE,
    args: [{ signed, calls }],
  });
}

/** The worker of the benches' own workflows, on the queue of runs. */
export async function workflowWorker({ parts }: BenchStack): Promise<Worker> {
  const file = (name: string): string => require.resolve(name);
  return await Worker.create({
    connection: parts.connection,
    namespace: parts.namespace,
    taskQueue: RUNS_QUEUE,
    workflowBundle: await bundleWorkflowCode({
      logger: new DefaultLogger('ERROR'),
      workflowsPath: file('./workflows'),
      workflowInterceptorModules: [file('../workflows/interceptors')],
    }),
  });
}
