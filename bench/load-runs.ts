import { randomUUID } from 'node:crypto';
import type { WorkflowHandle } from '@temporalio/client';
import { digestOf } from '../contracts/digest';
import type { SignedEnvelope } from '../contracts/envelope';
import { AgentId, RunId, TenantId, WorkspaceId } from '../contracts/ids';
import { RUNS_QUEUE } from '../contracts/names';
import { runWorkflowId } from '../contracts/workflow-ids';
import { mintScope } from '../contracts/scope-mint';
import { loadApp, type Job } from './load-app';
import { readyQuery, type LoadInput, type Tally } from './load-workflows';
import type { BenchStack } from './stack';

/** A workflow of a load, as it runs. */
export type LoadRun = WorkflowHandle<(input: LoadInput) => Promise<Tally>>;

/** Workflows by name, with what each is given beside its envelope. */
interface LoadWorkflow {
  readonly name: 'openLoop' | 'backlog' | 'shortRun';
  readonly more?: Readonly<Record<string, number>>;
}

/** Accepts a run of the tenant whose calls all do this job, and starts its workflow. */
export async function startLoadRun(
  stack: BenchStack,
  tenant: string,
  job: Job,
  { name, more }: LoadWorkflow,
): Promise<LoadRun> {
  const signed = await signedFor(stack, tenant);
  const { runId, tenantId, workflowId } = signed.envelope;
  const store = stack.storage.tenant(mintScope(tenantId, stack.parts.environment, 'token'));
  const accepted = await store.acceptRun({
    signed,
    idempotencyKey: null,
    bodyDigest: digestOf(runId),
    input: 'bench',
  });
  if (accepted.kind === 'refused')
    throw new Error(`a run of ${tenant} was refused: ${accepted.refusal.message}`);
  // As if a model had asked for it; every call of the run is this one, at a position of its own.
  await store.putPayload(runId, '0.0', {
    kind: 'model',
    text: '',
    toolCalls: [{ id: 'c0', name: 'job__do', args: job }],
    inputTokens: 0,
    outputTokens: 0,
  });
  return await start(stack, workflowId, name, { signed, ...more });
}

/** The same without Bulkhead: nothing is accepted, and activities are whoever's. */
export async function startRawRun(
  stack: BenchStack,
  tenant: string,
  job: Job,
  name: LoadWorkflow['name'],
): Promise<LoadRun> {
  const signed = await signedFor(stack, tenant);
  return await start(stack, signed.envelope.workflowId, name, { signed, raw: job });
}

const start = (stack: BenchStack, workflowId: string, workflow: string, input: LoadInput): Promise<LoadRun> =>
  stack.client.workflow.start<(input: LoadInput) => Promise<Tally>>(workflow, {
    workflowId,
    taskQueue: RUNS_QUEUE,
    args: [input],
  });

async function signedFor(stack: BenchStack, tenant: string): Promise<SignedEnvelope> {
  const { environment } = stack.parts;
  const tenantId = TenantId.parse(tenant);
  const runId = RunId.parse(randomUUID());
  const [agent] = loadApp.agents.values();
  if (!agent) throw new Error('the app of a load has no agent');
  return await stack.signer.sign({
    schemaVersion: 1,
    workflowId: runWorkflowId(tenantId, environment, runId),
    tenantId,
    environment,
    workspaceId: WorkspaceId.parse('main'),
    agentId: AgentId.parse('bench'),
    agentVersion: agent.version,
    runId,
    parentRunId: null,
    rootRunId: runId,
    policyProfile: 'load',
    quotaClass: 'load',
    requestedAction: 'bench',
    target: null,
    principal: { kind: 'service', subject: 'bench' },
    inputDigest: digestOf('bench'),
    acceptedAt: new Date().toISOString(),
  });
}

/** Resolves once all of them have entered. Rejects after a minute. */
export async function untilReady(runs: readonly LoadRun[]): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (const run of runs) {
    while (!(await run.query(readyQuery))) {
      if (Date.now() > deadline) throw new Error(`${run.workflowId} did not enter within a minute`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
