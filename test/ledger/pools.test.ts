import fc from 'fast-check';
import type { RunId } from '../../contracts/ids';
import type { AdmitRequest, DecidedBy } from '../../contracts/ledger';
import { poolsOf } from '../../storage/pools';
import { PoolDivision } from '../../workers/pool-shares';
import { ENVIRONMENT, LedgerWorld, type LedgerTenant } from './harness';
import { recount } from './recount';

let world: LedgerWorld;
let now = Date.UTC(2025, 2, 10, 12);
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => pass(3_600_000));

async function pass(ms: number): Promise<void> {
  now += ms;
  await world.setClock(new Date(now));
}

interface Member {
  readonly tenant: LedgerTenant;
  readonly runId: RunId;
  readonly decidedBy: DecidedBy;
}
let pools = 0;
/** A pool with these tenants in it, each with a run; `weights` of their classes. */
async function pool(calls: number, tokens: number | null, weights: readonly number[]) {
  const name = `pool_${(pools += 1)}`;
  const put = (callsNow: number, tokensNow: number | null) =>
    world.admin.query('select bulkhead.put_provider_pool($1, $2, $3, $4, $5)', [
      name,
      'openai',
      callsNow,
      tokensNow,
      'test',
    ]);
  await put(calls, tokens);
  const tenants: Member[] = [];
  for (const weight of weights) {
    const tenant = await world.tenant();
    await world.admin.query('update bulkhead.tenants set weight = $2 where tenant_id = $1', [
      tenant.tenantId,
      weight,
    ]);
    await belongs(tenant, { openai: name });
    // Another weight is another version of its record.
    const decidedBy = { policyVersion: 1, recordVersion: weight === 1 ? 0 : 1, factsVersion: 0 };
    tenants.push({ tenant, runId: await tenant.run(), decidedBy });
  }
  const division = new PoolDivision();
  const store = poolsOf(world.pool, ENVIRONMENT);
  const divide = () =>
    store.dividePools((view) =>
      view.pool === name
        ? division.divide(view)
        : new Map(view.members.map((one) => [one.tenantId, one.calls])),
    );
  return { name, tenants, put, divide };
}
const belongs = (tenant: LedgerTenant, to: Record<string, string>) =>
  world.admin.query('select bulkhead.set_pools($1, $2, $3)', [
    tenant.tenantId,
    ENVIRONMENT,
    JSON.stringify(to),
  ]);

let paths = 0;
const modelCall = ({ tenant, runId, decidedBy }: Member, change: Partial<AdmitRequest> = {}): AdmitRequest =>
  tenant.admission(runId, `${(paths += 1)}.0`, {
    decidedBy,
    action: 'model.generate',
    callClass: 'model',
    system: 'openai',
    keyValidMs: null,
    reversible: null,
    reserve: { toolCalls: 0, steps: 1, microUsd: 0, modelTokens: 0 },
    ...change,
  });
const tokens = (modelTokens: number) => ({
  reserve: { toolCalls: 0, steps: 1, microUsd: 0, modelTokens } as const,
});

interface State {
  readonly calls: number;
  readonly tokens: number | null;
  readonly inFlight: number;
}
async function stateOf(name: string): Promise<Map<string, State>> {
  const { rows } = await world.admin.query<State & { tenant: string }>(
    `select s.tenant_id as tenant, s.calls_in_flight as calls, s.model_tokens_per_minute::int as tokens, coalesce((m.meter).inflight, 0) as "inFlight"
       from bulkhead.pool_shares s left join bulkhead.meters m on m.tenant_id = s.tenant_id and m.name = 'pool:' || s.pool where s.pool = $1`,
    [name],
  );
  return new Map(rows.map(({ tenant, ...state }) => [tenant, state]));
}
const taken = (states: Map<string, State>): number =>
  [...states.values()].reduce((sum, { calls, inFlight }) => sum + Math.max(calls, inFlight), 0);

