import { Pool } from 'pg';
import { RunId } from '../../contracts/ids';
import { ENVIRONMENT, LedgerWorld } from './harness';

let world: LedgerWorld;
let app: Pool;
beforeAll(async () => {
  world = await LedgerWorld.open();
  app = new Pool({ connectionString: world.database.appUrl, max: 2 });
});
afterAll(async () => {
  await app.end();
  await world.close();
});

test('E1 a run is accepted once: the same key and body is the same run, another body is refused', async () => {
  const tenant = await world.tenant();
  const first = await tenant.store.acceptRun(tenant.acceptance(RunId.parse('a'), { key: 'order-7' }));
  expect(first).toMatchObject({ kind: 'accepted', run: { runId: 'a', state: 'accepted', stopReason: null } });
  const again = await tenant.store.acceptRun(tenant.acceptance(RunId.parse('b'), { key: 'order-7' }));
  expect(again).toMatchObject({
    kind: 'existing',
    run: { runId: 'a' },
    signed: { envelope: { runId: 'a' } },
  });
  const other = await tenant.store.acceptRun(
    tenant.acceptance(RunId.parse('c'), { key: 'order-7', body: 'other' }),
  );
  expect(other).toMatchObject({ kind: 'conflict', run: { runId: 'a' } });
  const sameId = await tenant.store.acceptRun(tenant.acceptance(RunId.parse('a'), { body: 'other' }));
  expect(sameId).toMatchObject({ kind: 'conflict', run: { runId: 'a' } });
  expect(await tenant.store.runs({ limit: 10 })).toHaveLength(1);
  expect(await tenant.store.runByIdempotencyKey('order-7')).toMatchObject({ runId: 'a' });
  expect(await tenant.store.conversation(RunId.parse('a'))).toEqual([
    {
      ref: 'input',
      payload: { kind: 'input', input: { question: 'why' } },
      marker: { tenantId: tenant.tenantId, environment: ENVIRONMENT, runId: 'a' },
    },
  ]);
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  expect(await tenant.store.acceptRun(tenant.acceptance(RunId.parse('a'), { key: 'order-7' }))).toMatchObject(
    { kind: 'existing' },
  );
});

test('E1 an envelope of another tenant is accepted nowhere', async () => {
  const [mine, theirs] = [await world.tenant(), await world.tenant()];
  await expect(mine.store.acceptRun(theirs.acceptance(RunId.parse('a')))).rejects.toThrow(/another tenant/);
});

test('E2 a run is entered by its first workflow and by what continues it, never by a reset', async () => {
  const tenant = await world.tenant({ perRunSteps: 7 });
  const runId = RunId.parse('a');
  await tenant.store.acceptRun(tenant.acceptance(runId));
  const enter = (temporalRunId: string, previousTemporalRunId: string | null, generation: number) =>
    tenant.store.enterRun({ runId, temporalRunId, previousTemporalRunId, generation });
  const admit = (temporalRunId: string) =>
    tenant.store.admit(tenant.admission(runId, '1.1', { temporalRunId }));

  expect(await admit('one')).toMatchObject({ refusal: { rule: 'run_not_entered', origin: 'control' } });
  expect(await enter('one', null, 0)).toMatchObject({ kind: 'entered', lane: 'own', maxSteps: 7 });
  expect(await enter('one', null, 0)).toMatchObject({ kind: 'entered' });
  expect(await enter('reset', null, 0)).toMatchObject({
    kind: 'refused',
    refusal: { rule: 'run_not_entered' },
  });
  expect(await enter('two', 'one', 1)).toMatchObject({ kind: 'entered' });
  expect(await enter('reset-of-two', 'one', 1)).toMatchObject({
    kind: 'refused',
    refusal: { rule: 'run_not_entered' },
  });
  expect(await admit('one')).toMatchObject({ refusal: { rule: 'run_not_entered' } });
  expect(await admit('two')).toMatchObject({ answer: 'admitted' });
  expect(await enter('ghost', null, 0)).toMatchObject({ kind: 'refused' });
  expect(
    await tenant.store.enterRun({
      runId: RunId.parse('none'),
      temporalRunId: 'x',
      previousTemporalRunId: null,
      generation: 0,
    }),
  ).toMatchObject({ kind: 'refused', refusal: { rule: 'run_not_entered' } });
});

test('Q5 a run has one stop reason, the first, and admits nothing after it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const leave = (stopReason: 'completed' | 'terminated') =>
    tenant.store.leaveRun({ runId, temporalRunId: `${runId}/1`, stopReason, outputRef: '3.0' });
  expect(await leave('completed')).toEqual({ stopReason: 'completed' });
  expect(await leave('terminated')).toEqual({ stopReason: 'completed' });
  expect(await tenant.store.run(runId)).toMatchObject({
    state: 'closed',
    stopReason: 'completed',
    outputRef: '3.0',
  });
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    refusal: { rule: 'run_closed' },
  });
  const entry = { runId, temporalRunId: `${runId}/1`, previousTemporalRunId: null, generation: 0 };
  expect(await tenant.store.enterRun(entry)).toMatchObject({
    refusal: { rule: 'run_closed' },
    stopReason: 'completed',
  });
});

