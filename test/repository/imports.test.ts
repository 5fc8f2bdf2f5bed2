import { execFileSync } from 'node:child_process';
import path from 'node:path';

interface Cruised {
  readonly rules: { readonly name: string; readonly comment: string }[];
  readonly broken: Readonly<Record<string, string[]>>;
}

const { rules, broken } = JSON.parse(
  execFileSync(process.execPath, [path.join(__dirname, 'cruise-fixtures.mjs')], { encoding: 'utf8' }),
) as Cruised;

test.each(rules)('the import rule $name bites, and says why it is there', ({ name, comment }) => {
  expect(comment.length).toBeGreaterThan(20);
  expect(Object.keys(broken)).toContain(name);
  expect(broken[name]).toContain(name);
});

test('every deliberately wrong tree belongs to a rule', () => {
  expect(Object.keys(broken).sort()).toEqual(rules.map(({ name }) => name).sort());
});
