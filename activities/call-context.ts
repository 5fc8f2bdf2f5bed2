import { AsyncLocalStorage } from 'node:async_hooks';
import { Context } from '@temporalio/activity';
import type { SignedEnvelope } from '../contracts/envelope';
import type { TenantId, Environment } from '../contracts/ids';
import type { TenantScope } from '../contracts/scope';

/** What the interceptor has verified about the task that is running, by the zone of its activity. */
export type CallerZone =
  | { readonly zone: 'run'; readonly scope: TenantScope; readonly signed: SignedEnvelope }
  | { readonly zone: 'control'; readonly scope: TenantScope }
  | { readonly zone: 'platform'; readonly environment: Environment };

const current = new AsyncLocalStorage<CallerZone>();

/** Runs an activity inside its verified zone. For the interceptor alone. */
export const runInZone = <T>(zone: CallerZone, body: () => Promise<T>): Promise<T> => current.run(zone, body);

/** The verified envelope and scope of the calling run. Throws where the interceptor did not put one: a defect of ours. */
export function callingRun(): { scope: TenantScope; signed: SignedEnvelope; temporalRunId: string } {
  const zone = current.getStore();
  if (zone?.zone !== 'run') throw new TypeError('this activity runs outside any verified run');
  return { scope: zone.scope, signed: zone.signed, temporalRunId: workflowExecution().runId };
}

/** The tenant whose control workflow calls. */
export function callingControl(): TenantScope {
  const zone = current.getStore();
  if (zone?.zone !== 'control') throw new TypeError('this activity runs outside any control workflow');
  return zone.scope;
}

/** Throws unless the platform's own sweep calls. */
export function callingPlatform(): void {
  if (current.getStore()?.zone !== 'platform') throw new TypeError('this activity is the platform’s own');
}

/** The workflow that scheduled the running activity; activities without one are not served. */
export function workflowExecution(): { workflowId: string; runId: string } {
  const execution = Context.current().info.workflowExecution;
  if (!execution) throw new TypeError('this activity was not scheduled by a workflow');
  return execution;
}

/** Which tenant and environment a worker serves. */
export interface ServedLane {
  readonly environment: Environment;
  /** Temporal's, mostly called as the environment is. */
  readonly namespace: string;
  /** Absent on the lifecycle and control queues, which serve every tenant of the environment. */
  readonly tenantId?: TenantId;
}
