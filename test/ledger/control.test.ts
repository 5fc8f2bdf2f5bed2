import { Client } from 'pg';
import { ENVIRONMENT, LEASE_MS, LedgerWorld } from './harness';
import { RunId } from '../../contracts/ids';

let world: LedgerWorld;
const NOON = new Date('2025-03-10T12:00:00.000Z');

beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => world.setClock(NOON));

const KILL = { reason: 'runaway', actor: 'op-1' };

test('O1 from the fence on nothing is admitted, accepted or entered, and other tenants notice nothing', async () => {
  const tenant = await world.tenant();
  const other = await world.tenant();
  const runId = await tenant.run();
  const accepted = RunId.parse('waits');
  await tenant.store.acceptRun(tenant.acceptance(accepted));
  const state = await tenant.store.kill(KILL);
  expect(state).toEqual({
    mode: 'killed',
    fenceEpoch: 1,
    fencedAt: '2025-03-10T12:00:00.000000Z',
    containedAt: null,
    drainedAt: null,
    ...KILL,
  });
  const killed = { kind: 'killed', origin: 'control', rule: 'tenant_killed' };
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    answer: 'refused',
    refusal: killed,
  });
  expect(await tenant.store.acceptRun(tenant.acceptance(RunId.parse('next')))).toMatchObject({
    kind: 'refused',
    refusal: killed,
  });
  const entry = { runId: accepted, temporalRunId: 'waits/1', previousTemporalRunId: null, generation: 0 };
  expect(await tenant.store.enterRun(entry)).toMatchObject({
    kind: 'refused',
    refusal: killed,
    stopReason: 'killed',
  });

  const otherRun = await other.run();
  expect(await other.store.admit(other.admission(otherRun, '1.1'))).toMatchObject({ answer: 'admitted' });
  expect(await other.store.control()).toMatchObject({ mode: 'normal', fenceEpoch: 0 });
});

test('O1 a kill again changes nothing; release opens the tenant in the new epoch, to runs accepted after it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const before = await tenant.row();
  await tenant.store.kill(KILL);
  const first = await tenant.row();
  expect(first).toMatchObject({ fence_epoch: 1, control_version: before.control_version + 1 });
  await tenant.store.kill({ reason: 'again', actor: 'op-2' });
  expect(await tenant.row()).toEqual(first);
  expect(await tenant.store.control()).toMatchObject(KILL);
  expect(await tenant.store.release({ reason: 'over', actor: 'op-2' })).toMatchObject({
    mode: 'normal',
    fenceEpoch: 1,
  });
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    answer: 'refused',
    refusal: { kind: 'killed', rule: 'run_fenced' },
  });
  expect(
    await tenant.store.leaveRun({
      runId,
      temporalRunId: `${runId}/1`,
      stopReason: 'failed',
      outputRef: null,
    }),
  ).toEqual({ stopReason: 'killed' });
  expect(await tenant.store.admit(tenant.admission(await tenant.run(), '1.1'))).toMatchObject({
    answer: 'admitted',
    epoch: 1,
  });
});

test('O1 contained only once no older call may act, drained only once every older run is closed', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const settles = tenant.admission(runId, '1.1');
  await tenant.store.admit(settles);
  await tenant.store.admit(tenant.admission(runId, '1.2'));
  const { fenceEpoch } = await tenant.store.kill(KILL);
  expect(await tenant.store.claimedCalls({ beforeEpoch: fenceEpoch })).toBe(2);
  expect(await tenant.store.markContained(fenceEpoch)).toMatchObject({ containedAt: null });
  // Settlement never asks the fence.
  expect(await tenant.store.settle(tenant.settlement(settles))).toMatchObject({ answer: 'settled' });
  await world.setClock(new Date(NOON.getTime() + LEASE_MS));
  expect(await tenant.store.claimedCalls({ beforeEpoch: fenceEpoch })).toBe(0);
  expect(await tenant.store.markContained(fenceEpoch)).toMatchObject({
    containedAt: '2025-03-10T12:00:10.000000Z',
  });
  expect(await tenant.store.markDrained(fenceEpoch)).toMatchObject({ drainedAt: null });
  expect(await tenant.store.openRuns(10)).toHaveLength(1);
  await tenant.store.leaveRun({ runId, temporalRunId: null, stopReason: 'killed', outputRef: null });
  expect(await tenant.store.markDrained(fenceEpoch)).toMatchObject({
    drainedAt: '2025-03-10T12:00:10.000000Z',
  });
});

