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
import type { Refusal } from '../../contracts/refusal';
import { createBroker } from '../../secrets/broker';
import { createHttpPools } from '../../tools/http';
import { touches } from '../ledger/touches';
import { createTestStack, type TestStack } from '../support/stack';
import { until } from '../support/until';
import { readyTenant } from '../support/tenants';

/** What such a call asks for, as its gateway would say it. */
const askedFor = (runId: string): AskedFor => ({
  ...{ runId, action: 'text.judge', callClass: 'read', system: null, agentId: 'test_worker' },
  ...{ leaseMs: 5_000, reserve: { toolCalls: 1, steps: 1, microUsd: 0, modelTokens: 0 } },
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
    gateway = asNewHost();
    await occupy(9_000);
  });
  afterAll(async () => {
    await remembered.stop();
    await fence.stop();
    await pools.close();
    await admin.end();
    await stack.close();
  });

  /** A gateway that knows of no look by anybody. */
  const asNewHost = (): Gateway => {
    const { storage, parts } = stack;
    return createGateway({
      ...{ storage, fence, remembered, hostId: 'host-1', openHttp: pools.open },
      ...{ policies: createPolicies(parts.app), broker: createBroker([]) },
    });
  };
  const callAt = (step: number, more: Partial<Pick<GovernedCall, 'system' | 'act'>> = {}): GovernedCall => ({
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
    ...more,
  });
  /** Asks as activities do, at this attempt of each; answers the delay until one asks again, or what it was answered. */
  const askAll = async (
    steps: number[],
    attempt = 1,
    waitedMs = 0,
    more: Parameters<typeof callAt>[1] = {},
  ): Promise<string[]> => {
    const { acceptance, workflowId } = run;
    if (!acceptance) throw new Error('the run was not accepted');
    const { signed } = acceptance;
    const { scope } = stack.store(TENANT);
    const workflowExecution = { workflowId, runId: 'temporal-1' };
    const governed = async (step: number): Promise<string> => {
      try {
        return (await gateway.govern(callAt(step, more))).kind;
      } catch (error) {
        const { type, nextRetryDelay } = error as { type: string; nextRetryDelay?: number };
        return `${type} ${nextRetryDelay}`;
      }
    };
    const currentAttemptScheduledTimestampMs = Date.now();
    const times = {
      currentAttemptScheduledTimestampMs,
      scheduledTimestampMs: currentAttemptScheduledTimestampMs - waitedMs,
    };
    return await new MockActivityEnvironment({ attempt, workflowExecution, ...times }).run(() =>
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

  /** Sets the limit, and waits until this host has seen it. */
  const inFlight = async (value: number): Promise<void> => {
    await stack.operator.setQuota(
      stack.store(TENANT).scope,
      { kind: 'tenant' },
      [{ limit: 'callsInFlight', value }],
      'test',
    );
    await sleep(300);
  };
  /** The limit as it was. */
  const oneInFlight = (): Promise<void> => inFlight(1);

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
    gateway = asNewHost();
    const delays: string[] = [];
    for (const attempt of [1, 2, 3]) {
      delays.push(await ask(40_000, attempt));
      await sleep(1_000);
    }
    expect(delays).toEqual(['Waiting 250', 'Waiting 500', 'Waiting 500']);
  });

  test('N6 P9 a crowd that waits for one place looks one after the other, and not as often as it is large', async () => {
    await oneInFlight();
    gateway = asNewHost();
    const crowdAt = (step: number) => Array.from({ length: 40 }, (_, at) => step + at);
    const delays = async (steps: number[]): Promise<number[]> =>
      (await askAll(steps, 3)).map((answer) => Number(answer.replace('Waiting ', ''))).sort((a, b) => a - b);
    // Refused by the ledger all together. Ten a second, where no call ends: the last of forty after four seconds, not after half of one.
    const first = await delays(crowdAt(50_000));
    for (const [at, delay] of first.entries()) expect(delay).toBeGreaterThanOrEqual(450 + at * 90);
    expect(first.at(-1)).toBeLessThan(5_000);
    // And by what this host remembers: behind those.
    gateway = asNewHost();
    for (const [at, delay] of (await delays(crowdAt(51_000))).entries())
      expect(delay).toBeGreaterThanOrEqual(450 + at * 90);
    // Newcomers wait alone, once, for the crowd may be gone.
    expect(await ask(52_000, 1)).toBe('Waiting 250');
  });

  test('N5 N6 whom this host knows a breaker to keep waiting takes turns, until its system has answered somebody', async () => {
    await inFlight(100);
    const crm = { system: 'crm' };
    const opens = (retryAfterMs: number): void => {
      const refusal: Refusal = {
        ...{ kind: 'provider_degraded', origin: 'provider', rule: 'breaker_open', rules: ['breaker_open'] },
        ...{ message: 'crm fails', policyVersion: 1, retryAfterMs },
      };
      remembered.remember(
        stack.store(TENANT),
        { ...askedFor(run.runId), ...crm },
        refusal,
        performance.now(),
      );
    };
    const firstLooks = async (step: number): Promise<number[]> => {
      gateway = asNewHost();
      const steps = Array.from({ length: 20 }, (_, at) => step + at);
      const answers = await askAll(steps, 1, 0, crm);
      return answers.map((answer) => Number(answer.replace('Waiting ', ''))).sort((a, b) => a - b);
    };
    opens(6_000);
    for (const [at, delay] of (await firstLooks(55_000)).entries())
      expect(delay).toBeGreaterThanOrEqual(6_000 + at * 90);
    // Longer than what is waited for in place: they ask the ledger, and not all at once.
    remembered.answered(stack.store(TENANT), 'crm');
    opens(20_000);
    const [first = 0, ...others] = await firstLooks(55_100);
    expect(first).toBeLessThanOrEqual(1_000);
    for (const [at, delay] of others.entries()) expect(delay).toBeGreaterThanOrEqual(first + (at + 1) * 90);

    remembered.answered(stack.store(TENANT), 'crm');
    let letGo = (): void => undefined;
    const held = new Promise<void>((resolve) => (letGo = resolve));
    const { act } = callAt(55_200);
    const going = askAll([55_200], 1, 0, { ...crm, act: (io) => held.then(() => act(io)) });
    await until('a call under way', async () => (await stack.store(TENANT).claimedCalls({})) > 1);
    opens(6_000);
    expect(await askAll([55_300], 1, 0, crm)).toEqual([expect.stringMatching(/^Waiting/)]);
    letGo();
    expect(await going).toEqual(['done']);
    expect(await askAll([55_301], 1, 0, crm)).toEqual(['done']);
    // Behind nobody: the crowd of before stood in line for some seconds more.
    opens(100);
    expect(await askAll([55_302], 1, 0, crm)).toEqual(['Waiting 100']);
  });

  test('N6 a crowd looks more often where its calls end more often', async () => {
    gateway = asNewHost();
    await inFlight(100);
    expect(new Set(await askAll(Array.from({ length: 40 }, (_, at) => 53_000 + at)))).toEqual(
      new Set(['done']),
    );
    await oneInFlight();
    const delays = await askAll(
      Array.from({ length: 40 }, (_, at) => 54_000 + at),
      3,
    );
    expect(Math.max(...delays.map((answer) => Number(answer.replace('Waiting ', ''))))).toBeLessThan(2_000);
  });

  test('Q5 who has waited in place for a minute waits in its run, where it shows', async () => {
    await oneInFlight();
    expect(await askAll([60_000], 9, 59_000)).toEqual([expect.stringMatching(/^Waiting/)]);
    expect(await askAll([60_001], 9, 61_000)).toEqual(['throttled']);
  });

  test('T3 a call that may have been sent is asked about at the ledger, whatever this host remembers', async () => {
    await oneInFlight();
    const claim = await admin.query<{ path: string }>(
      `update bulkhead.calls set lease_until = bulkhead.now(), sent_until = bulkhead.now() where tenant_id = $1 and state = 'claimed' returning path`,
      [TENANT],
    );
    expect(claim.rows).toEqual([{ path: '9000.1' }]);
    expect(await ask(31_000)).toMatch(/^Waiting/);
    expect(remembered.find(stack.store(TENANT), askedFor(run.runId), 10_000)?.refusal.rule).toBe(
      'calls_in_flight',
    );
    // In other words than those that it was claimed with: what is claimed is never run again.
    expect(await ask(9_000, 2)).toBe('idempotency_conflict');
  });
});
