import { setTimeout as delay } from 'node:timers/promises';
import { MockActivityEnvironment } from '@temporalio/testing';
import { Client, Connection, type WorkflowHandle } from '@temporalio/client';
import type { PoolClient } from 'pg';
import { runInZone, type CallerZone } from '../../activities/call-context';
import { createControl } from '../../activities/control';
import { createPolicies } from '../../activities/policies';
import { createSweep } from '../../activities/sweep';
import { RunId, type TenantId } from '../../contracts/ids';
import { mintScope } from '../../contracts/scope-mint';
import { SIGNALS } from '../../contracts/workflow-io';
import { openStorage, type OpenStorage } from '../../storage/open';
import { ensureNamespace } from '../../workers/embedded/namespaces';
import { freshNamespace, takeNamespace } from '../support/ready-namespaces';
import { testTemporal } from '../support/shared-temporal';
import { ENVIRONMENT, LedgerWorld, type LedgerTenant } from '../ledger/harness';

/** A namespace in which nothing runs but what a test begins: every other run is gone, as Temporal says. */
let connection: Connection;
let temporal: Client;
let world: LedgerWorld;
let storage: OpenStorage;
beforeAll(async () => {
  const { address, namespaces } = testTemporal();
  const namespace = (namespaces && (await takeNamespace(namespaces))) ?? freshNamespace();
  connection = await Connection.connect({ address });
  await ensureNamespace(connection, namespace);
  temporal = new Client({ connection, namespace });
  world = await LedgerWorld.open();
  storage = openStorage({ databaseUrl: world.database.appUrl, environment: ENVIRONMENT });
});
afterAll(async () => {
  await storage.close();
  await world.close();
  await connection.close();
});

/** A run that goes on, as Temporal sees it: no worker serves the queue. */
const goesOn = async (tenant: LedgerTenant, runId: RunId): Promise<WorkflowHandle> =>
  temporal.workflow.start('agentRun', {
    workflowId: (await tenant.store.run(runId))?.workflowId ?? '',
    taskQueue: 'nobody',
  });
const policies = () => createPolicies({ actions: new Map(), agents: new Map() });
const sweepWith = (deadHostAfterMs = 5_000) =>
  createSweep({
    storage,
    client: temporal,
    environment: ENVIRONMENT,
    policies: policies(),
    deadHostAfterMs,
    startAccepted: () => Promise.resolve('already'),
    ensureControl: () => Promise.resolve('already'),
    startFollowUp: () => Promise.resolve('already'),
  });
const as = <T>(zone: CallerZone, work: () => Promise<T>): Promise<T> =>
  new MockActivityEnvironment().run<[], T, () => Promise<T>>(() => runInZone(zone, work));
const asSweep = <T>(work: () => Promise<T>): Promise<T> =>
  as({ zone: 'platform', environment: ENVIRONMENT }, work);
const asControl = <T>(tenantId: TenantId, work: () => Promise<T>): Promise<T> =>
  as({ zone: 'control', scope: mintScope(tenantId, ENVIRONMENT, 'control') }, work);

async function whileHeld<T>(tenant: LedgerTenant, work: () => Promise<T>): Promise<T> {
  const holder: PoolClient = await world.admin.connect();
  try {
    await holder.query('begin');
    await holder.query('select from bulkhead.ledgers where tenant_id = $1 for update', [tenant.tenantId]);
    return await work();
  } finally {
    await holder.query('rollback');
    holder.release();
  }
}
const age = () =>
  world.admin.query(
    `update bulkhead.runs set touched_at = touched_at - interval '10 s', slot_at = slot_at - interval '10 s' where state <> 'closed'`,
  );
const stateOf = async (tenant: LedgerTenant, runId: string) =>
  (await tenant.store.run(RunId.parse(runId)))?.state;

test('N6 Q5 a tenant whose row is held keeps no other’s run that is gone from being closed', async () => {
  const tenants = [await world.tenant(), await world.tenant(), await world.tenant()];
  const runs: [LedgerTenant, string][] = [];
  // More of the one that is held than are looked at together.
  for (const [tenant, many] of [
    [tenants[0]!, 20],
    [tenants[1]!, 1],
    [tenants[2]!, 1],
  ] as const)
    for (let n = 0; n < many; n += 1) runs.push([tenant, await tenant.run()]);
  await age();
  const closed = await whileHeld(tenants[0]!, () => asSweep(() => sweepWith().closeGone()));
  expect(closed).toEqual({ closed: 2 });
  const states = await Promise.all(runs.map(([tenant, run]) => stateOf(tenant, run)));
  expect(states.slice(-2)).toEqual(['closed', 'closed']);
  expect(new Set(states.slice(0, 20))).toEqual(new Set(['running']));
  expect(await asSweep(() => sweepWith().closeGone())).toEqual({ closed: 20 });
});

