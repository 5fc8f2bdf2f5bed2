import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { example } from '../../examples/support-desk/example';
import { endProcess, identify, OwnedProcesses } from '../../workers/embedded/owned-processes';
import { compiledModule } from '../../workers/package-paths';
import { rememberFreePorts } from '../support/temporal-ports';

/** Scenarios that need the whole stack: `bulkhead up --scenario …` as a person types it, one state after the other. */
const stateDir = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-scenarios-'));
const left: ChildProcess[] = [];

beforeAll(() => rememberFreePorts(stateDir));
afterAll(async () => {
  for (const child of left) child.kill('SIGTERM');
  for (const child of left)
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
  // Where a start was cut off, nothing else would end these.
  await new OwnedProcesses(stateDir).endLeftovers(5_000);
  const pidFile = path.join(stateDir, 'postgres', 'data', 'postmaster.pid');
  const postgres = existsSync(pidFile) && identify(Number(readFileSync(pidFile, 'utf8').split('\n')[0]));
  if (postgres) await endProcess(postgres, 10_000, 'SIGINT');
  rmSync(stateDir, { recursive: true, force: true });
});

async function up(...words: string[]): Promise<{ code: number | null; output: string }> {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !name.startsWith('BULKHEAD_') && !/^(TEMPORAL_|DATABASE_URL)/.test(name),
    ),
  );
  const child = spawn(process.execPath, [compiledModule('workers/main'), 'up', ...words], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  left.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (part: Buffer) => (output += part.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}

/** The lines of a table in plain text: cells by column, the first one by name. */
const rowNamed = (output: string, name: string): string[] =>
  output
    .split('\n')
    .map((line) => line.trim().split(/\s{2,}/))
    .find(([first]) => first === name) ?? [];

test('U4 the help of `up` names every scenario', async () => {
  const { code, output } = await up('--help');
  expect(code).toBe(0);
  for (const name of Object.keys(example.scenarios)) expect(output).toMatch(new RegExp(`^ {2}${name} `, 'm'));
}, 30_000);

test('T3 the crash scenario: workers killed and PostgreSQL stopped while three tenants work; nothing twice, nothing lost', async () => {
  const { code, output } = await up('--scenario', 'crash', '--state-dir', stateDir);
  expect(output).toMatch(/all \d+ as the scenario says/);
  expect(code).toBe(0);
  expect(output.match(/SIGKILL prod-(host|control)/g)?.length).toBeGreaterThanOrEqual(5);
  expect(output.match(/PostgreSQL \(process \d+\) stopped at once/g)).toHaveLength(2);
  expect(output.match(/PostgreSQL is up again/g)).toHaveLength(2);
  const [, intended, ...counts] = rowNamed(output, 'all').map(Number);
  expect(intended).toBeGreaterThan(60);
  const effects = counts.slice(0, 4).reduce((sum, count) => sum + count, 0);
  expect(effects).toBe(intended);
  // Duplicates, lost, in review, in the journal only, in a log only.
  expect(counts.slice(5)).toEqual([0, 0, 0, 0, 0]);
}, 360_000);

test('P4 the approvals scenario: one refund is released, one denied, one forbidden by a policy edited meanwhile; twice on one state', async () => {
  for (let round = 1; round <= 2; round += 1) {
    const { code, output } = await up('--scenario', 'approvals', '--state-dir', stateDir);
    expect(output).toMatch(/all 14 as the scenario says/);
    expect(code).toBe(0);
    expect(output).toMatch(/approve → deny +large-refund +refund-limit/);
    expect(output).toMatch(/asked under version \d+, refused by version \d+ although approved/);
  }
}, 600_000);

test('T5 the rollback scenario: undone by themselves, by an operator, and with a system away; the state is as before', async () => {
  const { code, output } = await up('--scenario', 'rollback', '--state-dir', stateDir);
  expect(output).toMatch(/all 6 as the scenario says/);
  expect(code).toBe(0);
  expect(output.match(/^ {4}undo {2}/gm)).toHaveLength(11);
  expect(output.match(/^ {4}left {2}/gm)).toHaveLength(6);
  expect(output).toMatch(/the refund was undone at attempt (?:[2-9]|\d\d)/);
}, 240_000);

test('N6 the flood scenario: hundreds of runs of one tenant wait and say why, and the others keep their pace', async () => {
  const { code, output } = await up('--scenario', 'flood', '--state-dir', stateDir);
  expect(output).toMatch(/all \d+ as the scenario says/);
  expect(code).toBe(0);
  expect(output).toMatch(/state +queued/);
  expect(output).toMatch(/200 runs, all worked off, each intended change once/);
}, 600_000);
