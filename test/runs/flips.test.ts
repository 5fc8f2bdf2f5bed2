import { flips } from './flips';
import { FLIP_POINTS, FLIPS, trials } from './flipping';

const STRATA = FLIPS.reduce((sum, { at }) => sum + at.length, 0);

test('P10 P4 policy, approval and scope changed between check and send: nothing is decided by the old state after the change', async () => {
  const report = await flips(trials(STRATA), { lanes: 5 });
  expect(report.breaches).toEqual([]);
  expect(report.trials).toBe(STRATA);
  expect(Object.keys(report.strata)).toHaveLength(STRATA);
  for (const point of FLIP_POINTS)
    expect(Object.keys(report.strata).some((name) => name.endsWith(`@ ${point}`))).toBe(true);
  // What was let in before the change does go out, as a rule: the places are those of calls that were on their way.
  const letIn = Object.entries(report.strata).filter(([name]) => !name.endsWith('@ decided'));
  expect(letIn.filter(([, { arrived }]) => arrived > 0).length).toBeGreaterThan(letIn.length / 2);
}, 400_000);
