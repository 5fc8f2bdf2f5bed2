import type { Client } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import type { Environment, TenantId } from '../contracts/ids';
import type { ControlState } from '../contracts/workflow-io';
import { traceWorkflow, type Execution, type WorkflowTrace } from './recover-history';

/** Histories read at once: the server serves others too. */
const AT_ONCE = 8;

/**
 * Every run and follow-up of a tenant that is open or closed since, and those named; each with its whole chain of
 * executions since then. Found by the ids of workflows, which nobody can set wrong, not by what they say of themselves.
 */
export async function readWorkflows(
  client: Client,
  {
    tenantId,
    environment,
    since,
    also,
  }: {
    tenantId: TenantId;
    environment: Environment;
    since: Date;
    also: readonly string[];
  },
): Promise<WorkflowTrace[]> {
  const ids = new Set(also);
  const prefix = `tenant/${tenantId}/${environment}/run/`;
  for await (const { workflowId } of client.workflow.list({
    query: `WorkflowId STARTS_WITH '${prefix}' and ${openOrSince(since)}`,
  }))
    ids.add(workflowId);
  const traces: WorkflowTrace[] = [];
  const waiting = [...ids].sort();
  const reader = async (): Promise<void> => {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
      const executions = await readChain(client, id, since);
      if (executions.length > 0) traces.push(traceWorkflow(id, executions, since));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, reader));
  // Runs before what follows up on them, for a retry repeats a call of its run.
  return traces.sort((a, b) => (a.workflowId < b.workflowId ? -1 : 1));
}

/** What the tenant's control was told last, of the highest fence; `undefined` where its history says nothing. */
export async function lastControlState(
  client: Client,
  workflowId: string,
  since: Date,
): Promise<ControlState | undefined> {
  let highest: ControlState | undefined;
  for (const { history } of await readChain(client, workflowId, since)) {
    for (const { activityTaskCompletedEventAttributes: done } of history.events ?? []) {
      const payload = done?.result?.payloads?.[0];
      const state: unknown = payload && defaultPayloadConverter.fromPayload(payload);
      if (isControlState(state) && state.fenceEpoch >= (highest?.fenceEpoch ?? 0)) highest = state;
    }
  }
  return highest;
}

const isControlState = (value: unknown): value is ControlState =>
  typeof value === 'object' && value !== null && 'fenceEpoch' in value && 'mode' in value;

const openOrSince = (since: Date): string =>
  `(ExecutionStatus = 'Running' or CloseTime >= '${since.toISOString()}')`;

/** The executions of one workflow id, the oldest first. */
async function readChain(client: Client, workflowId: string, since: Date): Promise<Execution[]> {
  const found: { runId: string; startTime: Date }[] = [];
  const query = `WorkflowId = '${workflowId}' and ${openOrSince(since)}`;
  for await (const { runId, startTime } of client.workflow.list({ query })) found.push({ runId, startTime });
  found.sort((a, b) => a.startTime.getTime() - b.startTime.getTime());
  const executions: Execution[] = [];
  for (const { runId } of found) {
    const handle = client.workflow.getHandle(workflowId, runId);
    // What is under way is asked after the history: what is in neither has ended in between.
    const history = await handle.fetchHistory();
    const { raw, status } = await handle.describe();
    const open = status.name === 'RUNNING';
    executions.push({ runId, open, history, pending: raw.pendingActivities ?? [] });
  }
  return executions;
}
