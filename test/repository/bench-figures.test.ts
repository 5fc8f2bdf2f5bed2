import { sharesIn } from '../../bench/shares';
import { jainIndex, slowdownIntervals } from '../../bench/statistics';
import { inTurn } from '../../bench/noisy-neighbour';
import { figuresOf, verdictOf } from '../../bench/noisy-report';
import type { Spell } from '../../bench/noisy-spell';

/** What benchmarks of neighbours and shares conclude, from figures whose answer is known. */

const spell = (arm: Spell['arm'], latencies: readonly number[], more: Partial<Spell> = {}): Spell => ({
  arm,
  kind: arm === 'alone' ? null : 'flood',
  round: 0,
  ms: 1_000,
  latencies,
  unfinished: 0,
  refused: 0,
  offered: 100,
  served: 40,
  cores: { groups: {}, machine: 0.4, stolen: 0 },
  ...more,
});

describe('noisy-neighbour', () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 200 + index);
  const alone = [spell('alone', hundred), spell('alone', hundred)];
  const arm = (by: number, more: Partial<Spell> = {}) =>
    figuresOf(
      Array.from({ length: 2 }, () =>
        spell(
          'own',
          hundred.map((ms) => ms * by),
          more,
        ),
      ),
      alone,
    );

  it('N6 over two rounds every arm comes as late after a fresh start as any other', () => {
    const arms = ['a', 'b', 'c', 'd', 'e'];
    for (const first of [0, 2, 4]) {
      const places = arms.map((each) =>
        [first, first + 1].map((round) => inTurn(arms, round).indexOf(each)).reduce((sum, at) => sum + at),
      );
      expect(places).toEqual(arms.map(() => arms.length - 1));
    }
    expect(inTurn(arms, 2)).not.toEqual(inTurn(arms, 0));
  });

  it('N6 tells the slowdown of an arm, with an interval around it', () => {
    const { slowdown } = arm(1.3);
    expect(slowdown?.p99.ratio).toBeCloseTo(1.3, 5);
    expect(slowdown?.p99.low).toBeLessThanOrEqual(1.3);
    expect(slowdown?.p99.high).toBeGreaterThanOrEqual(1.3);
  });

  it.each([
    [1.1, {}, 'the aim of 1.2 holds'],
    [1.4, {}, 'within the bound of 1.5, not the aim of 1.2'],
    [1.6, {}, 'beyond the bound of 1.5'],
    [
      1.6,
      { cores: { groups: {}, machine: 0.95, stolen: 0 } },
      'the processors are saturated (95 %): reported, not judged',
    ],
    [
      1.6,
      { cores: { groups: {}, machine: 0.7, stolen: 0.25 } },
      'the processors are saturated (95 %): reported, not judged',
    ],
    [1.0, { refused: 1 }, '2 calls of victims were refused'],
  ])('N6 %s times as slow, %o: %s', (by, more, verdict) => {
    expect(verdictOf(arm(by, more))).toContain(verdict);
  });

  it('N6 counts a call that was not done by the time that it was waited for', () => {
    const figures = figuresOf([spell('own', [100, 20_000], { unfinished: 1 })], alone);
    expect(figures).toMatchObject({ max: 20_000, unfinished: 1, samples: 2 });
  });

  it('N6 takes rounds as they were disturbed: one bad round widens the interval', () => {
    const calm = Array.from({ length: 8 }, () => hundred);
    const disturbed = [...calm.slice(1), hundred.map((ms) => ms * 3)];
    const [[low, high] = [0, 0]] = slowdownIntervals(disturbed, calm, [0.99]);
    expect(low).toBeLessThan(1.1);
    expect(high).toBeGreaterThan(2);
  });
});

describe('fair-shares', () => {
  const calls = (every: number, heldMs: number) =>
    Array.from({ length: Math.floor(1_000 / every) }, (_, index) => ({
      index,
      startedAt: index * every,
      endedAt: index * every + heldMs,
    }));
  const window = { from: 0, until: 1_000 };

  it('N2 is 1 where each has what its weight says, whatever a call costs', () => {
    const shares = sharesIn(
      [
        { tenant: 'a', weight: 1, costMs: 40, calls: calls(40, 20) },
        { tenant: 'b', weight: 4, costMs: 10, calls: calls(10, 5) },
      ],
      window,
    );
    expect(shares.jain).toBeCloseTo(1, 2);
    expect(shares.slots).toBeCloseTo(1, 1);
    expect(shares.largestGap).toBeLessThanOrEqual(1);
  });

  it('N2 shows who gets nothing', () => {
    const shares = sharesIn(
      [
        { tenant: 'a', weight: 1, costMs: 10, calls: calls(10, 10) },
        { tenant: 'b', weight: 1, costMs: 10, calls: [] },
      ],
      window,
    );
    expect(shares.jain).toBeCloseTo(0.5, 5);
    expect(shares.largestGap).toBeGreaterThan(90);
  });

  it('N2 counts a call in the window that it ended in, and its slot as long as it was held there', () => {
    const across = [{ index: 0, startedAt: -500, endedAt: 500 }];
    const shares = sharesIn([{ tenant: 'a', weight: 1, costMs: 1_000, calls: across }], window);
    expect(shares.tenants[0]).toMatchObject({ calls: 1, slots: 0.5 });
    expect(jainIndex([1, 1, 1, 1])).toBe(1);
  });
});
