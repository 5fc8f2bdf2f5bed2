import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { app } from '../../examples/support-desk/app';
import { defineAction } from '../../tools/define-action';
import { combinations, compare, decideAll, type Row } from './golden-ground';

/**
 * What each agent of each tenant may do with whose records, in each environment: decided once, looked at, and kept in
 * `golden.table.txt`. Where a policy is meant to say something else from now on, `UPDATE_GOLDEN=1` writes the table anew:
 * read what changed in it before it is committed.
 */
const file = path.join(__dirname, 'golden.table.txt');
const COLUMNS = 5;

const read = (): Row[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const words = line.split(/ +/);
      return { key: words.slice(0, COLUMNS).join(' '), outcome: words.slice(COLUMNS).join(' ') };
    });

function write(rows: readonly Row[]): void {
  const lines = rows.map(({ key, outcome }) => [...key.split(' '), ...outcome.split(' ')]);
  const all = [['#tenant', 'agent', 'action', 'whose', 'environment', 'decision', 'rules'], ...lines];
  const widths =
    all[0]?.map((_, column) => Math.max(...all.map((words) => words[column]?.length ?? 0))) ?? [];
  const text = all.map((words) =>
    words
      .map((word, column) => word.padEnd(widths[column] ?? 0))
      .join(' ')
      .trimEnd(),
  );
  writeFileSync(file, `${text.join('\n')}\n`);
}

describe('P1 P12 the golden table of the support desk', () => {
  test('P12 each row is decided as it says', async () => {
    const rows = await decideAll(app);
    if (process.env['UPDATE_GOLDEN'] === '1') write(rows);
    const kept = new Map(read().map(({ key, outcome }) => [key, outcome]));
    const otherwise = rows.filter(({ key, outcome }) => (kept.get(key) ?? outcome) !== outcome);
    expect(otherwise.map(({ key, outcome }) => ({ key, kept: kept.get(key), outcome }))).toEqual([]);
  });

  test('P12 every agent × action × owner × environment of the app has its row, and no row is of what the app has no more', () => {
    const rows = read();
    expect(compare(app, rows)).toEqual({ uncovered: [], stale: [] });
    expect(new Set(rows.map(({ key }) => key)).size).toBe(rows.length);
    expect(rows).toHaveLength(combinations(app).length);
  });

  test('M1 no row lets an agent touch what another tenant owns, nor anything in another environment', () => {
    const rows = read().map(({ key, outcome }) => ({ words: key.split(' '), outcome }));
    const across = rows.filter(({ words }) => words[3] !== '-' && words[3] !== words[0]);
    const elsewhere = rows.filter(({ words }) => words[4] !== 'prod');
    expect(across.length).toBeGreaterThan(200);
    for (const row of [...across, ...elsewhere]) expect(row.outcome).toMatch(/^deny /);
    // The table is no table of refusals alone.
    expect(rows.filter(({ outcome }) => outcome.startsWith('allow ')).length).toBeGreaterThan(30);
  });

  test('P12 a new tool has no row until somebody writes what is asked of it; a tool that is gone leaves stale rows', () => {
    const door = defineAction({
      name: 'door.open',
      description: 'Opens a door.',
      effect: 'write',
      args: z.object({ door: z.string() }),
      result: z.object({}),
      system: null,
      timeout: '1s',
      run: () => Promise.resolve({}),
    });
    const more = { ...app, actions: new Map([...app.actions, [door.name, door]]) };
    const { uncovered, stale } = compare(more, read());
    expect(stale).toEqual([]);
    expect(uncovered).toHaveLength(3 * app.agents.size * 3 * 2);
    expect(uncovered).toContain('acme support_triage door.open globex prod');

    const fewer = { ...app, actions: new Map([...app.actions].filter(([name]) => name !== 'web.fetch')) };
    const gone = compare(fewer, read());
    expect(gone.uncovered).toEqual([]);
    expect(gone.stale).toContain('globex support_triage web.fetch globex prod');
  });
});
