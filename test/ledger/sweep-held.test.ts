import { setTimeout as delay } from 'node:timers/promises';
import type { PoolClient } from 'pg';
import { RunId } from '../../contracts/ids';
import { LedgerWorld, type LedgerTenant } from './harness';

const DEAD_MS = 5_000;

let world: LedgerWorld;
let tenants: readonly [LedgerTenant, LedgerTenant, LedgerTenant];
beforeAll(async () => {
  world = await LedgerWorld.open();
});
beforeEach(async () => {
  tenants = [await world.tenant(), await world.tenant(), await world.tenant()];
});
afterAll(() => world.close());

/** Does it while somebody holds the ledger row of the first tenant; answers whom it left out, each time that it did. */
async function whileHeld(
  what: (onSkipped: (tenantId: string) => void) => Promise<unknown>,
): Promise<string[]> {
  const holder: PoolClient = await world.admin.connect();
  const skipped: string[] = [];
  try {
    await holder.query('begin');
    await holder.query('select from bulkhead.ledgers where tenant_id = $1 for update', [tenants[0].tenantId]);
    await what((tenantId) => skipped.push(tenantId));
  } finally {
    await holder.query('rollback');
    holder.release();
  }
  return skipped;
}
const leave = (tenant: LedgerTenant, runId: RunId) =>
  tenant.store.leaveRun({ runId, temporalRunId: null, stopReason: 'failed', outputRef: null });

test('N6 Q2 a tenant whose row is held keeps no other’s dead calls from the reaper, and costs one wait', async () => {
  for (const tenant of tenants) {
    const runId = await tenant.run();
    for (const path of ['1.1', '1.2', '1.3'])
      await tenant.store.admit(tenant.admission(runId, path, { callClass: 'read', leaseMs: 1 }));
  }
  await delay(10);
  let reaped = 0;
  const skipped = await whileHeld(async (onSkipped) => {
    reaped = await world.platform.reapCalls(100, onSkipped);
  });
  expect(reaped).toBe(6);
  expect(skipped).toEqual([tenants[0].tenantId]);
  expect(await Promise.all(tenants.map((tenant) => tenant.claimed()))).toEqual([3, 0, 0]);
  expect(await world.platform.reapCalls(100)).toBe(3);
});

test('N6 T2 nor the leases of a host that died, held by others, from ending', async () => {
  const hostId = 'dead';
  for (const tenant of tenants)
    await tenant.store.admit(tenant.admission(await tenant.run(), '1.1', { hostId }));
  await world.platform.heartbeatHost({ hostId, pid: 1, roles: [] });
  await world.admin.query(`update bulkhead.hosts set seen_at = seen_at - interval '1 minute'`);
  // What was started so lately declares nobody dead.
  await delay(DEAD_MS);
  let ended = 0;
  const skipped = await whileHeld(async (onSkipped) => {
    ended = await world.platform.endLeasesOfDeadHosts(DEAD_MS, onSkipped);
  });
  expect(ended).toBe(2);
  expect(skipped).toEqual([tenants[0].tenantId]);
});

test('N1 N6 nor a slot that is free from going to the next in another’s line', async () => {
  for (const tenant of tenants) {
    await tenant.setLimits({
      callsInFlight: 9,
      toolCallsPerDay: 9,
      perRunSteps: 9,
      more: { concurrentRuns: 0 },
    });
    await tenant.store.acceptRun(tenant.acceptance(RunId.parse(`next-${tenant.tenantId}`)));
    await world.admin.query('update bulkhead.limits set concurrent_runs = 1 where tenant_id = $1', [
      tenant.tenantId,
    ]);
  }
  let handed: readonly string[] = [];
  const skipped = await whileHeld(async (onSkipped) => {
    handed = await world.platform.tendLines(onSkipped);
  });
  expect(handed.map((id) => id.split('/')[1]).sort()).toEqual(
    [tenants[1].tenantId, tenants[2].tenantId].sort(),
  );
  expect(skipped).toEqual([tenants[0].tenantId]);
});

test('N6 T2 nor what others have forgotten long ago from being purged, though its own is the oldest', async () => {
  for (const [index, tenant] of tenants.entries()) {
    const runId = await tenant.run();
    const asked = tenant.admission(runId, '1.1');
    await tenant.store.admit(asked);
    await tenant.store.settle(tenant.settlement(asked));
    await leave(tenant, runId);
    await world.admin.query(
      `update bulkhead.runs set accepted_at = accepted_at - $2 * interval '1 day' where run_id = $1`,
      [runId, 100 - index],
    );
  }
  let purged = 0;
  const skipped = await whileHeld(async (onSkipped) => {
    purged = await world.platform.purge(1, () => true, onSkipped);
  });
  expect(purged).toBe(2);
  expect(skipped).toEqual([tenants[0].tenantId]);
});
