import { RunId } from '../../contracts/ids';
import { sweepOf } from '../../storage/sweep';
import { callsSql } from '../../storage/sql';
import { requested } from './approving';
import { digest, ENVIRONMENT, LedgerWorld, refusal, type LedgerTenant } from './harness';
import { recount } from './recount';
import { countingSession } from './rows-read';

/** What a tenant has done before: enough that reading all of it is seen, and an index is worth its while. */
const MANY = 5_000;
/** What may be read instead. */
const FEW = 50;

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());

const leave = (tenant: LedgerTenant, runId: RunId) =>
  tenant.store.leaveRun({ runId, temporalRunId: null, stopReason: 'failed', outputRef: null });
/** Accepted so many days ago. */
const aged = (runs: readonly string[], days: number) =>
  world.admin.query(
    `update bulkhead.runs set accepted_at = accepted_at - $2 * interval '1 day' where run_id = any ($1)`,
    [runs, days],
  );
async function leases(tenant: LedgerTenant, many: number, run: string, expires: string): Promise<void> {
  await world.admin.query(
    `insert into bulkhead.leases (tenant_id, environment, lease_id, capability, run_id, path, epoch, expires_at)
       select $1, $2, gen_random_uuid(), 'crm:write', $4 || k, '1.1', 0, now() + $5::interval - k * interval '1 ms'
         from generate_series(1, $3::integer) k`,
    [tenant.tenantId, ENVIRONMENT, many, run, expires],
  );
}
/** Runs that were closed so many days ago, without a call. */
async function closedRuns(tenant: LedgerTenant, many: number, days: number, more = ''): Promise<void> {
  await world.admin.query(
    `insert into bulkhead.runs (tenant_id, environment, run_id, workspace_id, epoch, state, stop_reason, accepted_at, touched_at, closed_at)
       select $1, $2, 'old-' || $5 || k, 'main', 0, 'closed', 'completed', now() - $4 * interval '1 day' - k * interval '1 ms', now(), now()
         from generate_series(1, $3::integer) k`,
    [tenant.tenantId, ENVIRONMENT, many, days, more],
  );
}

test('O1 S1 a kill revokes the leases that are out, whatever the tenant was ever lent', async () => {
  const tenant = await world.tenant();
  await leases(tenant, MANY, 'past-', '-5 minutes');
  await leases(tenant, 3, 'out-', '1 hour');
  // By another clock it may not be over.
  await leases(tenant, 1, 'just-over-', '-30 s');
  await world.admin.query('analyze bulkhead.leases');
  const { call, read } = countingSession(world.admin);
  const revoked = await call<{ n: string }>(callsSql('revoke_leases', 2, 'n'), [
    tenant.tenantId,
    ENVIRONMENT,
  ]);
  expect(revoked).toEqual([{ n: '4' }]);
  expect(read['revoke_leases']?.['leases']).toBeLessThan(FEW);
  const { rows } = await world.admin.query(
    `select run_id from bulkhead.leases where tenant_id = $1 and revoked_at is null and run_id not like 'past-%'`,
    [tenant.tenantId],
  );
  expect(rows).toEqual([]);
});

test('T2 purging a run reads its own leases, and none of the tenant’s others', async () => {
  const tenant = await world.tenant();
  await leases(tenant, MANY, 'other-', '-5 minutes');
  const runId = await tenant.run();
  const asked = tenant.admission(runId, '1.1', { capability: 'crm:write' });
  await tenant.store.admit(asked);
  await tenant.store.settle(tenant.settlement(asked));
  await leave(tenant, runId);
  await aged([runId], 91);
  await world.admin.query('analyze bulkhead.leases');
  const { session, read } = countingSession(world.admin);
  expect(await sweepOf(session).purge(10)).toBe(1);
  expect(read['purge_run']?.['leases']).toBeLessThan(FEW);
  const { rows } = await world.admin.query<{ n: number }>(
    `select count(*)::int as n from bulkhead.leases where tenant_id = $1`,
    [tenant.tenantId],
  );
  expect(rows[0]?.n).toBe(MANY);
});

