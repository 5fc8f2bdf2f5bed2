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
import { LedgerWorld } from './harness';

/** What becomes of shares when a capacity, a guarantee, or who is in it changes. */

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

test('N7 a capacity that nobody has made is refused by name', async () => {
  const tenant = await world.tenant();
  await expect(belongs(tenant, 'nowhere')).rejects.toThrow(/there is no shared capacity nowhere/);
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
