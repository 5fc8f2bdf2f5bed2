import { Environment, RunId, TenantId } from './ids';

/**
 * Names on Temporal's wire. They are permanent: a renamed queue strands its tasks, a renamed workflow its
 * histories. Pure string work, safe in the workflow sandbox.
 */

/** The shared queue of run workflows. Their workflow tasks only; activities never run here. */
export const RUNS_QUEUE = 'runs';

/** Entering and leaving of runs: apart from tenants' lanes, so that a full lane never holds a slot. */
export const LIFECYCLE_QUEUE = 'lifecycle';

/** Kill, release and the sweep: a queue, workers and a process of its own, so that nothing can stand before a kill. */
export const CONTROL_QUEUE = 'control';

/** The shared lane: calls of every tenant placed on it, in weighted-fair order. */
export const SHARED_QUEUE = 'shared';

/** Expensive calls of the tenants on the shared lane. */
export const SHARED_EXPENSIVE_QUEUE = 'shared/expensive';

/** The task queue of a tenant: its activities, behind its worker ceiling. */
export function tenantQueue(tenantId: TenantId): string {
  return `lane/${tenantId}`;
}

/** The task queue of a tenant's expensive calls, behind a ceiling of their own, so that they hold up no other call. */
export function expensiveQueue(tenantId: TenantId): string {
  return `${tenantQueue(tenantId)}/expensive`;
}

/** The two queues of a tenant on this lane: a tenant moved between its own and a dedicated lane keeps its queues. */
export function queuesOf(
  tenantId: TenantId,
  lane: 'own' | 'dedicated' | 'shared',
): { readonly calls: string; readonly expensive: string } {
  return lane === 'shared'
    ? { calls: SHARED_QUEUE, expensive: SHARED_EXPENSIVE_QUEUE }
    : { calls: tenantQueue(tenantId), expensive: expensiveQueue(tenantId) };
}

export function runWorkflowId(tenantId: TenantId, environment: Environment, runId: RunId): string {
  return `tenant/${tenantId}/${environment}/run/${runId}`;
}

/** The workflow that does a follow-up on a run: bound to the run's own envelope by its id. */
export function followUpWorkflowId(
  runWorkflow: string,
  followUp: { kind: 'undo' | 'retry'; followUpNo: number },
): string {
  return `${runWorkflow}/${followUp.kind}/${followUp.followUpNo}`;
}

/** Splits the id of a follow-up's workflow; `undefined` for any other id. */
export function parseFollowUpId(
  workflowId: string,
): { runWorkflow: string; kind: 'undo' | 'retry'; followUpNo: number } | undefined {
  const match = /^(.+)\/(undo|retry)\/(\d{1,15})$/.exec(workflowId);
  if (!match?.[1] || parseWorkflowId(match[1])?.kind !== 'run') return undefined;
  return { runWorkflow: match[1], kind: match[2] as 'undo' | 'retry', followUpNo: Number(match[3]) };
}

export function controlWorkflowId(tenantId: TenantId, environment: Environment): string {
  return `tenant/${tenantId}/${environment}/control`;
}

export const SWEEP_SCHEDULE = 'platform-sweep';
export const SWEEP_WORKFLOW_PREFIX = 'platform/sweep';

/** What a workflow id says of itself. Only a hint until an envelope confirms it. */
export type WorkflowAddress =
  | { kind: 'run'; tenantId: TenantId; environment: Environment; runId: RunId; path: string }
  | { kind: 'control'; tenantId: TenantId; environment: Environment };

/** Parses a workflow id made here; `undefined` for any other. */
export function parseWorkflowId(workflowId: string): WorkflowAddress | undefined {
  const match = /^tenant\/([^/]+)\/([^/]+)\/(?:(control)|run\/([^/]+)((?:\/child\/\d{1,6})*))$/.exec(
    workflowId,
  );
  if (!match) return undefined;
  const tenantId = TenantId.safeParse(match[1]).data;
  const environment = Environment.safeParse(match[2]).data;
  if (!tenantId || !environment) return undefined;
  if (match[3]) return { kind: 'control', tenantId, environment };
  const runId = RunId.safeParse(match[4]).data;
  return runId && { kind: 'run', tenantId, environment, runId, path: match[5] ?? '' };
}

/** Workflow type names. */
export const WORKFLOW = {
  run: 'agentRun',
  undo: 'undoRun',
  retry: 'retryCall',
  control: 'tenantControl',
  sweep: 'platformSweep',
} as const;

/** Header under which the envelope travels from a workflow to its activities. */
export const ENVELOPE_HEADER = 'bulkhead-envelope';

/** The policy action of a model call. A tool may not take this name. */
export const MODEL_ACTION = 'model.generate';

/** Fairness key of a tenant's tasks. */
export const fairnessKey = (tenantId: TenantId): string => tenantId;
