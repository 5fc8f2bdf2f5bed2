import { setTimeout as delay } from 'node:timers/promises';
import { commandControl } from '../../client/control';
import { CONTROL_QUEUE, WORKFLOW } from '../../contracts/names';
import { controlWorkflowId } from '../../contracts/workflow-ids';
import type { ControlState } from '../../contracts/workflow-io';
import type { TenantId } from '../../contracts/ids';
import { plays, startModel, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';

let stack: TestStack;
let outside: Outside;
let model: TestModel;
const acme = 'acme' as TenantId;

beforeAll(async () => {
  [stack, outside, model] = await Promise.all([createTestStack(), startOutside('acct'), startModel(plays())]);
  for (const name of ['acme', 'globex'])
    await readyTenant(stack, { name, keeper: outside.url, models: model.url, perRun: '{ steps: 500 }' });
});

beforeEach(() => {
  outside.faults = {};
});

afterAll(async () => {
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});

const control = (tenant: TenantId = acme) =>
  stack.temporal.workflow.getHandle(controlWorkflowId(tenant, stack.environment));
const state = async (tenant: TenantId = acme): Promise<ControlState> => {
  const found = await stack.store(tenant).control();
  if (!found) throw new Error('no control row');
  return found;
};

async function releaseAcme(): Promise<void> {
  await commandControl(stack.temporal, acme, stack.environment, {
    op: 'release',
    scope: { kind: 'tenant' },
    reason: 'test over',
    actor: 'test',
  });
}

/** Writes without end until somebody stops it; each text says whose it is. */
const endless = (): void => {
  model.script = ({ moves, input }) =>
    input.startsWith('few') && moves >= 3
      ? { say: 'done' }
      : { call: [['note.write', { recordId: 'r1', text: `${input} ${moves}` }]] };
};

test('O1 kill by a signal without argument: fenced, contained, drained; runs close as killed; the neighbour notices nothing', async () => {
  endless();
  outside.faults = { delayMs: 40 };
  const mine = await Promise.all([1, 2, 3].map((n) => stack.run('acme', `acme ${n}`)));
  await until(
    'work of acme',
    async () => outside.effects.filter(({ bearer }) => bearer.includes('acme')).length > 5,
  );
  const neighbours = await Promise.all([1, 2].map((n) => stack.run('globex', `few globex ${n}`)));

  await control().signal('kill');
  const drained = await until('draining', async () =>
    (await state()).drainedAt ? await state() : undefined,
  );
  const fencedAt = Date.parse(drained.fencedAt ?? '');
  const containedAt = Date.parse(drained.containedAt ?? '');
  expect(drained.mode).toBe('killed');
  expect(containedAt).toBeGreaterThanOrEqual(fencedAt);

  for (const run of mine)
    expect(await run.result({ timeoutMs: 20_000 })).toMatchObject({ stopReason: 'killed' });
  for (const run of neighbours)
    expect(await run.result({ timeoutMs: 20_000 })).toMatchObject({ stopReason: 'completed' });

  // Effects are counted outside. Each after the fence belongs to a call that was admitted before it; after containment there is none.
  await delay(1_500);
  const mineOutside = outside.effects.filter(({ bearer }) => bearer.includes('acme'));
  expect(mineOutside.filter(({ at }) => at > containedAt)).toEqual([]);
  const admissions = (await stack.journal('acme')).map(({ facts, at }) => ({
    ...(JSON.parse(facts) as { kind: string; action?: string }),
    at: Date.parse(at),
  }));
  const admittedAfter = admissions.filter(({ kind, at }) => kind === 'admitted' && at > fencedAt);
  expect(admittedAfter).toEqual([]);
  expect(admissions.filter(({ kind }) => kind === 'admitted').length).toBeGreaterThan(5);
  for (const run of mine) {
    const description = await stack.temporal.workflow.getHandle(run.workflowId).describe();
    expect(description.status.name).toBe('FAILED');
  }

  await expect(stack.run('acme', 'after the kill')).rejects.toMatchObject({ code: 'refused' });
  await releaseAcme();
  model.script = plays({ call: [['note.write', { recordId: 'r1', text: 'back' }]] });
  const again = await stack.run('acme', 'again');
  expect(await again.result({ timeoutMs: 20_000 })).toMatchObject({ stopReason: 'completed' });
});

test('O1 N4 a kill is fenced within a second while the tenant’s lane is full and its system hangs', async () => {
  endless();
  outside.faults = { delayMs: 2_500 };
  const runs = await Promise.all(Array.from({ length: 12 }, (_, n) => stack.run('acme', `acme full ${n}`)));
  await until('a full lane', async () => (await stack.store('acme').claimedCalls({})) >= 8);
  const asked = Date.now();
  const fenced = await commandControl(stack.temporal, acme, stack.environment, {
    op: 'kill',
    scope: { kind: 'tenant' },
    reason: 'test',
    actor: 'test',
  });
  expect(Date.now() - asked).toBeLessThan(1_000);
  expect(fenced).toMatchObject({ mode: 'killed', actor: 'test', reason: 'test' });
  for (const run of runs)
    expect(await run.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'killed' });
  const { containedAt } = await until('draining', async () =>
    (await state()).drainedAt ? await state() : undefined,
  );
  await delay(500);
  expect(
    outside.effects.filter(({ bearer, at }) => bearer.includes('acme') && at > Date.parse(containedAt ?? '')),
  ).toEqual([]);
  await releaseAcme();
});

