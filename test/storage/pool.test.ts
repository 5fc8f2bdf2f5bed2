import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Pool } from 'pg';
import { StorageBusy } from '../../contracts/storage-busy';
import { faultOf, ScopeRefused } from '../../storage/fault';
import { ClientPool } from '../../storage/pool';
import { tenantSession } from '../../storage/session';
import { Turnstile } from '../../storage/turnstile';
import { scopeOf, StorageWorld } from './arrange';

let world: StorageWorld;
beforeAll(async () => {
  world = await StorageWorld.open();
  await world.tenants('acme', 'globex');
});
afterAll(async () => {
  await world.close();
});

const CONTEXT = `select coalesce(current_setting('bulkhead.tenant_id', true), '') as tenant, pg_backend_pid() as pid`;
const visible = 'select tenant_id from bulkhead.tenants';

async function withPool<T>(work: (pool: ClientPool) => Promise<T>, over: object = {}): Promise<T> {
  const pool = new ClientPool({
    databaseUrl: world.database.appUrl,
    name: 'test/pool',
    size: 1,
    statementTimeoutMs: 500,
    ...over,
  });
  try {
    return await work(pool);
  } finally {
    await pool.close();
  }
}

/** The ways in which work ends badly with a tenant's context on its connection. */
const ENDINGS: Record<string, (client: { query: (sql: string) => Promise<unknown> }) => Promise<void>> = {
  'without COMMIT': async (client) => {
    await client.query('begin');
    await client.query(`select bulkhead.bind_scope('acme', 'prod')`);
  },
  'after a statement timeout': async (client) => {
    await client.query('begin');
    await client.query(`select bulkhead.bind_scope('acme', 'prod')`);
    await client.query('select pg_sleep(5)');
  },
  'after an error': async (client) => {
    await client.query('begin');
    await client.query(`select bulkhead.bind_scope('acme', 'prod')`);
    await client.query('select 1 / 0');
  },
  'after its own exception': async (client) => {
    await client.query('begin');
    await client.query(`select bulkhead.bind_scope('acme', 'prod')`);
    throw new Error('thrown by the work');
  },
  'after setting the session itself': async (client) => {
    await client.query(`select set_config('bulkhead.tenant_id', 'acme', false)`);
    throw new Error('thrown by the work');
  },
};

test.each(Object.entries(ENDINGS))(
  'M1 a connection left %s never shows the next borrower its tenant',
  async (_name, ending) => {
    await withPool(async (pool) => {
      let last = 0;
      await expect(
        pool.use(async (client) => {
          last = (await client.query<{ pid: number }>(CONTEXT)).rows[0]?.pid ?? 0;
          await ending(client);
        }),
      ).rejects.toThrow();
      const next = await pool.use(async (client) => ({
        context: (await client.query<{ tenant: string; pid: number }>(CONTEXT)).rows[0],
        rows: (await client.query(visible)).rowCount,
      }));
      expect(next).toMatchObject({ context: { tenant: '' }, rows: 0 });
      expect(next.context?.pid).not.toBe(last);
    });
  },
);

test('M1 control arm: a plain pool gives the next borrower the last one’s tenant', async () => {
  const pool = new Pool({ connectionString: world.database.appUrl, max: 1 });
  try {
    const first = await pool.connect();
    await ENDINGS['without COMMIT']?.(first);
    first.release();
    const second = await pool.connect();
    expect((await second.query<{ tenant: string }>(CONTEXT)).rows[0]?.tenant).toBe('acme');
    expect((await second.query(visible)).rowCount).toBe(1);
    second.release(true);
  } finally {
    await pool.end();
  }
});

test('M1 after a transaction the context is empty, on the same connection', async () => {
  await withPool(async (pool) => {
    const acme = tenantSession(pool, scopeOf('acme'));
    expect(await acme.read(visible, [])).toEqual([{ tenant_id: 'acme' }]);
    expect(await acme.call(visible, [])).toEqual([]);
    expect(await tenantSession(pool, scopeOf('globex')).read(visible, [])).toEqual([{ tenant_id: 'globex' }]);
    expect(pool.load).toMatchObject({ total: 1, idle: 1 });
  });
});

test('M1 a read cannot write, and a handle’s statement cannot name another tenant', async () => {
  await withPool(async (pool) => {
    const acme = tenantSession(pool, scopeOf('acme'));
    await expect(
      acme.read(`select bulkhead.put_knowledge('acme', 'prod', 'd', 't', 'b')`, []),
    ).rejects.toMatchObject({ cause: { code: '25006' } });
    await expect(acme.call('select bulkhead.tenant_record($1, $2)', ['globex', 'prod'])).rejects.toThrow(
      ScopeRefused,
    );
    await expect(acme.call('select bulkhead.tenant_record($1, $2)', ['acme', 'staging'])).rejects.toThrow(
      ScopeRefused,
    );
    await expect(acme.read(`select bulkhead.tenant_record('globex', 'prod')`, [])).rejects.toThrow(
      ScopeRefused,
    );
  });
});

