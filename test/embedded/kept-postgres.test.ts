import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { keepPostgres, type KeptPostgres } from '../../workers/embedded/kept-postgres';
import { identify } from '../../workers/embedded/owned-processes';

let home: string;
let postgres: KeptPostgres | undefined;
const said: string[] = [];

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'bulkhead-kept-'));
});
afterAll(async () => {
  await postgres?.stop();
  await rm(home, { recursive: true, force: true });
});

async function ask(statement: string): Promise<unknown[]> {
  const client = new Client({ connectionString: postgres?.adminUrl ?? '' });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<object>(statement)).rows;
  } finally {
    await client.end();
  }
}

async function untilUpAgain(after: number): Promise<number> {
  for (let waited = 0; waited < 30_000; waited += 50) {
    const pid = postgres?.pid();
    if (pid !== undefined && pid !== after) return pid;
    await sleep(50);
  }
  throw new Error(`not up again: ${said.join('; ')}`);
}

test('U4 PostgreSQL that was stopped at once is up again at its address with all that it had promised; a stop is a stop', async () => {
  postgres = await keepPostgres({ dataDir: home, say: (line) => said.push(line) });
  await ask('create table kept (x int)');
  await ask('insert into kept values (7)');
  const { adminUrl } = postgres;
  for (const signal of ['SIGQUIT', 'SIGKILL'] as const) {
    const pid = postgres.pid() ?? 0;
    process.kill(pid, signal);
    const next = await untilUpAgain(pid);
    expect(next).not.toBe(pid);
    expect(await ask('select x from kept')).toEqual([{ x: 7 }]);
  }
  expect(postgres.adminUrl).toBe(adminUrl);
  expect(said.filter((line) => / ended; started again in /.test(line))).toHaveLength(2);
  expect(said.filter((line) => / is up again: /.test(line))).toHaveLength(2);

  // Once asked to end, also in the middle of coming back, it stays away.
  const last = postgres.pid() ?? 0;
  process.kill(last, 'SIGQUIT');
  while (postgres.pid() !== undefined) await sleep(5);
  await postgres.stop();
  await postgres.stop();
  expect(postgres.pid()).toBeUndefined();
  expect(identify(last)).toBeUndefined();
  await expect(ask('select 1')).rejects.toThrow();
}, 120_000);
