import { randomUUID } from 'node:crypto';
import { WorkflowFailedError } from '@temporalio/client';
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import type { SignedEnvelope } from '../../contracts/envelope';
import { RUNS_QUEUE, WORKFLOW } from '../../contracts/names';
import { plays, startModel, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';

let stack: TestStack;
let outside: Outside;
let model: TestModel;

beforeAll(async () => {
  [stack, outside, model] = await Promise.all([
    createTestStack(),
    startOutside('acct'),
    startModel(plays({ call: [['note.write', { recordId: 'r1', text: 'x' }]] })),
  ]);
  await readyTenant(stack, { name: 'acme', keeper: outside.url, models: model.url });
  await readyTenant(stack, { name: 'globex', keeper: outside.url, models: model.url });
});

afterAll(async () => {
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});

/** Starts a run's workflow by hand, as somebody with access to Temporal and none to acceptance would. */
async function startByHand(workflowId: string, args: unknown[]): Promise<unknown> {
  const handle = await stack.temporal.workflow.start(WORKFLOW.run, {
    workflowId,
    taskQueue: RUNS_QUEUE,
    args,
  });
  return await handle.result().then(
    () => 'completed',
    (error: unknown) => error,
  );
}

/** Types of the failures behind a failed run, outermost first. */
async function failureTypes(workflowId: string): Promise<(string | null | undefined)[]> {
  const history = await stack.temporal.workflow.getHandle(workflowId).fetchHistory();
  return (history.events ?? []).flatMap((event) => {
    const failed = event.activityTaskFailedEventAttributes?.failure;
    return failed ? [failed.applicationFailureInfo?.type] : [];
  });
}

async function signedOf(tenant: string): Promise<SignedEnvelope> {
  const run = await stack.run(tenant, 'once');
  await run.result({ timeoutMs: 30_000 });
  if (!run.acceptance) throw new Error('a started run has its acceptance');
  return run.acceptance.signed;
}

test('E2 a forged, altered, missing or copied envelope fails closed before any effect', async () => {
  const signed = await signedOf('acme');
  const { effects } = outside;
  const before = effects.length;
  const fresh = (): string => `tenant/acme/${stack.environment}/run/${randomUUID()}`;
  const altered = (change: Partial<SignedEnvelope['envelope']>, workflowId: string): SignedEnvelope => ({
    ...signed,
    envelope: { ...signed.envelope, workflowId, ...change },
  });
  const globexId = `tenant/globex/${stack.environment}/run/${randomUUID()}`;
  const cases: [string, string, unknown][] = [
    ['copied into another workflow', fresh(), { signed }],
    ['bound anew without a signature', ...withId((id) => ({ signed: altered({}, id) }))],
    ['another tenant', globexId, { signed: altered({ tenantId: 'globex' as never }, globexId) }],
    ['another agent', ...withId((id) => ({ signed: altered({ agentId: 'admin' as never }, id) }))],
    ['no proof', ...withId((id) => ({ signed: { envelope: { ...signed.envelope, workflowId: id } } }))],
    [
      'a proof of nothing',
      ...withId((id) => ({
        signed: {
          envelope: { ...signed.envelope, workflowId: id },
          proof: { protected: 'e30', signature: 'AA' },
        },
      })),
    ],
  ];
  function withId(make: (id: string) => unknown): [string, unknown] {
    const id = fresh();
    return [id, make(id)];
  }
  for (const [what, workflowId, input] of cases) {
    const error = await startByHand(workflowId, [input]);
    expect([what, error]).toEqual([what, expect.any(WorkflowFailedError)]);
    const types = await failureTypes(workflowId);
    expect([what, types.length > 0, new Set(types)]).toEqual([what, true, new Set(['EnvelopeInvalid'])]);
  }
  expect(effects.length).toBe(before);
});

test('E2 a run without any envelope ends at once, and says how a run is started', async () => {
  for (const args of [[], [{}], [{ signed: null }], ['text']]) {
    const error = await startByHand(`tenant/acme/${stack.environment}/run/${randomUUID()}`, args);
    const cause = error instanceof WorkflowFailedError ? error.cause : undefined;
    expect(cause).toBeInstanceOf(ApplicationFailure);
    expect(cause).toMatchObject({
      type: 'EnvelopeInvalid',
      message: expect.stringContaining('start it through the client'),
    });
  }
});

test('E2 an envelope survives continue-as-new unchanged', async () => {
  const small = await createTestStack({ bounds: { continueAsNewAfter: 1 } });
  try {
    await readyTenant(small, { name: 'acme', keeper: outside.url, models: model.url });
    const before = outside.effects.length;
    model.script = plays(
      { call: [['note.write', { recordId: 'r1', text: 'a' }]] },
      { call: [['note.write', { recordId: 'r1', text: 'b' }]] },
    );
    const run = await small.run('acme', 'twice');
    expect(await run.result({ timeoutMs: 30_000 })).toMatchObject({
      stopReason: 'completed',
      usage: { toolCalls: 2 },
    });
    const written = outside.effects.slice(before);
    expect(written).toHaveLength(2);
    expect(new Set(written.map(({ key }) => key)).size).toBe(2);
    const executions = [];
    for await (const execution of small.temporal.workflow.list({ query: `WorkflowId = "${run.workflowId}"` }))
      executions.push(execution.status.name);
    expect(executions.sort()).toEqual(['COMPLETED', 'CONTINUED_AS_NEW', 'CONTINUED_AS_NEW']);
  } finally {
    await small.close();
  }
});

test('E3 a worker of one tenant refuses every other tenant’s task', async () => {
  const signed = await signedOf('globex');
  const before = outside.effects.length;
  // Task queues have no access control: anybody may schedule on acme's lane what is globex's.
  const error = await stack.temporal.workflow
    .start('strayCall', {
      workflowId: signed.envelope.workflowId,
      taskQueue: 'stray',
      args: [{ signed }],
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    })
    .then(async (handle) => await runStray(handle));
  expect(error).toMatchObject({
    type: 'WrongLane',
    message: expect.stringContaining('serves tenant acme alone'),
  });
  expect(outside.effects.length).toBe(before);
});

async function runStray(handle: { result(): Promise<unknown> }): Promise<unknown> {
  const { Worker } = await import('@temporalio/worker');
  const worker = await Worker.create({
    connection: stack.parts.connection,
    namespace: stack.environment,
    taskQueue: 'stray',
    workflowsPath: require.resolve('../support/stray-workflow'),
    interceptors: { workflowModules: [require.resolve('../../workflows/interceptors')] },
  });
  return await worker.runUntil(
    handle.result().then(
      () => undefined,
      (error: unknown) =>
        error instanceof WorkflowFailedError && error.cause instanceof ActivityFailure
          ? error.cause.cause
          : error,
    ),
  );
}
