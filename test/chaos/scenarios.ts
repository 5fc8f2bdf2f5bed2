import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { BulkheadClient } from '../../client/bulkhead';
import { BulkheadError } from '../../client/errors';
import { commandControl } from '../../client/control';
import { startFollowUp } from '../../client/start';
import { TenantId, type RunId } from '../../contracts/ids';
import type { StoredToolResult } from '../../contracts/calls';
import { digestOf, outsideKey } from '../../contracts/digest';
import { controlWorkflowId } from '../../contracts/workflow-ids';
import { isStorageBusy } from '../../contracts/storage-busy';
import { SIGNALS, type ControlState } from '../../contracts/workflow-io';
import type { TestModel } from '../support/model';
import type { TestStack } from '../support/stack';
import { until as untilOf } from '../support/until';
import { KEEPS, UNDOES } from './app';
import type { PlannedRun } from './plan';
import { inputOf } from './script';
import { resultOf, type ChaosSystems } from './systems';
import { readyChaosTenant } from './tenants';
import type { Witness } from './witness';

/** What a scenario works on: a tenant of its own, so that scenarios run beside each other. */
export interface Bench {
  readonly stack: TestStack;
  readonly systems: ChaosSystems;
  readonly model: TestModel;
  readonly witness: Witness;
  readonly tenant: string;
}

const WAIT_MS = 120_000;

/** Looks until there is something to see. On a busy machine the database may not answer one look in time. */
const until = <T>(what: string, look: () => Promise<T | undefined | false | null>): Promise<T> =>
  untilOf(
    what,
    () =>
      look().catch((error: unknown) => {
        if (isStorageBusy(error)) return undefined;
        throw error;
      }),
    WAIT_MS,
  );

