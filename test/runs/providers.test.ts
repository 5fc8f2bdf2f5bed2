import type { Run } from '../../client/run';
import { QUERIES } from '../../contracts/workflow-io';
import type { ModelFault } from '../support/model';
import { tenantYaml } from '../support/tenants';
import { until } from '../support/until';
import { idOf, on, openDesk, type Desk } from './desk';

let desk: Desk;
beforeAll(async () => {
  desk = await openDesk({ bounds: { maxWaitMs: 25_000 } });
});
beforeEach(() => {
  desk.model.fault = undefined;
  desk.model.usage = { prompt_tokens: 10, completion_tokens: 5 };
  desk.outside.faults = {};
});
afterAll(() => desk.close());

const PRICE = { 'models/scripted': { inputMicroUsdPerMTok: 1_000_000, outputMicroUsdPerMTok: 4_000_000 } };
const MAX_OUTPUT = 500;

/** The next requests fail so, and those after them not. */
const fails = (...faults: ModelFault[]): void => {
  desk.model.fault = () => faults.shift();
};
const shown = async (run: Run): Promise<{ state: string; detail: string }> =>
  await desk.stack.temporal.workflow.getHandle(run.workflowId).query(QUERIES.runState);
const facts = async (tenant: string): Promise<Record<string, unknown>[]> =>
  (await desk.stack.journal(tenant)).map(({ facts }) => JSON.parse(facts) as Record<string, unknown>);
interface Amounts {
  readonly microUsd: number;
  readonly modelTokens: number;
}
/** What the ledger reserved and charged for the model call of the first step, attempt by attempt. */
const ofModel = async (tenant: string, run: Run): Promise<Record<string, unknown>[]> =>
  (await facts(tenant)).filter(({ run: of, path }) => of === run.runId && path === '0.0');
const reserved = async (tenant: string, run: Run): Promise<Amounts[]> =>
  (await ofModel(tenant, run))
    .filter(({ kind }) => kind === 'admitted')
    .map((entry) => entry['reserved'] as Amounts);
/**
 * In the end, of each attempt that got as far as its provider: charges are told as what they are beyond the reservation. On a
 * machine under load a host may lack a fresh word of the fence, and sends nothing in that attempt.
 */
async function charged(tenant: string, run: Run): Promise<Amounts[]> {
  const entries = (await desk.stack.journal(tenant)).map(({ facts, body }) => ({
    ...(JSON.parse(facts) as {
      kind: string;
      run: string;
      path: string;
      token: string;
      reserved: Amounts;
      charged: Amounts;
    }),
    refusal: (JSON.parse(body) as { refusal?: { rule: string } | null }).refusal,
  }));
  const own = entries.filter(({ run: of, path }) => of === run.runId && path === '0.0');
  return own.flatMap(({ kind, token, charged: delta, refusal }) => {
    const before = own.find((entry) => entry.kind === 'admitted' && entry.token === token)?.reserved;
    if (kind !== 'settled' || !before || refusal?.rule === 'not_sent') return [];
    return [
      {
        microUsd: delta.microUsd + before.microUsd,
        modelTokens: delta.modelTokens + before.modelTokens,
      },
    ];
  });
}
const refusalsOf = (tenant: string, run: Run) => desk.stack.refusals(tenant, run.runId);

async function tenant(name: string, more: Parameters<Desk['tenant']>[1] = {}): Promise<string> {
  await desk.tenant(name, more);
  return name;
}

