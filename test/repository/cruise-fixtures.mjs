// Prints, for each deliberately wrong tree, the names of the rules it breaks. dependency-cruiser is an ES module, which
// jest cannot load, hence a process of its own.
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { cruise } from 'dependency-cruiser';

const root = path.resolve(import.meta.dirname, '..', '..');
const { forbidden, options } = createRequire(import.meta.url)(path.join(root, '.dependency-cruiser.js'));
const fixtures = path.join(root, 'test', 'fixtures', 'wrong-imports');
const { exclude, reporterOptions, ...cruiseOptions } = options;

const broken = {};
for (const entry of readdirSync(fixtures, { withFileTypes: true })) {
  if (!entry.isDirectory()) continue;
  const baseDir = path.join(fixtures, entry.name);
  const { output } = await cruise(
    ['.'],
    { ...cruiseOptions, baseDir, ruleSet: { forbidden }, validate: true },
    cruiseOptions.enhancedResolveOptions,
  );
  broken[entry.name] = [...new Set(output.summary.violations.map((violation) => violation.rule.name))];
}
process.stdout.write(
  JSON.stringify({ rules: forbidden.map(({ name, comment }) => ({ name, comment })), broken }),
);
