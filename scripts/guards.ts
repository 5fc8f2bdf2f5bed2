import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { misfits } from './guard-fit';
import { GUARDS, type Guard } from './guard-list';

/**
 * Removes each guard in a copy of the tree and runs the tests that are said to hold it: they have to turn red. A test that
 * stays green without the line it guards is no test. Ends 1 where one stays green; and before it runs anything where a guard,
 * wanted or not, does not fit the tree any more.
 *
 * node scripts/run.js scripts/guards.ts [--check] [part of a guard's name …]
 *
 * `--check` looks whether they fit, and runs nothing.
 */
const root = path.join(__dirname, '..');
const wanted = process.argv.slice(2).filter((word) => word !== '--check');
const guards = GUARDS.filter(({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
const LEFT_OUT = new Set(['node_modules', 'dist', '.bulkhead', '.git']);

const problems = misfits(GUARDS, root);
for (const problem of problems) process.stderr.write(`${problem}\n`);
if (problems.length > 0) process.exitCode = 1;
else if (process.argv.includes('--check')) process.stdout.write(`${GUARDS.length} guards fit the tree\n`);
else if (!allHold()) process.exitCode = 1;

/** Tries each wanted guard in a copy of the tree. Answers whether there is one, and every one turned its tests red. */
function allHold(): boolean {
  const copy = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-guards-'));
  try {
    cpSync(root, copy, { recursive: true, filter: (file) => !LEFT_OUT.has(path.relative(root, file)) });
    symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
    const held = guards.map((guard, index) => {
      process.stdout.write(`${index + 1}/${guards.length} without ${guard.name} … `);
      const { red, trouble } = tried(guard, copy);
      process.stdout.write(
        red.length > 0
          ? `red, as it should be:\n${red.map((title) => `    ${title}\n`).join('')}`
          : `${trouble ?? 'STAYS GREEN'}\n`,
      );
      return red.length > 0;
    });
    return held.length > 0 && !held.includes(false);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** What does not run at all proves nothing, and keeps no other guard from being tried. */
function tried(guard: Guard, copy: string): { red: string[]; trouble?: string } {
  try {
    return { red: redWithout(guard, copy) };
  } catch (error) {
    return { red: [], trouble: `DOES NOT RUN: ${String(error)}` };
  }
}

/** Titles of the tests that fail without the guard. */
function redWithout({ file, find, put, tests, titles }: Guard, copy: string): string[] {
  const at = path.join(copy, file);
  const text = readFileSync(at, 'utf8');
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
  const line = /^\{"num.*$/m.exec(output)?.[0];
  if (line === undefined) throw new Error('jest came to no result');
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
