import { AsyncLocalStorage } from 'node:async_hooks';
import { Context } from '@temporalio/activity';
import type { SignedEnvelope } from '../contracts/envelope';
import type { TenantId, Environment } from '../contracts/ids';
import type { TenantScope } from '../contracts/scope';
import { failure } from './failure';

/** What the interceptor has verified about the task that is running, by the zone of its activity. */
export type CallerZone =
  | { readonly zone: 'run'; readonly scope: TenantScope; readonly signed: SignedEnvelope }
  | {
      readonly zone: 'followUp';
      readonly scope: TenantScope;
      readonly signed: SignedEnvelope;
      /** Of the calling workflow's id; `null` where the run itself does its follow-up. */
      readonly followUpNo: number | null;
    }
  | { readonly zone: 'control'; readonly scope: TenantScope }
  | { readonly zone: 'platform'; readonly environment: Environment };

const current = new AsyncLocalStorage<CallerZone>();

/** Runs an activity inside its verified zone. For the interceptor alone. */
export const runInZone = <T>(zone: CallerZone, body: () => Promise<T>): Promise<T> => current.run(zone, body);

interface CallingRun {
  readonly scope: TenantScope;
  readonly signed: SignedEnvelope;
  /** Of the workflow that calls. */
  readonly temporalRunId: string;
}

/**
 * The verified envelope and scope of the run that calls, or that a follow-up is about. Throws where the interceptor did not
 * put one: a defect of ours.
 */
export function callingRun(): CallingRun {
  const zone = current.getStore();
  if (zone?.zone !== 'run' && zone?.zone !== 'followUp')
    throw new TypeError('this activity runs outside any verified run');
  return { scope: zone.scope, signed: zone.signed, temporalRunId: workflowExecution().runId };
}

/**
 * {@link callingRun} of a follow-up's activity. Throws `ContractBroken` where the workflow asks for another follow-up than
 * its own id names.
 */
export function callingFollowUp(followUpNo: number): CallingRun {
  const zone = current.getStore();
  if (zone?.zone !== 'followUp') throw new TypeError('this activity runs outside any follow-up');
  if (zone.followUpNo !== null && zone.followUpNo !== followUpNo)
    throw failure('ContractBroken', `this workflow does follow-up ${zone.followUpNo}, not ${followUpNo}`);
  return callingRun();
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
  /** Absent on the lifecycle and control queues, which serve every tenant of the environment, and on the shared lane. */
  readonly tenantId?: TenantId;
  /** On the shared lane: who is placed there at this moment. It rejects where nobody can say. */
  readonly tenants?: { serves(tenantId: TenantId): Promise<boolean> };
}
