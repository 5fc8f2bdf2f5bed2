import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PLAIN_ACME } from '../support/tenants';
import { until } from '../support/until';
import { createCliWorld, type CliWorld } from './world';

/** The command in a process of its own, from the sources; as another user where a `uid` is given. */
function bulkhead(args: string[], env: Record<string, string>, uid?: number) {
  const root = join(__dirname, '../..');
  const child = spawn(
    process.execPath,
    [join(root, 'scripts/run.js'), join(root, 'workers/main.ts'), ...args],
    {
      env: { PATH: process.env['PATH'] ?? '', ...env },
      ...(uid !== undefined && { uid, gid: uid }),
    },
  );
  let out = '';
  let said = '';
  child.stdout.on('data', (part: Buffer) => (out += part.toString()));
  child.stderr.on('data', (part: Buffer) => (said += part.toString()));
  child.stdin.end();
  const ended = new Promise<{ code: number | null; out: string; said: string }>((resolve) => {
    child.on('close', (code) => {
      resolve({ code, out, said });
    });
  });
  return { child, ended };
}

const nowhere = { BULKHEAD_STATE_DIR: mkdtempSync(join(tmpdir(), 'bulkhead-none-')) };

test('U2 the command is composed whole: its help names every noun, and a wrong one is exit code 2', async () => {
  const [help, wrong] = await Promise.all([
    bulkhead(['--help'], nowhere).ended,
    bulkhead(['nonsense'], nowhere).ended,
  ]);
  expect(help.code).toBe(0);
  for (const noun of [
    'up',
    'doctor',
    'migrate',
    'worker',
    'token',
    'tenant',
    'run',
    'approval',
    'review',
    'dead-letter',
    'policy',
    'kill',
    'release',
    'journal',
    'secret',
    'agent',
  ]) {
    expect(help.out).toMatch(new RegExp(`^ {2}${noun} `, 'm'));
  }
  expect(wrong).toMatchObject({ code: 2, out: '', said: expect.stringContaining('--help') });
});

/** A user without an account, as a container may run: only root can become it. */
const STRANGER = 54_321;
const asRoot = process.getuid?.() === 0 ? test : test.skip;

asRoot('U2 a user id without an account can use the command', async () => {
  const help = await bulkhead(['kill', '--help'], nowhere, STRANGER).ended;
  expect(help).toMatchObject({ code: 0, out: expect.stringContaining(`"${STRANGER}"`), said: '' });
  const named = await bulkhead(['kill', '--help'], { ...nowhere, USER: 'ops' }, STRANGER).ended;
  expect(named.out).toContain('"ops"');
});

test('U2 with nothing configured, and with a mistyped setting, the remedy is said', async () => {
  const [none, mistyped] = await Promise.all([
    bulkhead(['tenant', 'list'], nowhere).ended,
    bulkhead(['tenant', 'list'], { ...nowhere, BULKHEAD_ENVIRONMENTT: 'prod' }).ended,
  ]);
  expect(none).toMatchObject({ code: 2, said: expect.stringContaining('bulkhead up') });
  expect(mistyped).toMatchObject({
    code: 2,
    said: expect.stringContaining('did you mean BULKHEAD_ENVIRONMENT?'),
  });
});

test('U2 a worker that lacks a setting, or is for a tenant that cannot be, says so and ends with exit code 2', async () => {
  const [lacking, wrong] = await Promise.all([
    bulkhead(['worker', '--role', 'host'], nowhere).ended,
    bulkhead(['worker', '--role', 'host', '--tenant', 'BAD'], nowhere).ended,
  ]);
  expect(lacking).toMatchObject({
    code: 2,
    said: expect.stringContaining('TEMPORAL_ADDRESS: where Temporal'),
  });
  expect(wrong).toMatchObject({ code: 2, said: '--tenant: a tenant id is 1 to 40 of a-z, 0-9 and -\n' });
});

describe('beside a real stack', () => {
  let world: CliWorld;
  beforeAll(async () => {
    world = await createCliWorld();
    await world.stack.apply(PLAIN_ACME);
  });
  afterAll(() => world.close());

  test('U2 Ctrl-C ends a wait with exit code 130, and the run goes on', async () => {
    const agent = [...world.stack.parts.app.agents.keys()][0] ?? '';
    const { child, ended } = bulkhead(['run', 'start', '--tenant', 'acme', '--agent', agent, '--wait'], {
      ...world.environment,
    });
    const runs = () => world.stack.store('acme').runs({ limit: 10 });
    const exists = (workflowId: string): Promise<boolean> =>
      world.stack.temporal.workflow
        .getHandle(workflowId)
        .describe()
        .then(
          () => true,
          () => false,
        );
    // From then on the command only waits for its end.
    await until(
      'the workflow of the run, or an end of the command',
      async () => {
        const [run] = await runs();
        return child.exitCode !== null || (run && (await exists(run.workflowId)));
      },
      60_000,
    );
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ code: 130, out: '', said: 'interrupted\n' });
    expect((await runs())[0]?.state).toBe('accepted');
  }, 120_000);
});
