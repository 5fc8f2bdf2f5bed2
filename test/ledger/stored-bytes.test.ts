import type { StoredPayload } from '../../contracts/calls';
import { MAX_STORED_BYTES, undoPath } from '../../contracts/calls';
import { RunId } from '../../contracts/ids';
import type { AdmitRequest, SettleRequest } from '../../contracts/ledger';
import { LEASE_MS, LedgerWorld, WIDE, refusal, type LedgerTenant } from './harness';
import { recount } from './recount';

/** `limits.storageBytes`: what runs are given, say and are told, counted against the payloads that are there. */

let world: LedgerWorld;
const NOON = Date.UTC(2025, 2, 10, 12);
const at = (ms: number) => world.setClock(new Date(NOON + ms));
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(0));

/** Of `LedgerTenant.acceptance`. */
const INPUT = Buffer.byteLength('{"kind":"input","input":{"question":"why"}}');

const storing = (storageBytes?: number): Promise<LedgerTenant> =>
  world.tenant({ more: storageBytes === undefined ? {} : { storageBytes } });
const raise = (tenant: LedgerTenant, storageBytes: number): Promise<void> =>
  tenant.setLimits({ ...WIDE, more: { storageBytes } });

const ask = (
  tenant: LedgerTenant,
  runId: string,
  path: string,
  storedBytes: number,
  change: Partial<AdmitRequest> = {},
) =>
  tenant.admission(runId, path, {
    reserve: { toolCalls: 1, steps: 1, microUsd: 0, modelTokens: 0, storedBytes },
    ...change,
  });
const READ = { callClass: 'read', reversible: null } as const;

/** A payload of exactly so many bytes of UTF-8, not all of them one a character. */
function payloadOf(bytes: number): StoredPayload {
  const of = (result: string): StoredPayload => ({ kind: 'tool', outcome: 'done', action: 'a', result });
  const wrapped = Buffer.byteLength(JSON.stringify(of('ü')));
  return of(`ü${'x'.repeat(bytes - wrapped)}`);
}
const settle = (
  tenant: LedgerTenant,
  asked: AdmitRequest,
  bytes: number,
  change: Partial<SettleRequest> = {},
) => tenant.store.settle(tenant.settlement(asked, { payload: payloadOf(bytes), ...change }));

/** Stored and reserved, once the tables say the same. */
async function books(tenant: LedgerTenant): Promise<{ stored: number; reserved: number }> {
  const { counted, found } = await tenant.bytes();
  expect(counted).toEqual(found);
  const { stored, violations } = recount(await tenant.journal());
  expect(violations).toEqual([]);
  expect(stored).toEqual({ bytes: found.stored, reserved: found.reserved });
  const { stored: bytes, reserved } = counted;
  return { stored: bytes, reserved };
}

const layerOf = async (tenant: LedgerTenant) =>
  (await tenant.store.quotas())?.layers.find(({ of, limit }) => of === '' && limit === 'storageBytes');

const facts = async (tenant: LedgerTenant, kind: string) =>
  (await tenant.journal())
    .map(
      (entry) => JSON.parse(entry.facts) as { kind: string; storedBytes?: number; storedOvershoot?: number },
    )
    .filter((each) => each.kind === kind);