test('O1 a run accepted after a release is none of the kill’s', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const { fenceEpoch } = await tenant.store.kill(KILL);
  await tenant.store.release(KILL);
  await tenant.run();
  expect((await tenant.store.openRuns(10, { beforeEpoch: fenceEpoch })).map((run) => run.runId)).toEqual([
    runId,
  ]);
  expect(await tenant.store.openRuns(10)).toHaveLength(2);
});

test('O1 a kill is heard by listeners, and stands where nobody listens', async () => {
  const tenant = await world.tenant();
  const listener = new Client({ connectionString: world.database.appUrl });
  await listener.connect();
  try {
    const heard = new Promise<string | undefined>((resolve) => {
      listener.on('notification', (message) => resolve(message.payload));
    });
    await listener.query('listen bulkhead_control');
    await tenant.store.kill(KILL);
    expect(await heard).toBe(`${tenant.tenantId}/${ENVIRONMENT}`);
  } finally {
    await listener.end();
  }
});

test('O1 a kill revokes the leases that are out', async () => {
  const tenant = await world.tenant();
  await world.admin.query(
    `insert into bulkhead.leases (tenant_id, environment, lease_id, capability, run_id, path, epoch, expires_at)
     values ($1, $2, gen_random_uuid(), 'crm:write', 'r', '1.1', 0, now() + interval '1 hour')`,
    [tenant.tenantId, ENVIRONMENT],
  );
  expect(await tenant.store.revokeLeases()).toBe(1);
  expect(await tenant.store.revokeLeases()).toBe(0);
});

test('O1 hosts poll every tenant of the environment in one statement', async () => {
  const tenant = await world.tenant();
  await tenant.store.kill(KILL);
  const versions = await world.platform.controlVersions();
  expect(versions.find(({ tenantId }) => tenantId === tenant.tenantId)).toEqual({
    tenantId: tenant.tenantId,
    fenceEpoch: 1,
    controlVersion: 1,
    mode: 'killed',
  });
  expect(versions.length).toBeGreaterThan(1);
});

test('O8 a ledger behind what a run has seen is refused to every run, until it is recovered: a release is not enough', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const { journal_seq } = await tenant.row();
  const rewound = { answer: 'refused', refusal: { origin: 'platform', rule: 'ledger_rewound' } };
  expect(await tenant.store.admit(tenant.admission(runId, '1.1', { seenSeq: journal_seq }))).toMatchObject({
    answer: 'admitted',
  });
  expect(
    await tenant.store.admit(tenant.admission(runId, '1.2', { seenSeq: journal_seq + 100 })),
  ).toMatchObject(rewound);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject(rewound);
  expect(await tenant.store.acceptRun(tenant.acceptance(RunId.parse('next')))).toMatchObject({
    kind: 'refused',
  });
  await tenant.store.release({ reason: 'in a hurry', actor: 'op' });
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject(rewound);
  await tenant.store.recovery.finish({ actor: 'op', counts: {} });
  expect(
    await tenant.store.admit(tenant.admission(runId, '1.2', { seenSeq: journal_seq + 100 })),
  ).toMatchObject({ answer: 'admitted' });
  expect(
    await tenant.store.admit(tenant.admission(runId, '1.3', { seenSeq: journal_seq + 10_000 })),
  ).toMatchObject(rewound);
});

test('O8 no answer names a sequence that a crash could take back', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const read = {
    callClass: 'read',
    reserve: { toolCalls: 1, steps: 1, microUsd: 0, modelTokens: 0 },
  } as const;
  const durable = (await tenant.row()).durable_seq;
  const attempt = tenant.admission(runId, '1.1', read);
  expect(await tenant.store.admit(attempt)).toMatchObject({ answer: 'admitted', seq: durable });
  expect(await tenant.row()).toMatchObject({ journal_seq: durable + 1, durable_seq: durable });
  const { seq } = await tenant.store.settle(tenant.settlement(attempt));
  expect(await tenant.row()).toMatchObject({ journal_seq: seq, durable_seq: seq });
});
