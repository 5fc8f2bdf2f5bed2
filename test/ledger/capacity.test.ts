import fc from 'fast-check';
import type { AdmitRequest } from '../../contracts/ledger';
import {
  ask,
  belongs,
  call,
  end,
  limitsOf,
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
    (await world.admin.query(`select xmin from bulkhead.pool_shares where tenant_id = $1`, [tenant.tenantId]))
      .rows;
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

test('N7 a capacity that is made smaller than what is in use lets nobody in until enough has ended; one of nothing, nobody', async () => {
  const { members, divide, put, shares } = await openCapacity(world, 6, [{ guaranteed: 3 }, {}]);
  const [one, other] = members as [CapacityMember, CapacityMember];
  await divide();
  await ask(one);
  await divide();
  const held = await press(one);
  expect(held.length).toBeGreaterThanOrEqual(3);
  await put(2);
  await divide();
  expect(await press(one)).toEqual([]);
  expect(await press(other)).toEqual([]);
  await put(0);
  await divide();
  expect([...(await shares()).values()].map(({ calls }) => calls)).toEqual([0, 0]);
  await end(one, held);
  await divide();
  expect(await ask(one)).toMatchObject({ answer: 'refused', refusal: { value: 0 } });
  await put(5);
  await divide();
  expect((await press(one)).length).toBeGreaterThan(0);
});

test('N7 Q6 a guarantee that is changed holds from the next division; more than there is is cut in proportion, and shown', async () => {
  const { members, divide, shares } = await openCapacity(world, 6, [{ guaranteed: 2 }, { guaranteed: 2 }]);
  const [one, other] = members as [CapacityMember, CapacityMember];
  await one.tenant.setLimits(limitsOf({ guaranteed: 8, callsInFlight: 6 }));
  await pass(10_000);
  await divide();
  // 6 of 8 promised: the limit of calls in flight is what can be meant.
  expect(of(await shares(), one)).toMatchObject({ guaranteed: 4 });
  expect(of(await shares(), other)).toMatchObject({ guaranteed: 1 });
  expect((await one.tenant.store.quotas())?.capacity).toMatchObject({ promised: 6, guaranteed: 4 });
  expect(await press(one)).toHaveLength(of(await shares(), one)?.calls ?? -1);
  await other.tenant.setLimits(limitsOf({}));
  await divide();
  expect(of(await shares(), one)).toMatchObject({ guaranteed: 6 });
  expect((await other.tenant.store.quotas())?.capacity).toMatchObject({ promised: 0, guaranteed: 0 });
});

test('N7 what a tenant that leaves has under way stays counted until it ends, and what it begins afterwards is not', async () => {
  const { name, members, divide, shares } = await openCapacity(world, 4, [{}, {}]);
  const [leaving, staying] = members as [CapacityMember, CapacityMember];
  await pass(10_000);
  await divide();
  const last = await press(leaving);
  expect(last).toHaveLength(2);
  await pass(1);
  await belongs(leaving.tenant, null);
  await pass(1);
  const outside = [call(leaving), call(leaving), call(leaving)];
  for (const each of outside)
    expect(await leaving.tenant.store.admit(each)).toMatchObject({ answer: 'admitted' });
  await divide();
  expect(of(await shares(), staying)).toMatchObject({ calls: 2 });
  await end(leaving, last.splice(0, 1));
  await divide();
  expect(of(await shares(), staying)).toMatchObject({ calls: 3 });
  await end(leaving, last);
  await divide();
  await divide();
  expect(of(await shares(), staying)).toMatchObject({ calls: 4 });
  const kept = await world.admin.query('select from bulkhead.pool_shares where tenant_id = $1', [
    leaving.tenant.tenantId,
  ]);
  expect(kept.rowCount).toBe(0);
  // Who joins brings its calls, which count, and begins with nothing.
  await belongs(leaving.tenant, name);
  expect(await ask(leaving)).toMatchObject({ answer: 'refused', refusal: { value: 0, used: 3 } });
  await divide();
  expect(of(await shares(), leaving)).toMatchObject({ calls: 4, inFlight: 3 });
  expect(of(await shares(), staying)).toMatchObject({ calls: 0 });
  await end(leaving, outside);
  expect(await press(leaving)).toHaveLength(4);
});

test('N7 moved to another capacity and back it is let in where it is, and counted in both while its calls last', async () => {
  const first = await openCapacity(world, 2, [{}]);
  const second = await openCapacity(world, 3, [{}]);
  const [mover, other] = [first.members[0], second.members[0]] as [CapacityMember, CapacityMember];
  await first.divide();
  const held = await press(mover);
  expect(held).toHaveLength(2);
  await belongs(mover.tenant, second.name);
  await pass(10_000);
  expect(await ask(mover)).toMatchObject({
    refusal: { rule: `shared_capacity/${second.name}/calls_in_flight` },
  });
  await second.divide();
  expect((await press(other)).length).toBeLessThanOrEqual(1);
  await belongs(mover.tenant, first.name);
  await first.divide();
  expect(await press(mover)).toEqual([]);
  await end(mover, held);
  expect(await press(mover)).toHaveLength(2);
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

test('N7 a capacity that nobody has made is refused by name', async () => {
  const tenant = await world.tenant();
  await expect(belongs(tenant, 'nowhere')).rejects.toThrow(/there is no shared capacity nowhere/);
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

test('N7 what is let in under a capacity never comes to more than it, through any sequence of admissions, ends, leaving, joining and changes', async () => {
  const act = fc.oneof(
    { weight: 8, arbitrary: fc.record({ do: fc.constant('admit' as const), who: fc.nat(2) }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('settle' as const), who: fc.nat(2) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('divide' as const), who: fc.constant(0) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('pass' as const), who: fc.constant(0) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), who: fc.nat(2) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('guarantee' as const), who: fc.nat(2) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(act, { minLength: 20, maxLength: 60 }), async (acts) => {
      const { name, members, divide } = await openCapacity(world, 5, [
        { guaranteed: 2 },
        { guaranteed: 1, weight: 2 },
        { callsInFlight: 4, weight: 4 },
      ]);
      const held = members.map((): { asked: AdmitRequest; counts: boolean }[] => []);
      const inside = members.map(() => true);
      let guaranteed = 0;
      for (const { do: what, who } of acts) {
        const one = members[who] as CapacityMember;
        if (what === 'divide') await divide();
        else if (what === 'pass') await pass(1_500);
        else if (what === 'guarantee')
          await one.tenant.setLimits(limitsOf({ guaranteed: (guaranteed = (guaranteed + 3) % 7) }));
        else if (what === 'leave') {
          await pass(1);
          inside[who] = !inside[who];
          await belongs(one.tenant, inside[who] ? name : null);
          await pass(1);
        } else if (what === 'settle') {
          const ended = held[who]?.shift();
          if (ended) await end(one, [ended.asked]);
        } else if (inside[who] || (held[who]?.length ?? 0) < 3) {
          const asked = call(one);
          if ((await one.tenant.store.admit(asked)).answer === 'admitted')
            held[who]?.push({ asked, counts: inside[who] === true });
        }
        expect(held.flat().filter(({ counts }) => counts).length).toBeLessThanOrEqual(5);
      }
    }),
    { numRuns: 15 },
  );
}, 180_000);
