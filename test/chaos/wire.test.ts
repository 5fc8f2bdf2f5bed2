import { wireFaults } from './wire';

describe('writes through a network that drops, resets, stalls, doubles and delays', () => {
  it('T3 no blind second write, each unknown in review, none lost and none twice', async () => {
    const report = await wireFaults({}, { seed: 11, writes: 90 });
    expect(report.breaches).toEqual([]);
    expect(report.writes).toMatchObject({ intended: 90, duplicates: 0, lost: 0 });
    expect(report.blindResends).toBe(0);
    // Every fault met each kind of system that it may meet, and people had something to say.
    expect(Object.keys(report.faults['keyed'] ?? {}).sort()).toEqual([
      'delay',
      'drop_reply',
      'duplicate',
      'pass',
      'reset_before',
      'stall',
    ]);
    const blindFaults = Object.entries(report.faults['blind'] ?? {}).reduce(
      (sum, [fault, count]) => sum + (fault === 'pass' ? 0 : count),
      0,
    );
    expect(blindFaults).toBeGreaterThan(0);
    expect(report.unknown.reviews).toBeGreaterThanOrEqual(blindFaults);
    expect(report.unknown.happened + report.unknown.didNotHappen).toBe(report.unknown.reviews);
  }, 420_000);
});
