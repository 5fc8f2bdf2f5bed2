import { until } from '../support/until';
import type { Move } from '../support/model';
import { gate, LimitsGround, note, pay, SOON_MS, type Quota } from './limits-ground';

/** Each limit of a tenant that is waited for in sight: met through the public surface, shown, and raised. */

let ground: LimitsGround;
/** Reserved for the first question to the model, which is the same for inputs of one length. */
let firstBound: number;

beforeAll(async () => {
  ground = await LimitsGround.open();
  await ground.tenant('probe', {});
  const probe = await ground.begin('probe', []);
  await probe.result({ timeoutMs: 50_000 });
  const admitted = (await ground.world.stack.journal('probe'))
    .map(({ facts }) => JSON.parse(facts) as { kind: string; reserved?: { modelTokens: number } })
    .find(({ kind }) => kind === 'admitted');
  firstBound = admitted?.reserved?.modelTokens ?? 0;
  expect(firstBound).toBeGreaterThan(500);
}, 120_000);
afterAll(() => ground.close());

interface Case {
  readonly limit: string;
  /** `''`, or whose it is. */
  readonly of?: string;
  readonly quota: () => Quota;
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
    await ground.tenant(name, quota());
    const hold = gate();
    const holder = beside ? await ground.begin(name, [], hold.held) : undefined;
    if (holder)
      await until(
        'a call in flight',
        async () => (await ground.layerOf(name, '', 'callsInFlight')).used === 1,
      );
    const run = await ground.begin(name, moves);

    const why = await ground.waitsFor(run, rule);
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
    const layer = await ground.layerOf(name, of, limit);
    expect(layer).toMatchObject({ cap: value(), freesAt: expect.stringMatching(/Z$/) });
    expect(layer.free).toBeLessThan(beside ? Math.max(101, value() / 4) : 101);

    const raised = Date.now();
    await ground.quotaSet(name, ...raise);
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
