import { Client, Connection } from '@temporalio/client';
import { BulkheadClient } from '../../client/bulkhead';
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

test('T2 a reset of a finished run repeats no effect: a run that is not entered again does nothing', async () => {
  const before = outside.effects.length;
  const run = await stack.run('acme', 'go');
  await run.result({ timeoutMs: 30_000 });
  expect(outside.effects.length - before).toBe(1);
  const history = await stack.temporal.workflow.getHandle(run.workflowId).fetchHistory();
  const tasks = (history.events ?? []).flatMap(({ eventId, workflowTaskCompletedEventAttributes }) =>
    workflowTaskCompletedEventAttributes ? [Number(eventId)] : [],
  );
  const requests = outside.requests.length;
  const { runId } = await stack.temporal.workflow.getHandle(run.workflowId).describe();
  expect(tasks.length).toBeGreaterThan(4);
  for (const taskId of [tasks[0], tasks[Math.floor(tasks.length / 2)], tasks[tasks.length - 2]]) {
    await stack.temporal.workflowService.resetWorkflowExecution({
      namespace: stack.environment,
      workflowExecution: { workflowId: run.workflowId, runId },
      reason: 'test',
      requestId: `reset-${taskId}`,
      workflowTaskFinishEventId: taskId as never,
    });
    await until(
      'the reset run’s end',
      async () =>
        (await stack.temporal.workflow.getHandle(run.workflowId).describe()).status.name !== 'RUNNING',
    );
  }
  expect(outside.requests.length).toBe(requests);
  expect(await run.result()).toMatchObject({ stopReason: 'completed' });
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
