import { Client, Connection } from '@temporalio/client';
import { Client as PgClient } from 'pg';
import { BulkheadClient } from '../../client/bulkhead';
import { startAccepted } from '../../client/start';
import type { SignedEnvelope } from '../../contracts/envelope';
import { verifyJournal } from '../../storage/journal-verify';
import { plays, startModel, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';

let stack: TestStack;
let outside: Outside;
let model: TestModel;

beforeAll(async () => {
  [stack, outside, model] = await Promise.all([
    createTestStack({ timing: { sweepEveryMs: 1_000 } }),
    startOutside('acct'),
    startModel(plays()),
  ]);
  await readyTenant(stack, { name: 'acme', keeper: outside.url, models: model.url });
});

beforeEach(() => {
  outside.faults = {};
  model.script = plays({ call: [['note.write', { recordId: 'r1', text: 'x' }]] });
});

afterAll(async () => {
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});

async function asAdmin<T>(work: (admin: PgClient) => Promise<T>): Promise<T> {
  const admin = new PgClient({ connectionString: stack.database.adminUrl });
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.end();
  }
}

const signedOf = async (workflowId: string): Promise<SignedEnvelope> => {
  const { rows } = await asAdmin((admin) =>
    admin.query<{ signed: SignedEnvelope }>(
      'select signed from bulkhead.run_acceptances where workflow_id = $1',
      [workflowId],
    ),
  );
  return rows[0]!.signed;
};

const journalOf = async (runId: string) =>
  (await stack.store('acme').journal({ afterSeq: 0, limit: 1_000, runId: runId as never })).map(
    ({ facts }) => JSON.parse(facts) as { kind: string; stopReason?: string },
  );

test('N1 a run accepted while Temporal is away is recorded, and started by the sweep', async () => {
  const nowhere = new Client({
    connection: Connection.lazy({ address: '127.0.0.1:1', connectTimeout: '200ms' }),
    namespace: stack.environment,
  });
  const cutOff = new BulkheadClient({ ...stack.clientPorts, temporal: nowhere });
  const run = await cutOff.startRun({
    token: await stack.token('acme'),
    agent: 'test_worker',
    input: 'go',
    target: { system: 'keeper', recordId: 'r1' },
  });
  expect(run.acceptance).toMatchObject({
    started: false,
    notice: expect.stringContaining('the sweep starts it'),
  });
  const mended = await stack.client.run({ token: await stack.token('acme'), runId: run.runId });
  expect(await mended.result({ timeoutMs: 30_000 })).toMatchObject({
    stopReason: 'completed',
    usage: { toolCalls: 1 },
  });
  await nowhere.connection.close();
});

test('Q5 a run that was terminated from outside ends with exactly one stop reason, and its slot is given back', async () => {
  outside.faults = { delayMs: 1_500 };
  const run = await stack.run('acme', 'go');
  await until(
    'a call',
    async () => (await stack.store('acme').claimedCalls({ runId: run.runId as never })) > 0,
  );
  await stack.temporal.workflow.getHandle(run.workflowId).terminate('an operator in a hurry');
  expect(await run.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'terminated' });
  expect((await journalOf(run.runId)).filter(({ kind }) => kind === 'left')).toHaveLength(1);
  await until('a free slot', async () => (await stack.store('acme').claimedCalls({})) === 0);
});

test('Q5 a run cancelled by its caller closes as cancelled, in Temporal too', async () => {
  outside.faults = { delayMs: 800 };
  const run = await stack.run('acme', 'go');
  await until(
    'a call',
    async () => (await stack.store('acme').claimedCalls({ runId: run.runId as never })) > 0,
  );
  await run.cancel('not needed any more');
  expect(await run.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'cancelled' });
  await until(
    'the close',
    async () =>
      (await stack.temporal.workflow.getHandle(run.workflowId).describe()).status.name === 'CANCELLED',
  );
});

test('Q5 a run cancelled through Temporal itself has the same end', async () => {
  outside.faults = { delayMs: 800 };
  const run = await stack.run('acme', 'go');
  await until(
    'a call',
    async () => (await stack.store('acme').claimedCalls({ runId: run.runId as never })) > 0,
  );
  await stack.temporal.workflow.getHandle(run.workflowId).cancel();
  expect(await run.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'cancelled' });
});

test('T2 a reset of a finished run to any earlier point repeats no effect: a run that is not entered again does nothing', async () => {
  const before = outside.effects.length;
  const run = await stack.run('acme', 'go');
  await run.result({ timeoutMs: 30_000 });
  expect(outside.effects.length - before).toBe(1);
  const handle = stack.temporal.workflow.getHandle(run.workflowId);
  await until('the close', async () => (await handle.describe()).status.name === 'COMPLETED');
  const history = await handle.fetchHistory();
  const tasks = (history.events ?? []).flatMap(({ eventId, workflowTaskCompletedEventAttributes }) =>
    workflowTaskCompletedEventAttributes ? [Number(eventId)] : [],
  );
  const requests = outside.requests.length;
  const admitted = (await journalOf(run.runId)).filter(({ kind }) => kind === 'admitted').length;
  const { runId } = await handle.describe();
  expect(tasks.length).toBeGreaterThan(4);
  for (const taskId of tasks) {
    await stack.temporal.workflowService.resetWorkflowExecution({
      namespace: stack.environment,
      workflowExecution: { workflowId: run.workflowId, runId },
      reason: 'test',
      requestId: `reset-${taskId}`,
      workflowTaskFinishEventId: taskId as never,
    });
    await until(
      `the end of the run reset to ${taskId}`,
      async () => (await handle.describe()).status.name !== 'RUNNING',
      40_000,
    );
  }
  expect(outside.requests.length).toBe(requests);
  expect((await journalOf(run.runId)).filter(({ kind }) => kind === 'admitted')).toHaveLength(admitted);
  expect(await run.result()).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1 } });
}, 180_000);

