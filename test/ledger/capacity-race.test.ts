import { setTimeout as sleep } from 'node:timers/promises';
import { poolsOf } from '../../storage/pools';
import { tendPools } from '../../workers/pools';
import { call, end, openCapacity, type CapacityMember } from './capacity-ground';
import { ENVIRONMENT, LedgerWorld } from './harness';
import { recount } from './recount';

/** Many racers of several tenants at one shared capacity, on the real clock, divided as hosts divide it; counted here. */

const CAPACITY = 8;
const CALL_MS = 700;
/** For two divisions, and for a machine with no time. */
const MARGIN_MS = 2_500;

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(12);
});
afterAll(() => world.close());

/** Calls under way, from when they were let in until just before they are given back. */
class Gauge {
  now = 0;
  most = 0;
  readonly by = new Map<CapacityMember, { now: number; most: number }>();
  enter(member: CapacityMember): void {
    this.most = Math.max(this.most, (this.now += 1));
    const own = this.of(member);
    own.most = Math.max(own.most, (own.now += 1));
  }
  leave(member: CapacityMember): void {
    this.now -= 1;
    this.of(member).now -= 1;
  }
  of(member: CapacityMember): { now: number; most: number } {
    const own = this.by.get(member) ?? { now: 0, most: 0 };
    this.by.set(member, own);
    return own;
  }
}

test('N7 Q2 racers of several tenants: never more at once than the capacity; idle capacity is used, and a guarantee is back within one call’s length', async () => {
  const { members } = await openCapacity(world, CAPACITY, [
    { guaranteed: 4 },
    { guaranteed: 2 },
    { weight: 2 },
  ]);
  const [owner, lender, other] = members as [CapacityMember, CapacityMember, CapacityMember];
  const gauge = new Gauge();
  const over = new AbortController();
  const asked = new Map<CapacityMember, number>();
  const races = async (member: CapacityMember): Promise<void> => {
    while (!over.signal.aborted) {
      const next = call(member);
      if (!asked.has(member)) asked.set(member, Date.now());
      const { answer } = await member.tenant.store.admit(next);
      if (answer !== 'admitted') {
        await sleep(100 + 100 * Math.random());
        continue;
      }
      gauge.enter(member);
      await sleep(CALL_MS * (0.8 + 0.2 * Math.random()));
      gauge.leave(member);
      await end(member, [next]);
    }
  };
  const began: Promise<void>[] = [];
  const enter = (member: CapacityMember, racers: number): void => {
    for (let racer = 0; racer < racers; racer += 1) began.push(races(member));
  };
  const tending = [1, 2].map(() =>
    tendPools({ platform: poolsOf(world.pool, ENVIRONMENT), logger: { warn: () => undefined } }),
  );
  try {
    enter(lender, 12);
    enter(other, 6);
    const deadline = Date.now() + 30_000;
    while (gauge.most < CAPACITY && Date.now() < deadline) await sleep(20);
    await sleep(2_000);
    // All of it is in use while the owner is idle: the two have what is their own, and what is not.
    expect(gauge.most).toBe(CAPACITY);
    expect(gauge.of(lender).most).toBeGreaterThan(2);

    enter(owner, 6);
    while (gauge.of(owner).now < 4 && Date.now() < deadline + 30_000) await sleep(10);
    const tookMs = Date.now() - (asked.get(owner) ?? 0);
    expect(tookMs).toBeLessThan(CALL_MS + MARGIN_MS);
    // And stays there, while the others still want all that they can get.
    await sleep(2_000);
    expect(gauge.of(owner).most).toBeGreaterThanOrEqual(4);
    expect(gauge.of(lender).now).toBeGreaterThanOrEqual(1);
  } finally {
    over.abort();
    await Promise.all(began);
    await Promise.all(tending.map((each) => each.stop()));
  }
  expect(gauge.most).toBe(CAPACITY);
  for (const { tenant } of members) {
    expect(recount(await tenant.journal()).violations).toEqual([]);
    expect((await tenant.row()).inflight).toBe(0);
  }
}, 120_000);