test('T2 an expired run is looked at once, and one of which something waits for a person once a day', async () => {
  const tenant = await world.tenant();
  await closedRuns(tenant, MANY, 91, 'a');
  const doubtful = await tenant.run();
  const asked = tenant.admission(doubtful, '1.1');
  await tenant.store.admit(asked);
  await tenant.store.settle(tenant.settlement(asked, { result: 'unknown' }));
  await leave(tenant, doubtful);
  await aged([doubtful], 91);
  await world.admin.query('analyze bulkhead.runs');
  const first = countingSession(world.admin);
  expect(await sweepOf(first.session).purge(20)).toBe(0);
  // The page itself, and no other run.
  expect(first.read['runs_expired']?.['runs']).toBeLessThan(20 + FEW);

  await world.admin.query(
    `update bulkhead.runs set purged_at = now() where tenant_id = $1 and run_id like 'old-%'`,
    [tenant.tenantId],
  );
  await world.platform.purge(100);
  await world.admin.query('analyze bulkhead.runs');
  const again = countingSession(world.admin);
  expect(await sweepOf(again.session).purge(100)).toBe(0);
  expect(again.read['runs_expired']?.['runs'] ?? 0).toBeLessThan(FEW);
  expect(again.read['purge_run']).toBeUndefined();

  const [review] = await tenant.store.reviews({ open: true, limit: 1 });
  await tenant.store.resolveReview({
    reviewNo: review?.reviewNo ?? 0,
    resolution: 'abandon',
    payload: null,
    payloadDigest: null,
    shown: null,
    actor: 'ada',
    note: '',
  });
  expect(await world.platform.purge(100)).toBe(0);
  await world.admin.query(
    `update bulkhead.runs set purge_again_at = purge_again_at - interval '1 day' where run_id = $1`,
    [doubtful],
  );
  expect(await world.platform.purge(100)).toBe(1);
  expect(await tenant.store.call(doubtful, '1.1')).toBeUndefined();
});

test('T2 a firing purges for as long as it may, portion after portion', async () => {
  const tenant = await world.tenant();
  const runs = await Promise.all([1, 2, 3].map(() => tenant.run()));
  for (const runId of runs) {
    for (const path of ['1.1', '1.2', '1.3']) {
      const asked = tenant.admission(runId, path);
      await tenant.store.admit(asked);
      await tenant.store.settle(tenant.settlement(asked));
    }
    await leave(tenant, runId);
  }
  await aged(runs, 91);
  let asked = 0;
  expect(await world.platform.purge(2, () => (asked += 1) < 2)).toBe(4);
  expect(await world.platform.purge(2, () => true)).toBe(5);
});

test('O3 P12 of a run in which everything was refused, what was asked and shown is forgotten too', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const decided = { decided: { input: { action: 'mail.send' } as never, inputDigest: digest('input') } };
  await tenant.store.admit(
    tenant.admission(runId, '1.1', { ...decided, verdict: { effect: 'deny', refusal: refusal() } }),
  );
  await requested(tenant, runId, '1.2', { change: decided });
  await leave(tenant, runId);
  const left = async () => {
    const { rows } = await world.admin.query<{ n: number }>(
      `select ((select count(*) from bulkhead.decisions where run_id = $1)
         + (select count(*) from bulkhead.approvals where run_id = $1))::int as n`,
      [runId],
    );
    return rows[0]?.n;
  };
  expect(await left()).toBe(3);
  await aged([runId], 91);
  // In portions as well.
  expect(await world.platform.purge(1)).toBe(1);
  expect(await left()).toBe(2);
  while ((await world.platform.purge(1)) > 0);
  expect(await left()).toBe(0);
  expect(recount(await tenant.journal()).violations).toEqual([]);
});