test('T2 a second start with the same run id starts nothing, open or closed', async () => {
  const before = outside.effects.length;
  const run = await stack.run('acme', 'go', { idempotencyKey: 'twice' });
  const signed = await signedOf(run.workflowId);
  expect(await startAccepted(stack.temporal, signed)).toBe('already');
  await run.result({ timeoutMs: 30_000 });
  expect(await startAccepted(stack.temporal, signed)).toBe('already');
  expect(outside.effects.length - before).toBe(1);
});

test('T2 O8 the same key is the same workflow also for a database that has lost the run', async () => {
  const before = outside.effects.length;
  const run = await stack.run('acme', 'go', { idempotencyKey: 'lost' });
  await run.result({ timeoutMs: 30_000 });
  await asAdmin(async (admin) => {
    for (const table of ['calls', 'payloads', 'leases', 'runs', 'run_acceptances'])
      await admin.query(`delete from bulkhead.${table} where run_id = $1`, [run.runId]);
  });
  const again = await stack.run('acme', 'go', { idempotencyKey: 'lost' });
  expect([again.runId, again.acceptance?.existing]).toEqual([run.runId, false]);
  expect(await again.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'completed' });
  expect(outside.effects.length - before).toBe(1);
});

test('Q5 a run whose leaving was lost is closed by the sweep with the reason that its workflow failed by', async () => {
  model.script = plays({ call: [['broken.read', { recordId: 'r1' }]] });
  const failed = await stack.run('acme', 'go');
  await failed.result({ timeoutMs: 30_000 });
  model.script = plays(...[1, 2, 3].map(() => ({ call: [['vault.open', {}] as const] })));
  const odd = await stack.run('acme', 'go');
  await odd.result({ timeoutMs: 30_000 });
  for (const { workflowId } of [failed, odd])
    await until(
      'the close',
      async () => (await stack.temporal.workflow.getHandle(workflowId).describe()).status.name === 'FAILED',
    );
  await asAdmin((admin) =>
    admin.query(
      `update bulkhead.runs set state = 'running', stop_reason = null, closed_at = null, touched_at = now() - interval '1 minute'
        where run_id = any ($1)`,
      [[failed.runId, odd.runId]],
    ),
  );
  const closed = (runId: string) =>
    until('the row', async () => (await stack.store('acme').run(runId as never))?.stopReason, 40_000);
  expect([await closed(failed.runId), await closed(odd.runId)]).toEqual(['failed', 'model_misbehaved']);
});

test('T2 the same idempotency key and body is the same run; another body is refused', async () => {
  const first = await stack.run('acme', 'same', { idempotencyKey: 'k1' });
  const second = await stack.run('acme', 'same', { idempotencyKey: 'k1' });
  expect(second.runId).toBe(first.runId);
  await expect(stack.run('acme', 'other', { idempotencyKey: 'k1' })).rejects.toMatchObject({
    code: 'conflict',
  });
  await first.result({ timeoutMs: 30_000 });
});

test('O2 the tenant’s journal verifies as one chain, with intent before each effect and its outcome after', async () => {
  const entries = await stack.journal('acme');
  const head = entries.at(-1);
  expect(
    verifyJournal(entries, {
      tenantId: 'acme',
      environment: stack.environment,
      seq: head?.seq ?? 0,
      hash: head?.hash ?? '',
    }),
  ).toMatchObject({ intact: true });
  const facts = entries.map(
    (entry) => JSON.parse(entry.facts) as { kind: string; token?: string; path?: string; action?: string },
  );
  const admitted = facts.filter(({ kind, action }) => kind === 'admitted' && action === 'note.write');
  expect(admitted.length).toBeGreaterThan(2);
  for (const intent of admitted) {
    const outcomes = facts
      .slice(facts.indexOf(intent) + 1)
      .filter(({ kind, token }) => kind !== 'admitted' && token === intent.token);
    expect([intent.path, outcomes.length >= 1]).toEqual([intent.path, true]);
  }
});

test('Q5 a run that was terminated or cancelled before it ever entered is closed by the sweep', async () => {
  const asleep = await createTestStack({ workers: false, timing: { sweepEveryMs: 1_000 } });
  try {
    await readyTenant(asleep, { name: 'acme', keeper: outside.url, models: model.url });
    const [terminated, cancelled] = await Promise.all([asleep.run('acme', 'one'), asleep.run('acme', 'two')]);
    await asleep.temporal.workflow.getHandle(terminated.workflowId).terminate('by hand');
    await asleep.temporal.workflow.getHandle(cancelled.workflowId).cancel();
    await Promise.all([asleep.startControl(), asleep.startHost()]);
    expect(await terminated.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'terminated' });
    expect(await cancelled.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'cancelled' });
  } finally {
    await asleep.close();
  }
});
