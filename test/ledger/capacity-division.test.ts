import fc from 'fast-check';
import type { PoolMember } from '../../contracts/pools';
import { PoolDivision } from '../../workers/pool-shares';
import { tendPools } from '../../workers/pools';
import { until } from '../support/until';

/** How a shared capacity is divided, against a model that shares no line with it: a water level found by halving. */

const member = (tenantId: string, more: Partial<PoolMember> = {}): PoolMember => ({
  tenantId,
  ...{ weight: 1, ceiling: Infinity, promised: more.guaranteed ?? 0, guaranteed: 0 },
  ...{ calls: 0, inFlight: 0, wants: false, short: false },
  ...more,
});
const hungry = { wants: true, short: true };
const once = (callsInFlight: number, members: PoolMember[]): Record<string, number> =>
  Object.fromEntries(new PoolDivision().divide({ callsInFlight, members }));

test.each<[string, number, PoolMember[], Record<string, number>]>([
  [
    'first to guarantees, and what is left by weight',
    20,
    [
      member('a', { guaranteed: 8, ...hungry }),
      member('b', { guaranteed: 2, ...hungry }),
      member('c', { weight: 3, ...hungry }),
    ],
    { a: 10, b: 4, c: 6 },
  ],
  [
    'to those who want, above their guarantee, also out of the guarantee of one that is idle',
    10,
    [member('a', { guaranteed: 7 }), member('b', { guaranteed: 1, ...hungry })],
    { a: 0, b: 10 },
  ],
  [
    'up to what each could use: the guarantee of one that is idle is kept where nobody wants it',
    10,
    [member('a', { guaranteed: 7 }), member('b', { ceiling: 3, ...hungry })],
    { a: 7, b: 3 },
  ],
  [
    'by guarantees where nobody wants anything, and the rest by weight',
    10,
    [member('a', { guaranteed: 4 }), member('b', { guaranteed: 2 }), member('c', { weight: 2 })],
    { a: 5, b: 3, c: 2 },
  ],
  [
    'as far as it goes, where the guarantees are as much as there is',
    6,
    [
      member('a', { guaranteed: 4, ...hungry }),
      member('b', { guaranteed: 2, ...hungry }),
      member('c', hungry),
    ],
    { a: 4, b: 2, c: 0 },
  ],
  ['to nobody more than its ceiling', 10, [member('a', { ceiling: 2, ...hungry })], { a: 2 }],
  ['nothing of nothing', 0, [member('a', { guaranteed: 0, ...hungry })], { a: 0 }],
])('N7 a shared capacity is divided %s', (_how, capacity, members, expected) => {
  expect(once(capacity, members)).toEqual(expected);
});

interface Drawn {
  readonly weight: number;
  readonly ceiling: number;
  readonly part: number;
  readonly inFlight: number;
  readonly wish: 'none' | 'some' | 'all';
}
const drawn = fc.record<Drawn>({
  weight: fc.integer({ min: 0, max: 50 }),
  ceiling: fc.nat(40),
  // Of the capacity, to be guaranteed.
  part: fc.double({ min: 0, max: 1, noNaN: true }),
  inFlight: fc.nat(30),
  wish: fc.constantFrom('none', 'some', 'all'),
});
/** Guarantees within the ceilings, and in all within the capacity. */
function membersOf(capacity: number, all: readonly Drawn[]): PoolMember[] {
  let free = capacity;
  return all.map(({ weight, ceiling, part, inFlight, wish }, index) => {
    const guaranteed = weight === 0 ? 0 : Math.min(ceiling, Math.floor(free * part));
    free -= guaranteed;
    return member(`t${index}`, {
      ...{ weight, ceiling, guaranteed, inFlight: wish === 'none' ? 0 : inFlight },
      ...{ wants: wish !== 'none', short: wish === 'all' },
    });
  });
}
const total = (of: readonly number[]): number => of.reduce((sum, one) => sum + one, 0);
const needOf = ({ wants, short, inFlight, ceiling }: PoolMember): number =>
  !wants ? 0 : Math.min(ceiling, short ? ceiling : 2 * inFlight + 1);

