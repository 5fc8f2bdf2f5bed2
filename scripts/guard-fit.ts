import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { allTitlesIn } from './guarantees';
import type { Guard } from './guard-list';

/**
 * Holds guards against the tree, without running anything: one line for each that cannot be tried, because its text does not
 * stand exactly once in its file, its replacement changes nothing, or a test that it names is not there.
 *
 * @param root of the repository.
 */
export function misfits(guards: readonly Guard[], root: string): string[] {
  const files = readdirSync(path.join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map((name) => `test/${name.split(path.sep).join('/')}`)
    .filter((name) => name.endsWith('.test.ts'));
  return guards.flatMap((guard) => {
    const { name, find, put, tests, titles } = guard;
    const problems: string[] = [];
    const times = timesIn(root, guard);
    if (times !== 1) problems.push(`its text stands ${times} times in ${guard.file}, not once`);
    if (find === put) problems.push('its replacement is its text');
    const run = tests.flatMap((part) => {
      const found = files.filter((file) => file.includes(part));
      if (found.length === 0) problems.push(`no test file is called ${part}`);
      return found;
    });
    const known = [...new Set(run)].flatMap((file) =>
      allTitlesIn(readFileSync(path.join(root, file), 'utf8')).map(({ title }) => title),
    );
    for (const part of titles.split('|'))
      if (!known.some((title) => selects(part, title)))
        problems.push(`no test of ${tests.join(', ')} is called ${part}`);
    return problems.map((problem) => `guard "${name}": ${problem}`);
  });
}

function timesIn(root: string, { file, find }: Guard): number {
  const at = path.join(root, file);
  return existsSync(at) ? readFileSync(at, 'utf8').split(find).length - 1 : 0;
}

/** Where a table fills in its title (`%s`, `$name`). */
const GAP = /%[a-z]|\$[\w.]+/;

/** Whether jest would choose the title by this part of a pattern; a title that a table fills in is known up to its first gap. */
function selects(part: string, title: string): boolean {
  const gap = GAP.exec(title);
  return new RegExp(part).test(title) || (gap !== null && part.startsWith(title.slice(0, gap.index)));
}