describe('Q2 what a model call reserves, and what it costs', () => {
  test('Q2 a bound is reserved in tokens and money; what the provider says is settled', async () => {
    const name = await tenant('priced', { prices: PRICE });
    const { run, result } = await desk.play(name, []);
    expect(result.stopReason).toBe('completed');
    const [bound] = await reserved(name, run);
    const sent = Buffer.byteLength(JSON.stringify(desk.model.requests.at(-1)?.messages));
    expect(bound?.modelTokens).toBeGreaterThan(MAX_OUTPUT + 15);
    expect(bound?.modelTokens).toBeGreaterThan(sent / 2);
    expect(bound?.microUsd).toBe((bound?.modelTokens ?? 0) - MAX_OUTPUT + 4 * MAX_OUTPUT);
    expect(await charged(name, run)).toEqual([{ microUsd: 10 + 20, modelTokens: 15 }]);
    expect(await desk.stack.store(name).run(idOf(run))).toMatchObject({ spentMicroUsd: 30 });
  });

  test('Q2 an answer that says nothing of its usage costs the whole bound, never nothing', async () => {
    desk.model.usage = null;
    const name = await tenant('silent', { prices: PRICE });
    const { run } = await desk.play(name, []);
    expect(await charged(name, run)).toEqual((await reserved(name, run)).map(only).slice(-1));
  });

  test('Q2 a provider that uses more than the bound is paid what it says, and the overshoot is journaled', async () => {
    desk.model.usage = { prompt_tokens: 1_000_000, completion_tokens: 5 };
    const name = await tenant('overshot', { prices: PRICE });
    const { run, result } = await desk.play(name, []);
    expect(result.stopReason).toBe('completed');
    expect(await charged(name, run)).toEqual([{ microUsd: 1_000_020, modelTokens: 1_000_005 }]);
    const [bound] = (await reserved(name, run)) as [Amounts];
    const settled = (await ofModel(name, run)).find(({ kind }) => kind === 'settled');
    expect(settled?.['overshoot']).toEqual({
      microUsd: 1_000_020 - bound.microUsd,
      modelTokens: 1_000_005 - bound.modelTokens,
    });
  });

  test('Q2 Q4 refused by the provider: nothing is charged; sent and not answered: the bound stays', async () => {
    const name = await tenant('failing', { prices: PRICE });
    fails({ status: 429, retryAfter: '1' }, { status: 503 }, 'reset');
    const { run, result } = await desk.play(name, []);
    expect(result.stopReason).toBe('completed');
    const [bound] = (await reserved(name, run)).map(only);
    const nothing = { microUsd: 0, modelTokens: 0 };
    expect(await charged(name, run)).toEqual([nothing, bound, bound, { microUsd: 30, modelTokens: 15 }]);
    const row = await desk.stack.store(name).run(idOf(run));
    expect(row).toMatchObject({ steps: 1, spentMicroUsd: 2 * (bound?.microUsd ?? 0) + 30 });
  });

  test('Q2 a call that is aborted while its model works is charged in full', async () => {
    const name = await tenant('aborted', { prices: PRICE });
    const before = desk.model.requests.length;
    fails('hang');
    const run = await desk.begin(name, []);
    await until('the model is asked', () => Promise.resolve(desk.model.requests.length > before), 20_000);
    await run.cancel('enough');
    await run.result({ timeoutMs: 30_000 });
    // An attempt before it may not have been sent.
    const bound = (await reserved(name, run)).map(only).at(-1);
    expect((await charged(name, run)).at(-1)).toEqual(bound);
    expect(bound?.microUsd).toBeGreaterThan(1_000);
  });

  test('Q2 Q3 what a call may cost at most has to fit: a budget is never overspent by an answer', async () => {
    const name = await tenant('poor', { prices: PRICE, perRun: '{ spendMicroUsd: 2000 }' });
    const before = desk.model.requests.length;
    const { result } = await desk.play(name, []);
    expect(result.stopReason).toBe('budget_exceeded');
    expect(desk.model.requests.length).toBe(before);
  });
});

const only = ({ microUsd, modelTokens }: Amounts): Amounts => ({ microUsd, modelTokens });

