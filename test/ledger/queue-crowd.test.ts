import { RunId } from '../../contracts/ids';
import { ENVIRONMENT, LedgerWorld, type LedgerTenant } from './harness';

const MANY = 100_000;
/** Generous: a machine that is busy with other tests takes a hundredth of it where the line is looked at by its index. */
const SOON_MS = 1_000;

let world: LedgerWorld;
let crowded: LedgerTenant;
let quiet: LedgerTenant;

beforeAll(async () => {
  world = await LedgerWorld.open(4);
  crowded = await world.tenant({ more: { concurrentRuns: 1, queuedRuns: MANY + 10, queuedSeconds: 86_400 } });
  quiet = await world.tenant({ more: { concurrentRuns: 5 } });
  await crowded.run('works');
  const { signed } = crowded.acceptance(RunId.parse('crowd'));
  await world.admin.query(
    `insert into bulkhead.run_acceptances (tenant_id, environment, run_id, root_run_id, workflow_id, agent_id, agent_version, workspace_id,
         body_digest, signed)
       select $1, $2, 'q-' || lpad(k::text, 6, '0'), 'q-' || lpad(k::text, 6, '0'), 'wf-' || k, 'support_triage', '1', 'main', 'd', $4
         from generate_series(1, $3::integer) k`,
    [crowded.tenantId, ENVIRONMENT, MANY, JSON.stringify(signed)],
  );
  await world.admin.query(
    `insert into bulkhead.runs (tenant_id, environment, run_id, workspace_id, epoch, state, accepted_at, touched_at, queued_at)
       select $1, $2, 'q-' || lpad(k::text, 6, '0'), 'main', 0, 'queued', now() - interval '1 hour' + k * interval '1 ms', now(), now()
         from generate_series(1, $3::integer) k`,
    [crowded.tenantId, ENVIRONMENT, MANY],
  );
  // As autovacuum does it within a minute.
  await world.admin.query('analyze bulkhead.runs, bulkhead.run_acceptances');
  await world.admin.query('update bulkhead.ledgers set queued = $2 where tenant_id = $1', [
    crowded.tenantId,
    MANY,
  ]);
}, 180_000);
afterAll(() => world.close());

/** Milliseconds that each took, the slowest of a few. */
async function slowest(what: () => Promise<unknown>, times = 3): Promise<number> {
  let most = 0;
  for (let turn = 0; turn < times; turn += 1) {
    const began = performance.now();
    await what();
    most = Math.max(most, performance.now() - began);
  }
  return most;
}

let named = 0;
const next = (): RunId => RunId.parse(`new-${(named += 1)}`);
const enter = (tenant: LedgerTenant, run: string) =>
  tenant.store.enterRun({
    ...{ runId: RunId.parse(run), temporalRunId: `${run}/1`, previousTemporalRunId: null, generation: 0 },
  });

test('N1 O1 with 100,000 runs of one tenant in line, nothing of it is slow, its neighbour notices nothing, and its kill is one row', async () => {
  const times: Record<string, number> = {};
  const took = async (name: string, what: () => Promise<unknown>, turns?: number): Promise<void> => {
    times[name] = await slowest(what, turns);
  };
  await took('accept', () => crowded.store.acceptRun(crowded.acceptance(next())));
  expect(await enter(crowded, 'q-100000')).toMatchObject({
    kind: 'queued',
    position: null,
    waiting: MANY + 3,
  });
  await took('enter the last', () => enter(crowded, 'q-100000'));
  expect(await enter(crowded, 'q-000003')).toMatchObject({ kind: 'queued', position: 3 });
  let holder = 'works';
  await took('leave', async () => {
    const left = await crowded.store.leaveRun({
      ...{ runId: RunId.parse(holder), temporalRunId: null, stopReason: 'completed', outputRef: null },
    });
    expect(left.handed).toHaveLength(1);
    holder = `q-${String(named - 2).padStart(6, '0')}`;
    named += 1;
  });
  expect(await crowded.store.standingInLine(RunId.parse('q-100000'))).toMatchObject({ position: MANY - 3 });
  await took('where it stands', () => crowded.store.standingInLine(RunId.parse('q-100000')));
  await took('tend the line', () => world.platform.tendLines());
  await took('who is idle', () => world.platform.openRunsIdle(0, 200));
  await took('too long', () => world.platform.queuedTooLong(200));
  const work = async (): Promise<void> => {
    const runId = await quiet.run();
    expect(await quiet.store.admit(quiet.admission(runId, '0.1'))).toMatchObject({ answer: 'admitted' });
    await quiet.store.leaveRun({ runId, temporalRunId: null, stopReason: 'completed', outputRef: null });
  };
  await took('the neighbour', work);
  await took('the kill', () => crowded.store.kill({ reason: 'x', actor: 'op' }), 1);
  await took('the neighbour after it', work);
  // The drain goes in pages.
  await took('a page of the drain', async () => {
    const page = await crowded.store.openRuns(200, { beforeEpoch: 1 });
    expect(page).toHaveLength(200);
    for (const { runId } of page.slice(0, 5))
      await crowded.store.leaveRun({ runId, temporalRunId: null, stopReason: 'killed', outputRef: null });
  });
  await took('the neighbour while it drains', work);
  for (const [name, ms] of Object.entries(times))
    expect([name, ms < SOON_MS, Math.round(ms)]).toEqual([name, true, Math.round(ms)]);
  const { rows } = await world.admin.query<{ slots: number; queued: number }>(
    'select slots, queued from bulkhead.ledgers where tenant_id = $1',
    [crowded.tenantId],
  );
  expect(rows[0]).toEqual({
    slots: expect.any(Number),
    queued: MANY + 3 - 3 - 15 + (rows[0]?.slots === 0 ? 1 : 0),
  });
}, 180_000);
