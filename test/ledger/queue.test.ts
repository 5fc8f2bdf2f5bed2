import { RunId } from '../../contracts/ids';
import type { Entry } from '../../contracts/rows';
import { ENVIRONMENT, LedgerWorld, WIDE, type LedgerTenant } from './harness';

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(8);
});
afterAll(() => world.close());

const id = (name: string): RunId => RunId.parse(name);
const withSlots = (concurrentRuns: number, more: object = {}): Promise<LedgerTenant> =>
  world.tenant({ more: { concurrentRuns, ...more } });
const accept = (tenant: LedgerTenant, name: string, priority?: number) =>
  tenant.store.acceptRun({ ...tenant.acceptance(id(name)), ...(priority !== undefined && { priority }) });
const enter = (tenant: LedgerTenant, name: string, more: object = {}) =>
  tenant.store.enterRun({
    runId: id(name),
    temporalRunId: `${name}/1`,
    previousTemporalRunId: null,
    generation: 0,
    ...more,
  });
const resume = (tenant: LedgerTenant, name: string, unlessOpen?: { approvalNo: number }) =>
  enter(tenant, name, { previousTemporalRunId: `${name}/1`, ...(unlessOpen && { unlessOpen }) });
const park = (tenant: LedgerTenant, name: string) =>
  tenant.store.parkRun({ runId: id(name), temporalRunId: `${name}/1`, state: 'approval_required' });
const leave = (tenant: LedgerTenant, name: string) =>
  tenant.store.leaveRun({
    runId: id(name),
    temporalRunId: `${name}/1`,
    stopReason: 'completed',
    outputRef: null,
  });
const workflow = (tenant: LedgerTenant, name: string): string =>
  `tenant/${tenant.tenantId}/${ENVIRONMENT}/run/${name}`;

async function counts(tenant: LedgerTenant): Promise<{ slots: number; queued: number }> {
  const found = await world.admin.query<{ slots: number; queued: number }>(
    'select slots, queued from bulkhead.ledgers where tenant_id = $1',
    [tenant.tenantId],
  );
  return found.rows[0] ?? { slots: -1, queued: -1 };
}
async function holding(tenant: LedgerTenant): Promise<string[]> {
  const found = await world.admin.query<{ run_id: string }>(
    'select run_id from bulkhead.runs where tenant_id = $1 and slot_at is not null order by 1',
    [tenant.tenantId],
  );
  return found.rows.map((row) => row.run_id);
}
const position = (entry: Entry): unknown => (entry.kind === 'queued' ? entry.position : entry.kind);

test('N1 runs are accepted beyond the slots, stand in line by arrival, and get the slot of whoever leaves', async () => {
  const tenant = await withSlots(1);
  expect(await accept(tenant, 'a')).toMatchObject({ run: { state: 'accepted', queuedSince: null } });
  expect(await accept(tenant, 'b')).toMatchObject({ run: { state: 'queued', slotSince: null } });
  await accept(tenant, 'c');
  expect(await enter(tenant, 'a')).toMatchObject({ kind: 'entered' });
  expect(await enter(tenant, 'c')).toMatchObject({
    kind: 'queued',
    position: 2,
    waiting: 2,
    refusal: { kind: 'throttled', origin: 'tenant_cap', rule: 'concurrent_runs', value: 1, used: 1 },
  });
  expect(position(await enter(tenant, 'b'))).toBe(1);
  expect(position(await enter(tenant, 'b'))).toBe(1);
  expect(await tenant.store.standingInLine(id('c'))).toEqual({ position: 2, waiting: 2, value: 1, used: 1 });
  expect(await tenant.store.run(id('b'))).toMatchObject({
    state: 'queued',
    enteredAt: null,
    temporalRunId: 'b/1',
  });
  expect(await counts(tenant)).toEqual({ slots: 1, queued: 2 });

  expect(await leave(tenant, 'a')).toEqual({ stopReason: 'completed', handed: [workflow(tenant, 'b')] });
  expect(await leave(tenant, 'a')).toEqual({ stopReason: 'completed' });
  expect(await holding(tenant)).toEqual(['b']);
  expect(await enter(tenant, 'c')).toMatchObject({ kind: 'queued', position: 1 });
  expect(await enter(tenant, 'b')).toMatchObject({ kind: 'entered' });
  expect(await enter(tenant, 'b')).toMatchObject({ kind: 'entered' });
  // Ended while it stood in line: it leaves no slot.
  expect(await leave(tenant, 'c')).toEqual({ stopReason: 'completed' });
  expect(await leave(tenant, 'b')).toEqual({ stopReason: 'completed' });
  expect(await counts(tenant)).toEqual({ slots: 0, queued: 0 });
  expect(await tenant.verify()).toEqual({ intact: true });
});

