import { undoPath } from '../../contracts/calls';
import { decidedBy, digest, LEASE_MS, LedgerWorld } from './harness';
import { recount } from './recount';

/** What a write that was lost is taken over with, where something has moved between its attempts. */
let world: LedgerWorld;
const NOON = Date.UTC(2025, 2, 10, 12);
const later = (ms: number) => new Date(NOON + ms);
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => world.setClock(later(0)));

test('T3 a key that is honoured until the end of the lease is sent again, and a policy that moved meanwhile is asked first', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  await world.setClock(later(LEASE_MS));
  await tenant.publish(2);
  const again = tenant.admission(runId, '1.1', { keyValidMs: 2 * LEASE_MS });
  expect(await tenant.store.admit(again)).toMatchObject({ answer: 'stale', policyVersion: 2 });
  expect(await tenant.store.admit({ ...again, decidedBy: decidedBy(2) })).toMatchObject({
    answer: 'recover',
    lookupOnly: false,
    quietMs: 0,
  });
});

test('T3 a write that was sent to one account is not sent again to another, nor believed absent there', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await tenant.store.admit(tenant.admission(runId, '1.1'));
  const ask = (account: string) => tenant.admission(runId, '1.1', { account: digest(account) });
  const elsewhere = { answer: 'recover', lookupOnly: true, quietMs: null };
  for (const attempt of [2, 3]) {
    await world.setClock(later(attempt * LEASE_MS));
    const other = ask('other');
    expect(await tenant.store.admit(other)).toMatchObject({ ...elsewhere, attempt });
    expect(await tenant.store.admit(other)).toMatchObject({ ...elsewhere, attempt });
  }
  // Its own account again.
  await world.setClock(later(4 * LEASE_MS));
  expect(await tenant.store.admit(ask('account'))).toMatchObject({
    lookupOnly: false,
    quietMs: 3 * LEASE_MS,
  });
  // What is made anew, through all of admission, may go elsewhere, and is from there on.
  const other = await tenant.run();
  const first = tenant.admission(other, '1.1');
  await tenant.store.admit(first);
  await tenant.store.settle(tenant.settlement(first, { result: 'open' }));
  const moved = { account: digest('other') };
  expect(await tenant.store.admit(tenant.admission(other, '1.1', moved))).toMatchObject({
    answer: 'admitted',
  });
  await world.setClock(later(5 * LEASE_MS));
  expect(await tenant.store.admit(tenant.admission(other, '1.1', moved))).toMatchObject({
    answer: 'recover',
    lookupOnly: false,
    quietMs: 0,
  });
});

test.each(['no key is honoured', 'another account'] as const)(
  'T3 N5 look-ups use up none of the sends of a call (%s)',
  async (why) => {
    const tenant = await world.tenant();
    const runId = await tenant.run();
    const looking = why === 'no key is honoured' ? { keyValidMs: null } : { account: digest('other') };
    const sending = why === 'no key is honoured' ? looking : {};
    let lapsed = 0;
    const letIn = async (change: object) => {
      await world.setClock(later((lapsed += LEASE_MS)));
      const asked = tenant.admission(runId, '1.1', change);
      const answer = await tenant.store.admit(asked);
      expect(await tenant.store.admit(asked)).toEqual(answer);
      return { asked, answer };
    };
    // Each of the eight sends is lost, looked for in vain, and proven absent at last.
    for (let sends = 1; sends <= 8; sends += 1) {
      expect(await letIn(sending)).toMatchObject({ answer: { answer: 'admitted', attempt: sends } });
      for (const looks of [1, 2]) {
        const { asked, answer } = await letIn(looking);
        expect(answer).toMatchObject({ answer: 'recover', lookupOnly: true, attempt: sends + looks });
        if (looks === 2) await tenant.store.settle(tenant.settlement(asked, { result: 'open' }));
      }
      expect(await tenant.store.call(runId, '1.1')).toMatchObject({ state: 'open', attempts: sends });
    }
    const refused = await tenant.store.admit(tenant.admission(runId, '1.1', sending));
    expect(refused).toMatchObject({
      answer: 'refused',
      refusal: { rule: 'attempts_exhausted', value: 8, used: 8 },
    });
    expect(recount(await tenant.journal())).toMatchObject({ inflight: 0, violations: [] });
  },
);

test('T3 N5 a write that was sent eight times without an outcome is sent no more, however it was let in', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  for (let sends = 1; sends <= 8; sends += 1) {
    await world.setClock(later(sends * LEASE_MS));
    expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject(
      sends === 1
        ? { answer: 'admitted', attempt: 1 }
        : { answer: 'recover', lookupOnly: false, attempt: sends },
    );
  }
  for (const attempt of [9, 10]) {
    await world.setClock(later(attempt * LEASE_MS));
    const asked = tenant.admission(runId, '1.1');
    const looks = { answer: 'recover', lookupOnly: true, attempt };
    expect(await tenant.store.admit(asked)).toMatchObject(looks);
    expect(await tenant.store.call(runId, '1.1')).toMatchObject({ state: 'claimed', attempts: 8 });
    if (attempt === 10) await tenant.store.settle(tenant.settlement(asked, { result: 'open' }));
  }
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    answer: 'refused',
    refusal: { rule: 'attempts_exhausted', used: 8 },
  });
});

test('T3 a lost write that is asked for in other words waits for a person, and holds no slot', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const first = tenant.admission(runId, '1.1');
  await tenant.store.admit(first);
  await world.setClock(later(LEASE_MS));
  const other = () => tenant.admission(runId, '1.1', { digest: digest('new schema') });
  const conflict = { answer: 'refused', refusal: { rule: 'idempotency_conflict' } };
  expect(await tenant.store.admit(other())).toMatchObject(conflict);
  expect(await tenant.store.call(runId, '1.1')).toMatchObject({
    state: 'unknown',
    refusal: { kind: 'outcome_unknown', rule: 'arguments_changed' },
  });
  const open = await tenant.store.reviews({ open: true, limit: 10 });
  expect(open).toMatchObject([{ runId, path: '1.1', kind: 'outcome_unknown' }]);
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 1 });
  expect(await tenant.store.admit(other())).toMatchObject(conflict);
  // Its last attempt knew the truth after all.
  expect(await tenant.store.settle(tenant.settlement(first))).toMatchObject({ answer: 'reconciled' });
  expect(await tenant.store.reviews({ open: true, limit: 10 })).toEqual([]);
});

test('T3 T5 a lost undo that is asked for in other words waits for a person', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const write = tenant.admission(runId, '1.1');
  await tenant.store.admit(write);
  await tenant.store.settle(tenant.settlement(write));
  await tenant.store.beginUndo({ runId, temporalRunId: `${runId}/1` });
  const undo = (args: string) =>
    tenant.admission(runId, undoPath('1.1'), {
      undoOf: '1.1',
      reserve: { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 },
      digest: digest(args),
    });
  expect(await tenant.store.admit(undo('old'))).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.admit(undo('new'))).toMatchObject({ answer: 'in_flight' });
  await world.setClock(later(LEASE_MS));
  const waits = {
    answer: 'replayed',
    outcome: { state: 'unknown', refusal: { rule: 'arguments_changed' }, reviewNo: expect.any(Number) },
  };
  expect(await tenant.store.admit(undo('new'))).toMatchObject(waits);
  expect(await tenant.store.admit(undo('old'))).toMatchObject(waits);
  expect(await tenant.row()).toMatchObject({ inflight: 0 });
  expect(recount(await tenant.journal())).toMatchObject({ inflight: 0, violations: [] });
});
