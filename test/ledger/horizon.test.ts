import { RunId } from '../../contracts/ids';
import { digest, ENVIRONMENT, LEASE_MS, LedgerWorld, refusal, type LedgerTenant } from './harness';
import { recount } from './recount';

let world: LedgerWorld;
const NOON = Date.UTC(2025, 2, 10, 12);
const DAY = 86_400_000;
const at = (ms: number) => world.setClock(new Date(NOON + ms));
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(0));

const leave = (tenant: LedgerTenant, runId: RunId) =>
  tenant.store.leaveRun({ runId, temporalRunId: null, stopReason: 'failed', outputRef: null });
async function write(
  tenant: LedgerTenant,
  runId: RunId,
  path: string,
  result: 'succeeded' | 'unknown' = 'succeeded',
) {
  const asked = tenant.admission(runId, path);
  await tenant.store.admit(asked);
  await tenant.store.settle(tenant.settlement(asked, { result }));
  return asked;
}

test('T2 a run beyond the horizon does nothing new, and what it did is still answered', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const asked = await write(tenant, runId, '1.1');
  await at(90 * DAY - 1);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({ answer: 'admitted' });
  await at(90 * DAY);
  const expired = { answer: 'refused', refusal: { kind: 'failed', origin: 'platform', rule: 'key_expired' } };
  expect(await tenant.store.admit(tenant.admission(runId, '1.3'))).toMatchObject(expired);
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'replayed' });
  await leave(tenant, runId);
  expect(await tenant.store.orderUndo({ runId, actor: 'op', note: '' })).toEqual({ kind: 'nothing' });
});

test('T2 purging forgets keys of closed runs beyond the horizon, in portions, never what is claimed or waits for a person', async () => {
  // Other tests' leftovers go first.
  await at(91 * DAY);
  while ((await world.platform.purge(100)) > 0);
  await at(0);
  const tenant = await world.tenant();
  const [gone, open, doubtful, held] = [
    await tenant.run(),
    await tenant.run(),
    await tenant.run(),
    await tenant.run(),
  ];
  const asked = await write(tenant, gone, '1.1');
  for (const path of ['1.2', '1.3', '1.4']) await write(tenant, gone, path);
  await write(tenant, open, '1.1');
  await write(tenant, doubtful, '1.1', 'unknown');
  await tenant.store.admit(tenant.admission(held, '1.1'));
  for (const runId of [gone, doubtful, held]) await leave(tenant, runId);
  const left = async (runId: RunId) => {
    const paths = ['1.1', '1.2', '1.3', '1.4'];
    return (await Promise.all(paths.map((path) => tenant.store.call(runId, path)))).filter(Boolean).length;
  };
  await at(90 * DAY - 1);
  expect(await world.platform.purge(100)).toBe(0);
  await at(90 * DAY);
  expect(await world.platform.purge(3)).toBe(3);
  expect(await left(gone)).toBe(1);
  expect(await world.platform.purge(100)).toBe(1);
  expect(await world.platform.purge(100)).toBe(0);
  expect([await left(gone), await left(open), await left(doubtful), await left(held)]).toEqual([0, 1, 1, 1]);
  // A forgotten key is never taken for a new one, and a late settlement of it is evidence and no more.
  expect(await tenant.store.admit(tenant.admission(gone, '1.1'))).toMatchObject({
    refusal: { rule: 'key_expired' },
  });
  expect(await tenant.store.settle(tenant.settlement(asked))).toMatchObject({ answer: 'late' });
  expect(recount(await tenant.journal()).violations).toEqual([]);
  expect(await tenant.verify()).toEqual({ intact: true });
});

