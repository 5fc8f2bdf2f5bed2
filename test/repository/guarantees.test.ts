import { findOrphans, readGuarantees, titlesIn } from '../../scripts/guarantees';

const TABLE = `
## E. Envelope
| number | promise | tests | status |
|---|---|---|---|
| E1 | one envelope | \`test/envelope/a.test.ts\` | proven |
| **E2** | signed | test/envelope/a.test.ts, test/envelope/b.test.ts |
| P12 | backtest | | not yet |
`;

const SOURCE = `
test('E1 one', () => {});
describe('E2 signed', () => { it.each([1])(\`E2 \${1} each\`, () => {}); });
// test('E9 in a comment', () => {});
test.skip('P12 skipped proves nothing', () => {});
const words = "test('E8 in a string')";
`;

test('rows and titles are read by their form, not by their looks', () => {
  expect(readGuarantees(TABLE).map(({ number, files, status }) => [number, files.length, status])).toEqual([
    ['E1', 1, 'proven'],
    ['E2', 2, 'proven'],
    ['P12', 0, 'not yet'],
  ]);
  expect(titlesIn(SOURCE, 'test/envelope/a.test.ts').map(({ number, line }) => [number, line])).toEqual([
    ['E1', 2],
    ['E2', 3],
    ['E2', 3],
  ]);
});

test('orphans are found both ways: rows without tests, tests without rows, files named wrongly, numbers twice', () => {
  const rows = readGuarantees(TABLE);
  const titles = titlesIn(SOURCE, 'test/envelope/a.test.ts');
  expect(findOrphans(rows, titles)).toEqual([expect.stringContaining('E2 names test/envelope/b.test.ts')]);
  const other = titlesIn(
    "test('E2 signed', () => {}); test('Q9 unheard of', () => {});",
    'test/envelope/b.test.ts',
  );
  expect(findOrphans(rows, [...titles, ...other])).toEqual([expect.stringContaining('begins with Q9')]);
  expect(findOrphans(rows, other).join('\n')).toMatch(/E1 is called proven, but no test title/);
  expect(() => readGuarantees(`${TABLE}| E1 | again | |\n`)).toThrow(/E1 stands twice/);
});