test('O1 a malformed signal disables nothing: bad JSON, unknown encoding, no metadata, an unknown name, a wrong scope', async () => {
  const signal = async (
    signalName: string,
    payload: { metadata?: Record<string, Uint8Array>; data?: Uint8Array },
  ): Promise<void> => {
    await stack.temporal.workflowService.signalWorkflowExecution({
      namespace: stack.environment,
      workflowExecution: { workflowId: control().workflowId },
      signalName,
      input: { payloads: [payload] },
    });
  };
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  await signal('kill', { metadata: { encoding: bytes('json/plain') }, data: bytes('{"scope":') });
  await signal('kill', { metadata: { encoding: bytes('binary/unheard-of') }, data: bytes('??') });
  await signal('kill', { data: bytes('{}') });
  await signal('kil', { metadata: { encoding: bytes('json/plain') }, data: bytes('{}') });
  await control().signal('kill', { scope: { kind: 'galaxy' } });
  await control().signal('kill', 'acme');
  await control().signal('release');
  const shown = await until('all signals', async () => {
    const now = await control().query<ControlState & { malformed: number }>('controlState');
    return now.malformed >= 7 ? now : undefined;
  });
  expect(shown).toMatchObject({ mode: 'normal', malformed: 7 });
  await expect(control().executeUpdate('release')).rejects.toThrow();

  await control().signal('kill', { scope: { kind: 'tenant' }, reason: 'still works', actor: 'test' });
  expect(
    await until('the kill', async () => ((await state()).mode === 'killed' ? await state() : undefined)),
  ).toMatchObject({ reason: 'still works' });
  await until('draining', async () => (await state()).drainedAt);
  await releaseAcme();
});

test('O1 in one inbox a kill voids the release before it, and only that', async () => {
  const asleep = await createTestStack({ workers: false });
  try {
    for (const name of ['before', 'after'])
      await readyTenant(asleep, { name, keeper: outside.url, models: model.url });
    const handle = (name: string) =>
      asleep.temporal.workflow.getHandle(controlWorkflowId(name as TenantId, asleep.environment));
    const release = { scope: { kind: 'tenant' } };
    await handle('before').signal('release', release);
    await handle('before').signal('kill');
    await handle('after').signal('kill');
    await handle('after').signal('release', release);
    await asleep.startControl();
    await until(
      'both',
      async () =>
        (await asleep.store('before').control())?.drainedAt &&
        (await asleep.store('after').control())?.fenceEpoch,
    );
    expect(await asleep.store('before').control()).toMatchObject({ mode: 'killed' });
    expect(await asleep.store('after').control()).toMatchObject({ mode: 'normal' });
  } finally {
    await asleep.close();
  }
});

test('O1 a control workflow that was terminated in the middle of a kill is started again and empties the tenant', async () => {
  endless();
  outside.faults = { delayMs: 1_500 };
  const run = await stack.run('acme', 'acme long');
  await until(
    'a call',
    async () => (await stack.store('acme').claimedCalls({})) > 0 && outside.requests.length > 0,
  );
  await control().signal('kill');
  await until('the fence', async () => (await state()).mode === 'killed');
  await control().terminate('as an accident would');
  expect(await run.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'killed' });
  await until('draining', async () => (await state()).drainedAt);
  expect((await control().describe()).status.name).toBe('RUNNING');
  await releaseAcme();
});

test('O1 a control workflow started by hand, with a kill and nothing else, stops the tenant', async () => {
  await control('globex' as TenantId).terminate('gone');
  await stack.temporal.workflow.signalWithStart(WORKFLOW.control, {
    workflowId: controlWorkflowId('globex' as TenantId, stack.environment),
    taskQueue: CONTROL_QUEUE,
    signal: 'kill',
    signalArgs: [],
  });
  expect(
    await until('the kill', async () =>
      (await state('globex' as TenantId)).drainedAt ? await state('globex' as TenantId) : undefined,
    ),
  ).toMatchObject({ mode: 'killed' });
});

test('O1 a release right after a kill opens the tenant to new runs; those the fence stopped stay stopped', async () => {
  endless();
  outside.faults = { delayMs: 300 };
  const run = await stack.run('acme', 'acme stopped');
  await until(
    'a call',
    async () => (await stack.store('acme').claimedCalls({ runId: run.runId as never })) > 0,
  );
  await control().signal('kill');
  await control().signal('release', { scope: { kind: 'tenant' }, reason: 'at once', actor: 'test' });
  expect(await run.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'killed' });
  const { fencedAt } = await state();
  const admitted = (await stack.journal('acme'))
    .map(({ facts, at }) => ({ ...(JSON.parse(facts) as { kind: string; run?: string }), at }))
    .filter(
      ({ kind, run: of, at }) =>
        kind === 'admitted' && of === run.runId && Date.parse(at) > Date.parse(fencedAt ?? ''),
    );
  expect(admitted).toEqual([]);
  outside.faults = {};
  model.script = plays({ call: [['note.write', { recordId: 'r1', text: 'new' }]] });
  // The run may hear of the fence before the release is applied.
  await until('the release', async () => (await state()).mode === 'normal');
  const next = await stack.run('acme', 'new');
  expect(await next.result({ timeoutMs: 20_000 })).toMatchObject({ stopReason: 'completed' });
});