test('Q5 the sweep finds runs that were never started and runs that fell silent, and no others', async () => {
  const tenant = await world.tenant();
  const mine = async (list: 'acceptedNotStarted' | 'openRunsIdle', olderThanMs: number) =>
    (await world.platform[list](olderThanMs, 1_000))
      .filter((run) => run.tenantId === tenant.tenantId)
      .map((run) => run.runId);
  const waits = RunId.parse('waits');
  await tenant.store.acceptRun(tenant.acceptance(waits));
  const works = await tenant.run();
  const closed = await tenant.run();
  await tenant.store.leaveRun({
    runId: closed,
    temporalRunId: null,
    stopReason: 'completed',
    outputRef: null,
  });
  expect(await mine('acceptedNotStarted', 0)).toEqual([waits]);
  expect(await mine('openRunsIdle', 0)).toEqual([works]);
  expect(await mine('acceptedNotStarted', 60_000)).toEqual([]);
  expect(await mine('openRunsIdle', 60_000)).toEqual([]);
  const [found] = await world.platform.acceptedNotStarted(0, 1_000);
  expect(found?.signed.envelope.runId).toBe(found?.runId);
});

test('M1 a conversation comes in order of position', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  for (const ref of ['10.0', '2.10', '2.9', '0.0']) {
    await tenant.store.putPayload(runId, ref, { kind: 'input', input: ref });
  }
  await tenant.store.putPayload(runId, '2.9', { kind: 'input', input: 'second' });
  const conversation = await tenant.store.conversation(runId);
  expect(conversation.map(({ ref }) => ref)).toEqual(['input', '0.0', '2.9', '2.10', '10.0']);
  expect(await tenant.store.payload(runId, '2.9')).toEqual({ kind: 'input', input: '2.9' });
});

test('U1 runs are listed newest first, page by page, by state and stop reason', async () => {
  const tenant = await world.tenant();
  const ids = [await tenant.run(), await tenant.run(), await tenant.run()];
  const [oldest] = ids as [RunId, RunId, RunId];
  await tenant.store.leaveRun({
    runId: oldest,
    temporalRunId: null,
    stopReason: 'cancelled',
    outputRef: null,
  });
  const page = await tenant.store.runs({ limit: 2 });
  expect(page.map((run) => run.runId)).toEqual([ids[2], ids[1]]);
  const [, last] = page;
  if (!last) throw new Error('a page of two was asked for');
  for (const before of [{ runId: last.runId }, { acceptedAt: last.acceptedAt }])
    expect((await tenant.store.runs({ limit: 2, before })).map((run) => run.runId)).toEqual([oldest]);
  expect(await tenant.store.runs({ limit: 9, stopReason: 'cancelled' })).toHaveLength(1);
  expect(await tenant.store.runs({ limit: 9, state: 'running' })).toHaveLength(2);
  // Who waits for a limit is told oldest first.
  const open = await tenant.store.openRuns(1, { state: 'running' });
  expect(open.map((run) => run.runId)).toEqual([ids[1]]);
  expect(await tenant.store.openRuns(9, { state: 'throttled' })).toEqual([]);
});

test('E3 a statement bound to one tenant is refused to another, and a snapshot older than the lock to all', async () => {
  const [mine, theirs] = [await world.tenant(), await world.tenant()];
  const client = await app.connect();
  try {
    await client.query('begin');
    await client.query('select bulkhead.bind_scope($1, $2)', [mine.tenantId, 'test']);
    await expect(
      client.query('select bulkhead.kill_tenant($1, $2, $3, $3, $3)', [theirs.tenantId, 'test', '{}']),
    ).rejects.toThrow(/another tenant/);
    await client.query('rollback');
    await client.query('begin isolation level repeatable read');
    await expect(
      client.query('select bulkhead.kill_tenant($1, $2, $3, $3, $3)', [mine.tenantId, 'test', '{}']),
    ).rejects.toThrow(/read committed/);
    await client.query('rollback');
  } finally {
    client.release();
  }
});

test('M1 the application’s role sees no row without a scope and changes none with one', async () => {
  const tenant = await world.tenant();
  await tenant.run();
  const tables = await world.admin.query<{ name: string }>(
    `select c.relname as name from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
      where c.relnamespace = 'bulkhead'::regnamespace and c.relkind = 'r'`,
  );
  expect(tables.rows.length).toBeGreaterThan(12);
  for (const { name } of tables.rows) {
    const seen = await app.query(`select * from bulkhead.${name}`).then(
      (found) => found.rowCount,
      (error: unknown) => (error as { code?: string }).code,
    );
    expect([0, '42501']).toContain(seen);
    const changed = app.query(`update bulkhead.${name} set tenant_id = 'x'`);
    await expect(changed).rejects.toMatchObject({ code: '42501' });
  }
  for (const inner of [
    'ledger_save',
    'ledger_append',
    'open_ledger',
    'set_limits',
    'set_policy_version',
    'now',
  ]) {
    const may = await world.admin.query<{ may: boolean }>(
      `select bool_or(has_function_privilege('bulkhead_app', oid, 'execute')) as may from pg_proc
        where proname = $1 and pronamespace = 'bulkhead'::regnamespace`,
      [inner],
    );
    expect([inner, may.rows[0]?.may]).toEqual([inner, false]);
  }
});
