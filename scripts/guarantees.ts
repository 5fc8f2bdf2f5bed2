import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

/** A row of `docs/guarantees.md`: `| E1 | what is promised | test files | proven |`. */
export interface Guarantee {
  readonly number: string;
  readonly files: readonly string[];
  readonly status: 'proven' | 'not yet';
  readonly line: number;
}

/** A test whose title begins with a promise's number. */
export interface NumberedTest {
  readonly number: string;
  readonly title: string;
  /** Relative to the repository, with `/`. */
  readonly file: string;
  readonly line: number;
}

const NUMBER = /^[A-Z]\d{1,2}$/;
/** A title may begin with several: `E1 Q5 a run …` proves a part of both. */
const LEADING_NUMBERS = /^(?:[A-Z]\d{1,2}\s+)+/;

/**
 * Reads the table rows whose first cell is a promise's number. The other cells may stand in any order: files are what
 * looks like `test/….test.ts`, the status is the cell `proven` or `not yet`; without one, a row with files is proven.
 * Throws on a number that stands twice.
 */
export function readGuarantees(markdown: string): Guarantee[] {
  const rows: Guarantee[] = [];
  for (const [index, text] of markdown.split('\n').entries()) {
    if (!text.trimStart().startsWith('|')) continue;
    const cells = text.split('|').map((cell) => cell.trim().replace(/^\*\*(.*)\*\*$/, '$1'));
    const number = cells[1] ?? '';
    if (!NUMBER.test(number)) continue;
    const files = [...text.matchAll(/test\/[\w./-]+\.test\.ts/g)].map(([file]) => file);
    const said = cells
      .slice(2)
      .find((cell): cell is Guarantee['status'] => cell === 'proven' || cell === 'not yet');
    if (rows.some((row) => row.number === number))
      throw new Error(`docs/guarantees.md:${index + 1}: ${number} stands twice`);
    rows.push({ number, files, status: said ?? (files.length > 0 ? 'proven' : 'not yet'), line: index + 1 });
  }
  return rows;
}

/** Titles of all tests and groups under a directory that begin with a number, by the code's syntax and not its text. */
export function readTitles(directory: string): NumberedTest[] {
  const root = path.dirname(directory);
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.test.ts'),
  );
  return files.sort().flatMap((name) => {
    const file = path.join(directory, name);
    const relative = path.relative(root, file).split(path.sep).join('/');
    return titlesIn(readFileSync(file, 'utf8'), relative);
  });
}

/** Numbered titles in one file's text. */
export function titlesIn(text: string, file: string): NumberedTest[] {
  return allTitlesIn(text).flatMap(({ title, line }) => {
    const numbers = LEADING_NUMBERS.exec(title)?.[0].trim().split(/\s+/) ?? [];
    return numbers.map((number) => ({ number, title, file, line }));
  });
}

/** Titles of all tests and groups in one file's text; of a template only what stands before its first gap. */
export function allTitlesIn(text: string): { title: string; line: number }[] {
  const source = ts.createSourceFile('tests.ts', text, ts.ScriptTarget.ES2022, true);
  const found: { title: string; line: number }[] = [];
  const visit = (node: ts.Node): void => {
    const title = ts.isCallExpression(node) && callsJest(node) ? firstWords(node.arguments[0]) : undefined;
    if (title !== undefined)
      found.push({ title, line: source.getLineAndCharacterOfPosition(node.getStart()).line + 1 });
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/**
 * `test(…)`, `it(…)`, `describe(…)`, `.each`, `.failing` and the like of them, and names that begin with one of them, as
 * `testInBrowser`; a skipped test proves nothing.
 */
function callsJest(call: ts.CallExpression): boolean {
  let callee: ts.Expression = call.expression;
  const members: string[] = [];
  for (;;) {
    if (ts.isPropertyAccessExpression(callee)) {
      members.push(callee.name.text);
      callee = callee.expression;
    } else if (ts.isCallExpression(callee)) callee = callee.expression;
    else if (ts.isTaggedTemplateExpression(callee)) callee = callee.tag;
    else break;
  }
  return (
    ts.isIdentifier(callee) &&
    /^(test|it|describe)([A-Z]\w*)?$/.test(callee.text) &&
    !members.some((name) => name === 'skip' || name === 'todo')
  );
}

function firstWords(argument: ts.Expression | undefined): string | undefined {
  if (argument === undefined) return undefined;
  if (ts.isStringLiteralLike(argument)) return argument.text;
  if (ts.isTemplateExpression(argument)) return argument.head.text;
  return undefined;
}

/** Every row without a test, test without a row, and file that a row names wrongly; one line each. */
export function findOrphans(rows: readonly Guarantee[], titles: readonly NumberedTest[]): string[] {
  const problems: string[] = [];
  for (const row of rows) {
    const tests = titles.filter((title) => title.number === row.number);
    const at = `docs/guarantees.md:${row.line}: ${row.number}`;
    if (row.status === 'proven' && tests.length === 0) {
      problems.push(
        `${at} is called proven, but no test title begins with ${row.number}: write one, or call it "not yet"`,
      );
    }
    for (const file of row.files) {
      if (!tests.some((test) => test.file === file))
        problems.push(`${at} names ${file}, which has no test whose title begins with ${row.number}`);
    }
  }
  for (const test of titles) {
    if (!rows.some((row) => row.number === test.number)) {
      problems.push(
        `${test.file}:${test.line}: "${test.title}" begins with ${test.number}, which docs/guarantees.md does not have`,
      );
    }
  }
  return problems;
}
