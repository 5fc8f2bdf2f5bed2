import path from 'node:path';
import { misfits } from '../../scripts/guard-fit';
import { GUARDS, type Guard } from '../../scripts/guard-list';

const ROOT = path.join(__dirname, '..', '..');
const guard: Guard = {
  name: 'the one that is tried here',
  file: 'scripts/guard-fit.ts',
  find: 'if (times !== 1)',
  put: 'if (false)',
  tests: ['test/repository/guards'],
  titles: 'what does not fit',
};

test('every guard fits the tree: its text stands once, and the tests that hold it are there', () => {
  expect(misfits(GUARDS, ROOT)).toEqual([]);
  const names = GUARDS.map(({ name }) => name);
  expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([]);
});

test('what does not fit is told by name, and why', () => {
  expect(misfits([guard], ROOT)).toEqual([]);
  for (const [change, why] of [
    [{ find: 'nowhere to be found' }, 'its text stands 0 times'],
    [{ find: 'const ' }, 'times in scripts/guard-fit.ts, not once'],
    [{ file: 'scripts/no-such-file.ts' }, 'its text stands 0 times'],
    [{ put: guard.find }, 'its replacement is its text'],
    [{ tests: ['test/no-such'] }, 'no test file is called test/no-such'],
    [{ titles: 'what does not fit|no such title' }, 'is called no such title'],
  ] satisfies [Partial<Guard>, string][])
    expect(misfits([{ ...guard, ...change }], ROOT).join('\n')).toContain(why);
});
