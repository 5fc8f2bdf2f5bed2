import {
  ask,
  call,
  end,
  openCapacity,
  press,
  type CapacityMember,
  type CapacityShare,
} from './capacity-ground';
import { undoPath } from '../../contracts/calls';
import { poolsOf } from '../../storage/pools';
import { PoolDivision } from '../../workers/pool-shares';
import { ENVIRONMENT, LedgerWorld } from './harness';
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
const of = (shares: Map<string, CapacityShare>, { tenant }: CapacityMember): CapacityShare | undefined =>
  shares.get(tenant.tenantId);

test('N7 Q4 a call that finds its share in use is refused as the platform’s shortage, with share and use, and costs no further write', async () => {
  const { name, members, divide } = await openCapacity(world, 2, [{}]);
  const [only] = members as [CapacityMember];
  const { tenant } = only;
  const rule = `shared_capacity/${name}/calls_in_flight`;
  const refused = { kind: 'throttled', origin: 'platform', rule, retryAfterMs: 500 };
  // Nothing is divided yet, and nobody is without a limit for that.
  expect(await ask(only)).toMatchObject({ answer: 'refused', refusal: { ...refused, value: 0, used: 0 } });
  await divide();
  const rowOf = async () =>
    (
      await world.admin.query<{ xmin: string }>(
        `select xmin from bulkhead.pool_shares where tenant_id = $1`,
        [tenant.tenantId],
      )
    ).rows;
  const before = await rowOf();
  const held = [call(only), call(only)];
  for (const each of held) expect(await tenant.store.admit(each)).toMatchObject({ answer: 'admitted' });
  expect(await rowOf()).toEqual(before);
  expect(await ask(only)).toMatchObject({ answer: 'refused', refusal: { ...refused, value: 2, used: 2 } });
  const metered = await world.admin.query(`select name from bulkhead.meters where tenant_id = $1`, [
    tenant.tenantId,
  ]);
  expect(metered.rows).toEqual([]);
  await end(only, held.splice(0, 1));
  expect(await ask(only)).toMatchObject({ answer: 'admitted' });
  expect(recount(await tenant.journal()).violations).toEqual([]);
  expect((await tenant.store.quotas())?.capacity).toEqual({
    ...{ name, callsInFlight: 2, share: 2, used: 2, promised: 0, guaranteed: 0 },
  });
});

test('N7 a tenant that names no capacity is bound by its own limits alone, and they come first for one that does', async () => {
  const free = await world.tenant({ callsInFlight: 3 });
  const runId = await free.run();
  const alone = { tenant: free, runId, decidedBy: { policyVersion: 1, recordVersion: 0, factsVersion: 0 } };
  expect(await press(alone)).toHaveLength(3);
  expect((await free.store.quotas())?.capacity).toBeNull();
  const { members, divide } = await openCapacity(world, 9, [{ callsInFlight: 2 }]);
  const [capped] = members as [CapacityMember];
  await divide();
  expect(await press(capped)).toHaveLength(2);
  expect(await ask(capped)).toMatchObject({
    refusal: { origin: 'tenant_cap', rule: 'calls_in_flight', value: 2 },
  });
});

test('N7 whoever comes back from idle on a calm platform is let in up to its guarantee at once, and nobody is given more than it may use', async () => {
  const { members, divide, shares } = await openCapacity(world, 10, [
    { guaranteed: 6, callsInFlight: 6 },
    { guaranteed: 1, callsInFlight: 2, weight: 1_000 },
  ]);
  const [calm, small] = members as [CapacityMember, CapacityMember];
  await pass(10_000);
  await divide();
  expect(of(await shares(), calm)).toMatchObject({ calls: 6, guaranteed: 6 });
  expect(of(await shares(), small)).toMatchObject({ calls: 2, guaranteed: 1 });
  expect(await press(calm)).toHaveLength(6);
});