test('Q1 Q3 Q4 a call reserves what it may store and is refused to the byte, with the limit, its use and when to ask again', async () => {
  const tenant = await storing(INPUT + 500);
  const runId = await tenant.run();
  expect(await books(tenant)).toEqual({ stored: INPUT, reserved: 0 });
  const first = ask(tenant, runId, '1.1', 300);
  expect(await tenant.store.admit(first)).toMatchObject({ answer: 'admitted' });
  expect(await layerOf(tenant)).toMatchObject({
    cap: INPUT + 500,
    used: INPUT + 300,
    reserved: 300,
    free: 200,
  });
  const told = {
    ...{ kind: 'throttled', origin: 'tenant_cap', rule: 'storage_bytes', value: INPUT + 500 },
    message: 'the storage that this tenant has left is less than what this call may store',
  };
  // Only what is in flight stands in the way: that may be over soon.
  const second = ask(tenant, runId, '1.2', 201);
  expect(await tenant.store.admit(second)).toMatchObject({
    answer: 'refused',
    refusal: { ...told, used: INPUT + 300, retryAfterMs: 1_000 },
  });
  expect(await settle(tenant, first, 300)).toMatchObject({ answer: 'settled' });
  expect(await layerOf(tenant)).toMatchObject({
    used: INPUT + 300,
    reserved: 0,
    freesAt: null,
    freesInMs: null,
  });
  // What is stored, no time frees.
  expect(await tenant.store.admit(second)).toMatchObject({ refusal: { ...told, retryAfterMs: 60_000 } });
  expect(await tenant.store.admit(ask(tenant, runId, '1.2', 200))).toMatchObject({ answer: 'admitted' });
  expect(await books(tenant)).toEqual({ stored: INPUT + 300, reserved: 200 });
});

test('Q3 Q5 a call that may store more than all there is never frees, and one that does not say what it stores is believed the most', async () => {
  const tenant = await storing(MAX_STORED_BYTES + INPUT - 1);
  const runId = await tenant.run();
  const answer = await tenant.store.admit(ask(tenant, runId, '1.1', MAX_STORED_BYTES + INPUT));
  expect(answer).toMatchObject({
    refusal: { message: 'this call may store more bytes than all that this tenant may have' },
  });
  expect(answer.answer === 'refused' && answer.refusal).not.toHaveProperty('retryAfterMs');
  expect(await tenant.store.admit(tenant.admission(runId, '1.1'))).toMatchObject({
    refusal: { rule: 'storage_bytes', retryAfterMs: 60_000 },
  });
});

test('Q6 a limit that is raised, or set below what is there, acts on the next call', async () => {
  const tenant = await storing();
  const runId = await tenant.run();
  const first = ask(tenant, runId, '1.1', 400);
  await tenant.store.admit(first);
  await settle(tenant, first, 400);
  await raise(tenant, 100);
  expect(await tenant.store.admit(ask(tenant, runId, '1.2', 1))).toMatchObject({
    refusal: { value: 100, used: INPUT + 400, retryAfterMs: 60_000 },
  });
  await raise(tenant, INPUT + 401);
  expect(await tenant.store.admit(ask(tenant, runId, '1.2', 1))).toMatchObject({ answer: 'admitted' });
});

test.each(['succeeded', 'failed', 'unknown'] as const)(
  'Q2 %s: what was reserved becomes what is stored, once, whoever says it again',
  async (result) => {
    const tenant = await storing();
    const runId = await tenant.run();
    const asked = ask(tenant, runId, '1.1', 500);
    await tenant.store.admit(asked);
    const why = result === 'succeeded' ? null : refusal({ kind: 'failed' });
    for (const answer of ['settled', 'already', 'already'])
      expect(await settle(tenant, asked, 120, { result, refusal: why })).toMatchObject({ answer });
    expect(await books(tenant)).toEqual({ stored: INPUT + 120, reserved: 0 });
  },
);

test('Q2 open: nothing is stored and all is given back; asked again, it reserves anew, and what it brings replaces nothing twice', async () => {
  const tenant = await storing();
  const runId = await tenant.run();
  const first = ask(tenant, runId, '1.1', 500);
  await tenant.store.admit(first);
  await settle(tenant, first, 400, { result: 'open', refusal: refusal({ kind: 'provider_degraded' }) });
  expect(await books(tenant)).toEqual({ stored: INPUT, reserved: 0 });
  const again = ask(tenant, runId, '1.1', 300);
  await tenant.store.admit(again);
  expect(await books(tenant)).toEqual({ stored: INPUT, reserved: 300 });
  await settle(tenant, again, 90);
  expect(await books(tenant)).toEqual({ stored: INPUT + 90, reserved: 0 });
});