test('N1 by priority, then by arrival; and no better than the quota lets', async () => {
  const tenant = await withSlots(1, { bestPriority: 2 });
  await accept(tenant, 'first');
  await accept(tenant, 'later', 4);
  await accept(tenant, 'usual');
  await accept(tenant, 'usual-too', 3);
  await accept(tenant, 'better', 2);
  expect(await accept(tenant, 'best', 1)).toMatchObject({
    kind: 'refused',
    refusal: { origin: 'tenant_cap', rule: 'best_priority', value: 2, used: 1 },
  });
  const plain = await withSlots(1);
  expect(await accept(plain, 'better', 2)).toMatchObject({ refusal: { rule: 'best_priority', value: 3 } });
  const order: string[] = [];
  for (let next = 'first'; next;) {
    const { handed = [] } = await leave(tenant, next);
    next = handed[0]?.split('/').at(-1) ?? '';
    order.push(next);
  }
  expect(order).toEqual(['better', 'usual', 'usual-too', 'later', '']);
});

test('Q1 Q3 run starts per minute: refused with limit, use and when it frees; a known key is answered all the same', async () => {
  const tenant = await withSlots(50, { runStartsPerMinute: 2 });
  await world.setClock(new Date('2026-01-01T00:00:00Z'));
  const fresh = await world.tenant({ more: { concurrentRuns: 50, runStartsPerMinute: 2 } });
  const keyed = (name: string, key: string) => fresh.store.acceptRun(fresh.acceptance(id(name), { key }));
  expect(await keyed('a', 'k1')).toMatchObject({ kind: 'accepted' });
  expect(await keyed('b', 'k2')).toMatchObject({ kind: 'accepted' });
  expect(await keyed('c', 'k3')).toMatchObject({
    kind: 'refused',
    refusal: {
      kind: 'throttled',
      origin: 'tenant_cap',
      rule: 'run_starts_per_minute',
      value: 2,
      used: 2,
      retryAfterMs: 30_000,
    },
  });
  expect(await keyed('again', 'k1')).toMatchObject({ kind: 'existing', run: { runId: 'a' } });
  await world.setClock(new Date('2026-01-01T00:00:30Z'));
  expect(await keyed('c', 'k3')).toMatchObject({ kind: 'accepted' });
  expect(await keyed('d', 'k4')).toMatchObject({ kind: 'refused' });
  await world.useRealClock();
  expect(await accept(tenant, 'a')).toMatchObject({ kind: 'accepted' });
});

test('Q1 Q3 queued runs: one beyond the limit is refused, one that has a slot at once is not; a known key is answered', async () => {
  const tenant = await withSlots(1, { queuedRuns: 1 });
  await accept(tenant, 'a');
  await accept(tenant, 'b');
  expect(await accept(tenant, 'c')).toMatchObject({
    kind: 'refused',
    refusal: { kind: 'throttled', origin: 'tenant_cap', rule: 'queued_runs', value: 1, used: 1 },
  });
  expect(await accept(tenant, 'b')).toMatchObject({ kind: 'existing' });
  await leave(tenant, 'a');
  expect(await accept(tenant, 'c')).toMatchObject({ kind: 'accepted' });
  const none = await withSlots(1, { queuedRuns: 0 });
  expect(await accept(none, 'a')).toMatchObject({ kind: 'accepted' });
  expect(await accept(none, 'b')).toMatchObject({ refusal: { rule: 'queued_runs', value: 0, used: 0 } });
});