/** Each brings activities about in the order of their work, waits until all is over, and throws on what is not as it was meant. */
export const SCENARIOS = {
  /** Two writes, then the model misbehaves: the run fails and undoes itself. Answers its stop reason. */
  async failedRun(bench: Bench): Promise<string> {
    const run = await start(bench, 2, true);
    const { stopReason } = await closed(bench, run);
    return stopReason;
  },

  /** A run that went well is rolled back by an operator. */
  async rollback(bench: Bench): Promise<void> {
    const run = await start(bench, 2, false);
    await closed(bench, run);
    await order(bench, run);
  },

  /** A write that used up its attempts is tried once more by an operator, and goes through. */
  async deadLetter(bench: Bench): Promise<void> {
    const { stack, systems, witness, tenant } = bench;
    systems.busyFor.add(tenant);
    const run = await start(bench, 1, false);
    // Eight attempts take half a minute of waiting: what is left of them is taken away.
    await until('a first attempt', async () => {
      const opened = await witness.rows(
        `update bulkhead.calls set attempts = 8 where tenant_id = $1 and state = 'open' returning path`,
        [tenant],
      );
      return opened !== undefined && opened.length > 0;
    });
    await closed(bench, run);
    systems.busyFor.delete(tenant);
    const [letter] = await stack.store(tenant).deadLetters({ open: true, limit: 10 });
    if (!letter) throw new Error('what used up its attempts made no dead letter');
    const answer = await stack
      .store(tenant)
      .retryDeadLetter({ letterNo: letter.letterNo, actor: 'test', note: 'the system is back' });
    if (answer.kind !== 'ordered') throw new Error(`the retry was not ordered: ${answer.kind}`);
    await startFollowUp(stack.temporal, answer.signed, answer.followUp);
    await until('the retried write', () => Promise.resolve(systems.effectOf(tenant, 'keyed', 'w0')));
  },

  /** A run gives its slot up until a person has approved its write, and takes one again for it. */
  async approvedRun(bench: Bench): Promise<void> {
    const { stack, systems, tenant } = bench;
    await readyBench(bench, 'own', true);
    const store = stack.store(tenant);
    const run = await start(bench, 1, false);
    const { approvalNo } = await until(
      'a request',
      async () => (await store.approvals.list({ open: true, limit: 1 }))[0],
    );
    const { workflowId } = await until('a slot that is free', async () => {
      const row = await store.run(run);
      return row?.slotSince === null && row;
    });
    const approver = { principal: 'user:payer', roles: ['payer'] };
    await store.approvals.decide({ approvalNo, decision: 'approve', approver, note: 'a test' });
    await stack.temporal.workflow.getHandle(workflowId).signal(SIGNALS.approvalDecided);
    const { stopReason } = await closed(bench, run);
    if (stopReason !== 'completed') throw new Error(`an approved run ended as ${stopReason}`);
    if (systems.effects.filter((effect) => effect.tenant === tenant).length !== 1)
      throw new Error('an approved write was lost or repeated');
  },

  /** A tenant is moved to a lane that nobody serves, and back, while its run works. */
  async unserved(bench: Bench): Promise<void> {
    const { stack, systems, tenant } = bench;
    await readyBench(bench, 'dedicated');
    const run = await start(bench, 2, false);
    const { workflowId } = (await stack.store(tenant).run(run)) ?? {};
    await until('the wait', async () => {
      const handle = stack.temporal.workflow.getHandle(workflowId ?? '');
      return (await handle.query<{ state: string }>('runState')).state === 'throttled';
    });
    await readyBench(bench, 'own');
    const { stopReason } = await closed(bench, run);
    if (stopReason !== 'completed') throw new Error(`a run that found its worker ended as ${stopReason}`);
    if (systems.effects.filter((effect) => effect.tenant === tenant).length !== 2)
      throw new Error('a call was lost or repeated');
  },

  /** A tenant is killed while it works, its control workflow started by the kill itself; then it is released. */
  async kill(bench: Bench): Promise<void> {
    const { stack, systems, tenant } = bench;
    // Work for ten seconds at least, of which a kill leaves most undone.
    systems.slowFor.set(tenant, 800);
    const tenantId = TenantId.parse(tenant);
    const run = await start(bench, 14, false);
    await until('a call', async () => (await stack.store(tenant).claimedCalls({ runId: run })) > 0);
    await stack.temporal.workflow
      .getHandle(controlWorkflowId(tenantId, stack.environment))
      .terminate('a test');
    await commanded(bench, 'kill');
    const { stopReason } = await closed(bench, run);
    if (stopReason !== 'killed') throw new Error(`a killed tenant's run ended as ${stopReason}`);
    await until('drained', async () => (await stack.store(tenant).control())?.drainedAt);
    const released = await commanded(bench, 'release');
    if (released.mode !== 'normal') throw new Error(`the tenant is ${released.mode} after its release`);
  },

  /** What the sweep mends: a run nobody started, one that was terminated, an undo nobody started, a control that is gone. */
  async sweep(bench: Bench): Promise<void> {
    const { stack, systems, tenant } = bench;
    const undone = await start(bench, 1, false);
    await closed(bench, undone);
    await stack.store(tenant).orderUndo({ runId: undone, actor: 'test', note: 'left to the sweep' });

    systems.slowFor.set(tenant, 600);
    const terminated = await start(bench, 1, false);
    await until('a call', async () => (await stack.store(tenant).claimedCalls({ runId: terminated })) > 0);
    await stack.temporal.workflow
      .getHandle((await stack.store(tenant).run(terminated))?.workflowId ?? '')
      .terminate('a test');
    const control = stack.temporal.workflow.getHandle(
      controlWorkflowId(TenantId.parse(tenant), stack.environment),
    );
    await control.terminate('a test');

    const nowhere = new Client({
      connection: Connection.lazy({ address: '127.0.0.1:1', connectTimeout: '200ms' }),
      namespace: stack.environment,
    });
    const accepted = await start(
      bench,
      1,
      false,
      new BulkheadClient({ ...stack.clientPorts, temporal: nowhere }),
    );
    await nowhere.connection.close();

    const ended = await closed(bench, terminated);
    if (ended.stopReason !== 'terminated') throw new Error(`a terminated run ended as ${ended.stopReason}`);
    await closed(bench, accepted);
    await until('control', async () => (await control.describe()).status.name === 'RUNNING');
    await until('the undo', async () => (await followUps(bench, undone)).every((done) => done));
  },
} satisfies Record<string, (bench: Bench) => Promise<unknown>>;
export type ScenarioName = keyof typeof SCENARIOS;

/** Makes the bench's tenant, or moves it to another lane. */
export async function readyBench(bench: Bench, lane = 'own', asks = false): Promise<void> {
  const { stack, systems, model, tenant } = bench;
  await readyChaosTenant(stack, { name: tenant, keeper: systems.url, models: model.url, lane, asks });
}

async function start(
  { stack, tenant }: Bench,
  writes: number,
  undone: boolean,
  client: BulkheadClient = stack.client,
): Promise<RunId> {
  const planned: PlannedRun = {
    tenant,
    undone,
    steps: Array.from({ length: writes }, (_, index) => [{ intent: `w${index}`, kind: 'keyed' }]),
  };
  const run = await client.startRun({
    token: await stack.token(tenant),
    agent: undone ? UNDOES : KEEPS,
    input: inputOf(0, planned),
    target: { system: 'keeper', recordId: 'r1' },
  });
  return run.runId as RunId;
}