describe('Q4 whose trouble it is', () => {
  test('Q4 Q3 a long Retry-After is a state that everybody sees, and the run goes on when it is over', async () => {
    const name = await tenant('later', {});
    fails({ status: 429, retryAfter: '12' });
    const run = await desk.begin(name, []);
    await until('it waits', async () => (await shown(run)).state === 'provider_degraded', 20_000);
    const asked = Date.now();
    expect((await shown(run)).detail).toContain('a model or system outside: unavailable');
    const row = await desk.stack.store(name).run(idOf(run));
    expect(row).toMatchObject({ state: 'provider_degraded', steps: 0 });
    expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
    expect(Date.now() - asked).toBeGreaterThan(9_000);
    expect(await refusalsOf(name, run)).toEqual([]);
    expect((await facts(name)).filter(({ kind }) => kind === 'refused')).toEqual([]);
  });

  test('Q4 Q5 a provider that asks for more patience than the run has ends it as provider_degraded', async () => {
    const name = await tenant('impatient', {});
    desk.model.fault = () => ({ status: 503, retryAfter: '3600' });
    const before = desk.model.requests.length;
    const { result } = await desk.play(name, []);
    expect(result.stopReason).toBe('provider_degraded');
    // Asked at its start, and at the end of its patience.
    expect(desk.model.requests.length - before).toBe(2);
  });

  test('Q4 Q5 a provider that stays down: attempts are bounded, and the trouble stays the provider’s', async () => {
    const name = await tenant('down', {});
    desk.model.fault = () => 'reset';
    const { run, result } = await desk.play(name, []);
    expect(result.stopReason).toBe('provider_degraded');
    const exhausted = (await facts(name)).find(({ kind }) => kind === 'exhausted');
    const last = (await desk.stack.store(name).call(run.runId, '0.0'))?.refusal;
    expect(exhausted).toMatchObject({ run: run.runId, rule: 'attempts_exhausted' });
    // Whoever kept the last attempt from an outcome; on a machine under load that may be our own host.
    const answered = await charged(name, run);
    if (answered.length === 8)
      expect([exhausted?.['origin'], last?.origin]).toEqual(['provider', 'provider']);
    const settled = (await ofModel(name, run)).filter(({ kind }) => kind === 'settled');
    expect(settled).toHaveLength(8);
  });

  test('Q4 nobody listens: surely not sent, so nothing is charged, and it is the provider’s', async () => {
    const name = await tenant('refused', { prices: PRICE, connections: { models: 'http://127.0.0.1:9/v1' } });
    const { run, result } = await desk.play(name, []);
    expect(result.stopReason).toBe('provider_degraded');
    expect(
      (await charged(name, run)).every(({ microUsd, modelTokens }) => microUsd + modelTokens === 0),
    ).toBe(true);
  });

  test('Q4 a tool’s system that says when to come back is waited for visibly, and its call is made then', async () => {
    const name = await tenant('slow', {});
    desk.outside.faults = { status: 429, retryAfter: '11' };
    const run = await desk.begin(name, [on('record.read')]);
    await until('it waits', async () => (await shown(run)).state === 'provider_degraded', 20_000);
    desk.outside.faults = {};
    const result = await run.result({ timeoutMs: 40_000 });
    expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1, refusals: 0 } });
  });

  test('Q4 a tenant’s cap is never called the provider’s trouble', async () => {
    const name = await tenant('capped', { limits: '{ modelTokensPerDay: 10 }' });
    const { run, result } = await desk.play(name, []);
    expect(result.stopReason).toBe('budget_exceeded');
    const [refused] = (await facts(name)).filter(({ kind }) => kind === 'refused');
    expect(refused).toMatchObject({ run: run.runId, origin: 'tenant_cap', rule: 'model_tokens_per_day' });
  });
});