test('N6 while a sweep waits for rows that are held, hosts see the fences of everybody as soon as ever', async () => {
  const tenant = await world.tenant({ more: { concurrentRuns: 1 } });
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1', { callClass: 'read', leaseMs: 1 }));
  await tenant.store.acceptRun(tenant.acceptance(RunId.parse(`waits-${tenant.tenantId}`)));
  await goesOn(tenant, RunId.parse(runId));
  const sweep = sweepWith();
  await storage.platform.controlVersions();
  await whileHeld(tenant, async () => {
    const swept = Promise.all([asSweep(() => sweep.reapCalls()), asSweep(() => sweep.tendQueues())]);
    await delay(500);
    const asked = performance.now();
    await storage.platform.controlVersions();
    expect(performance.now() - asked).toBeLessThan(800);
    await swept;
  });
  expect(await storage.platform.reapCalls(100)).toBe(1);
});

test('N6 Q2 what is due is reaped, also where nobody can say which hosts are dead', async () => {
  const tenant = await world.tenant();
  await tenant.store.admit(tenant.admission(await tenant.run(), '1.1', { callClass: 'read', leaseMs: 1 }));
  // The ledger refuses to take a host for dead so soon.
  expect(await asSweep(() => sweepWith(10).reapCalls())).toEqual({ reaped: 1 });
});

test('N1 Q5 a run that was ended from outside while it stood in line does not keep the slot that it is given', async () => {
  const tenant = await world.tenant({ more: { concurrentRuns: 1 } });
  const runs = ['works', 'ended', 'waits', 'new'].map((name) => RunId.parse(`${name}-${tenant.tenantId}`));
  const [works, ended, waits, fresh] = runs as [RunId, RunId, RunId, RunId];
  for (const runId of runs) await tenant.store.acceptRun(tenant.acceptance(runId));
  for (const runId of [works, ended, waits])
    await tenant.store.enterRun({
      runId,
      temporalRunId: `${runId}/1`,
      previousTemporalRunId: null,
      generation: 0,
    });
  const leave = (runId: RunId) =>
    tenant.store.leaveRun({ runId, temporalRunId: null, stopReason: 'completed', outputRef: null });
  await leave(works);
  expect((await tenant.store.run(ended))?.slotSince).toBeTruthy();
  await age();
  const going = await goesOn(tenant, waits);
  await asSweep(() => sweepWith().tendQueues());
  expect(await tenant.store.run(ended)).toMatchObject({ state: 'closed', stopReason: 'terminated' });
  expect((await tenant.store.run(waits))?.slotSince).toBeTruthy();
  const { events } = await going.fetchHistory();
  const signals = (events ?? []).flatMap(
    ({ workflowExecutionSignaledEventAttributes: told }) => told?.signalName ?? [],
  );
  expect(signals).toEqual([SIGNALS.wakeRun]);
  // One that has not been started yet is unknown to Temporal too, and is not gone.
  await leave(waits);
  await age();
  await asSweep(() => sweepWith().tendQueues());
  expect(await tenant.store.run(fresh)).toMatchObject({ state: 'queued', temporalRunId: null });
  expect((await tenant.store.run(fresh))?.slotSince).toBeTruthy();
});

test('O1 a kill is fenced, also where what is lent cannot be noted as revoked', async () => {
  const tenant = await world.tenant();
  const { rows } = await world.admin.query<{ definition: string }>(
    `select pg_get_functiondef('bulkhead.revoke_leases'::regproc) as definition`,
  );
  await world.admin.query(
    `create or replace function bulkhead.revoke_leases(p_tenant text, p_environment text) returns bigint
       language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
       begin raise exception 'canceling statement due to statement timeout' using errcode = 'query_canceled'; end $$`,
  );
  try {
    const control = createControl({ storage, client: temporal, policies: policies(), drainGraceMs: 0 });
    const kill = { op: 'kill', scope: { kind: 'tenant' }, reason: 'x', actor: 'ada' } as never;
    expect(await asControl(tenant.tenantId, () => control.applyControl({ commands: [kill] }))).toMatchObject({
      mode: 'killed',
      fenceEpoch: 1,
    });
  } finally {
    await world.admin.query(rows[0]?.definition ?? '');
  }
});