async function closed({ stack, tenant }: Bench, runId: RunId): Promise<{ stopReason: string }> {
  return await until(`the end of run ${runId}`, async () => {
    const row = await stack.store(tenant).run(runId);
    return row?.state === 'closed' && { stopReason: String(row.stopReason) };
  });
}

/** Gives the command until it is confirmed, as its operator is told to do. */
async function commanded({ stack, tenant }: Bench, op: 'kill' | 'release'): Promise<ControlState> {
  const command = { op, scope: { kind: 'tenant' }, reason: 'a test', actor: 'tester' } as const;
  for (let turn = 1; ; turn += 1) {
    try {
      return await commandControl(stack.temporal, TenantId.parse(tenant), stack.environment, command, 20_000);
    } catch (error) {
      if (turn === 6 || !(error instanceof BulkheadError && error.code === 'unavailable')) throw error;
      // A control worker that shares its process and a busy machine misses the end of its workflow task; it comes again.
      await sleep(turn * 500);
    }
  }
}

/** What nobody learned of any more, a person looks up outside: this is what a kill or a terminated workflow may leave. */
async function resolveOpen({ stack, systems, tenant }: Bench): Promise<void> {
  const store = stack.store(tenant);
  for (const review of await store.reviews({ open: true, limit: 50 })) {
    const key = outsideKey(tenant, stack.environment, review.runId, review.path);
    const effect = systems.effects.find((one) => one.key === key);
    const payload: StoredToolResult | null = effect
      ? { kind: 'tool', outcome: 'done', action: review.action, result: resultOf(effect) }
      : null;
    await store.resolveReview({
      reviewNo: review.reviewNo,
      resolution: effect ? 'happened' : 'abandon',
      payload,
      payloadDigest: payload && digestOf(payload),
      shown: null,
      actor: 'test',
      note: 'looked up outside',
    });
  }
}

async function order(bench: Bench, runId: RunId): Promise<void> {
  const { stack, tenant } = bench;
  const ordered = await stack.store(tenant).orderUndo({ runId, actor: 'test', note: 'rolled back' });
  if (ordered.kind !== 'ordered') throw new Error(`the undo was not ordered: ${ordered.kind}`);
  await startFollowUp(stack.temporal, ordered.signed, ordered.followUp);
  await until('the undo', async () => (await followUps(bench, runId)).every((done) => done));
}

const followUps = async ({ stack, tenant }: Bench, runId: RunId): Promise<boolean[]> =>
  (await stack.store(tenant).followUps(runId)).map(({ state }) => state === 'done');

/**
 * What must be left of a tenant once all is over: nothing that anybody holds, owes or waits for.
 *
 * @param reviews whether people may have had to say what happened.
 */
export async function cleanSlate(bench: Bench, { reviews }: { reviews: boolean }): Promise<void> {
  const { stack, witness, tenant } = bench;
  let left: unknown;
  await until('a clean slate', async () => {
    if (reviews) await resolveOpen(bench);
    const [rest] =
      (await witness.rows<Record<string, string>>(
        `select (select (meter).inflight + slots + queued from bulkhead.ledgers where tenant_id = $1 and environment = $2) as slots,
             (select count(*) from bulkhead.calls where tenant_id = $1 and environment = $2
                and state in ('claimed', 'unknown')) as calls,
             (select count(*) from bulkhead.runs where tenant_id = $1 and environment = $2 and state <> 'closed') as runs,
             (select count(*) from bulkhead.follow_ups where tenant_id = $1 and environment = $2 and state <> 'done') as follow_ups,
             (select count(*) from bulkhead.reviews where tenant_id = $1 and environment = $2 and resolved_at is null) as reviews`,
        [tenant, stack.environment],
      )) ?? [];
    left = rest;
    return rest && Object.values(rest).every((count) => Number(count) === 0);
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(left)}`);
  });
}

/** Every write of the tenant happened once and was undone once, in reverse order; answers how many. */
export function undoneWrites({ systems, tenant }: Bench): number {
  const effects = systems.effects.filter((effect) => effect.tenant === tenant);
  const writes = effects.filter(({ kind }) => kind !== 'undo').map(({ intent }) => intent);
  const undos = effects.filter(({ kind }) => kind === 'undo').map(({ intent }) => intent);
  if (new Set(writes).size !== writes.length) throw new Error(`writes repeated: ${writes.join(' ')}`);
  if (undos.join(' ') !== [...writes].reverse().join(' '))
    throw new Error(`wrote ${writes.join(' ')}, undid ${undos.join(' ')}`);
  return writes.length;
}

/** Lets so many pieces of work go on at once: one process serves them all, and a workflow task has three seconds. */
export function atMost(many: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = many;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((go) => waiting.push(go));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    }
  };
}
