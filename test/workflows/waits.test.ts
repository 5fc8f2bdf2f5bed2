import { pauseFor } from '../../workflows/waits';

const DAY_MS = 86_400_000;

/** Looks at a limit that never frees for this run, within a day. */
function looksInADay(retryAfterMs: number): number {
  let waited = 0;
  let looks = 0;
  for (; waited < DAY_MS; looks += 1) waited += pauseFor(retryAfterMs, waited);
  return looks;
}

test('Q3 a wait of a day for a limit is one look at its end, or a dozen where others were faster each time', () => {
  expect(looksInADay(DAY_MS)).toBe(1);
  // What frees sooner than this is waited for in place, and is no event at all.
  expect(looksInADay(10_000)).toBeLessThanOrEqual(15);
  expect(pauseFor(30_000, 0)).toBe(30_000);
});
