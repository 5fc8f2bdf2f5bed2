import { readFile } from 'node:fs/promises';
import { strangersIn } from '../../scripts/bundle-packages';
import { testTemporal } from '../support/shared-temporal';

/** What workflows are made of, as the bundler says. */

const heading = (path: string): string => `\n/***/ "${path}"\n/*!***!*/\n`;
const OWN = heading('./node_modules/@temporalio/workflow/lib/workflow.js') + heading('./workflows/index.ts');

test('the workflow bundle holds Temporal’s packages alone', async () => {
  expect(strangersIn(await readFile(testTemporal().bundlePath, 'utf8'))).toEqual([]);
});

test('a package that has no business in the workflow bundle is named, wherever it lies', () => {
  expect(strangersIn(OWN)).toEqual([]);
  const more = [
    '../../node_modules/zod/index.cjs',
    './node_modules/@x/y/z.js',
    './node_modules/zod/v4/core.cjs',
  ];
  expect(strangersIn(OWN + more.map(heading).join(''))).toEqual(['@x/y', 'zod']);
});

test('a bundle that does not show its packages does not pass', () => {
  expect(() => strangersIn('var a = 1;')).toThrow(/is not known/);
});
