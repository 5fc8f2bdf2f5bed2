import fc from 'fast-check';
import { lineOf, PacedLooks } from '../../activities/paced-looks';

const PAUSE = 500;

describe('N6 P9 looks of a crowd that waits in place', () => {
  let now = 0;
  let looks = new PacedLooks(() => now);
  beforeEach(() => {
    now = 10_000;
    looks = new PacedLooks(() => now);
  });
  const crowd = (size: number, tenant = 'acme', rule = 'calls_in_flight'): number[] =>
    Array.from({ length: size }, () => looks.pause(tenant, rule, PAUSE));

  test('P9 who waits alone looks after its own pause, time and again', () => {
    for (let turn = 0; turn < 5; turn += 1) {
      expect(looks.pause('acme', 'calls_in_flight', PAUSE)).toBe(PAUSE);
      now += PAUSE;
    }
  });

  test('N6 a crowd looks ten times a second where nothing ends, each of it in its turn', () => {
    expect(crowd(5)).toEqual([500, 600, 700, 800, 900]);
    now += 200;
    expect(crowd(2)).toEqual([800, 900]);
  });

  test('N6 and half as often again as calls end, once more than a few do', () => {
    for (let call = 0; call < 40; call += 1) looks.ended('acme');
    const [first = 0, second = 0, third = 0] = crowd(3);
    expect([second - first, third - second]).toEqual([17, 16]);
    // A second that has just begun says less than the one before it.
    now += 1_100;
    looks.ended('acme');
    expect(crowd(2)).toEqual([PAUSE, PAUSE + 17]);
    // What ended two seconds ago says nothing of what ends now.
    now += 2_000;
    expect(crowd(3)).toEqual([500, 600, 700]);
  });

  test('N6 no tenant, and no other limit, waits in the line of a crowd', () => {
    crowd(50);
    expect(crowd(1, 'globex')).toEqual([PAUSE]);
    expect(crowd(1, 'acme', 'calls_per_minute')).toEqual([PAUSE]);
    for (let call = 0; call < 1_000; call += 1) looks.ended('globex');
    expect(crowd(2, 'acme', 'steps_per_day')).toEqual([500, 600]);
  });

  test('N6 a crowd of any size puts nobody off for more than twenty seconds, whatever became of the others', () => {
    expect(Math.max(...crowd(100_000))).toBe(20_000);
    now += 20_000;
    expect(crowd(1)[0]).toBeLessThanOrEqual(PAUSE + 100);
  });

  test('P9 never sooner than asked, never later than twenty seconds or what was asked: drawn at random', () => {
    const Event = fc.oneof(
      fc.record({ does: fc.constant('waits' as const), ms: fc.integer({ min: 0, max: 60_000 }) }),
      fc.record({ does: fc.constant('ends' as const), ms: fc.constant(0) }),
      fc.record({ does: fc.constant('passes' as const), ms: fc.integer({ min: 0, max: 3_000 }) }),
    );
    fc.assert(
      fc.property(fc.array(Event, { maxLength: 200 }), (events) => {
        now = 1_000;
        looks = new PacedLooks(() => now);
        for (const { does, ms } of events) {
          if (does === 'passes') now += ms;
          else if (does === 'ends') looks.ended('acme');
          else {
            const pause = looks.pause('acme', 'calls_in_flight', ms);
            expect(pause).toBeGreaterThanOrEqual(ms);
            expect(pause).toBeLessThanOrEqual(Math.max(ms, 20_000));
          }
        }
      }),
    );
  });

  test('N6 of a thousand tenants those that wait for nothing are forgotten, and no other is', () => {
    for (let tenant = 0; tenant < 998; tenant += 1) crowd(1, `t${tenant}`);
    now += 5_000;
    crowd(20, 'globex');
    for (let call = 0; call < 40; call += 1) looks.ended('hooli');
    // Beyond a thousand: what is over goes; who waits still waits in its turn, and what ended just now is still known.
    expect(looks.size).toBe(1_000);
    now += 500;
    crowd(1, 'initech');
    expect(looks.size).toBe(3);
    expect(crowd(1, 'globex')).toEqual([2_000]);
    expect(crowd(2, 'hooli')).toEqual([PAUSE, PAUSE + 17]);
  });

  test('N6 P9 who takes turns: a crowd at one limit, and whom the breaker of one system keeps waiting', () => {
    const limit = { rule: 'tenant:acme/calls_in_flight', kind: 'throttled' } as const;
    const again = { turn: 2, pauseMs: 1_000, system: 'crm', undo: false };
    expect(lineOf(limit, again)).toBe(limit.rule);
    expect(lineOf(limit, { ...again, turn: 1 })).toBeUndefined();
    expect(lineOf(limit, { ...again, pauseMs: 1_001 })).toBeUndefined();
    expect(lineOf({ ...limit, kind: 'frozen' }, again)).toBeUndefined();
    expect(lineOf({ rule: 'provider_down', kind: 'provider_degraded' }, again)).toBeUndefined();
    const open = { rule: 'breaker_open', kind: 'provider_degraded' } as const;
    expect(lineOf(open, { ...again, turn: 1, pauseMs: 6_000 })).toBe('breaker_open crm');
    expect(lineOf(limit, { ...again, undo: true })).toBeUndefined();
    expect(lineOf(open, { ...again, undo: true })).toBeUndefined();
    expect(lineOf(open, again)).not.toBe(lineOf(open, { ...again, system: 'mail' }));
  });

  test('N6 N5 whom a breaker keeps waiting comes from its moment on, one after the other', () => {
    const told = [6_000, 5_900, 5_900, 100].map((ms) => looks.pause('acme', 'breaker_open crm', ms));
    expect(told).toEqual([6_000, 6_100, 6_200, 6_300]);
    // Another system's answer says nothing of this one.
    looks.answered('acme', 'mail');
    looks.answered('globex', 'crm');
    expect(looks.pause('acme', 'breaker_open crm', 100)).toBe(6_400);
    looks.answered('acme', 'crm');
    expect(looks.pause('acme', 'breaker_open crm', 100)).toBe(100);
  });
});
