import type { Run } from '../../client/run';
import { createCliWorld, type CliWorld } from '../cli/world';
import { plays, startModel, type Move, type Script, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';
import { call } from './desk';

/** Each limit of a tenant, met through the public surface, shown, and raised: `bulkhead quota set`, while a run waits for it. */

const MAX_WAIT_MS = 45_000;
/** A limit that is raised is told to whoever waits for it at once; the bound is for a machine with no time. */
const SOON_MS = 5_000;

let world: CliWorld;
let outside: Outside;
let model: TestModel;
/** What the model does in a run, by the input of it. */
const scripts = new Map<string, Script>();
/** Reserved for the first question to the model, which is the same for inputs of one length. */
let firstBound: number;
let starving: Run;

const note = (text: string): Move => call(['note.write', { recordId: 'r1', text }]);
const pay = (amountCents: number): Move => call(['payment.send', { recordId: 'r1', amountCents }]);

type Parts = Partial<Parameters<typeof readyTenant>[1]>;
async function tenant(name: string, quota: Parts): Promise<void> {
  await readyTenant(world.stack, { name, keeper: outside.url, models: model.url, ...quota });
}

/** Begins a run that plays these moves. */
async function begin(name: string, moves: Move[], hold?: Promise<void>): Promise<Run> {
  const input = `input-${String(scripts.size).padStart(4, '0')}`;
  const script = plays(...moves);
  scripts.set(input, async (seen) => {
    await hold;
    return await script(seen);
  });
  const run = await world.stack.client.startRun({
    ...{ token: await world.stack.token(name), agent: 'test_worker', input },
    target: { system: 'keeper', recordId: 'r1' },
  });
  return run;
}

/** A gate that holds back a model's answer until it is opened. */
function gate(): { held: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const held = new Promise<void>((resolve) => (open = resolve));
  return { held, open };
}

/** Once the run says that it waits for this limit, what it says. */
const waitsFor = (run: Run, rule: string) =>
  until(
    `a run that waits for ${rule}`,
    async () => {
      const why = await run.explain();
      return why.waitsFor?.rule === rule ? why : undefined;
    },
    40_000,
  );

async function quotaSet(name: string, ...args: string[]): Promise<void> {
  const { code, said } = await world.run(['quota', 'set', name, ...args, '-o', 'json']);
  expect({ code, said }).toEqual({ code: 0, said: '' });
}

async function layerOf(name: string, of: string, limit: string) {
  const { layers } = await world.stack.client.quotas({ token: await world.stack.token(name) });
  const found = layers.find((each) => each.of === of && each.limit === limit);
  if (!found) throw new Error(`no layer ${of} ${limit}`);
  return found;
}

beforeAll(async () => {
  const script: Script = (seen) =>
    scripts.get(seen.input.replace(/[^]*?(input-\d{4})[^]*/, '$1'))?.(seen) ?? {
      say: `unknown ${seen.input}`,
    };
  [world, outside, model] = await Promise.all([
    createCliWorld({ bounds: { maxWaitMs: MAX_WAIT_MS } }),
    startOutside('acct'),
    startModel(script),
  ]);
  await tenant('probe', {});
  const probe = await begin('probe', []);
  await probe.result({ timeoutMs: 50_000 });
  const admitted = (await world.stack.journal('probe'))
    .map(({ facts }) => JSON.parse(facts) as { kind: string; reserved?: { modelTokens: number } })
    .find(({ kind }) => kind === 'admitted');
  firstBound = admitted?.reserved?.modelTokens ?? 0;
  expect(firstBound).toBeGreaterThan(500);
  await tenant('starving', { limits: '{ stepsPerDay: 1 }' });
  starving = await begin('starving', [note('one')]);
}, 120_000);

afterAll(async () => {
  await world.close();
  await Promise.all([outside.close(), model.close()]);
});

interface Case {
  readonly limit: string;
  /** `''`, or whose it is. */
  readonly of?: string;
  readonly quota: () => Parts;
  readonly rule: string;
  readonly value: () => number;
  readonly used: () => number;
  readonly moves: Move[];
  /** Another run holds what it has reserved while this one asks. */
  readonly beside?: true;
  readonly raise: string[];
}

const MODEL_LEASE_S = 62;
const CASES: Case[] = [
  {
    limit: 'callsPerMinute',
    quota: () => ({ limits: '{ callsPerMinute: 1 }' }),
    rule: 'calls_per_minute',
    ...{ value: () => 1, used: () => 1, moves: [note('a')], raise: ['callsPerMinute=600'] },
  },
  {
    limit: 'toolCallsPerDay',
    quota: () => ({ limits: '{ toolCallsPerDay: 1 }' }),
    rule: 'tool_calls_per_day',
    ...{ value: () => 1, used: () => 1, moves: [note('a'), note('b')], raise: ['toolCallsPerDay=2'] },
  },
  {
    limit: 'stepsPerDay',
    quota: () => ({ limits: '{ stepsPerDay: 1 }' }),
    rule: 'steps_per_day',
    ...{ value: () => 1, used: () => 1, moves: [note('a')], raise: ['stepsPerDay=9'] },
  },
  {
    limit: 'activeSecondsPerDay',
    quota: () => ({ limits: `{ activeSecondsPerDay: ${MODEL_LEASE_S + 10} }` }),
    rule: 'active_seconds_per_day',
    ...{ value: () => MODEL_LEASE_S + 10, used: () => MODEL_LEASE_S, moves: [], beside: true as const },
    raise: ['activeSecondsPerDay=86400'],
  },
  {
    limit: 'spendMicroUsdPerDay',
    quota: () => ({ limits: '{ spendMicroUsdPerDay: 300 }' }),
    rule: 'spend_micro_usd_per_day',
    ...{ value: () => 300, used: () => 200, moves: [pay(1), pay(2)], raise: ['spendMicroUsdPerDay=400'] },
  },
  {
    limit: 'modelTokensPerDay',
    quota: () => ({ limits: `{ modelTokensPerDay: ${firstBound + 100} }` }),
    rule: 'model_tokens_per_day',
    ...{ value: () => firstBound + 100, used: () => firstBound, moves: [], beside: true as const },
    raise: ['modelTokensPerDay=5000000'],
  },
  {
    limit: 'modelTokensPerMinute',
    // What drains in the time that it takes to ask is not enough.
    quota: () => ({ limits: `{ modelTokensPerMinute: ${firstBound + 10} }` }),
    rule: 'model_tokens_per_minute',
    ...{ value: () => firstBound + 10, used: () => firstBound, moves: [], beside: true as const },
    raise: ['modelTokensPerMinute=5000000'],
  },
  {
    limit: 'highRiskWritesPerDay',
    quota: () => ({ limits: '{ highRiskWritesPerDay: 1 }' }),
    rule: 'high_risk_writes_per_day',
    ...{ value: () => 1, used: () => 1, moves: [pay(1), pay(2)], raise: ['highRiskWritesPerDay=2'] },
  },
  {
    limit: 'callsPerMinute',
    of: 'action:note.write',
    quota: () => ({ perAction: '{ note.write: { callsPerMinute: 1 } }' }),
    rule: 'action:note.write/calls_per_minute',
    ...{ value: () => 1, used: () => 1, moves: [note('a'), note('b')] },
    raise: ['callsPerMinute=60', '--action', 'note.write'],
  },
  {
    limit: 'spendMicroUsdPerDay',
    of: 'agent:test_worker',
    quota: () => ({ perAgent: '{ test_worker: { spendMicroUsdPerDay: 200 } }' }),
    rule: 'agent:test_worker/spend_micro_usd_per_day',
    ...{ value: () => 200, used: () => 200, moves: [pay(1), pay(2)] },
    raise: ['spendMicroUsdPerDay=400', '--agent', 'test_worker'],
  },
];

test.each(CASES.map((one, at) => ({ ...one, name: `t${at}`, whose: one.of ? ` of ${one.of}` : '' })))(
  'Q1 Q3 Q4 Q6 $limit$whose: met, shown with its numbers, raised, and the run goes on at once',
  async ({ name, limit, of = '', quota, rule, value, used, moves, beside, raise }) => {
    await tenant(name, quota());
    const hold = gate();
    const holder = beside ? await begin(name, [], hold.held) : undefined;
    if (holder)
      await until('a call in flight', async () => (await layerOf(name, '', 'callsInFlight')).used === 1);
    const run = await begin(name, moves);

    const why = await waitsFor(run, rule);
    expect(why).toMatchObject({
      state: 'throttled',
      stopReason: null,
      waitsFor: { kind: 'throttled', origin: 'tenant_cap', rule },
    });
    expect(why.waitsFor?.value).toBe(value());
    // A bucket drains while we look.
    if (limit === 'modelTokensPerMinute') expect(why.waitsFor?.used).toBeLessThanOrEqual(used());
    else expect(why.waitsFor?.used).toBe(used());
    expect(why.waitsFor?.retryAfterMs).toBeGreaterThan(10_000);
    expect(await run.row()).toMatchObject({ state: 'throttled' });
    const layer = await layerOf(name, of, limit);
    expect(layer).toMatchObject({ cap: value(), freesAt: expect.stringMatching(/Z$/) });
    expect(layer.free).toBeLessThan(beside ? Math.max(101, value() / 4) : 101);

    const raised = Date.now();
    await quotaSet(name, ...raise);
    await until('a run that goes on', async () => (await run.state()) !== 'throttled');
    expect(Date.now() - raised).toBeLessThan(SOON_MS);
    hold.open();
    expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({
      stopReason: 'completed',
      usage: { toolCalls: moves.length },
    });
    if (holder) expect(await holder.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  },
  100_000,
);

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
  await tenant('flight', { limits: '{ callsInFlight: 1 }' });
  const hold = gate();
  const holder = await begin('flight', [], hold.held);
  await until('a call in flight', async () => (await layerOf('flight', '', 'callsInFlight')).used === 1);
  const run = await begin('flight', []);
  const { lastRefusal } = await refusedFor(run, 'calls_in_flight');
  expect(lastRefusal?.refusal).toMatchObject({ kind: 'throttled', origin: 'tenant_cap', value: 1, used: 1 });
  expect(await layerOf('flight', '', 'callsInFlight')).toMatchObject({
    cap: 1,
    used: 1,
    reserved: 1,
    free: 0,
  });
  await quotaSet('flight', 'callsInFlight=2');
  const raised = Date.now();
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  expect(Date.now() - raised).toBeLessThan(SOON_MS);
  hold.open();
  expect(await holder.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
});

test('Q1 Q6 perAction.callsInFlight of none: its calls wait, others go on, and a raise lets them in', async () => {
  await tenant('halted', { perAction: '{ note.write: { callsInFlight: 0 } }' });
  const run = await begin('halted', [pay(1), note('a')]);
  const { lastRefusal } = await refusedFor(run, 'action:note.write/calls_in_flight');
  expect(lastRefusal).toMatchObject({ action: 'note.write', refusal: { value: 0, used: 0 } });
  await quotaSet('halted', 'callsInFlight=1', '--action', 'note.write');
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
    await tenant(name, { perRun });
    const moves = [pay(1), pay(2)];
    const run = await begin(name, moves);
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
    await quotaSet(name, raise, '--per-run');
    expect(await layerOf(name, 'run', limit)).toMatchObject({ cap: Number(raise.split('=')[1]) });
    const again = await begin(name, moves);
    expect(await again.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  },
);

test('Q6 a budget that is raised while a run works is that run’s too', async () => {
  await tenant('longer', { perRun: '{ steps: 2 }' });
  const hold = gate();
  const run = await begin('longer', [note('a'), note('b')], hold.held);
  await until('a call in flight', async () => (await layerOf('longer', '', 'callsInFlight')).used === 1);
  await quotaSet('longer', 'steps=5', '--per-run');
  hold.open();
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({
    stopReason: 'completed',
    usage: { steps: 5 },
  });
});

test('Q3 Q5 a call that can never fit ends its run at once, and says so', async () => {
  await tenant('never', { limits: '{ toolCallsPerDay: 0 }' });
  const run = await begin('never', [note('a')]);
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
  await tenant('classed', { limits: '{ toolCallsPerDay: 1 }' });
  const run = await begin('classed', [note('a'), note('b')]);
  await waitsFor(run, 'tool_calls_per_day');
  const file = world.file(
    'class.yaml',
    'apiVersion: bulkhead/v1\nkind: QuotaClass\nmetadata: { name: quota_classed }\nlimits: { toolCallsPerDay: 5 }\n',
  );
  const raised = Date.now();
  expect(await world.run(['tenant', 'create', '-f', file])).toMatchObject({ code: 0 });
  await until('a run that goes on', async () => (await run.state()) !== 'throttled');
  expect(Date.now() - raised).toBeLessThan(SOON_MS);
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
});