test('Q1 Q5 a run that has stood in line for too long ends as budget_exceeded, by that limit; one with a slot goes on', async () => {
  const tenant = await withSlots(1, { queuedSeconds: 1 });
  for (const name of ['a', 'b', 'c']) await accept(tenant, name);
  await enter(tenant, 'b');
  await world.admin.query(
    `update bulkhead.runs set accepted_at = accepted_at - interval '5 s' where tenant_id = $1`,
    [tenant.tenantId],
  );
  const due = async (): Promise<string[]> =>
    (await world.platform.queuedTooLong(100)).map(({ workflowId }) => workflowId).sort();
  expect(await due()).toEqual([workflow(tenant, 'b'), workflow(tenant, 'c')]);
  expect(await enter(tenant, 'b')).toMatchObject({
    kind: 'refused',
    stopReason: 'budget_exceeded',
    refusal: { kind: 'budget_exceeded', origin: 'tenant_cap', rule: 'queued_seconds', value: 1, used: 5 },
  });
  expect(await enter(tenant, 'a')).toMatchObject({ kind: 'entered' });
  await leave(tenant, 'a');
  // The next in line is given the slot, however long it took.
  expect(await holding(tenant)).toEqual(['b']);
  expect(await tenant.store.run(id('b'))).toMatchObject({
    lastRefusal: { action: 'run.enter', refusal: { rule: 'queued_seconds' } },
  });
});

test('N1 a run that waits for a person holds no slot, and goes before those that came after it when it comes back', async () => {
  const tenant = await withSlots(1);
  for (const name of ['a', 'b', 'c']) await accept(tenant, name);
  await enter(tenant, 'a');
  expect(await park(tenant, 'a')).toEqual({ handed: [workflow(tenant, 'b')] });
  expect(await park(tenant, 'a')).toEqual({ handed: [] });
  expect(await tenant.store.run(id('a'))).toMatchObject({
    state: 'approval_required',
    slotSince: null,
    queuedSince: null,
  });
  expect(await counts(tenant)).toEqual({ slots: 1, queued: 1 });
  expect(await enter(tenant, 'b')).toMatchObject({ kind: 'entered' });
  expect(await resume(tenant, 'a')).toMatchObject({ kind: 'queued', position: 1, waiting: 2 });
  expect(await tenant.store.run(id('a'))).toMatchObject({ state: 'queued' });
  expect(await leave(tenant, 'b')).toMatchObject({ handed: [workflow(tenant, 'a')] });
  expect(await resume(tenant, 'a')).toMatchObject({ kind: 'entered' });
  expect(await tenant.store.run(id('a'))).toMatchObject({ state: 'running' });
  // Another workflow than its own parks nothing.
  await tenant.store.parkRun({ runId: id('a'), temporalRunId: 'reset', state: 'frozen' });
  expect(await holding(tenant)).toEqual(['a']);
});

test('Q1 N1 a run that comes back from a person stands in line for as long as it takes', async () => {
  const tenant = await withSlots(1, { queuedSeconds: 1 });
  for (const name of ['a', 'b']) await accept(tenant, name);
  await enter(tenant, 'a');
  await park(tenant, 'a');
  await enter(tenant, 'b');
  await world.admin.query(
    // Within the minute in which the sweep lists all of them, and not some.
    `update bulkhead.runs set accepted_at = accepted_at - interval '30 s' where tenant_id = $1`,
    [tenant.tenantId],
  );
  expect(await resume(tenant, 'a')).toMatchObject({ kind: 'queued', position: 1 });
  expect(await world.platform.queuedTooLong(100)).not.toContainEqual(
    expect.objectContaining({ workflowId: workflow(tenant, 'a') }),
  );
  await leave(tenant, 'b');
  expect(await resume(tenant, 'a')).toMatchObject({ kind: 'entered' });
});

