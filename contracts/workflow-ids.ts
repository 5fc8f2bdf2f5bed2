import { Environment, RunId, TenantId } from './ids';

/** Workflow ids: made here, and read here. Permanent, as the names beside them are. */

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