test('N4 a tenant that floods waits in its own queue: the others go on, and control is never asked to wait', async () => {
  const storage = world.open('prod' as never, {
    pools: { tenants: 4, control: 1, platform: 1 },
    perTenant: 3,
    queue: { length: 50 },
  });
  const holder = new Client({ connectionString: world.database.adminUrl });
  await holder.connect();
  await holder.query('begin');
  await holder.query(
    `select from bulkhead.ledgers where tenant_id = 'acme' and environment = 'prod' for update`,
  );
  const run = { runId: 'r-1', temporalRunId: 't', stopReason: 'failed', outputRef: null } as never;
  const acme = storage.tenant(scopeOf('acme'));
  const flood = Array.from({ length: 60 }, () =>
    acme.leaveRun(run).then(
      () => 'ok',
      (error: unknown) => (error as Error).name,
    ),
  );
  try {
    await sleep(50);
    const began = performance.now();
    await storage.tenant(scopeOf('globex')).record();
    await storage.tenant(scopeOf('globex', undefined, 'control')).control();
    expect(performance.now() - began).toBeLessThan(500);
    expect(storage.load().tenants.total).toBeLessThanOrEqual(4);
  } finally {
    await holder.query('rollback');
    await holder.end();
  }
  const outcomes = await Promise.all(flood);
  // 3 inside, 50 waiting, 7 turned away at once; none is lost without an answer.
  expect(outcomes.filter((outcome) => outcome === 'StorageBusy')).toHaveLength(7);
});

describe('the turnstile', () => {
  test('N4 lets in so many at once per key, in order, and turns away who waits too long', async () => {
    const turnstile = new Turnstile({ width: 2, queue: 10, waitMs: 40 });
    const order: string[] = [];
    let open: () => void = () => undefined;
    const gate = new Promise<void>((go) => (open = go));
    const enter = (key: string, name: string, until: Promise<void>): Promise<void> =>
      turnstile.pass(key, async () => {
        order.push(name);
        await until;
      });
    const held = [enter('a', 'a1', gate), enter('a', 'a2', gate)];
    const late = enter('a', 'a3', gate);
    await enter('b', 'b1', Promise.resolve());
    await expect(late).rejects.toThrow(StorageBusy);
    const waiting = [enter('a', 'a4', Promise.resolve()), enter('a', 'a5', Promise.resolve())];
    open();
    await Promise.all([...held, ...waiting]);
    expect(order).toEqual(['a1', 'a2', 'b1', 'a4', 'a5']);
    expect(turnstile.busyKeys).toBe(0);
  });

  test('N4 keeps its places exact whatever the work throws', async () => {
    const turnstile = new Turnstile({ width: 3, queue: 1_000, waitMs: 5_000 });
    let inside = 0;
    let most = 0;
    await Promise.allSettled(
      Array.from({ length: 300 }, (_, index) =>
        turnstile.pass('a', async () => {
          inside += 1;
          most = Math.max(most, inside);
          await sleep(index % 3);
          inside -= 1;
          if (index % 5 === 0) throw new Error('thrown');
        }),
      ),
    );
    expect({ inside, most, busy: turnstile.busyKeys }).toEqual({ inside: 0, most: 3, busy: 0 });
  });
});

describe('faults', () => {
  test('O1 a statement that meets a held row ends as StorageBusy, and the row is let go when its client dies', async () => {
    await withPool(async (pool) => {
      const holder = new Client({ connectionString: world.database.adminUrl });
      await holder.connect();
      await holder.query('begin');
      await holder.query(`select from bulkhead.ledgers where tenant_id = 'acme' for update`);
      const acme = tenantSession(pool, scopeOf('acme'));
      const locking = acme.call(`select bulkhead.leave_run($1, $2, 'r', 't', 'failed', null, false, false)`, [
        'acme',
        'prod',
      ]);
      await expect(locking).rejects.toThrow(StorageBusy);
      await holder.end();
    });
  });

  test('O1 a database that is away is StorageBusy, never an answer', async () => {
    const pool = new ClientPool({
      databaseUrl: 'postgres://nobody:x@127.0.0.1:1/none',
      name: 'test/away',
      size: 1,
      connectTimeoutMs: 500,
    });
    await expect(pool.use(async (client) => client.query('select 1'))).rejects.toThrow(StorageBusy);
    await pool.warm('select 1');
    await pool.close();
  });

  test('O1 a connection cut in the middle is StorageBusy, and the pool goes on with another', async () => {
    await withPool(async (pool) => {
      const cut = pool.use(async (client) => {
        const { rows } = await client.query<{ pid: number }>(CONTEXT);
        await world.admin.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
        await client.query(CONTEXT);
      });
      await expect(cut).rejects.toThrow(StorageBusy);
      expect(await pool.use(async (client) => (await client.query(CONTEXT)).rowCount)).toBe(1);
    });
  });

  test('T3 a node that only reads, and a schema of another version, are the database’s trouble and no run’s', async () => {
    await withPool(async (pool) => {
      const toStandby = pool.use((client) =>
        client.query(`set transaction_read_only = on; create table nothing()`),
      );
      await expect(toStandby).rejects.toThrow(/busy or away \(25006\)/);
      for (const other of ['select admit_nothing()', 'select * from no_such_table'])
        await expect(pool.use((client) => client.query(other))).rejects.toThrow(StorageBusy);
      expect(await pool.use(async (client) => (await client.query(CONTEXT)).rowCount)).toBe(1);
    });
  });

  test('O1 tells a defect from the database’s trouble', () => {
    const withCode = (code: string): Error => Object.assign(new Error('said'), { code });
    for (const code of [
      '55P03',
      '57014',
      '57P01',
      '08006',
      '53300',
      '40P01',
      '28P01',
      'ECONNREFUSED',
      'ECONNRESET',
      'EPIPE',
    ]) {
      expect(faultOf(withCode(code))).toBeInstanceOf(StorageBusy);
    }
    for (const code of ['BH001', 'BH002']) expect(faultOf(withCode(code))).toBeInstanceOf(ScopeRefused);
    for (const code of ['23505', '42501', '42601', '22P02']) {
      const error = withCode(code);
      expect(faultOf(error)).toBe(error);
    }
  });
});