test('Q2 a read that is lost gives back what it held when it is asked anew, which fits where nothing else would; late it stores nothing', async () => {
  const tenant = await storing(INPUT + 300);
  const runId = await tenant.run();
  const lost = ask(tenant, runId, '1.1', 300, READ);
  await tenant.store.admit(lost);
  await at(LEASE_MS);
  const again = ask(tenant, runId, '1.1', 300, READ);
  expect(await tenant.store.admit(again)).toMatchObject({ answer: 'admitted' });
  expect(await books(tenant)).toEqual({ stored: INPUT, reserved: 300 });
  expect(await settle(tenant, lost, 200)).toMatchObject({ answer: 'late' });
  expect(await books(tenant)).toEqual({ stored: INPUT, reserved: 300 });
  await settle(tenant, again, 300);
  expect(await books(tenant)).toEqual({ stored: INPUT + 300, reserved: 0 });
});

test('Q2 a call that is reaped gives back what it held; what turns out to have happened is stored although it does not fit', async () => {
  const tenant = await storing(INPUT + 300);
  const runId = await tenant.run();
  const lost = ask(tenant, runId, '1.1', 300);
  await tenant.store.admit(lost);
  await tenant.store.leaveRun({
    ...{ runId, temporalRunId: `${runId}/1`, stopReason: 'failed', outputRef: null },
  });
  await at(LEASE_MS);
  await world.platform.reapCalls(100);
  expect(await books(tenant)).toEqual({ stored: INPUT, reserved: 0 });
  await raise(tenant, 1);
  expect(await settle(tenant, lost, 250)).toMatchObject({ answer: 'reconciled' });
  expect(await books(tenant)).toEqual({ stored: INPUT + 250, reserved: 0 });
  expect(await facts(tenant, 'reconciled')).toMatchObject([{ storedBytes: 250, storedOvershoot: 250 }]);
});

test('Q2 a take-over of a write goes on with what the lost attempt had reserved', async () => {
  const tenant = await storing(INPUT + 300);
  const runId = await tenant.run();
  await tenant.store.admit(ask(tenant, runId, '1.1', 300));
  await at(LEASE_MS);
  const over = ask(tenant, runId, '1.1', 300);
  expect(await tenant.store.admit(over)).toMatchObject({ answer: 'recover' });
  expect(await books(tenant)).toEqual({ stored: INPUT, reserved: 300 });
  await settle(tenant, over, 80);
  expect(await books(tenant)).toEqual({ stored: INPUT + 80, reserved: 0 });
});

test('Q2 a take-over that brings more than the lost attempt had reserved is kept, and said to be more', async () => {
  const tenant = await storing(INPUT + 300);
  const runId = await tenant.run();
  await tenant.store.admit(ask(tenant, runId, '1.1', 100));
  await at(LEASE_MS);
  const over = ask(tenant, runId, '1.1', 300);
  expect(await tenant.store.admit(over)).toMatchObject({ answer: 'recover' });
  // It may have happened: it is not refused, and holds what was held.
  expect(await books(tenant)).toEqual({ stored: INPUT, reserved: 100 });
  await settle(tenant, over, 310);
  expect(await facts(tenant, 'settled')).toMatchObject([{ storedBytes: 310, storedOvershoot: 210 }]);
  expect(await books(tenant)).toEqual({ stored: INPUT + 310, reserved: 0 });
});

test('Q2 more than was reserved is kept, charged and said to be more; the next call meets the limit', async () => {
  const tenant = await storing(INPUT + 300);
  const runId = await tenant.run();
  const asked = ask(tenant, runId, '1.1', 100);
  await tenant.store.admit(asked);
  await settle(tenant, asked, 310);
  expect(await facts(tenant, 'settled')).toMatchObject([{ storedBytes: 310, storedOvershoot: 210 }]);
  expect(await books(tenant)).toEqual({ stored: INPUT + 310, reserved: 0 });
  expect(await tenant.store.admit(ask(tenant, runId, '1.2', 1))).toMatchObject({
    refusal: { rule: 'storage_bytes', value: INPUT + 300, used: INPUT + 310 },
  });
});

