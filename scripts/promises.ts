import { readFileSync } from 'node:fs';
import path from 'node:path';
import { findOrphans, readGuarantees, readTitles } from './guarantees';

/** Holds `docs/guarantees.md` against the titles of the tests, both ways. Ends 1 and lists what has no partner. */
const root = path.join(__dirname, '..');
const rows = readGuarantees(readFileSync(path.join(root, 'docs', 'guarantees.md'), 'utf8'));
const titles = readTitles(path.join(root, 'test'));
const problems = findOrphans(rows, titles);
for (const problem of problems) process.stderr.write(`${problem}\n`);
if (problems.length > 0) process.exitCode = 1;
else
  process.stdout.write(
    `${rows.length} promises, ${rows.filter((row) => row.status === 'proven').length} proven, ${titles.length} numbered tests\n`,
  );