test('N7 Q4 a call that finds its part of a pool in use is refused as the provider’s trouble, never as the tenant’s cap', async () => {
  const { name, tenants, divide } = await pool(1, 1_000, [1]);
  const [only] = tenants as [Member];
  const { tenant } = only;
  // Nothing is divided yet, and nobody is without a limit for that.
  expect(await tenant.store.admit(modelCall(only))).toMatchObject({
    answer: 'refused',
    refusal: { kind: 'provider_degraded', origin: 'provider', value: 0, retryAfterMs: 500 },
  });
  expect(await divide()).toBe(true);
  const first = modelCall(only);
  expect(await tenant.store.admit(first)).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.admit(modelCall(only))).toMatchObject({
    answer: 'refused',
    refusal: {
      kind: 'provider_degraded',
      origin: 'provider',
      rule: `provider_pool/${name}/calls_in_flight`,
      value: 1,
      used: 1,
      retryAfterMs: 500,
    },
  });
  // A tool of the same system, and a model of another provider, are none of the pool's.
  expect(await tenant.store.admit(tenant.admission(only.runId, '900.1', { system: 'openai' }))).toMatchObject(
    { answer: 'admitted' },
  );
  expect(await tenant.store.admit(modelCall(only, { system: 'mistral' }))).toMatchObject({
    answer: 'admitted',
  });
  await tenant.store.settle(tenant.settlement(first));
  expect(await tenant.store.admit(modelCall(only))).toMatchObject({ answer: 'admitted' });
  const counted = recount(await tenant.journal());
  expect(counted.violations).toEqual([]);
  expect((await stateOf(name)).get(tenant.tenantId)?.inFlight).toBe(counted.meters[`pool:${name}`]?.inflight);
});

test('N7 the tenant’s own cap comes first, and says that it is the tenant’s', async () => {
  const { tenants, divide } = await pool(1, null, [1]);
  const [only] = tenants as [Member];
  await divide();
  await only.tenant.setLimits({ callsInFlight: 1, toolCallsPerDay: 10, perRunSteps: 100 });
  await only.tenant.store.admit(modelCall(only));
  expect(await only.tenant.store.admit(modelCall(only))).toMatchObject({
    refusal: { origin: 'tenant_cap', rule: 'calls_in_flight' },
  });
});

test('N7 tokens of a minute: used up, drained, overshot; a call of more than a minute’s worth goes when nothing is left', async () => {
  const { name, tenants, divide } = await pool(10, 6_000, [1]);
  const [only] = tenants as [Member];
  const { store } = only.tenant;
  await divide();
  const first = modelCall(only, tokens(4_000));
  expect(await store.admit(first)).toMatchObject({ answer: 'admitted' });
  const rule = `provider_pool/${name}/model_tokens_per_minute`;
  expect(await store.admit(modelCall(only, tokens(3_000)))).toMatchObject({
    refusal: {
      kind: 'provider_degraded',
      origin: 'provider',
      rule,
      value: 6_000,
      used: 4_000,
      retryAfterMs: 10_000,
    },
  });
  // It was billed twice of what was reserved: 8,000 are in the bucket.
  await only.tenant.store.settle(
    only.tenant.settlement(first, { charge: { toolCalls: 0, microUsd: 0, modelTokens: 8_000 } }),
  );
  expect(await store.admit(modelCall(only, tokens(1)))).toMatchObject({ refusal: { rule, used: 8_000 } });
  await pass(30_000);
  expect(await store.admit(modelCall(only, tokens(1_000)))).toMatchObject({ answer: 'admitted' });
  expect(await store.admit(modelCall(only, tokens(60_000)))).toMatchObject({
    refusal: { rule, retryAfterMs: 60_000 },
  });
  await pass(60_000);
  expect(await store.admit(modelCall(only, tokens(60_000)))).toMatchObject({ answer: 'admitted' });
});