describe('P5 fallback models', () => {
  const policy = (to: string) => ({
    modelRules: `[{ model: "models/*" }, { model: "spare/*" }], fallback: [{ model: "models/scripted", to: ["${to}"] }]`,
  });

  test('P5 Q4 another model answers where policy names it, and run, journal and conversation say which', async () => {
    const name = await tenant('twofold', {
      ...policy('models/small'),
      prices: { ...PRICE, 'models/small': { inputMicroUsdPerMTok: 100_000, outputMicroUsdPerMTok: 200_000 } },
    });
    desk.model.fault = (model) => (model === 'scripted' ? { status: 503 } : undefined);
    const { run, result } = await desk.play(name, [on('record.read')]);
    expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1 } });
    const bodies = (await desk.stack.journal(name)).map(({ facts, body }) => ({
      ...(JSON.parse(facts) as { kind: string; path?: string }),
      ...(JSON.parse(body) as { model?: string }),
    }));
    const models = bodies
      .filter(({ kind, path }) => kind === 'admitted' && path === '0.0')
      .map(({ model }) => model);
    expect(models).toEqual(['models/scripted', 'models/small']);
    expect(await desk.payload(name, run, '0.0')).toMatchObject({ model: 'models/small' });
    const [first, second] = (await charged(name, run)) as [Amounts, Amounts];
    expect(first.microUsd).toBeGreaterThan(1_000);
    expect(second).toEqual({ microUsd: 2, modelTokens: 15 });
    const { events } = await desk.stack.temporal.workflow.getHandle(run.workflowId).fetchHistory();
    // What was answered and thrown, in words: the digits of times, ids and digests are any.
    const told = (events ?? []).flatMap((event) => [
      event.activityTaskCompletedEventAttributes?.result?.payloads?.map(({ data }) =>
        Buffer.from(data ?? []).toString(),
      ),
      event.activityTaskStartedEventAttributes?.lastFailure?.message,
      event.activityTaskFailedEventAttributes?.failure?.message,
    ]);
    expect(JSON.stringify(told)).toContain('models/small');
    expect(JSON.stringify(told)).not.toMatch(/\b503\b/);
  });

  test('P5 S3 a fallback at a provider that the tenant has no connection to leaves the trouble the first one’s', async () => {
    const name = await tenant('lonely', policy('spare/small'));
    fails({ status: 503 }, { status: 503 });
    const { result } = await desk.play(name, []);
    expect(result.stopReason).toBe('completed');
    expect((await facts(name)).some(({ rule }) => rule === 'connection_missing')).toBe(true);
  });

  test('P5 P10 a fallback that the policy no longer names is not asked', async () => {
    const name = await tenant('changed', policy('models/small'));
    desk.model.fault = (model) => (model === 'scripted' ? { status: 503 } : undefined);
    expect((await desk.play(name, [])).result.stopReason).toBe('completed');
    await desk.stack.apply(tenantYaml({ name, keeper: desk.outside.url, models: `${desk.model.url}/v1` }));
    const before = desk.model.requests.length;
    fails({ status: 503 });
    expect((await desk.play(name, [])).result.stopReason).toBe('completed');
    expect(desk.model.requests.slice(before).map(({ model }) => model)).toEqual(['scripted', 'scripted']);
  });
});

describe('N7 a provider’s capacity is shared', () => {
  test('N7 Q4 two tenants on one pool: the one that floods it does not keep the other from its part, and neither is capped', async () => {
    await desk.stack.apply(
      'apiVersion: bulkhead/v1\nkind: ProviderPool\nmetadata: { name: shared }\nprovider: models\ncallsInFlight: 4\n',
    );
    const more = { pools: { models: 'shared' }, limits: '{ callsInFlight: 40, concurrentRuns: 40 }' };
    const heavy = await tenant('heavy', more);
    const light = await tenant('light', more);
    const most = { all: 0, heavy: 0 };
    desk.model.delayMs = 400;
    const calls = (): number => [...desk.model.underWay.values()].reduce((sum, n) => sum + n, 0);
    const watch = setInterval(() => {
      most.all = Math.max(most.all, calls());
      most.heavy = Math.max(most.heavy, desk.model.underWay.get('Bearer secret-heavy-models:generate') ?? 0);
    }, 5);
    try {
      let over = false;
      const flood = Array.from({ length: 10 }, async () => {
        const ends: string[] = [];
        while (!over) {
          const run = await desk.begin(heavy, []);
          ends.push((await run.result({ timeoutMs: 90_000 })).stopReason ?? 'none');
        }
        return ends;
      });
      await until('the pool is used up', () => Promise.resolve(most.heavy >= 4), 60_000);
      const runs = await Promise.all([desk.begin(light, []), desk.begin(light, [])]);
      const results = await Promise.all(runs.map((run) => run.result({ timeoutMs: 60_000 })));
      over = true;
      // The flood never ebbed until both of them were served.
      expect(results.map(({ stopReason }) => stopReason)).toEqual(['completed', 'completed']);
      expect(new Set((await Promise.all(flood)).flat())).toEqual(new Set(['completed']));
      expect(most.all).toBeLessThanOrEqual(4);
      for (const name of [heavy, light]) {
        const refused = (await facts(name)).filter(({ kind }) => kind === 'refused');
        expect(refused.filter(({ origin }) => origin !== 'provider')).toEqual([]);
      }
      expect((await facts(heavy)).some(({ rule }) => rule === 'provider_pool/shared/calls_in_flight')).toBe(
        true,
      );
    } finally {
      clearInterval(watch);
      desk.model.delayMs = 0;
    }
  }, 180_000);
});
