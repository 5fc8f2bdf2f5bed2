import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { GUARDS, type Guard } from './guard-list';

/**
 * Removes each guard in a copy of the tree and runs the tests that are said to hold it: they have to turn red. A test that
 * stays green without the line it guards is no test. Ends 1 where one stays green, or where a guard's text is gone.
 *
 * node scripts/run.js scripts/guards.ts [part of a guard's name]
 */
const root = path.join(__dirname, '..');
const wanted = process.argv[2] ?? '';
const guards = GUARDS.filter(({ name }) => name.includes(wanted));
const copy = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-guards-'));
const LEFT_OUT = new Set(['node_modules', 'dist', '.bulkhead', '.git']);

try {
  cpSync(root, copy, { recursive: true, filter: (file) => !LEFT_OUT.has(path.relative(root, file)) });
  symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
  const held = guards.map((guard, index) => {
    process.stdout.write(`${index + 1}/${guards.length} without ${guard.name} … `);
    const red = redWithout(guard);
    process.stdout.write(
      red.length > 0
        ? `red, as it should be:\n${red.map((title) => `    ${title}\n`).join('')}`
        : 'STAYS GREEN\n',
    );
    return red.length > 0;
  });
  if (held.length === 0 || held.includes(false)) process.exitCode = 1;
} finally {
  rmSync(copy, { recursive: true, force: true });
}

/** Titles of the tests that fail without the guard. Throws where its text does not stand exactly once. */
function redWithout({ name, file, find, put, tests, titles }: Guard): string[] {
  const at = path.join(copy, file);
  const text = readFileSync(at, 'utf8');
  if (text.split(find).length !== 2)
    throw new Error(
      `guard "${name}": its text does not stand exactly once in ${file}; correct scripts/guard-list.ts`,
    );
  writeFileSync(
    at,
    text.replace(find, () => put),
  );
  try {
    const { stdout } = spawnSync(
      'npx',
      ['jest', ...tests, '--testNamePattern', titles, '--json', '--silent'],
      {
        cwd: copy,
        encoding: 'utf8',
        maxBuffer: 64 * 1024 * 1024,
        env: { ...process.env, UPDATE_SCHEMA: '' },
      },
    );
    return failedTitles(stdout);
  } finally {
    writeFileSync(at, text);
  }
}

function failedTitles(output: string): string[] {
  // One line, among what Temporal's native part prints of its own.
  const line = /^\{"num.*$/m.exec(output)?.[0] ?? '';
  const report = JSON.parse(line) as {
    numTotalTests: number;
    testResults: {
      assertionResults: { status: string; fullName: string }[];
      message: string;
      name: string;
    }[];
  };
  const failed = report.testResults.flatMap(({ assertionResults }) =>
    assertionResults.filter(({ status }) => status === 'failed').map(({ fullName }) => fullName),
  );
  // A file that does not even load proves nothing about the guard.
  const broken = report.testResults.find(({ assertionResults }) => assertionResults.length === 0);
  if (broken) throw new Error(`${broken.name} did not run: ${broken.message.slice(0, 500)}`);
  return failed;
}