test('T2 the leases of a dead host end, and a look-up is told no more than before', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const beat = (hostId: string) => world.platform.heartbeatHost({ hostId, pid: 1, roles: [] });
  const [dead, alive] = [`dead-${runId}`, `alive-${runId}`];
  await beat(dead);
  const asked = tenant.admission(runId, '1.1', { hostId: dead, keyValidMs: null });
  await tenant.store.admit(asked);
  await tenant.store.admit(tenant.admission(runId, '1.2', { hostId: alive }));
  await at(5_000);
  await beat(alive);
  await expect(world.platform.endLeasesOfDeadHosts(4_999)).rejects.toThrow(/at least 5000/);
  // The clock stands still for the ledger; the server's own age is real, and young after the set-up.
  while (
    (
      await world.admin.query<{ young: boolean }>(
        `select pg_postmaster_start_time() > clock_timestamp() - interval '5 seconds' as young`,
      )
    ).rows[0]?.young
  )
    await new Promise((resolve) => setTimeout(resolve, 200));
  expect(await world.platform.endLeasesOfDeadHosts(5_001)).toBe(0);
  expect(await world.platform.endLeasesOfDeadHosts(5_000)).toBe(1);
  expect(await world.platform.endLeasesOfDeadHosts(5_000)).toBe(0);
  expect(await tenant.store.claimedCalls({ runId })).toBe(1);
  const taken = { answer: 'recover', lookupOnly: true, quietMs: 5_000 - LEASE_MS };
  expect(await tenant.store.admit(tenant.admission(runId, '1.1', { keyValidMs: null }))).toMatchObject(taken);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2'))).toMatchObject({ answer: 'in_flight' });
  expect(recount(await tenant.journal()).violations).toEqual([]);
});

test('T2 a host that has spoken since the list was made keeps its leases', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const hostId = `h-${runId}`;
  const asked = tenant.admission(runId, '1.1', { hostId });
  await tenant.store.admit(asked);
  await world.platform.heartbeatHost({ hostId, pid: 1, roles: [] });
  const end = () =>
    world.admin.query<{ ended: boolean }>(
      'select bulkhead.end_lease($1, $2, $3, $4, $5, $6, 5000) as ended',
      [tenant.tenantId, ENVIRONMENT, runId, '1.1', asked.token, hostId],
    );
  expect((await end()).rows).toEqual([{ ended: false }]);
  await at(5_000);
  expect((await end()).rows).toEqual([{ ended: true }]);
});

test('T2 O3 a fork knows what its run knew before the step, and nothing of the rest', async () => {
  const tenant = await world.tenant();
  const other = await world.tenant();
  const from = await tenant.run();
  const say = (path: string) => ({ kind: 'tool_result', said: path }) as never;
  for (const path of ['0.0', '0.1', '1.0', '1.1']) {
    const asked = tenant.admission(from, path, {
      callClass: path.endsWith('.0') ? 'model' : 'read',
      reversible: null,
    });
    const { decidedBy } = asked;
    const { factsVersion } = (await tenant.context(from)).versions;
    await tenant.store.admit({ ...asked, decidedBy: { ...decidedBy, factsVersion } });
    const facts = path === '0.1' ? { classified: 'ok' } : path === '1.1' ? { late: true } : {};
    await tenant.store.settle(
      tenant.settlement(asked, { payload: say(path), payloadDigest: digest(path), facts: facts }),
    );
  }
  const fork = async (store: LedgerTenant, name: string, fromStep: number, of: RunId = from) =>
    store.store.acceptRun({ ...store.acceptance(RunId.parse(name)), fork: { runId: of, fromStep } });
  expect(await fork(tenant, 'fork-1', 1)).toMatchObject({ kind: 'accepted' });
  expect(await fork(tenant, 'fork-1', 1)).toMatchObject({ kind: 'existing' });
  const runId = RunId.parse('fork-1');
  expect(
    await tenant.store.enterRun({ runId, temporalRunId: 'f/1', previousTemporalRunId: null, generation: 0 }),
  ).toMatchObject({ kind: 'entered', firstStep: 1 });
  expect((await tenant.store.conversation(runId)).map(({ ref }) => ref)).toEqual(['input', '0.0', '0.1']);
  expect((await tenant.context(runId)).facts).toEqual({ classified: 'ok' });
  expect((await tenant.context(runId)).versions.factsVersion).toBe(1);
  await expect(fork(tenant, 'fork-2', 3)).rejects.toThrow(/no step 3/);
  await expect(fork(tenant, 'fork-3', 1, RunId.parse('nobody'))).rejects.toThrow(/no run nobody/);
  await expect(fork(other, 'fork-4', 1)).rejects.toThrow(/there is no run/);
  expect(await tenant.store.run(RunId.parse('fork-2'))).toBeUndefined();
  // Its calls are its own: nothing of the other run's is replayed to it.
  const asked = tenant.admission(runId, '1.1', {
    temporalRunId: 'f/1',
    decidedBy: (await tenant.context(runId)).versions,
  });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
});