test('N7 what others leave is used, and taken back as calls end: never more than the pool in all', async () => {
  const { name, tenants, divide } = await pool(8, 8_000, [1, 3]);
  const [heavy, light] = tenants as [Member, Member];
  await divide();
  // By weight, while nobody wants anything.
  expect((await stateOf(name)).get(heavy.tenant.tenantId)).toMatchObject({ calls: 2, tokens: 2_000 });
  const held: AdmitRequest[] = [];
  const press = async (): Promise<void> => {
    for (;;) {
      const asked = modelCall(heavy);
      const { answer } = await heavy.tenant.store.admit(asked);
      if (answer !== 'admitted') return;
      held.push(asked);
    }
  };
  await press();
  await divide();
  await press();
  expect(held).toHaveLength(8);
  // The other one comes, and has its part back as the calls of the first one end.
  expect(await light.tenant.store.admit(modelCall(light))).toMatchObject({ answer: 'refused' });
  await divide();
  expect((await stateOf(name)).get(heavy.tenant.tenantId)).toMatchObject({ calls: 2, inFlight: 8 });
  expect((await stateOf(name)).get(light.tenant.tenantId)).toMatchObject({ calls: 0 });
  for (const ended of held.splice(0, 6)) await heavy.tenant.store.settle(heavy.tenant.settlement(ended));
  await press();
  expect(held).toHaveLength(2);
  await light.tenant.store.admit(modelCall(light));
  await divide();
  expect((await stateOf(name)).get(light.tenant.tenantId)).toMatchObject({ calls: 6, tokens: 6_000 });
  for (let call = 0; call < 6; call += 1)
    expect(await light.tenant.store.admit(modelCall(light))).toMatchObject({ answer: 'admitted' });
  expect(taken(await stateOf(name))).toBe(8);
});

test('N7 a tenant that leaves a pool holds what it has under way, and nobody else is given it before', async () => {
  const { name, tenants, divide } = await pool(2, null, [1, 1]);
  const [leaving, staying] = tenants as [Member, Member];
  await divide();
  const last = modelCall(leaving);
  await leaving.tenant.store.admit(last);
  await belongs(leaving.tenant, {});
  await divide();
  expect((await stateOf(name)).get(staying.tenant.tenantId)).toMatchObject({ calls: 1 });
  expect(await leaving.tenant.store.admit(modelCall(leaving))).toMatchObject({ answer: 'admitted' });
  await leaving.tenant.store.settle(leaving.tenant.settlement(last));
  await divide();
  expect((await stateOf(name)).get(staying.tenant.tenantId)).toMatchObject({ calls: 2 });
});

test('N7 a tenant whose row is held keeps what it has, and the others are not kept waiting for long', async () => {
  const { name, tenants, divide, put } = await pool(4, null, [1, 1]);
  await divide();
  const [stuck, other] = tenants as [Member, Member];
  const holder = await world.admin.connect();
  try {
    await holder.query('begin');
    await holder.query('select 1 from bulkhead.ledgers where tenant_id = $1 for update', [
      stuck.tenant.tenantId,
    ]);
    await put(2, null);
    await divide();
    expect((await stateOf(name)).get(stuck.tenant.tenantId)).toMatchObject({ calls: 2 });
    expect((await stateOf(name)).get(other.tenant.tenantId)).toMatchObject({ calls: 1 });
  } finally {
    await holder.query('rollback');
    holder.release();
  }
  await divide();
  expect((await stateOf(name)).get(stuck.tenant.tenantId)).toMatchObject({ calls: 1 });
});

test('N7 one host divides at a time', async () => {
  const { divide } = await pool(4, null, [1]);
  const other = await world.admin.connect();
  try {
    await other.query('select pg_advisory_lock(7240033, hashtext($1))', [ENVIRONMENT]);
    expect(await divide()).toBe(false);
  } finally {
    await other.query('select pg_advisory_unlock_all()');
    other.release();
  }
  expect(await divide()).toBe(true);
});