/** A tenant with many in line, whose workflows have asked for their turn a minute ago, and no slot. */
async function crowd(): Promise<LedgerTenant> {
  const crowded = await world.tenant({ more: { concurrentRuns: 0 } });
  const { signed } = crowded.acceptance(RunId.parse('crowd'));
  await world.admin.query(
    `insert into bulkhead.run_acceptances (tenant_id, environment, run_id, root_run_id, workflow_id, agent_id, agent_version, workspace_id,
         body_digest, signed)
       select $1::text, $2, 'q-' || k, 'q-' || k, $1::text || '/wf-' || k, 'support_triage', '1', 'main', 'd', $4 from generate_series(1, $3::integer) k`,
    [crowded.tenantId, ENVIRONMENT, MANY, JSON.stringify(signed)],
  );
  await world.admin.query(
    `insert into bulkhead.runs (tenant_id, environment, run_id, workspace_id, epoch, state, temporal_run_id, accepted_at, touched_at, queued_at)
       select $1, $2, 'q-' || k, 'main', 0, 'queued', 'q-' || k || '/1', now(), now() - interval '1 minute', now()
         from generate_series(1, $3::integer) k`,
    [crowded.tenantId, ENVIRONMENT, MANY],
  );
  await world.admin.query(`update bulkhead.ledgers set queued = $2 where tenant_id = $1`, [
    crowded.tenantId,
    MANY,
  ]);
  await world.admin.query('analyze bulkhead.runs, bulkhead.run_acceptances');
  return crowded;
}

test('N1 N6 a run that holds a slot is looked at among those that do, however many of another tenant stand in line', async () => {
  await crowd();
  const small = await world.tenant();
  const runId = await small.run();
  await world.admin.query(
    `update bulkhead.runs set touched_at = touched_at - interval '1 minute' where run_id = $1`,
    [runId],
  );
  const page = await world.platform.openRunsIdle(30_000, 20);
  expect(page.map((run) => run.runId)).toContain(runId);
  expect(new Set(page.map((run) => run.runId)).size).toBe(20);
});

test('N1 what stands in line is counted where nobody waits for it, and under the lock only where the count differs', async () => {
  const crowded = await crowd();
  const tended = countingSession(world.admin);
  expect(await sweepOf(tended.session).tendLines()).toEqual([]);
  expect(tended.read['lines_to_tend']?.['runs']).toBeGreaterThanOrEqual(MANY);
  expect(tended.read['tend_line']?.['runs'] ?? 0).toBeLessThan(FEW);
  await world.admin.query(`update bulkhead.ledgers set queued = 7 where tenant_id = $1`, [crowded.tenantId]);
  const mended = countingSession(world.admin);
  await sweepOf(mended.session).tendLines();
  expect(mended.read['tend_line']?.['runs']).toBeGreaterThanOrEqual(MANY);
  const { rows } = await world.admin.query(`select queued from bulkhead.ledgers where tenant_id = $1`, [
    crowded.tenantId,
  ]);
  expect(rows).toEqual([{ queued: MANY }]);
});

test('T5 a run that ends looks at its own follow-ups, and at none of the tenant’s others', async () => {
  const tenant = await world.tenant();
  await world.admin.query(
    `insert into bulkhead.follow_ups (tenant_id, environment, follow_up_no, run_id, kind, reason, state, epoch, actor, note, wanted_at,
         touched_at, ended_at)
       select $1, $2, 1000000 + k, 'other-' || k, 'undo', 'failed', 'done', 0, 'agent', '', now(), now(), now()
         from generate_series(1, $3::integer) k`,
    [tenant.tenantId, ENVIRONMENT, MANY],
  );
  await world.admin.query('analyze bulkhead.follow_ups');
  const runId = await tenant.run();
  const { call, read } = countingSession(world.admin);
  await call(callsSql('leave_run', 8), [
    tenant.tenantId,
    ENVIRONMENT,
    runId,
    `${runId}/1`,
    'completed',
    null,
    false,
    false,
  ]);
  expect(read['leave_run']?.['follow_ups'] ?? 0).toBeLessThan(FEW);
});
