import { RememberedRefusals, type AskedFor } from '../../activities/remembered-refusals';
import type { ControlVersion } from '../../contracts/platform-ports';
import type { TenantStore } from '../../contracts/ports';
import type { RepeatedRefusal } from '../../contracts/quotas';
import type { Refusal } from '../../contracts/refusal';
import { mintScope } from '../../contracts/scope-mint';

const throttled = (rule: string, change: Partial<Refusal> = {}): Refusal => ({
  ...{ kind: 'throttled', origin: 'tenant_cap', rule, rules: [rule], message: 'used up' },
  ...{ policyVersion: 1, value: 1, used: 1, retryAfterMs: 5_000 },
  ...change,
});
const asked = (change: Partial<AskedFor> = {}): AskedFor => ({
  ...{ runId: 'r-1', action: 'record.read', callClass: 'read', system: 'keeper', agentId: 'worker' },
  ...{ leaseMs: 5_000, reserve: { toolCalls: 1, steps: 1, microUsd: 100, modelTokens: 0 } },
  ...change,
});

describe('P9 N5 what a host remembers of refusals', () => {
  let now = 0;
  let told: RepeatedRefusal[][] = [];
  let fails = false;
  let remembered: RememberedRefusals;
  const storeOf = (tenant: string): TenantStore =>
    ({
      scope: mintScope(tenant as never, 'prod' as never, 'operator'),
      countRefusals: (refusals: RepeatedRefusal[]) => {
        if (fails) return Promise.reject(new Error('away'));
        told.push(refusals);
        return Promise.resolve();
      },
    }) as unknown as TenantStore;
  const [acme, globex] = [storeOf('acme'), storeOf('globex')];
  const find = (of = asked(), store = acme, longest = Number.POSITIVE_INFINITY) =>
    remembered.find(store, of, longest)?.refusal.rule;
  const version = (controlVersion: number) =>
    remembered.controlsSeen([{ tenantId: 'acme', controlVersion } as unknown as ControlVersion]);

  beforeEach(() => {
    now = 0;
    told = [];
    fails = false;
    remembered = new RememberedRefusals({ now: () => now });
    version(1);
  });
  afterEach(() => remembered.stop());

  test('P9 for a second at most, no longer than until it frees, and from the moment the ledger was asked', () => {
    remembered.remember(acme, asked(), throttled('calls_per_minute', { retryAfterMs: 400 }), 0);
    now = 399;
    expect(find()).toBe('calls_per_minute');
    now = 400;
    expect(find()).toBeUndefined();
    remembered.remember(acme, asked(), throttled('tool_calls_per_day', { retryAfterMs: 9e6 }), 400);
    now = 1_399;
    expect(find()).toBe('tool_calls_per_day');
    // Being asked makes nothing last, nor does the same refusal of a call that was under way meanwhile.
    remembered.remember(acme, asked(), throttled('tool_calls_per_day', { retryAfterMs: 9e6 }), 1_390);
    now = 1_400;
    expect(find()).toBeUndefined();
  });

  test('P9 not from when its answer came, which may be long after', () => {
    now = 900;
    remembered.remember(acme, asked(), throttled('tool_calls_per_day', { retryAfterMs: 9e6 }), 200);
    now = 1_199;
    expect(find()).toBe('tool_calls_per_day');
    now = 1_200;
    expect(find()).toBeUndefined();
  });

  test('Q3 P9 what is answered from memory frees at the moment that the ledger said, and is told so whenever it is told', async () => {
    remembered.remember(acme, asked(), throttled('tool_calls_per_day', { retryAfterMs: 60_000 }), 100);
    now = 700;
    const found = remembered.find(acme, asked(), Number.POSITIVE_INFINITY);
    expect(found?.asOfNow.retryAfterMs).toBe(59_400);
    // How far apart looks are is the ledger's to say, too: that does not shrink.
    expect(found?.refusal.retryAfterMs).toBe(60_000);
    if (found) remembered.count(acme, asked(), found.asOfNow);
    fails = true;
    now = 1_500;
    await remembered.flush();
    fails = false;
    now = 2_100;
    await remembered.flush();
    expect(told).toMatchObject([[{ count: 1, refusal: { retryAfterMs: 58_000 } }]]);
  });

  test('P9 a limit of an agent concerns no run whose agent is not known, whichever run met it', () => {
    const unknown = asked({ agentId: null });
    remembered.remember(acme, unknown, throttled('agent:worker/tool_calls_per_day'), 0);
    expect(find(unknown)).toBeUndefined();
    expect(find()).toBeUndefined();
  });

  test('P9 Q6 no longer than the limits, the policy and the mode of the tenant are the same', () => {
    remembered.remember(acme, asked(), throttled('calls_in_flight'), 0);
    version(1);
    expect(find()).toBe('calls_in_flight');
    version(2);
    expect(find()).toBeUndefined();
  });

  test('P9 N7 a share of the platform’s capacity, until it is to be asked for again, a place of it is free, or never', () => {
    const rule = 'shared_capacity/main/calls_in_flight';
    const short = throttled(rule, { origin: 'platform', retryAfterMs: 500 });
    remembered.remember(acme, asked(), short, 0);
    expect(find(asked({ action: 'note.write', agentId: null, runId: 'r-2' }))).toBe(rule);
    expect(find(asked(), globex)).toBeUndefined();
    now = 499;
    expect(find()).toBe(rule);
    // Being asked makes nothing last: the share may have grown, and one asks.
    now = 500;
    expect(find()).toBeUndefined();
    expect(remembered.begin(acme, asked())).toHaveProperty('answered');
    remembered.remember(acme, asked(), short, 500);
    expect(find()).toBe(rule);
    remembered.settled(acme);
    expect(find()).toBeUndefined();
    // Of the platform's other refusals nothing is believed.
    remembered.remember(acme, asked(), throttled('calls_in_flight', { origin: 'platform' }), 500);
    expect(find()).toBeUndefined();
  });

  test('P9 only what frees by itself: never a budget, a denial, or anything else that the ledger may say', () => {
    for (const refusal of [
      throttled('per_run_steps', { kind: 'budget_exceeded' }),
      throttled('no-mail', { kind: 'denied', origin: 'policy' }),
      throttled('ledger_rewound', { kind: 'frozen', origin: 'platform' }),
      throttled('retries_per_minute'),
      throttled('breaker_probe', { origin: 'provider' }),
      throttled('provider_pool/big/calls_in_flight', { kind: 'provider_degraded', origin: 'provider' }),
    ])
      remembered.remember(acme, asked(), refusal, 0);
    const { retryAfterMs: _never, ...final } = throttled('calls_in_flight');
    remembered.remember(acme, asked(), final, 0);
    expect(find()).toBeUndefined();
  });

  test.each<[rule: string, before: Partial<AskedFor>, same: Partial<AskedFor>, other: Partial<AskedFor>]>([
    ['action:record.read/calls_per_minute', {}, { agentId: 'else' }, { action: 'note.write' }],
    ['agent:worker/tool_calls_per_day', {}, { action: 'note.write' }, { agentId: 'else' }],
    ['agent:worker/tool_calls_per_day', {}, { runId: 'r-2' }, { agentId: null }],
    ['breaker_open', {}, { action: 'note.write' }, { system: 'web' }],
    [
      'spend_micro_usd_per_day',
      {},
      { reserve: { ...asked().reserve, microUsd: 101 } },
      { reserve: { ...asked().reserve, microUsd: 99 } },
    ],
    [
      'model_tokens_per_minute',
      { reserve: { ...asked().reserve, modelTokens: 7 } },
      { reserve: { ...asked().reserve, modelTokens: 7 } },
      {},
    ],
    ['active_seconds_per_day', {}, { leaseMs: 6_000 }, { leaseMs: 4_000 }],
    [
      'high_risk_writes_per_day',
      { callClass: 'high_risk_write' },
      { callClass: 'high_risk_write' },
      { callClass: 'write' },
    ],
    ['tool_calls_per_day', {}, {}, { reserve: { toolCalls: 0, steps: 1, microUsd: 0, modelTokens: 9 } }],
  ])(
    'P9 %s is remembered of the same subject, and of calls that ask for no less',
    (rule, before, same, other) => {
      const refusal = throttled(
        rule,
        rule === 'breaker_open' ? { origin: 'provider', kind: 'provider_degraded' } : {},
      );
      remembered.remember(acme, asked(before), refusal, 0);
      expect(find(asked(same))).toBe(rule);
      expect(find(asked(other))).toBeUndefined();
      expect(find(asked(same), globex)).toBeUndefined();
      expect(find(asked(same), acme, 4_999)).toBeUndefined();
    },
  );

  test('P9 after that one asks the ledger for all: the others hear what it was told, or ask for themselves', async () => {
    const hour = { retryAfterMs: 3_600_000 };
    remembered.remember(acme, asked(), throttled('tool_calls_per_day', hour), 0);
    expect(remembered.begin(acme, asked())).toBeUndefined();
    now = 1_000;
    const first = remembered.begin(acme, asked());
    const second = remembered.begin(acme, asked({ runId: 'r-2' }));
    expect(remembered.begin(acme, asked({ reserve: { ...asked().reserve, toolCalls: 0 } }))).toBeUndefined();
    expect(remembered.begin(globex, asked())).toBeUndefined();
    if (!first || !('answered' in first) || !second || !('others' in second)) throw new Error('who asks?');
    remembered.remember(acme, asked(), throttled('tool_calls_per_day', hour), 1_000);
    first.answered();
    await second.others;
    expect(find()).toBe('tool_calls_per_day');
    now = 2_000;
    const third = remembered.begin(acme, asked());
    if (!third || !('answered' in third)) throw new Error('who asks?');
    third.answered();
    // It was let in: nobody has to wait for anybody.
    expect(remembered.begin(acme, asked())).toBeUndefined();
  });

  test('N2 a call that is over may have freed a place: those in flight are asked for anew, nothing else is', () => {
    remembered.remember(acme, asked(), throttled('action:record.read/calls_in_flight'), 0);
    remembered.remember(acme, asked(), throttled('steps_per_day'), 0);
    remembered.settled(globex);
    expect(find()).toBe('action:record.read/calls_in_flight');
    remembered.settled(acme);
    expect(find()).toBe('steps_per_day');
  });

  test('N5 what a breaker said is over once its system has answered that tenant, and no other', () => {
    const open = throttled('breaker_open', { origin: 'provider', kind: 'provider_degraded' });
    remembered.remember(acme, asked(), open, 0);
    remembered.answered(acme, 'mail');
    remembered.answered(globex, 'keeper');
    expect(find()).toBe('breaker_open');
    remembered.answered(acme, 'keeper');
    expect(find()).toBeUndefined();
    expect(remembered.begin(acme, asked())).toBeUndefined();
    // A limit is no breaker.
    remembered.remember(acme, asked(), throttled('steps_per_day'), 0);
    remembered.answered(acme, 'keeper');
    expect(find()).toBe('steps_per_day');
  });

  test('P9 what was answered is told once, summed per rule, action and run; what could not be told is told the next time', async () => {
    const refusal = throttled('calls_in_flight');
    for (const runId of ['r-1', 'r-1', 'r-2']) remembered.count(acme, asked({ runId }), refusal);
    remembered.count(globex, asked(), refusal);
    fails = true;
    await remembered.flush();
    remembered.count(acme, asked(), refusal);
    fails = false;
    await remembered.flush();
    await remembered.flush();
    expect(told.map((each) => each.map(({ runId, count }) => `${runId} ${count}`))).toEqual([
      ['r-1 3', 'r-2 1'],
      ['r-1 1'],
    ]);
  });
});
