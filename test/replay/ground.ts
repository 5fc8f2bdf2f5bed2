import { ServiceError, type Client } from '@temporalio/client';
import { BulkheadClient } from '../../client/bulkhead';
import type { Run } from '../../client/run';
import { parseWorkflowId } from '../../contracts/workflow-ids';
import { plays, startModel, type Move, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';

/** A history to keep: one execution of one workflow. */
export interface Recorded {
  readonly workflowId: string;
  /** Temporal's; the newest one where left out. */
  readonly runId?: string;
  /** Of several parts of one case: what this one is called. */
  readonly part?: string;
}

/** A situation that a workflow can come into, played on the real stack. */
export interface Case {
  readonly workflow: 'agentRun' | 'undoRun' | 'retryCall' | 'tenantControl' | 'platformSweep';
  readonly name: string;
  play(ground: Ground): Promise<Recorded | readonly Recorded[]>;
}

/** Stack, system outside and model on which every case is played; each case has a tenant of its own. */
export interface Ground {
  readonly stack: TestStack;
  readonly outside: Outside;
  readonly model: TestModel;
  tenant(name: string, more?: Partial<Parameters<typeof readyTenant>[1]>): Promise<void>;
  /** Starts a run that plays the moves. */
  run(tenant: string, ...moves: Move[]): Promise<Run>;
  /** The same, of the agent whose failed runs are undone. */
  undoing(tenant: string, ...moves: Move[]): Promise<Run>;
  /** The same, and waits for its end. */
  ended(tenant: string, ...moves: Move[]): Promise<Recorded>;
  /** Accepts a run whose workflow nobody starts yet. */
  accepted(tenant: string): Promise<Run>;
  close(): Promise<void>;
}

/** Small bounds, so that every ending is near: of steps until a run continues as new, and of its waits. */
export const BOUNDS = { continueAsNewAfter: 3, maxWaitMs: 4_000, maxMisbehaviour: 2, maxReviewWaitMs: 8_000 };

export const call = (...calls: [string, unknown][]): Move => ({ call: calls });
/** A call of an action on record r1. */
export const on = (action: string): Move => call([action, { recordId: 'r1' }]);
/** Moves that make a run fail: answers without a usable call. */
export const failing: readonly Move[] = [call(['vault.open', {}]), call(['vault.open', {}])];
export const note = (text: string): Move => call(['note.write', { recordId: 'r1', text }]);

export async function createGround(): Promise<Ground> {
  const [stack, outside, model] = await Promise.all([
    createTestStack({ bounds: BOUNDS, timing: { sweepEveryMs: 2_000 } }),
    startOutside('acct'),
    startModel(plays()),
  ]);
  const nowhere = {
    withDeadline: () => Promise.reject(new ServiceError('away, as a case wants it')),
  } as unknown as Client;
  const ground: Ground = {
    stack,
    outside,
    model,
    tenant: (name, more = {}) =>
      readyTenant(stack, { name, keeper: outside.url, models: model.url, ...more }),
    async run(tenant, ...moves) {
      model.script = plays(...moves);
      return await stack.run(tenant, 'go');
    },
    async undoing(tenant, ...moves) {
      model.script = plays(...moves);
      return await stack.client.startRun({
        token: await stack.token(tenant),
        agent: 'test_undoer',
        input: 'go',
        target: { system: 'keeper', recordId: 'r1' },
      });
    },
    async ended(tenant, ...moves) {
      const run = await ground.run(tenant, ...moves);
      await run.result({ timeoutMs: 60_000 });
      await closed(stack, run.workflowId);
      return { workflowId: run.workflowId };
    },
    async accepted(tenant) {
      const cutOff = new BulkheadClient({ ...stack.clientPorts, temporal: nowhere });
      return await cutOff.startRun({
        token: await stack.token(tenant),
        agent: 'test_worker',
        input: 'go',
        target: { system: 'keeper', recordId: 'r1' },
      });
    },
    async close() {
      await stack.close();
      await Promise.all([outside.close(), model.close()]);
    },
  };
  return ground;
}

/** Waits until Temporal has closed the workflow, which is a moment after its row is. */
export async function closed(stack: TestStack, workflowId: string): Promise<void> {
  await stack.temporal.workflow
    .getHandle(workflowId, undefined, { followRuns: true })
    .result()
    .catch(() => undefined);
}

/** Temporal's own address of a run: for acts on it that no client of ours offers. */
export const runIdOf = (workflowId: string): string => {
  const address = parseWorkflowId(workflowId);
  if (address?.kind !== 'run') throw new Error(`${workflowId} is no run`);
  return address.runId;
};
