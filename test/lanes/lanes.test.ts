import { plays, startModel, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant, tenantYaml } from '../support/tenants';
import { until } from '../support/until';

let stack: TestStack;
let outside: Outside;
let model: TestModel;

beforeAll(async () => {
  [stack, outside, model] = await Promise.all([
    createTestStack({ bounds: { maxWaitMs: 1_500 } }),
    startOutside('acct'),
    startModel(plays()),
  ]);
});

beforeEach(() => {
  outside.faults = { delayMs: 60 };
  outside.mostAtOnce = 0;
  model.script = plays(
    ...Array.from({ length: 3 }, (_, n) => ({
      call: [['note.write', { recordId: 'r1', text: `${n}` }] as const],
    })),
  );
});

afterAll(async () => {
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});

const runAll = async (tenant: string, count: number): Promise<string[]> => {
  const runs = await Promise.all(
    Array.from({ length: count }, (_, n) => stack.run(tenant, `${tenant} ${n}`)),
  );
  const results = await Promise.all(runs.map((run) => run.result({ timeoutMs: 60_000 })));
  return results.map(({ stopReason }) => stopReason);
};

test('N2 a tenant created while everything runs has its lane without a restart, and its ceiling holds', async () => {
  await readyTenant(stack, {
    name: 'fourth',
    keeper: outside.url,
    models: model.url,
    ceiling: 2,
    limits: '{ callsInFlight: 50 }',
  });
  expect(new Set(await runAll('fourth', 6))).toEqual(new Set(['completed']));
  expect(outside.effects.filter(({ bearer }) => bearer.includes('fourth'))).toHaveLength(18);
  expect(outside.mostAtOnce).toBeLessThanOrEqual(2);
  expect(outside.mostAtOnce).toBe(2);
});

test('N2 a changed ceiling is followed live, and no call is lost or repeated', async () => {
  await readyTenant(stack, {
    name: 'growing',
    keeper: outside.url,
    models: model.url,
    ceiling: 1,
    limits: '{ callsInFlight: 50 }',
  });
  const results = runAll('growing', 8);
  await until(
    'some work',
    async () => outside.effects.filter(({ bearer }) => bearer.includes('growing')).length >= 3,
  );
  expect(outside.mostAtOnce).toBe(1);
  await stack.apply(
    tenantYaml({
      name: 'growing',
      keeper: outside.url,
      models: `${model.url}/v1`,
      ceiling: 6,
      limits: '{ callsInFlight: 50 }',
    }),
  );
  expect(new Set(await results)).toEqual(new Set(['completed']));
  const written = outside.effects.filter(({ bearer }) => bearer.includes('growing'));
  expect(written).toHaveLength(24);
  expect(new Set(written.map(({ key }) => key)).size).toBe(24);
  expect(outside.mostAtOnce).toBeGreaterThan(1);
});

test('Q1 calls in flight: the ledger’s ceiling holds across two hosts', async () => {
  const second = await stack.startHost();
  await readyTenant(stack, {
    name: 'capped',
    keeper: outside.url,
    models: model.url,
    ceiling: 8,
    limits: '{ callsInFlight: 3 }',
  });
  expect(new Set(await runAll('capped', 8))).toEqual(new Set(['completed']));
  expect(outside.mostAtOnce).toBeLessThanOrEqual(3);
  expect(outside.mostAtOnce).toBeGreaterThan(1);
  expect(outside.effects.filter(({ bearer }) => bearer.includes('capped'))).toHaveLength(24);
  await second.stop();
});

test('Q1 Q3 tool calls per day: the run shows `throttled` with limit, value and use, and ends as budget_exceeded after its wait', async () => {
  await readyTenant(stack, {
    name: 'daily',
    keeper: outside.url,
    models: model.url,
    limits: '{ toolCallsPerDay: 2 }',
  });
  const before = outside.effects.length;
  const run = await stack.run('daily', 'daily');
  const shown = await until('the wait', async () => {
    const state = await stack.temporal.workflow
      .getHandle(run.workflowId)
      .query<{ state: string; detail: string }>('runState');
    return state.state === 'throttled' ? state : undefined;
  });
  expect(shown.detail).toMatch(
    /throttled by a limit of the tenant: tool_calls_per_day \(2 of 2\), frees in \d+ s/,
  );
  expect(await run.explain()).toMatchObject({
    state: 'throttled',
    waitsFor: { origin: 'tenant_cap', rule: 'tool_calls_per_day', value: 2, used: 2 },
  });
  expect(await run.result({ timeoutMs: 20_000 })).toMatchObject({
    stopReason: 'budget_exceeded',
    usage: { toolCalls: 2 },
  });
  expect(outside.effects.length - before).toBe(2);
});

test('Q1 steps per run: the run ends as budget_exceeded, with what it did before kept', async () => {
  await readyTenant(stack, { name: 'short', keeper: outside.url, models: model.url, perRun: '{ steps: 4 }' });
  const before = outside.effects.length;
  const run = await stack.run('short', 'short');
  expect(await run.result({ timeoutMs: 20_000 })).toMatchObject({
    stopReason: 'budget_exceeded',
    usage: { steps: 4 },
  });
  expect(outside.effects.length - before).toBe(2);
});
