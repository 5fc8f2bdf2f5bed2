import { execFileSync } from 'node:child_process';
import path from 'node:path';

const ROOT = path.resolve(__dirname, '..', '..');
const WRONG = [
  "void fetch('https://x.example');",
  "void globalThis.fetch('https://x.example');",
  'const { fetch: away } = globalThis; void away;',
  "void new WebSocket('wss://x.example');",
];
const RIGHT = 'export const granted = (io) => io.fetch;';
const GUARDED = ['activities', 'tools', 'policy', 'secrets', 'examples/support-desk/actions'];

/** Lines found wrong in each folder. Without types: a text that no file has cannot be type-checked. */
let found: Record<string, number[]>;

beforeAll(() => {
  const text = [...WRONG, RIGHT].join('\n');
  const script = `
    const { ESLint, Linter } = require('eslint');
    const eslint = new ESLint({ cwd: ${JSON.stringify(ROOT)} });
    const linesOf = async (folder) => {
      const { rules } = await eslint.calculateConfigForFile(folder + '/a.ts');
      const named = Object.entries(rules).filter(([name]) => /^no-restricted-(globals|properties)$/.test(name));
      const globals = { fetch: 'readonly', WebSocket: 'readonly', globalThis: 'readonly' };
      const found = new Linter().verify(${JSON.stringify(text)}, [
        { languageOptions: { globals }, rules: Object.fromEntries(named) },
      ]);
      return [folder, found.map(({ line }) => line)];
    };
    Promise.all(${JSON.stringify([...GUARDED, 'client'])}.map(linesOf)).then((all) =>
      console.log(JSON.stringify(Object.fromEntries(all))));`;
  found = JSON.parse(
    execFileSync(process.execPath, ['-e', script], { cwd: ROOT, encoding: 'utf8' }),
  ) as typeof found;
}, 120_000);

test.each(GUARDED)('T7 nothing in %s leaves but by the governed client', (folder) => {
  expect(found[folder]).toEqual([1, 2, 3, 4]);
});

test('T7 the control arm: where the rule is not, the same lines are not found', () => {
  expect(found['client']).toEqual([]);
});