test('Q6 a raised ceiling hands slots out at once, a lowered one stops nobody, zero lets none in', async () => {
  const tenant = await withSlots(0);
  const limits = (concurrentRuns: number) => tenant.setLimits({ ...WIDE, more: { concurrentRuns } });
  for (const name of ['a', 'b', 'c', 'd']) await accept(tenant, name);
  expect(await enter(tenant, 'a')).toMatchObject({ kind: 'queued', refusal: { value: 0, used: 0 } });
  expect(await holding(tenant)).toEqual([]);
  await limits(3);
  expect(await holding(tenant)).toEqual(['a', 'b', 'c']);
  // Nobody told them: they are listed as those that hold a slot and do not come.
  const untold = async (): Promise<string[]> =>
    (await world.platform.slotsNotTaken(0, 1_000))
      .map(({ workflowId }) => workflowId)
      .filter((workflowId) => workflowId.includes(tenant.tenantId))
      .sort();
  expect(await untold()).toEqual(['a', 'b', 'c'].map((name) => workflow(tenant, name)));
  await limits(1);
  for (const name of ['a', 'b', 'c']) expect(await enter(tenant, name)).toMatchObject({ kind: 'entered' });
  expect(await untold()).toEqual([]);
  await leave(tenant, 'a');
  await leave(tenant, 'b');
  expect(await holding(tenant)).toEqual(['c']);
  await leave(tenant, 'c');
  expect(await holding(tenant)).toEqual(['d']);
});

test('N1 a run keeps its slot when it continues as new, and a workflow that was reset takes none', async () => {
  const tenant = await withSlots(1);
  await accept(tenant, 'a');
  await accept(tenant, 'b');
  await enter(tenant, 'a');
  const next = { temporalRunId: 'a/2', previousTemporalRunId: 'a/1', generation: 1 };
  expect(await enter(tenant, 'a', next)).toMatchObject({ kind: 'entered' });
  expect(await holding(tenant)).toEqual(['a']);
  await enter(tenant, 'b');
  expect(await enter(tenant, 'b', { temporalRunId: 'b/reset' })).toMatchObject({
    kind: 'refused',
    refusal: { rule: 'run_not_entered' },
  });
  expect(await counts(tenant)).toEqual({ slots: 1, queued: 1 });
});

test('N1 a run that gave its slot up does nothing new, whatever its workflow believes, until it holds one again', async () => {
  const tenant = await withSlots(1);
  await accept(tenant, 'a');
  await enter(tenant, 'a');
  const ask = (path: string) => tenant.store.admit(tenant.admission(id('a'), path));
  const before = tenant.admission(id('a'), '1.1');
  expect(await tenant.store.admit(before)).toMatchObject({ answer: 'admitted' });
  await park(tenant, 'a');
  expect(await ask('2.1')).toMatchObject({
    answer: 'refused',
    refusal: { kind: 'throttled', origin: 'tenant_cap', rule: 'concurrent_runs', value: 1, used: 0 },
  });
  // What was let in before is settled, slot or not.
  expect(await tenant.store.settle(tenant.settlement(before))).toMatchObject({ answer: 'settled' });
  await accept(tenant, 'b');
  expect(await resume(tenant, 'a')).toMatchObject({ kind: 'queued' });
  expect(await ask('2.1')).toMatchObject({ refusal: { rule: 'concurrent_runs', value: 1, used: 1 } });
  await leave(tenant, 'b');
  expect(await resume(tenant, 'a')).toMatchObject({ kind: 'entered' });
  expect(await ask('2.1')).toMatchObject({ answer: 'admitted' });
});

test('O1 after a kill no slot is handed over; what is accepted after the release does not wait behind what was killed', async () => {
  const tenant = await withSlots(1);
  for (const name of ['a', 'b', 'c']) await accept(tenant, name);
  await enter(tenant, 'a');
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  expect(await leave(tenant, 'a')).toMatchObject({ stopReason: 'completed' });
  expect(await holding(tenant)).toEqual([]);
  expect(await enter(tenant, 'b')).toMatchObject({ kind: 'refused', stopReason: 'killed' });
  await tenant.store.release({ reason: 'x', actor: 'op' });
  await accept(tenant, 'd');
  expect(await holding(tenant)).toEqual(['d']);
  expect(await enter(tenant, 'd')).toMatchObject({ kind: 'entered' });
  await accept(tenant, 'e');
  expect(await enter(tenant, 'e')).toMatchObject({ kind: 'queued', position: 1 });
  await leave(tenant, 'd');
  expect(await holding(tenant)).toEqual(['e']);
  for (const name of ['b', 'c']) await leave(tenant, name);
  expect(await counts(tenant)).toEqual({ slots: 1, queued: 0 });
});

