import type { Run } from '../../client/run';
import { until } from '../support/until';
import { gate, LimitsGround, note, pay, SOON_MS } from './limits-ground';

/** Limits that are waited for in place, that end a run, and that are changed for many at once, through the public surface. */

let ground: LimitsGround;
let starving: Run;

beforeAll(async () => {
  ground = await LimitsGround.open();
  await ground.tenant('starving', { limits: '{ stepsPerDay: 1 }' });
  starving = await ground.begin('starving', [note('one')]);
}, 120_000);
afterAll(() => ground.close());

/** Short waits are the call's own: nothing is told of them but what was refused last. */
const refusedFor = (run: Run, rule: string) =>
  until(
    `a refusal by ${rule}`,
    async () => {
      const why = await run.explain();
      return why.lastRefusal?.refusal.rule === rule ? why : undefined;
    },
    40_000,
  );

test('Q1 Q3 Q6 callsInFlight: a call that finds all places taken waits in place, and goes on within a second of a raise', async () => {
  await ground.tenant('flight', { limits: '{ callsInFlight: 1 }' });
  const hold = gate();
  const holder = await ground.begin('flight', [], hold.held);
  await until(
    'a call in flight',
    async () => (await ground.layerOf('flight', '', 'callsInFlight')).used === 1,
  );
  const run = await ground.begin('flight', []);
  const { lastRefusal } = await refusedFor(run, 'calls_in_flight');
  expect(lastRefusal?.refusal).toMatchObject({ kind: 'throttled', origin: 'tenant_cap', value: 1, used: 1 });
  expect(await ground.layerOf('flight', '', 'callsInFlight')).toMatchObject({
    cap: 1,
    used: 1,
    reserved: 1,
    free: 0,
  });
  await ground.quotaSet('flight', 'callsInFlight=2');
  const raised = Date.now();
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  expect(Date.now() - raised).toBeLessThan(SOON_MS);
  hold.open();
  expect(await holder.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
});

test('Q1 Q6 perAction.callsInFlight of none: its calls wait, others go on, and a raise lets them in', async () => {
  await ground.tenant('halted', { perAction: '{ note.write: { callsInFlight: 0 } }' });
  const run = await ground.begin('halted', [pay(1), note('a')]);
  const { lastRefusal } = await refusedFor(run, 'action:note.write/calls_in_flight');
  expect(lastRefusal).toMatchObject({ action: 'note.write', refusal: { value: 0, used: 0 } });
  await ground.quotaSet('halted', 'callsInFlight=1', '--action', 'note.write');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({
    stopReason: 'completed',
    usage: { toolCalls: 2 },
  });
});

test.each([
  ...[{ limit: 'steps', perRun: '{ steps: 1 }', rule: 'per_run_steps', value: 1, used: 1, raise: 'steps=5' }],
  ...[
    {
      limit: 'seconds',
      perRun: '{ seconds: 61 }',
      rule: 'per_run_seconds',
      value: 61,
      used: 0,
      raise: 'seconds=90',
    },
  ],
  ...[
    {
      limit: 'spendMicroUsd',
      perRun: '{ spendMicroUsd: 300 }',
      rule: 'per_run_spend_micro_usd',
      value: 300,
      used: 200,
      raise: 'spendMicroUsd=400',
    },
  ],
])(
  'Q1 Q4 Q5 perRun.$limit: the run ends as budget_exceeded and says by what; with more, one goes on to its end',
  async ({ limit, perRun, rule, value, used, raise }) => {
    const name = `run-${limit.toLowerCase()}`;
    await ground.tenant(name, { perRun });
    const moves = [pay(1), pay(2)];
    const run = await ground.begin(name, moves);
    expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({
      state: 'closed',
      stopReason: 'budget_exceeded',
    });
    const { lastRefusal } = await run.explain();
    expect(lastRefusal?.refusal).toMatchObject({
      kind: 'budget_exceeded',
      origin: 'tenant_cap',
      rule,
      value,
      used,
    });
    expect(lastRefusal?.refusal).not.toHaveProperty('retryAfterMs');
    await ground.quotaSet(name, raise, '--per-run');
    expect(await ground.layerOf(name, 'run', limit)).toMatchObject({ cap: Number(raise.split('=')[1]) });
    const again = await ground.begin(name, moves);
    expect(await again.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  },
);

test('Q6 a budget that is raised while a run works is that run’s too', async () => {
  await ground.tenant('longer', { perRun: '{ steps: 2 }' });
  const hold = gate();
  const run = await ground.begin('longer', [note('a'), note('b')], hold.held);
  await until(
    'a call in flight',
    async () => (await ground.layerOf('longer', '', 'callsInFlight')).used === 1,
  );
  await ground.quotaSet('longer', 'steps=5', '--per-run');
  hold.open();
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({
    stopReason: 'completed',
    usage: { steps: 5 },
  });
});

test('Q3 Q5 a call that can never fit ends its run at once, and says so', async () => {
  await ground.tenant('never', { limits: '{ toolCallsPerDay: 0 }' });
  const run = await ground.begin('never', [note('a')]);
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'budget_exceeded' });
  const { lastRefusal } = await run.explain();
  expect(lastRefusal?.refusal).toMatchObject({ rule: 'tool_calls_per_day', value: 0, used: 0 });
  expect(lastRefusal?.refusal.message).toContain('may need more of tool calls than this tenant has in a day');
});

test('Q3 Q5 who waits longer than a run may ends as budget_exceeded, by that limit; never by a timeout', async () => {
  expect(await starving.result({ timeoutMs: 100_000 })).toMatchObject({
    state: 'closed',
    stopReason: 'budget_exceeded',
  });
  expect((await starving.explain()).lastRefusal?.refusal).toMatchObject({
    rule: 'steps_per_day',
    value: 1,
    used: 1,
  });
}, 120_000);

test('Q6 a changed quota class reaches the runs that wait for it, of every tenant that has it', async () => {
  await ground.tenant('classed', { limits: '{ toolCallsPerDay: 1 }' });
  const run = await ground.begin('classed', [note('a'), note('b')]);
  await ground.waitsFor(run, 'tool_calls_per_day');
  const file = ground.world.file(
    'class.yaml',
    'apiVersion: bulkhead/v1\nkind: QuotaClass\nmetadata: { name: quota_classed }\nlimits: { toolCallsPerDay: 5 }\n',
  );
  const raised = Date.now();
  expect(await ground.world.run(['tenant', 'create', '-f', file])).toMatchObject({ code: 0 });
  await until('a run that goes on', async () => (await run.state()) !== 'throttled');
  expect(Date.now() - raised).toBeLessThan(SOON_MS);
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
});
