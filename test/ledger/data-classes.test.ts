import { digestOf } from '../../contracts/digest';
import { RunId } from '../../contracts/ids';
import { LEASE_MS, LedgerWorld, type LedgerTenant } from './harness';

const START = Date.UTC(2025, 2, 10, 12);
let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open();
});
beforeEach(() => world.setClock(new Date(START)));
afterAll(() => world.close());

/** A read that brought data of these classes into the run. */
async function read(tenant: LedgerTenant, runId: RunId, path: string, dataClasses: string[], change = {}) {
  const asked = tenant.admission(runId, path, {
    callClass: 'read',
    action: 'ticket.read',
    decidedBy: (await tenant.context(runId)).versions,
  });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
  const payload = { kind: 'tool', outcome: 'done', action: 'ticket.read', result: {} } as const;
  await tenant.store.settle(
    tenant.settlement(asked, { dataClasses, payload, payloadDigest: digestOf(payload), ...change }),
  );
  return asked;
}
const classes = async (tenant: LedgerTenant, runId: RunId) => (await tenant.context(runId)).dataClasses;

test('P3 a run carries the classes of all it has read, each once, and never fewer', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  expect(await classes(tenant, runId)).toEqual([]);
  await read(tenant, runId, '1.1', ['pii', 'payment']);
  await read(tenant, runId, '1.2', []);
  await read(tenant, runId, '1.3', ['health', 'pii']);
  expect(await classes(tenant, runId)).toEqual(['health', 'payment', 'pii']);
  expect(await classes(tenant, await tenant.run())).toEqual([]);
});

test('P3 a call that was decided before a read tainted its run is stale, whatever it was decided to be', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const before = (await tenant.context(runId)).versions;
  await read(tenant, runId, '1.1', ['pii']);
  const asked = tenant.admission(runId, '1.2', { decidedBy: before });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'stale' });
  const now = (await tenant.context(runId)).versions;
  // A class that it carries already changes nothing.
  await read(tenant, runId, '1.3', ['pii']);
  expect((await tenant.context(runId)).versions).toEqual(now);
  expect(await tenant.store.admit({ ...asked, decidedBy: now })).toMatchObject({ answer: 'admitted' });
});

test('P3 T3 a take-over is decided with what the run has read since', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const write = tenant.admission(runId, '1.1');
  await tenant.store.admit(write);
  await read(tenant, runId, '1.2', ['pii']);
  await world.setClock(new Date(START + LEASE_MS));
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({ answer: 'stale' });
});

test('P3 what was read and not believed counts as read; what was surely not sent, and what came too late, does not', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await read(tenant, runId, '1.1', ['open'], { result: 'open' });
  await read(tenant, runId, '1.2', ['failed'], { result: 'failed' });
  const late = tenant.admission(runId, '1.3', {
    callClass: 'read',
    decidedBy: (await tenant.context(runId)).versions,
  });
  await tenant.store.admit(late);
  await world.setClock(new Date(START + LEASE_MS));
  await world.platform.reapCalls(9);
  await read(tenant, runId, '1.3', ['retried']);
  expect(await tenant.store.settle(tenant.settlement(late, { dataClasses: ['late'] }))).toMatchObject({
    answer: 'late',
  });
  expect(await classes(tenant, runId)).toEqual(['failed', 'retried']);
});

test('P3 a write that a person found to have happened brings its classes too', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const write = tenant.admission(runId, '1.1');
  await tenant.store.admit(write);
  const { reviewNo } = await tenant.store.settle(tenant.settlement(write, { result: 'unknown' }));
  const payload = { kind: 'tool', outcome: 'done', action: 'ticket.update', result: {} } as const;
  await tenant.store.resolveReview({
    reviewNo: reviewNo ?? 0,
    resolution: 'happened',
    payload,
    payloadDigest: digestOf(payload),
    shown: { facts: {}, records: [], dataClasses: ['pii'] },
    actor: 'op',
    note: '',
  });
  expect(await classes(tenant, runId)).toEqual(['pii']);
});

test('P3 a fork is not less tainted than its run, and its own reads are its own', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const step = { kind: 'model', text: '', toolCalls: [], inputTokens: 0, outputTokens: 0 } as const;
  const thought = tenant.admission(runId, '0.0', { callClass: 'model' });
  await tenant.store.admit(thought);
  await tenant.store.settle(tenant.settlement(thought, { payload: step, payloadDigest: digestOf(step) }));
  await read(tenant, runId, '0.1', ['pii']);
  const fork = async (from: RunId, name: string): Promise<RunId> => {
    const forked = RunId.parse(name);
    await tenant.store.acceptRun({ ...tenant.acceptance(forked), fork: { runId: from, fromStep: 1 } });
    await tenant.store.enterRun({
      runId: forked,
      temporalRunId: `${forked}/1`,
      previousTemporalRunId: null,
      generation: 0,
    });
    return forked;
  };
  const forked = await fork(runId, 'forked');
  expect(await classes(tenant, forked)).toEqual(['pii']);
  await read(tenant, forked, '1.1', ['payment']);
  expect(await classes(tenant, runId)).toEqual(['pii']);
  // Which step a class came with is not kept.
  await read(tenant, runId, '1.1', ['health']);
  expect(await classes(tenant, await fork(runId, 'later'))).toEqual(['health', 'pii']);
});

test('P3 O8 what recovery puts back as done has tainted its run again', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await world.admin.query('update bulkhead.ledgers set rewound_seq = 99 where tenant_id = $1', [
    tenant.tenantId,
  ]);
  const call = {
    action: 'ticket.read',
    class: 'read',
    system: 'helpdesk',
    reversible: null,
    undoOf: null,
    firstClaimedAt: new Date(START).toISOString(),
    leaseMs: 1,
    toolCalls: 0,
    steps: 0,
    microUsd: 0,
    modelTokens: 0,
    refusal: null,
    value: null,
    payload: null,
    payloadDigest: null,
    review: null,
  } as const;
  const restore = (path: string, to: 'succeeded' | 'claimed', name: string) =>
    tenant.store.recovery.restoreCall({
      runId,
      path,
      from: null,
      to,
      call: { ...call, dataClasses: [name] },
    });
  await restore('1.1', 'succeeded', 'pii');
  await restore('1.2', 'claimed', 'payment');
  expect(await classes(tenant, runId)).toEqual(['pii']);
});
