import { randomUUID } from 'node:crypto';
import type { RunId } from '../../contracts/ids';
import type { AdmitRequest } from '../../contracts/ledger';
import { digest, LEASE_MS, LedgerWorld, refusal, WIDE, type LedgerTenant } from './harness';

/** Retries of a tenant, bounded per minute. */
let world: LedgerWorld;
let now = Date.UTC(2025, 2, 10, 12);
beforeAll(async () => {
  world = await LedgerWorld.open(8);
});
afterAll(() => world.close());
beforeEach(() => pass(3_600_000));
const pass = async (ms: number): Promise<void> => {
  now += ms;
  await world.setClock(new Date(now));
};

const down = refusal({
  kind: 'provider_degraded',
  origin: 'provider',
  rule: 'unavailable',
  rules: ['unavailable'],
});

let paths = 0;
const fresh = (tenant: LedgerTenant, runId: RunId, change: Partial<AdmitRequest> = {}): AdmitRequest =>
  tenant.admission(runId, `${(paths += 1)}.1`, change);

async function opened() {
  const tenant = await world.tenant();
  return { tenant, runId: await tenant.run() };
}

/** Calls that were tried once and may be tried again. */
async function tried(tenant: LedgerTenant, runId: RunId, count: number): Promise<AdmitRequest[]> {
  const asked = Array.from({ length: count }, () =>
    fresh(tenant, runId, { system: null, callClass: 'read' }),
  );
  for (const each of asked) {
    await tenant.store.admit(each);
    await tenant.store.settle(tenant.settlement(each, { result: 'open', refusal: down }));
  }
  return asked.map((each) => ({ ...each, token: randomUUID() }));
}
const retries = (tenant: LedgerTenant, perMinute: number) =>
  tenant.setLimits({ ...WIDE, more: { retriesPerMinute: perMinute } });

test('N5 Q2 a tenant’s retries of a minute are bounded exactly, racing or not, and free one by one', async () => {
  const { tenant, runId } = await opened();
  await retries(tenant, 6);
  const again = await tried(tenant, runId, 10);
  const answers = await Promise.all(again.map((asked) => tenant.store.admit(asked)));
  expect(answers.filter(({ answer }) => answer === 'admitted')).toHaveLength(6);
  for (const answer of answers.filter((each) => each.answer === 'refused'))
    expect(answer.refusal).toMatchObject({
      kind: 'throttled',
      origin: 'tenant_cap',
      rule: 'retries_per_minute',
      value: 6,
      used: 6,
      retryAfterMs: 10_000,
    });
  // First attempts are none, nor is anybody else's.
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({ answer: 'admitted' });
  const waiting = again.filter((_, index) => answers[index]?.answer === 'refused');
  await pass(9_999);
  expect(await tenant.store.admit(waiting[0]!)).toMatchObject({ refusal: { retryAfterMs: 1 } });
  await pass(1);
  expect(await tenant.store.admit(waiting[0]!)).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.admit(waiting[1]!)).toMatchObject({ refusal: { retryAfterMs: 10_000 } });
  // Refused ones spent nothing, and used no attempt.
  expect(await tenant.store.call(runId, waiting[1]!.path)).toMatchObject({ attempts: 1 });
});

test('N5 T3 taking over a write that may have been sent is no retry, nor is an undo', async () => {
  const { tenant, runId } = await opened();
  await retries(tenant, 0);
  const [again] = await tried(tenant, runId, 1);
  const none = await tenant.store.admit(again!);
  expect(none).toMatchObject({ refusal: { rule: 'retries_per_minute', value: 0, used: 0 } });
  expect(none.answer === 'refused' && none.refusal.retryAfterMs).toBeUndefined();
  const lost = fresh(tenant, runId);
  await tenant.store.admit(lost);
  await pass(LEASE_MS);
  const taken = { ...lost, token: randomUUID() };
  expect(await tenant.store.admit(taken)).toMatchObject({ answer: 'recover' });
  await tenant.store.settle(tenant.settlement(taken));
  await tenant.store.beginUndo({ runId, temporalRunId: `${runId}/1` });
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    const undo = tenant.admission(runId, `${lost.path}/undo`, {
      undoOf: lost.path,
      digest: digest(attempt),
      reserve: { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 },
    });
    expect(await tenant.store.admit(undo)).toMatchObject({ answer: 'admitted', attempt });
    await tenant.store.settle(
      tenant.settlement(undo, {
        result: 'open',
        refusal: refusal({ kind: 'failed', origin: 'platform', rule: 'aborted', rules: ['aborted'] }),
      }),
    );
  }
});

test('N5 T5 what an undo tries again takes nothing from the retries of others', async () => {
  const { tenant, runId } = await opened();
  await retries(tenant, 1);
  const [again] = await tried(tenant, await tenant.run(), 1);
  const done = fresh(tenant, runId);
  await tenant.store.admit(done);
  await tenant.store.settle(tenant.settlement(done));
  await tenant.store.beginUndo({ runId, temporalRunId: `${runId}/1` });
  const undo = tenant.admission(runId, `${done.path}/undo`, {
    undoOf: done.path,
    reserve: { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 },
  });
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    const asked = { ...undo, token: randomUUID() };
    expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted', attempt });
    await tenant.store.settle(tenant.settlement(asked, { result: 'open', refusal: down }));
  }
  expect(await tenant.store.admit(again!)).toMatchObject({ answer: 'admitted', attempt: 2 });
});