test('Q2 T5 an undo is never refused for bytes, reserves none, and what it stores is counted', async () => {
  const tenant = await storing(INPUT + 300);
  const runId = await tenant.run();
  const asked = ask(tenant, runId, '1.1', 300);
  await tenant.store.admit(asked);
  await settle(tenant, asked, 300);
  const { followUpNo } = await tenant.store.leaveRun({
    ...{ runId, temporalRunId: `${runId}/1`, stopReason: 'failed', outputRef: null },
    undo: { onFailure: true, onKill: false },
  });
  await tenant.store.enterFollowUp({ runId, followUpNo: followUpNo ?? -1, temporalRunId: 'undo/1' });
  const change = {
    ...{ undoOf: '1.1', temporalRunId: 'undo/1' },
    reserve: { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 },
  } as const;
  const undo = tenant.admission(runId, undoPath('1.1'), change);
  expect(await tenant.store.admit(undo)).toMatchObject({ answer: 'admitted' });
  await settle(tenant, undo, 70);
  expect(await books(tenant)).toEqual({ stored: INPUT + 370, reserved: 0 });
  const greedy = { ...change, reserve: { ...change.reserve, storedBytes: 1 } };
  await expect(tenant.store.admit(tenant.admission(runId, undoPath('1.1'), greedy))).rejects.toThrow(
    /reserves nothing/,
  );
});

test('Q2 the words of a refusal are kept although nothing is left, counted once, and journaled', async () => {
  const tenant = await storing(INPUT);
  const runId = await tenant.run();
  await Promise.all([1, 2, 3].map(() => tenant.store.putPayload(runId, '1.1', payloadOf(80))));
  await tenant.store.putPayload(runId, '1.1', payloadOf(90));
  expect(await books(tenant)).toEqual({ stored: INPUT + 80, reserved: 0 });
  expect(await facts(tenant, 'kept')).toMatchObject([{ storedBytes: 80, storedOvershoot: 80 }]);
  // What the call brings after all stands in their place.
  await raise(tenant, INPUT + 500);
  const asked = ask(tenant, runId, '1.1', 100);
  await tenant.store.admit(asked);
  await settle(tenant, asked, 70);
  expect(await books(tenant)).toEqual({ stored: INPUT + 70, reserved: 0 });
});

test('Q1 Q3 a run whose input does not fit is refused, again is no other run, and a fork asks for all that it begins with', async () => {
  const tenant = await storing(INPUT);
  const runId = await tenant.run();
  const second = tenant.acceptance(RunId.parse('r-second'));
  expect(await tenant.store.acceptRun(second)).toMatchObject({
    kind: 'refused',
    refusal: { kind: 'throttled', rule: 'storage_bytes', value: INPUT, used: INPUT, retryAfterMs: 60_000 },
  });
  expect(await tenant.store.acceptRun(tenant.acceptance(runId))).toMatchObject({ kind: 'existing' });
  await raise(tenant, 2 * INPUT + 150);
  const asked = ask(tenant, runId, '0.0', 100, READ);
  await tenant.store.admit(asked);
  await settle(tenant, asked, 100);
  const fork = { ...tenant.acceptance(RunId.parse('r-fork')), fork: { runId, fromStep: 1 } };
  expect(await tenant.store.acceptRun(fork)).toMatchObject({
    refusal: { rule: 'storage_bytes', value: 2 * INPUT + 150, used: INPUT + 100 },
  });
  await raise(tenant, 2 * INPUT + 200);
  expect(await tenant.store.acceptRun(fork)).toMatchObject({ kind: 'accepted' });
  expect(await books(tenant)).toEqual({ stored: 2 * INPUT + 200, reserved: 0 });
});
