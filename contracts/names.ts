import type { TenantId } from './ids';

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

export const SWEEP_SCHEDULE = 'platform-sweep';
export const SWEEP_WORKFLOW_PREFIX = 'platform/sweep';

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