test('O8 a rewound ledger freezes: its runs and their starts wait', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const frozen = { kind: 'frozen', origin: 'platform', rule: 'ledger_rewound', retryAfterMs: 30_000 };
  const asked = tenant.admission(runId, '1.1', { seenSeq: 1_000 });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'refused', refusal: frozen });
  expect(await tenant.store.run(runId)).toMatchObject({ state: 'frozen' });
  const entry = { runId, temporalRunId: 'x/2', previousTemporalRunId: `${runId}/1`, generation: 1 };
  expect(await tenant.store.enterRun(entry)).toMatchObject({ kind: 'refused', refusal: frozen });
  expect(await tenant.store.acceptRun(tenant.acceptance(RunId.parse('next')))).toMatchObject({
    refusal: frozen,
  });
  await tenant.store.recovery.finish({ actor: 'op', counts: {} });
  expect(
    await tenant.store.admit({ ...asked, verdict: { effect: 'deny', refusal: refusal() } }),
  ).toMatchObject({ refusal: { rule: 'no-mail' } });
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.run(runId)).toMatchObject({ state: 'running' });
});

test('O3 a run that stopped within a step is not forked from the step after it', async () => {
  const tenant = await world.tenant();
  const from = await tenant.run();
  const toolCalls = [1, 2].map((id) => ({ id: `call-${id}`, name: 'ticket_update', args: {} }));
  const step = { kind: 'model', text: '', toolCalls, inputTokens: 1, outputTokens: 1 } as const;
  const result = { kind: 'tool', outcome: 'done', action: 'ticket.update', result: {} } as const;
  const settled = async (path: string, payload: typeof step | typeof result) => {
    const asked = tenant.admission(from, path, { callClass: path === '0.0' ? 'model' : 'write' });
    await tenant.store.admit(asked);
    await tenant.store.settle(tenant.settlement(asked, { payload, payloadDigest: digest(path) }));
  };
  await settled('0.0', step);
  await settled('0.1', result);
  const fork = (name: string, fromStep: number) =>
    tenant.store.acceptRun({
      ...tenant.acceptance(RunId.parse(name)),
      fork: { runId: from, fromStep },
    });
  await expect(fork('fork-5', 1)).rejects.toThrow(/not all done/);
  await settled('0.2', result);
  expect(await fork('fork-6', 1)).toMatchObject({ kind: 'accepted' });
});

test('O8 what is before a fork’s first step, or is over without words, is no sign of a restored ledger', async () => {
  const tenant = await world.tenant();
  const from = await tenant.run();
  const asked = tenant.admission(from, '0.0', { callClass: 'model' });
  await tenant.store.admit(asked);
  await tenant.store.settle(tenant.settlement(asked));
  const runId = RunId.parse('fork-7');
  await tenant.store.acceptRun({ ...tenant.acceptance(runId), fork: { runId: from, fromStep: 1 } });
  const lost = (of: RunId, path: string) => tenant.store.recovery.markLostCall({ runId: of, path, seq: 5 });
  expect(await lost(runId, '0.2')).toBe(false);
  // Used up, and the host died before it could keep the refusal for the conversation.
  for (let attempt = 1; attempt <= 8; attempt += 1) {
    const write = tenant.admission(from, '1.2');
    await tenant.store.admit(write);
    await tenant.store.settle(tenant.settlement(write, { result: 'open' }));
  }
  await tenant.store.admit(tenant.admission(from, '1.2'));
  expect(await tenant.store.admit(tenant.admission(from, '1.2'))).toMatchObject({ answer: 'replayed' });
  expect(await lost(from, '1.2')).toBe(false);
  expect(await tenant.row()).toMatchObject({ rewound_seq: 0 });
  expect(await lost(runId, '1.2')).toBe(true);
});