test('N7 idle capacity is used above a guarantee, and given back as those calls end: never more than the capacity in all', async () => {
  const { members, divide, shares } = await openCapacity(world, 8, [{ guaranteed: 4 }, { guaranteed: 2 }]);
  const [owner, lender] = members as [CapacityMember, CapacityMember];
  await pass(10_000);
  await divide();
  const held = await press(lender);
  await divide();
  held.push(...(await press(lender)));
  expect(held).toHaveLength(8);
  // The owner comes back: what it is owed is given to nobody else from then on, and to it as calls end.
  expect(await ask(owner)).toMatchObject({ answer: 'refused', refusal: { origin: 'platform', value: 0 } });
  await divide();
  expect(of(await shares(), owner)).toMatchObject({ calls: 0 });
  expect(of(await shares(), lender)?.calls).toBeLessThanOrEqual(4);
  expect(await ask(lender)).toMatchObject({ answer: 'refused' });
  await end(lender, held.splice(0, 3));
  expect(await press(lender)).toEqual([]);
  expect(await press(owner)).toEqual([]);
  await divide();
  const first = await press(owner);
  expect(first).toHaveLength(3);
  await end(lender, held.splice(0, 5));
  await divide();
  expect(first.length + (await press(owner)).length).toBeGreaterThanOrEqual(4);
  const taken = [...(await shares()).values()].reduce(
    (sum, one) => sum + Math.max(one.calls, one.inFlight),
    0,
  );
  expect(taken).toBeLessThanOrEqual(8);
});

test('N7 a guarantee is served before the part by weight of somebody who has as little', async () => {
  const { members, divide } = await openCapacity(world, 4, [
    { weight: 1_000, named: 'a' },
    { guaranteed: 2, named: 'b' },
    { weight: 10 },
  ]);
  const [heavy, owner, other] = members as [CapacityMember, CapacityMember, CapacityMember];
  await pass(10_000);
  await ask(other);
  await divide();
  const held = await press(other);
  expect(held).toHaveLength(4);
  await Promise.all([ask(heavy), ask(owner)]);
  await end(other, held.splice(0, 2));
  await divide();
  expect(await press(owner)).toHaveLength(2);
  expect(await press(heavy)).toEqual([]);
});

test('N7 T5 an undo is let in where the share is in use, and counts', async () => {
  const { members, divide, shares } = await openCapacity(world, 1, [{}]);
  const [only] = members as [CapacityMember];
  const { tenant, runId } = only;
  await divide();
  const written = call(only);
  await tenant.store.admit(written);
  await end(only, [written]);
  const { followUpNo } = await tenant.store.leaveRun({
    ...{ runId, temporalRunId: `${runId}/1`, stopReason: 'failed', outputRef: null },
    undo: { onFailure: true, onKill: false },
  });
  await tenant.store.enterFollowUp({ runId, followUpNo: followUpNo ?? -1, temporalRunId: 'undo/1' });
  const second = { ...only, runId: await tenant.run() };
  expect(await press(second)).toHaveLength(1);
  const undo = tenant.admission(runId, undoPath(written.path), {
    ...{ undoOf: written.path, temporalRunId: 'undo/1' },
    reserve: { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 },
  });
  expect(await tenant.store.admit(undo)).toMatchObject({ answer: 'admitted' });
  expect(of(await shares(), only)).toMatchObject({ calls: 1, inFlight: 2 });
});

test('N7 who names a capacity and has no share of it on record has nothing of it', async () => {
  const { members, divide } = await openCapacity(world, 2, [{}]);
  const [only] = members as [CapacityMember];
  await divide();
  await world.admin.query('delete from bulkhead.pool_shares where tenant_id = $1', [only.tenant.tenantId]);
  expect(await ask(only)).toMatchObject({ answer: 'refused', refusal: { origin: 'platform', value: 0 } });
});

test('N7 whose calls are over before anybody looks is not taken for idle', async () => {
  const { members, divide, shares } = await openCapacity(world, 3, [{}, {}]);
  const [hungry, brief] = members as [CapacityMember, CapacityMember];
  await pass(10_000);
  await divide();
  for (let second = 0; second < 4; second += 1) {
    await pass(1_000);
    await press(hungry);
    const short = call(brief);
    expect(await brief.tenant.store.admit(short)).toMatchObject({ answer: 'admitted' });
    await end(brief, [short]);
    await divide();
    expect(of(await shares(), brief)?.calls).toBeGreaterThan(0);
  }
  await pass(3_000);
  await press(hungry);
  await divide();
  expect(of(await shares(), brief)).toMatchObject({ calls: 0 });
});

