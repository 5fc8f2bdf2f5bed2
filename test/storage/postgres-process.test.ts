import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { identify } from '../../workers/embedded/owned-processes';
import { startPostgres, type RunningPostgres } from '../../workers/embedded/postgres';

let home: string;
let bystander: ChildProcess;
const running: RunningPostgres[] = [];
const start = async (
  options: Partial<Parameters<typeof startPostgres>[0]> = {},
): Promise<RunningPostgres> => {
  const postgres = await startPostgres({ dataDir: home, ...options });
  running.push(postgres);
  return postgres;
};

beforeAll(async () => {
  // Private, as a home directory is: under root the server's own user may not enter it.
  home = await mkdtemp(join(tmpdir(), 'bulkhead-postgres-'));
  bystander = spawn('sleep', ['300'], { stdio: 'ignore' });
});
afterEach(async () => {
  for (const postgres of running.splice(0).reverse()) await postgres.stop();
  await rm(join(home, 'starter.json'), { force: true });
});
afterAll(async () => {
  bystander.kill('SIGKILL');
  await rm(home, { recursive: true, force: true });
});

async function ask(url: string, ...statements: string[]): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  try {
    await client.connect();
    let rows: unknown[] = [];
    for (const statement of statements) rows = (await client.query<object>(statement)).rows;
    return rows;
  } finally {
    await client.end();
  }
}
const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};
async function gone(pid: number): Promise<void> {
  while (alive(pid) && !/\) Z /.test(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z ')))
    await sleep(20);
}

test('U4 starts on a free port, keeps its data and password over a restart, and stops', async () => {
  const first = await start();
  await ask(
    first.adminUrl,
    'drop table if exists kept',
    'create table kept (x int)',
    'insert into kept values (7)',
  );
  await first.stop();
  expect(alive(first.pid)).toBe(false);
  const second = await start();
  expect(await ask(second.adminUrl, 'select x from kept')).toEqual([{ x: 7 }]);
  expect(new URL(second.adminUrl).password).toBe(new URL(first.adminUrl).password);
});

test('U4 lets nobody in without the password, which nobody else can read', async () => {
  const postgres = await start();
  for (const password of ['', 'postgres', 'password']) {
    const url = new URL(postgres.adminUrl);
    url.password = password;
    await expect(ask(url.href, 'select 1')).rejects.toThrow(/password/i);
  }
  expect((await stat(join(home, 'admin.password'))).mode & 0o077).toBe(0);
  const settings = await ask(
    postgres.adminUrl,
    `select current_setting('listen_addresses') as listen, current_setting('unix_socket_directories') as socket, current_setting('password_encryption') as password`,
  );
  expect(settings).toEqual([{ listen: '127.0.0.1', socket: '', password: 'scram-sha-256' }]);
  const methods = await ask(postgres.adminUrl, `select distinct auth_method from pg_hba_file_rules`);
  expect(methods).toEqual([{ auth_method: 'scram-sha-256' }]);
});

test('U4 comes up again after a SIGKILL of the server, with what was committed', async () => {
  const first = await start();
  await ask(
    first.adminUrl,
    'drop table if exists kept',
    'create table kept (x int)',
    'insert into kept values (7)',
  );
  process.kill(first.pid, 'SIGKILL');
  const second = await start();
  expect(await ask(second.adminUrl, 'select x from kept')).toEqual([{ x: 7 }]);
});

test('U4 a stale pid file whose number went to another program hinders nothing, and that program lives on', async () => {
  const first = await start();
  process.kill(first.pid, 'SIGKILL');
  await gone(first.pid);
  const file = join(home, 'data', 'postmaster.pid');
  const lines = (await readFile(file, 'utf8')).split('\n');
  await sleep(500);
  await writeFile(file, [String(bystander.pid), ...lines.slice(1)].join('\n'));
  const second = await start();
  expect(await ask(second.adminUrl, 'select 1 as one')).toEqual([{ one: 1 }]);
  expect(alive(bystander.pid ?? -1)).toBe(true);
});

test('U4 a server that outlived its starter is taken over, and ended at the stop', async () => {
  const first = await start();
  // As after a SIGKILL of the process that started it: its number went to somebody else.
  await writeFile(
    join(home, 'starter.json'),
    JSON.stringify({ pid: process.ppid, startedAt: 'before the last boot' }),
  );
  const second = await start();
  expect([second.pid, second.port]).toEqual([first.pid, first.port]);
  await second.stop();
  expect(alive(first.pid)).toBe(false);
});

test('U4 a server whose starter lives is not touched: a second start is refused with the remedy', async () => {
  const first = await start();
  const other = spawn(process.execPath, ['-e', 'setTimeout(() => undefined, 60000)'], { stdio: 'ignore' });
  try {
    await writeFile(join(home, 'starter.json'), JSON.stringify(identify(other.pid ?? -1)));
    await expect(startPostgres({ dataDir: home })).rejects.toThrow(
      /belongs to process \d+, which is running: stop it/,
    );
    expect(await ask(first.adminUrl, 'select 1 as one')).toEqual([{ one: 1 }]);
  } finally {
    other.kill('SIGKILL');
  }
});

test('U4 a port that is taken is said, and who holds it is left alone', async () => {
  const first = await start();
  const second = await mkdtemp(join(tmpdir(), 'bulkhead-postgres-'));
  try {
    await expect(startPostgres({ dataDir: second, port: first.port })).rejects.toThrow(
      new RegExp(`port ${first.port} is taken`),
    );
    expect(await ask(first.adminUrl, 'select 1 as one')).toEqual([{ one: 1 }]);
  } finally {
    await rm(second, { recursive: true, force: true });
  }
});

test('U4 a half-made cluster of a start that was cut off is made anew', async () => {
  const half = await mkdtemp(join(tmpdir(), 'bulkhead-postgres-'));
  await mkdir(join(half, 'data.new', 'base'), { recursive: true });
  await writeFile(join(half, 'admin.password'), 'half\n');
  const postgres = await startPostgres({ dataDir: half });
  try {
    expect(await ask(postgres.adminUrl, 'select 1 as one')).toEqual([{ one: 1 }]);
  } finally {
    await postgres.stop();
    await rm(half, { recursive: true });
  }
});