test('Q2 N1 fifty workflows that ask at once for three slots get three, whoever comes and goes meanwhile', async () => {
  const tenant = await withSlots(3);
  const names = Array.from({ length: 50 }, (_, index) => `r-${index}`);
  await Promise.all(names.map((name) => accept(tenant, name)));
  let most = 0;
  let done = false;
  const watching = (async () => {
    while (!done) most = Math.max(most, (await holding(tenant)).length);
  })();
  const closed = new Set<string>();
  while (closed.size < names.length) {
    const open = names.filter((name) => !closed.has(name));
    const asked = await Promise.all(
      open.map(async (name) => [name, (await enter(tenant, name)).kind] as const),
    );
    const entered = asked.filter(([, kind]) => kind === 'entered').map(([name]) => name);
    expect(entered).toHaveLength(Math.min(3, open.length));
    await Promise.all(entered.flatMap((name) => [leave(tenant, name), leave(tenant, name)]));
    for (const name of entered) closed.add(name);
  }
  done = true;
  await watching;
  expect(most).toBeLessThanOrEqual(3);
  expect(most).toBeGreaterThan(0);
  expect(await counts(tenant)).toEqual({ slots: 0, queued: 0 });
});

test('N1 the sweep finds counts that are not what the runs say, mends them with an entry, and leaves others alone', async () => {
  const tenant = await withSlots(2);
  for (const name of ['a', 'b', 'c']) await accept(tenant, name);
  await world.admin.query('update bulkhead.ledgers set slots = 5, queued = 0 where tenant_id = $1', [
    tenant.tenantId,
  ]);
  expect(await world.platform.tendLines()).toEqual([]);
  expect(await counts(tenant)).toEqual({ slots: 2, queued: 1 });
  const kinds = async () =>
    (await tenant.journal()).map(({ facts }) => (JSON.parse(facts) as { kind: string }).kind);
  expect((await kinds()).filter((kind) => kind === 'recounted')).toHaveLength(1);
  const before = (await tenant.row()).journal_seq;
  await world.platform.tendLines();
  expect((await tenant.row()).journal_seq).toBe(before);
  // A slot that nobody handed over.
  await world.admin.query(`update bulkhead.limits set concurrent_runs = 3 where tenant_id = $1`, [
    tenant.tenantId,
  ]);
  expect(await world.platform.tendLines()).toEqual([workflow(tenant, 'c')]);
});

test('N1 after a step back of the clock runs still stand in line by arrival, and no two have come at one moment', async () => {
  const at = Date.UTC(2025, 2, 10, 12);
  await world.setClock(new Date(at));
  try {
    const tenant = await withSlots(1);
    await accept(tenant, 'first');
    await world.setClock(new Date(at - 3_600_000));
    // Their names are in no order, and no two came at one moment.
    const names = ['m', 'z', 'a', 'k', 'b'];
    for (const name of names) await accept(tenant, name);
    const standing = await Promise.all(names.map((name) => tenant.store.standingInLine(id(name))));
    expect(standing.map((each) => each?.position)).toEqual([1, 2, 3, 4, 5]);
    const moments = await Promise.all(['first', ...names].map((name) => tenant.store.run(id(name))));
    const times = moments.map((run) => run?.acceptedAt ?? '');
    expect(times).toEqual([...new Set(times)].sort());
    expect(await leave(tenant, 'first')).toMatchObject({ handed: [workflow(tenant, 'm')] });
    // Once the clock has caught up it goes by that again.
    await world.setClock(new Date(at + 1_000));
    await accept(tenant, 'later');
    expect((await tenant.store.run(id('later')))?.acceptedAt).toBe('2025-03-10T12:00:01.000000Z');
  } finally {
    await world.useRealClock();
  }
});
