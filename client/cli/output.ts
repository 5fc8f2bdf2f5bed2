import Table from 'cli-table3';
import type { CliContext } from './context';

export type Format = 'table' | 'json';

/** Controls and invisible formatting but for line ends: what could move a cursor or turn the reading direction. */
const UNPRINTABLE = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Text from tenants and systems outside may hold terminal control sequences: none reaches the terminal. */
export function printable(value: unknown): string {
  if (value === null || value === undefined) return '-';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.replace(UNPRINTABLE, '\uFFFD');
}

/** Indented JSON that is the same value to a program, and harmless in a terminal. */
export function jsonText(value: unknown, indent: 0 | 2 = 2): string {
  const escaped = (character: string): string =>
    [...Array(character.length).keys()]
      .map((i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`)
      .join('');
  return JSON.stringify(value, null, indent).replace(UNPRINTABLE, escaped);
}

/** Rows under headings, or the same rows as JSON. */
export function printRows<Row extends object>(
  context: CliContext,
  format: Format,
  rows: readonly Row[],
  columns: Record<string, (row: Row) => unknown>,
  empty: string,
): void {
  if (format === 'json') return context.write(`${jsonText(rows)}\n`);
  if (rows.length === 0) return context.say(empty);
  const table = plainTable(Object.keys(columns));
  for (const row of rows) table.push(Object.values(columns).map((cell) => printable(cell(row))));
  context.write(`${table.toString().replace(/ +$/gm, '')}\n`);
}

/** The same of a page; of a full one it says how the list goes on, for there may be more. `name` is what `--before` takes. */
export function printPage<Row extends object>(
  context: CliContext,
  format: Format,
  { rows, limit, name }: { rows: readonly Row[]; limit: number; name: (row: Row) => string | number },
  columns: Record<string, (row: Row) => unknown>,
  empty: string,
): void {
  printRows(context, format, rows, columns, empty);
  const last = rows.at(-1);
  if (format === 'table' && last && rows.length >= limit)
    context.say(`there may be more: the same with --before ${name(last)}`);
}

/** Names and values, one a line, or the same as JSON. */
export function printFields(
  context: CliContext,
  format: Format,
  value: object,
  fields: Record<string, unknown>,
): void {
  if (format === 'json') return context.write(`${jsonText(value)}\n`);
  const width = Math.max(...Object.keys(fields).map((name) => name.length));
  for (const [name, field] of Object.entries(fields)) {
    const lines = printable(field).split('\n');
    context.write(`${name.padEnd(width)}  ${lines.join(`\n${' '.repeat(width + 2)}`)}\n`);
  }
}

function plainTable(head: string[]): Table.Table {
  const chars: Record<string, string> = { middle: '  ' };
  for (const name of [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
  ])
    chars[name] = '';
  return new Table({ head, chars, style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 } });
}