test('N7 a provider pool of the same name is another one: each is divided, asked and trued up by itself', async () => {
  const { name, members, divide } = await openCapacity(world, 4, [{}]);
  const [only] = members as [CapacityMember];
  const { tenant } = only;
  await world.admin.query('select bulkhead.put_provider_pool($1, $2, 2, 8000, $3)', [name, 'openai', 'test']);
  await world.admin.query('select bulkhead.set_pools($1, $2, $3)', [
    ...[tenant.tenantId, ENVIRONMENT, JSON.stringify({ '': name, openai: name })],
  ]);
  const model = () =>
    call(only, {
      ...{
        action: 'model.generate',
        callClass: 'model',
        system: 'openai',
        keyValidMs: null,
        reversible: null,
      },
      reserve: { toolCalls: 0, steps: 1, microUsd: 0, modelTokens: 10 },
    });
  await divide();
  // Whoever else divides, provider pools among them.
  await poolsOf(world.pool, ENVIRONMENT).dividePools((view) => new PoolDivision().divide(view));
  const asked = [model(), model()] as const;
  for (const each of asked) expect(await tenant.store.admit(each)).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.admit(model())).toMatchObject({
    refusal: { origin: 'provider', rule: `provider_pool/${name}/calls_in_flight`, value: 2 },
  });
  await tenant.store.settle(
    tenant.settlement(asked[0], { charge: { toolCalls: 0, microUsd: 0, modelTokens: 500 } }),
  );
  expect(await press(only)).toHaveLength(3);
  expect(recount(await tenant.journal()).violations).toEqual([]);
});

test('N7 M1 a tenant cannot raise its own share: hosts hold no write on shares, and name no tenant but the one they are bound to', async () => {
  const { name, members, divide, shares } = await openCapacity(world, 2, [{}, {}]);
  const [one, other] = members as [CapacityMember, CapacityMember];
  await pass(10_000);
  await divide();
  const before = await shares();
  const bound = `select set_config('bulkhead.tenant_id', '${one.tenant.tenantId}', false),
    set_config('bulkhead.environment', '${ENVIRONMENT}', false)`;
  const refuses = (sql: string, code: string) =>
    world.pool
      .use(async (client) => {
        await client.query(bound);
        return (await client.query(sql)).rowCount;
      })
      .then(
        (rows) => expect({ sql, rows }).toEqual({ sql, rows: 'refused' }),
        (error: unknown) =>
          expect({
            sql,
            code: (error as { code?: string }).code ?? (error as Error).constructor.name,
          }).toEqual({ sql, code }),
      );
  await refuses(`update bulkhead.pool_shares set calls_in_flight = 99`, '42501');
  await refuses(
    `insert into bulkhead.pool_shares (tenant_id, environment, provider, pool) values ('x', 'test', '', 'x')`,
    '42501',
  );
  await refuses(`delete from bulkhead.pool_shares`, '42501');
  await refuses(`select bulkhead.put_call_capacity('${name}', 99, 'mallory')`, '42501');
  await refuses(`select bulkhead.set_pools('${one.tenant.tenantId}', '${ENVIRONMENT}', '{}')`, '42501');
  await refuses(`update bulkhead.limits set capacity = null`, '42501');
  await refuses(
    `select bulkhead.set_pool_share('${other.tenant.tenantId}', '${ENVIRONMENT}', '', '${name}', 0, null, 0)`,
    'ScopeRefused',
  );
  const seen = await world.pool.use(async (client) => {
    await client.query(bound);
    const { rows } = await client.query<{ tenant_id: string }>('select tenant_id from bulkhead.pool_shares');
    await client.query('discard all');
    return rows;
  });
  expect(seen).toEqual([{ tenant_id: one.tenant.tenantId }]);
  expect(await shares()).toEqual(before);
});