test('N7 a pool of another provider, or none, is refused by name', async () => {
  const { name, tenants } = await pool(1, null, [1]);
  const { tenant } = tenants[0] ?? { tenant: undefined };
  await expect(belongs(tenant as LedgerTenant, { mistral: name })).rejects.toThrow(
    /no provider pool .* of mistral/,
  );
  await expect(belongs(tenant as LedgerTenant, { openai: 'nowhere' })).rejects.toThrow(
    /no provider pool nowhere/,
  );
  await expect(
    world.admin.query('select bulkhead.put_provider_pool($1, $2, 1, null, $3)', [name, 'mistral', 'test']),
  ).rejects.toThrow(/another provider/);
});

test('N7 shares and calls under way never come to more than the capacity, through any sequence of admissions, ends, joins and changes', async () => {
  const act = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('admit' as const), who: fc.nat(2) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('settle' as const), who: fc.nat(2) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('divide' as const), who: fc.constant(0) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('pass' as const), who: fc.constant(0) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), who: fc.nat(2) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(act, { minLength: 10, maxLength: 50 }), async (acts) => {
      const { name, tenants, divide } = await pool(5, 5_000, [1, 2, 4]);
      const held = tenants.map((): AdmitRequest[] => []);
      const inside = tenants.map(() => true);
      for (const { do: what, who } of acts) {
        const one = tenants[who] as Member;
        if (what === 'divide') await divide();
        else if (what === 'pass') await pass(1_500);
        else if (what === 'leave') {
          inside[who] = !inside[who];
          await belongs(one.tenant, inside[who] ? { openai: name } : {});
        } else if (what === 'settle') {
          const ended = held[who]?.shift();
          if (ended) await one.tenant.store.settle(one.tenant.settlement(ended));
        } else if (inside[who]) {
          const asked = modelCall(one);
          if ((await one.tenant.store.admit(asked)).answer === 'admitted') held[who]?.push(asked);
        }
        const states = await stateOf(name);
        const outside = held.reduce((sum, calls, index) => sum + (inside[index] ? 0 : calls.length), 0);
        expect(taken(states) + outside).toBeLessThanOrEqual(5);
        expect([...states.values()].reduce((sum, state) => sum + (state.tokens ?? 0), 0)).toBeLessThanOrEqual(
          5_000,
        );
      }
    }),
    { numRuns: 12 },
  );
}, 120_000);

test('N7 after a step back of the clock a tenant is not taken to be short for as long as the step, and is again once it is refused', async () => {
  const { tenants, name, divide } = await pool(1, null, [1]);
  const [only] = tenants as [Member];
  await divide();
  const short = async (): Promise<[boolean, boolean]> => {
    const { rows } = await world.admin.query<{ wants: boolean; short: boolean }>(
      `select wants, short from bulkhead.pool_members($1) where pool = $2`,
      [ENVIRONMENT, name],
    );
    return [rows[0]?.wants ?? false, rows[0]?.short ?? false];
  };
  const held = modelCall(only);
  await only.tenant.store.admit(held);
  expect(await only.tenant.store.admit(modelCall(only))).toMatchObject({ answer: 'refused' });
  expect(await short()).toEqual([true, true]);
  await pass(-1_800_000);
  await only.tenant.store.settle(only.tenant.settlement(held));
  await pass(2_001);
  expect(await short()).toEqual([false, false]);
  const next = modelCall(only);
  expect(await only.tenant.store.admit(next)).toMatchObject({ answer: 'admitted' });
  expect(await short()).toEqual([true, false]);
  expect(await only.tenant.store.admit(modelCall(only))).toMatchObject({ answer: 'refused' });
  expect(await short()).toEqual([true, true]);
  await only.tenant.store.settle(only.tenant.settlement(next));
  await pass(2_001);
  expect(await short()).toEqual([false, false]);
});
