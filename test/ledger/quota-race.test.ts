import { BINDING, quotaRace, unbound } from './quota-race';

const RESERVATIONS = Number(process.env['BULKHEAD_RACE_RESERVATIONS'] ?? 3_000);

test('Q1 Q2 reservations race at caps on every layer, with kills and retries: overspend 0, leaked 0, the journal gives the counters', async () => {
  const report = await quotaRace({
    seed: 2_026,
    reservations: RESERVATIONS,
    processes: 2,
    lanes: 5,
    kills: 3,
    fences: 2,
    limitChanges: 24,
  });
  expect(report.breaches).toEqual([]);
  expect(report).toMatchObject({ overspend: 0, leaked: 0, kills: 3, fences: 2, limitChanges: 24 });
  expect(report.admitted + report.refused).toBeGreaterThanOrEqual(RESERVATIONS);
  // Otherwise it was no race, nothing was lost in it, or its judge sees nothing.
  const { overshoots, late, reaped, unheard, judgedTighter, days } = report;
  for (const [what, count] of Object.entries({
    overshoots: overshoots.attempts,
    late,
    reaped,
    unheard,
    judgedTighter,
  }))
    expect({ what, count, some: count > 0 }).toEqual({ what, count, some: true });
  expect(days).toBeGreaterThan(1);
  // The proof at full size is stopped by each of them.
  expect(unbound(report, BINDING).length).toBeLessThanOrEqual(3);
}, 300_000);