/** What those who want come to before anything is given to who does not: parts of calls. */
function fairParts(capacity: number, members: readonly PoolMember[]): number[] {
  const floor = members.map((one) => Math.min(needOf(one), one.guaranteed));
  const at = (level: number): number[] =>
    members.map((one, index) => Math.min(needOf(one), (floor[index] ?? 0) + level * one.weight));
  let [low, high] = [0, 1e6];
  for (let step = 0; step < 200; step += 1) {
    const middle = (low + high) / 2;
    if (total(at(middle)) > capacity) high = middle;
    else low = middle;
  }
  return at(low);
}

test('N7 guarantees are met, nothing lies idle that somebody could use, nobody is above its ceiling, and the rest is fair by weight', () => {
  fc.assert(
    fc.property(
      fc.nat(120),
      fc.array(fc.array(drawn, { minLength: 1, maxLength: 9 }), { minLength: 1, maxLength: 4 }),
      (capacity, rounds) => {
        const division = new PoolDivision();
        for (const round of rounds) {
          const all = membersOf(capacity, round);
          const shares = division.divide({ callsInFlight: capacity, members: all });
          const members = all.filter(({ weight }) => weight > 0);
          const given = members.map(({ tenantId }) => shares.get(tenantId) ?? NaN);
          expect([...shares.keys()]).toHaveLength(members.length);
          expect(given.every((share) => Number.isInteger(share) && share >= 0)).toBe(true);
          expect(total(given)).toBe(Math.min(capacity, total(members.map(({ ceiling }) => ceiling))));
          const parts = fairParts(capacity, members);
          const wanted = total(members.map(needOf));
          members.forEach((one, index) => {
            const share = given[index] ?? NaN;
            expect(share).toBeLessThanOrEqual(one.ceiling);
            expect(share).toBeGreaterThanOrEqual(Math.min(needOf(one), one.guaranteed));
            expect(share).toBeGreaterThanOrEqual(Math.floor((parts[index] ?? 0) + 1e-6));
            // Where there is not enough for all who want, nobody has a call more than its part.
            if (wanted >= capacity)
              expect(share).toBeLessThanOrEqual(Math.floor((parts[index] ?? 0) + 1e-6) + 1);
            // What nobody wants stays with those whose guarantee it is.
            const rest = capacity - total(members.map((each) => Math.max(needOf(each), each.guaranteed)));
            if (rest >= 0) expect(share).toBeGreaterThanOrEqual(Math.min(one.guaranteed, one.ceiling));
          });
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('N7 over time what is above guarantees is fair by weight, however little it is', () => {
  const division = new PoolDivision();
  const weights = [1, 1, 2, 4];
  const got = weights.map(() => 0);
  for (let round = 0; round < 400; round += 1) {
    const members = weights.map((weight, index) =>
      member(`t${index}`, { weight, guaranteed: index === 0 ? 3 : 0, ...hungry }),
    );
    const shares = division.divide({ callsInFlight: 5, members });
    weights.forEach((_, index) => (got[index] = (got[index] ?? 0) + (shares.get(`t${index}`) ?? 0)));
  }
  const above = got.map((sum, index) => (sum - (index === 0 ? 1_200 : 0)) / (weights[index] ?? 1));
  for (const each of above) expect(each).toBeCloseTo(100, -1);
});

test('N7 Q4 whoever divides says once, for each capacity, that more is guaranteed than there is', async () => {
  const told: object[] = [];
  let [rounds, capacity] = [0, 5];
  const shared = { provider: null, modelTokensPerMinute: null };
  const tending = tendPools({
    platform: {
      dividePools: (divide) => {
        rounds += 1;
        const members = [
          member('a', { promised: 4, guaranteed: 3 }),
          member('b', { promised: 3, guaranteed: 2 }),
        ];
        divide({ ...shared, pool: 'main', callsInFlight: capacity, members });
        divide({ ...shared, pool: 'other', callsInFlight: 7, members });
        return Promise.resolve(true);
      },
    },
    logger: { warn: (said: object) => void told.push(said) },
    everyMs: 1,
  });
  await until('a few divisions', () => Promise.resolve(rounds > 5), 10_000);
  capacity = 6;
  const seen = rounds;
  await until('a few more', () => Promise.resolve(rounds > seen + 5), 10_000);
  await tending.stop();
  expect(told).toEqual([
    { capacity: 'main', promised: 7, callsInFlight: 5 },
    { capacity: 'main', promised: 7, callsInFlight: 6 },
  ]);
});
