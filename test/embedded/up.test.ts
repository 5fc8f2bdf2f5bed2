import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { endProcess, identify, OwnedProcesses } from '../../workers/embedded/owned-processes';
import { compiledModule } from '../../workers/package-paths';
import type { StackAddresses } from '../../workers/stack';
import { rememberFreePorts } from '../support/temporal-ports';

interface Recorded {
  readonly name: string;
  readonly pid: number;
}

const stateDir = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-up-'));
const left: ChildProcess[] = [];
afterAll(async () => {
  for (const child of left) child.kill('SIGTERM');
  for (const child of left)
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
  // Where an assertion failed between the two starts, nothing else would end these.
  const postgres =
    existsSync(path.join(stateDir, 'postgres', 'data', 'postmaster.pid')) && identify(postgresPid());
  await new OwnedProcesses(stateDir).endLeftovers(5_000);
  if (postgres) await endProcess(postgres, 10_000, 'SIGINT');
  rmSync(stateDir, { recursive: true, force: true });
});

/** `bulkhead up`, in a process group of its own as a terminal gives it. */
function up(): {
  child: ChildProcess;
  output: () => string;
  until: (pattern: RegExp) => Promise<void>;
  ended: Promise<number | string>;
} {
  const env = {
    ...Object.fromEntries(
      Object.entries(process.env).filter(
        ([name]) => !name.startsWith('BULKHEAD_') && !/^(TEMPORAL_|DATABASE_URL)/.test(name),
      ),
    ),
    // As short as it may be: whoever ended a process right then would never see it end in order.
    BULKHEAD_SHUTDOWN_GRACE: '100ms',
  };
  const child = spawn(process.execPath, [compiledModule('workers/main'), 'up', '--state-dir', stateDir], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  left.push(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const ended = once(child, 'close').then(([code, signal]: (number | string)[]) => code ?? signal ?? -1);
  const until = async (pattern: RegExp): Promise<void> => {
    for (let waited = 0; !pattern.test(text); waited += 50) {
      if (child.exitCode !== null || waited > 90_000) throw new Error(`no ${pattern} in:\n${text}`);
      await sleep(50);
    }
  };
  return { child, output: () => text, until, ended };
}

const recorded = (): Recorded[] =>
  JSON.parse(readFileSync(path.join(stateDir, 'processes.json'), 'utf8')) as Recorded[];
const stack = (): StackAddresses =>
  JSON.parse(readFileSync(path.join(stateDir, 'stack.json'), 'utf8')) as StackAddresses;
const postgresPid = (): number =>
  Number(readFileSync(path.join(stateDir, 'postgres', 'data', 'postmaster.pid'), 'utf8').split('\n')[0]);

/** What the host processes logged. */
const hostLog = (): { pid?: number; msg?: string }[] =>
  readFileSync(path.join(stateDir, 'logs', 'prod-host.log'), 'utf8')
    .split('\n')
    .map((line) => line.replace('[prod-host] ', ''))
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { pid?: number; msg?: string });

async function untilGone(pids: readonly number[], withinMs: number): Promise<number[]> {
  for (let waited = 0; waited < withinMs && pids.some((pid) => identify(pid)); waited += 50) await sleep(50);
  return pids.filter((pid) => identify(pid));
}

test('U4 after a SIGKILL of the supervisor the workers end by themselves, and a second start ends what is left and resumes', async () => {
  await rememberFreePorts(stateDir);
  const first = up();
  await first.until(/up in .* s/);
  const before = recorded();
  const workers = before.filter(({ name }) => name !== 'temporal').map(({ pid }) => pid);
  const temporal = before.find(({ name }) => name === 'temporal');
  if (!temporal) throw new Error('the embedded Temporal should be recorded');
  expect(before.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['temporal', 'prod-control', 'prod-host']),
  );
  const { temporalAddress } = stack();

  first.child.kill('SIGKILL');
  await first.ended;
  expect(await untilGone(workers, 15_000)).toEqual([]);
  expect(identify(temporal.pid)).toBeDefined();

  const second = up();
  await second.until(/leftovers .*temporal/);
  await second.until(/up in .* s/);
  expect(identify(temporal.pid)).toBeUndefined();
  expect(stack().temporalAddress).toBe(temporalAddress);
  const connection = await Connection.connect({ address: temporalAddress });
  const { workflowExecutionInfo } = await connection.workflowService.describeWorkflowExecution({
    namespace: 'prod',
    execution: { workflowId: 'tenant/acme/prod/control' },
  });
  await connection.close();
  expect(workflowExecutionInfo?.closeTime ?? null).toBeNull();

  // Another start on the same state is refused, and what runs is left alone.
  const third = up();
  expect(await third.ended).toBe(1);
  expect(third.output()).toMatch(/runs on .* already \(process \d+\).*--state-dir/);

  // Private to their owner: addresses hold a password, keys are keys.
  for (const file of [
    'stack.json',
    'processes.json',
    ...readdirSync(path.join(stateDir, 'keys')).map((name) => path.join('keys', name)),
  ]) {
    expect([file, statSync(path.join(stateDir, file)).mode & 0o777]).toEqual([file, 0o600]);
  }

  // Ctrl-C in a terminal goes to the whole process group.
  const hostPid = recorded().find(({ name }) => name === 'prod-host')?.pid;
  const pids = [...recorded().map(({ pid }) => pid), postgresPid()];
  process.kill(-(second.child.pid ?? 0), 'SIGINT');
  expect(await second.ended).toBe(130);
  // Each worker had the time to close its lanes, which is the last that it does.
  const host = hostLog().filter(({ pid }) => pid === hostPid);
  const many = (what: string): number => host.filter(({ msg }) => msg === what).length;
  expect(many('lane opened')).toBeGreaterThan(0);
  expect(many('lane closed')).toBe(many('lane opened'));
  expect(await untilGone(pids, 1_000)).toEqual([]);
  expect(recorded()).toEqual([]);
  expect(existsSync(path.join(stateDir, 'stack.json'))).toBe(false);
}, 180_000);
