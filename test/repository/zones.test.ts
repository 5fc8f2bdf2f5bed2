import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { ZONES } from '../../activities/registry';
import * as names from '../../contracts/names';

const root = path.join(__dirname, '..', '..');
const text = (file: string): string => readFileSync(path.join(root, file), 'utf8');

/** Cells of the table under a heading of docs/zones.md, the code signs of names taken away. */
function table(heading: string): string[][] {
  const section = text('docs/zones.md').split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const lines = section.split('\n').filter((line) => line.startsWith('|'));
  return lines.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  );
}

const zoneOf = (rows: string[][], column = 1): Record<string, string> =>
  Object.fromEntries(rows.map((row) => [row[0] ?? '', row[column] ?? '']));

test('E5 every component is in one of the three zones: queues and workflows are those of the code', () => {
  const components = table('Components');
  const zones = new Set(components.map(([, zone]) => zone));
  expect([...zones].every((zone) => ['shared', 'execution', 'dedicated'].includes(zone ?? ''))).toBe(true);
  const queues = Object.entries(names).flatMap(([name, value]) =>
    name.endsWith('_QUEUE') && typeof value === 'string' ? [`queue ${value}`] : [],
  );
  const workflows = [
    ...text('workflows/index.ts').matchAll(/export \{ (\w+) \} from '\.\/(?!interceptors)/g),
  ].map(([, name]) => `workflow ${name}`);
  expect(components.map(([name]) => name).sort()).toEqual(
    [...queues, `queue ${names.tenantQueue('<tenant>' as never)}`, ...workflows].sort(),
  );
});

test('E5 every activity is verified as its zone says: what serves a run or its follow-ups is tenant-scoped', () => {
  const rows = table('Activities');
  expect(zoneOf(rows)).toEqual(ZONES);
  for (const [name, verified, zone] of rows) {
    const scoped = verified === 'run' || verified === 'followUp';
    expect([name, zone]).toEqual([name, scoped ? 'execution' : 'shared']);
  }
});

test('E5 every table has its zone: a tenant’s own carries the key and forced row security, a shared one no tenant', () => {
  const schema = text('storage/schema.sql');
  const listed = zoneOf(table('Tables'));
  const tables = [...schema.matchAll(/^create table bulkhead\.(\w+) \(\n([\s\S]*?)\n\)/gm)];
  expect(Object.keys(listed).sort()).toEqual(tables.map(([, name]) => name).sort());
  const walls = tables.map(([, name = '', columns = '']) => {
    const keyed =
      /^ {2}tenant_id \S+ not null/m.test(columns) && /^ {2}environment \S+ not null/m.test(columns);
    const forced = schema.includes(`alter table bulkhead.${name} force row level security;`);
    const scoped = new RegExp(
      `create policy tenant_scope on bulkhead\\.${name} .*tenant_id.*environment`,
    ).test(schema);
    const dedicated = keyed && forced && scoped;
    return [name, dedicated ? 'dedicated' : /\btenant_id\b/.test(columns) ? 'neither' : 'shared'];
  });
  expect(Object.fromEntries(walls)).toEqual(listed);
});

test('E5 what a host remembers beyond a call has its zone', () => {
  const listed = table('What a host remembers').map(([file = '']) => file);
  expect(listed.filter((file) => !existsSync(path.join(root, file)))).toEqual([]);
  const remembering = ['activities', 'policy', 'secrets', 'storage', 'tools'].flatMap((folder) =>
    readdirSync(path.join(root, folder))
      .filter((file) => file.endsWith('.ts'))
      .map((file) => `${folder}/${file}`)
      .filter((file) => MEMORY.test(text(file))),
  );
  expect(remembering.filter((file) => !listed.includes(file))).toEqual([]);
});

/** Fields and module constants that live as long as the host; a plain map in a function is not told apart, and is listed by hand. */
const MEMORY =
  /^ {2}(?:private |readonly )+#?\w+ = new (?:Map|Recent|WeakMap)\b|\bnew Recent\b|^const \w+ = new WeakMap\b/m;
