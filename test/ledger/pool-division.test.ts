import fc from 'fast-check';
import type { PoolMember } from '../../contracts/pools';
import { PoolDivision } from '../../workers/pool-shares';

const member = (tenantId: string, weight: number, more: Partial<PoolMember> = {}): PoolMember => ({
  tenantId,
  weight,
  ...{ ceiling: Infinity, promised: 0, guaranteed: 0 },
  calls: 0,
  inFlight: 0,
  wants: false,
  short: false,
  ...more,
});
const hungry = { wants: true, short: true };
const once = (callsInFlight: number, members: PoolMember[]): Record<string, number> =>
  Object.fromEntries(new PoolDivision().divide({ callsInFlight, members }));

test.each<[string, number, PoolMember[], Record<string, number>]>([
  [
    'by weight, where all want all',
    40,
    [member('a', 1, hungry), member('b', 1, hungry), member('c', 2, hungry)],
    { a: 10, b: 10, c: 20 },
  ],
  [
    'to one that wants all beside one that wants little',
    40,
    [member('a', 1, hungry), member('b', 1, { wants: true, inFlight: 2 })],
    { a: 35, b: 5 },
  ],
  [
    'to those who want, and nothing to those who do not',
    40,
    [member('a', 1, hungry), member('b', 9)],
    { a: 40, b: 0 },
  ],
  ['by weight, where nobody wants anything', 40, [member('a', 1), member('b', 3)], { a: 10, b: 30 }],
  ['nothing of nothing', 0, [member('a', 1, hungry)], { a: 0 }],
])('N7 a pool is divided %s', (_how, capacity, members, expected) => {
  expect(once(capacity, members)).toEqual(expected);
});

const members = fc.uniqueArray(
  fc.record({
    tenantId: fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'd'), minLength: 1, maxLength: 4 }),
    weight: fc.integer({ min: 0, max: 1_000 }),
    calls: fc.nat(50),
    inFlight: fc.nat(60),
    wants: fc.boolean(),
    short: fc.boolean(),
    ...{ ceiling: fc.constant(Infinity), promised: fc.constant(0), guaranteed: fc.constant(0) },
  }),
  { selector: ({ tenantId }) => tenantId, maxLength: 12 },
);
test('N7 shares are whole, never more than the capacity, all of it where there is anybody, and at least the part by weight', () => {
  fc.assert(
    fc.property(fc.nat(200), fc.array(members, { minLength: 1, maxLength: 5 }), (capacity, rounds) => {
      const division = new PoolDivision();
      for (const drawn of rounds) {
        const now = drawn.map((one) => ({ ...one, wants: one.wants || one.short }));
        const shares = division.divide({ callsInFlight: capacity, members: now });
        const real = now.filter(({ weight }) => weight > 0);
        const given = [...shares.values()];
        expect(given.every((share) => Number.isInteger(share) && share >= 0)).toBe(true);
        const total = given.reduce((sum, share) => sum + share, 0);
        expect(total).toBe(real.length === 0 ? 0 : capacity);
        const asking = real.filter(({ wants }) => wants);
        const weights = asking.reduce((sum, { weight }) => sum + weight, 0);
        for (const { tenantId, weight, short } of asking)
          if (short)
            expect(shares.get(tenantId)).toBeGreaterThanOrEqual(
              Math.floor((capacity * weight) / weights + 1e-9),
            );
      }
    }),
  );
});

test.each([
  [1, [1, 1]],
  [1, [2, 1]],
  [3, [1, 1, 2, 4, 1, 1, 2, 4, 1, 1]],
  [40, [1, 1, 2, 4, 1, 1, 2, 4, 1, 1]],
])(
  'N7 over time %i calls at a time are fair by weight (Jain at least 0.95), however few they are',
  (capacity, weights) => {
    const division = new PoolDivision();
    const got = weights.map(() => 0);
    for (let round = 0; round < 400; round += 1) {
      const shares = division.divide({
        callsInFlight: capacity,
        members: weights.map((weight, index) => member(`t${index}`, weight, hungry)),
      });
      weights.forEach((_, index) => (got[index] = (got[index] ?? 0) + (shares.get(`t${index}`) ?? 0)));
    }
    const served = got.map((share, index) => share / (weights[index] ?? 1));
    const sum = served.reduce((total, one) => total + one, 0);
    const jain = sum ** 2 / (served.length * served.reduce((total, one) => total + one ** 2, 0));
    expect(jain).toBeGreaterThanOrEqual(0.95);
  },
);
