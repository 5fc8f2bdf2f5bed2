import { setTimeout as sleep } from 'node:timers/promises';
import { MockActivityEnvironment } from '@temporalio/testing';
import { Pool } from 'pg';
import { runInZone } from '../../activities/call-context';
import { FenceWatch } from '../../activities/fence-watch';
import { createGateway, type Gateway } from '../../activities/gateway';
import type { GovernedCall } from '../../activities/governed-call';
import { createPolicies } from '../../activities/policies';
import { RememberedRefusals, type AskedFor } from '../../activities/remembered-refusals';
import type { Run } from '../../client/run';
import { digestOf } from '../../contracts/digest';
import type { RunId } from '../../contracts/ids';
import type { ControlVersion } from '../../contracts/platform-ports';
import type { TenantStore } from '../../contracts/ports';
import type { RepeatedRefusal } from '../../contracts/quotas';
import type { Refusal } from '../../contracts/refusal';
import { mintScope } from '../../contracts/scope-mint';
import { createBroker } from '../../secrets/broker';
import { createHttpPools } from '../../tools/http';
import { touches } from '../ledger/touches';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';

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

describe('P9 refused spam at the gateway', () => {
  const TENANT = 'acme';
  let stack: TestStack;
  let admin: Pool;
  let run: Run;
  let gateway: Gateway;
  let fence: FenceWatch;
  let remembered: RememberedRefusals;
  const pools = createHttpPools();
  const acted: number[] = [];

  beforeAll(async () => {
    stack = await createTestStack({ workers: false });
    admin = new Pool({ connectionString: stack.database.adminUrl, max: 2 });
    const limits = '{ callsInFlight: 1 }';
    await readyTenant(stack, {
      name: TENANT,
      keeper: 'http://127.0.0.1:1',
      models: 'http://127.0.0.1:1',
      limits,
    });
    run = await stack.run(TENANT, 'go');
    await stack.store(TENANT).enterRun({
      ...{ runId: run.runId as RunId, temporalRunId: 'temporal-1' },
      ...{ previousTemporalRunId: null, generation: 0 },
    });
    remembered = new RememberedRefusals();
    fence = new FenceWatch(stack.storage.platform, {
      pollMs: 100,
      onChange: (versions) => remembered.controlsSeen(versions),
    });
    await fence.start();
    const { storage, parts } = stack;
    gateway = createGateway({
      ...{ storage, fence, remembered, hostId: 'host-1', openHttp: pools.open },
      ...{ policies: createPolicies(parts.app), broker: createBroker([]) },
    });
    await occupy(9_000);
  });
  afterAll(async () => {
    await remembered.stop();
    await fence.stop();
    await pools.close();
    await admin.end();
    await stack.close();
  });

  const callAt = (step: number): GovernedCall => ({
    ...{ position: { step, ordinal: 1 }, undoOf: null, reversible: null, seenSeq: 0, site: 'test' },
    ...{
      action: 'text.judge',
      callClass: 'read',
      system: null,
      secret: null,
      model: null,
      agentClass: 'test',
    },
    ...{ timeoutMs: 20_000, args: { text: 'x' }, dataClasses: [], schemaDigest: null },
    ...{ reserve: { toolCalls: 1, steps: 1, microUsd: 0, modelTokens: 0 }, refusedByForm: null },
    ...{ destination: () => null, records: [], keyValidMs: null, visibleWithinMs: null },
    act: () => {
      acted.push(step);
      const payload = { kind: 'tool', outcome: 'done', action: 'text.judge', result: {} } as const;
      const none = { value: null, facts: {}, records: [], dataClasses: [], microUsd: 0, modelTokens: 0 };
      return Promise.resolve({ payload, ...none });
    },
    ...{ verify: null, reconcile: null, refusalPayload: () => null },
  });
  /** Asks as activities do, at this attempt of each; answers the delay until one asks again, or what it was answered. */
  const askAll = async (steps: number[], attempt = 1): Promise<string[]> => {
    const { acceptance, workflowId } = run;
    if (!acceptance) throw new Error('the run was not accepted');
    const { signed } = acceptance;
    const { scope } = stack.store(TENANT);
    const workflowExecution = { workflowId, runId: 'temporal-1' };
    const governed = async (step: number): Promise<string> => {
      try {
        return (await gateway.govern(callAt(step))).kind;
      } catch (error) {
        const { type, nextRetryDelay } = error as { type: string; nextRetryDelay?: number };
        return `${type} ${nextRetryDelay}`;
      }
    };
    return await new MockActivityEnvironment({ attempt, workflowExecution }).run(() =>
      runInZone({ zone: 'run', scope, signed }, () => Promise.all(steps.map(governed))),
    );
  };
  const ask = async (step: number, attempt = 1): Promise<string> => (await askAll([step], attempt))[0] ?? '';
  /** Takes the one place in flight, with a lease that outlives the test. */
  const occupy = async (step: number) => {
    const { versions } =
      (await stack.store(TENANT).callContext({ runId: run.runId as RunId, records: [], capability: null })) ??
      {};
    if (!versions) throw new Error('no ledger');
    const request = {
      ...{
        runId: run.runId,
        path: `${step}.1`,
        digest: digestOf(step),
        action: 'text.judge',
        callClass: 'write' as const,
      },
      ...{
        system: null,
        token: crypto.randomUUID(),
        temporalRunId: 'temporal-1',
        hostId: 'host-1',
        decidedBy: versions,
      },
      ...{
        verdict: { effect: 'allow' as const, rules: ['all'] },
        decided: null,
        leaseMs: 60_000,
        keyValidMs: null,
      },
      ...{
        seenSeq: 0,
        reserve: callAt(step).reserve,
        capability: null,
        reversible: 'final' as const,
        undoOf: null,
      },
      ...{ pastFence: false, account: digestOf('account') },
    };
    expect(await stack.store(TENANT).admit(request)).toMatchObject({ answer: 'admitted' });
    return request;
  };

  /** The limit as it was, and seen to be by this host. */
  const oneInFlight = async (): Promise<void> => {
    await stack.operator.setQuota(
      stack.store(TENANT).scope,
      { kind: 'tenant' },
      [{ limit: 'callsInFlight', value: 1 }],
      'test',
    );
    await sleep(300);
  };

  test('P9 ten thousand refused asks touch the tenant’s row a few times a second and are counted exactly; a raised limit lets in within one', async () => {
    const asks = 10_000;
    const before = await stack.store(TENANT).run(run.runId as RunId);
    const began = performance.now();
    const answers = new Set<string>();
    const touched = await touches(admin, TENANT, async () => {
      for (let step = 0; step < asks; step += 50) {
        const steps = Array.from({ length: 50 }, (_, at) => 10_000 + step + at);
        for (const answer of await askAll(steps)) answers.add(answer.split(' ')[0] ?? '');
      }
      await remembered.flush();
    });
    const seconds = (performance.now() - began) / 1_000;
    expect([...answers]).toEqual(['Waiting']);
    // Twice a second one is asked again, for all; once a second the counts are told. The first asks are under way together.
    expect(touched).toBeLessThan(80 + 4 * seconds);
    const after = await stack.store(TENANT).run(run.runId as RunId);
    expect((after?.refusals ?? 0) - (before?.refusals ?? 0)).toBe(asks);
    const { rows } = await admin.query<{ refusals: number }>(
      `select coalesce(sum(refusals), 0)::int + (select coalesce(sum((facts::jsonb ->> 'count')::int + 5), 0)::int from bulkhead.journal
         where tenant_id = $1 and facts::jsonb ->> 'kind' = 'refusals') as refusals
       from bulkhead.refusal_floods where tenant_id = $1`,
      [TENANT],
    );
    expect(rows[0]?.refusals).toBe(asks);

    expect(await ask(30_000)).toMatch(/^Waiting/);
    const raised = performance.now();
    await stack.operator.setQuota(
      stack.store(TENANT).scope,
      { kind: 'tenant' },
      [{ limit: 'callsInFlight', value: 2 }],
      'test',
    );
    while ((await ask(30_000)) !== 'done') await sleep(20);
    expect(performance.now() - raised).toBeLessThan(1_000);
    expect(acted).toEqual([30_000]);
  }, 180_000);

  test('P9 waits in place grow, never beyond what frees', async () => {
    await oneInFlight();
    const delays: string[] = [];
    for (const attempt of [1, 2, 3]) delays.push(await ask(40_000, attempt));
    expect(delays).toEqual(['Waiting 250', 'Waiting 500', 'Waiting 500']);
  });

  test('T3 a call that may have been sent is asked about at the ledger, whatever this host remembers', async () => {
    await oneInFlight();
    const claim = await admin.query<{ path: string }>(
      `update bulkhead.calls set lease_until = bulkhead.now(), sent_until = bulkhead.now() where tenant_id = $1 and state = 'claimed' returning path`,
      [TENANT],
    );
    expect(claim.rows).toEqual([{ path: '9000.1' }]);
    expect(await ask(31_000)).toMatch(/^Waiting/);
    expect(remembered.find(stack.store(TENANT), asked({ runId: run.runId }), 10_000)?.refusal.rule).toBe(
      'calls_in_flight',
    );
    // In other words than those that it was claimed with: what is claimed is never run again.
    expect(await ask(9_000, 2)).toBe('idempotency_conflict');
  });
});
