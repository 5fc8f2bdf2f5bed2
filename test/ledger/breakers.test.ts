import { randomUUID } from 'node:crypto';
import type { RunId } from '../../contracts/ids';
import type { AdmitRequest, SettleRequest } from '../../contracts/ledger';
import type { Refusal } from '../../contracts/refusal';
import { LEASE_MS, LedgerWorld, refusal, type LedgerTenant } from './harness';
import { TERMS } from './breaker-model';
import { recount } from './recount';

const START = Date.UTC(2025, 2, 10, 12);
const CONNECTIONS = 8;
let world: LedgerWorld;
let now = START;
beforeAll(async () => {
  world = await LedgerWorld.open(CONNECTIONS);
});
afterAll(() => world.close());
beforeEach(async () => {
  now += 3_600_000;
  await world.setClock(new Date(now));
});
const pass = async (ms: number): Promise<void> => {
  now += ms;
  await world.setClock(new Date(now));
};

const because = (change: Partial<Refusal>): Refusal =>
  refusal({ ...change, rules: [change.rule ?? 'no-mail'] });
const down = because({
  kind: 'provider_degraded',
  origin: 'provider',
  rule: 'unavailable',
  message: 'it answered 503',
});
const OPEN = { kind: 'provider_degraded', origin: 'provider', rule: 'breaker_open' };

let paths = 0;
const fresh = (tenant: LedgerTenant, runId: RunId, change: Partial<AdmitRequest> = {}): AdmitRequest =>
  tenant.admission(runId, `${(paths += 1)}.1`, change);

/** One call that is let in and ends so. */
async function ends(
  tenant: LedgerTenant,
  runId: RunId,
  how: Partial<SettleRequest> = { result: 'open', refusal: down },
  change: Partial<AdmitRequest> = {},
): Promise<void> {
  const asked = fresh(tenant, runId, change);
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
  await tenant.store.settle(tenant.settlement(asked, how));
}
async function trip(tenant: LedgerTenant, runId: RunId): Promise<void> {
  for (let failure = 0; failure < TERMS.failures; failure += 1) await ends(tenant, runId);
}
/** Tripped, and its first wait over. */
async function halfOpen(tenant: LedgerTenant, runId: RunId): Promise<void> {
  await trip(tenant, runId);
  await pass(TERMS.first);
}
const facts = async (tenant: LedgerTenant): Promise<Record<string, unknown>[]> =>
  (await tenant.journal())
    .map((entry) => JSON.parse(entry.facts) as Record<string, unknown>)
    .filter(({ kind }) => String(kind).startsWith('breaker'));
async function opened() {
  const tenant = await world.tenant();
  return { tenant, runId: await tenant.run() };
}

test('N5 a system that keeps failing is left alone: for that tenant and that system only, and said so', async () => {
  const { tenant, runId } = await opened();
  const neighbour = await world.tenant();
  const elsewhere = await neighbour.run();
  for (let failure = 1; failure < TERMS.failures; failure += 1) await ends(tenant, runId);
  expect(await tenant.store.breakers()).toMatchObject([{ system: 'helpdesk', state: 'closed', failures: 9 }]);
  await ends(tenant, runId);
  const refused = await tenant.store.admit(fresh(tenant, runId));
  expect(refused).toMatchObject({
    answer: 'refused',
    refusal: { ...OPEN, value: 10, used: 10, retryAfterMs: 5_000, message: expect.stringContaining('503') },
  });
  expect(await tenant.store.breakers()).toEqual([
    {
      system: 'helpdesk',
      state: 'open',
      failures: 10,
      cause: 'it answered 503',
      openings: 1,
      openedAt: expect.stringContaining(new Date(now).toISOString().slice(0, 19)),
      openUntil: expect.stringContaining(new Date(now + 5_000).toISOString().slice(0, 19)),
    },
  ]);
  expect(await facts(tenant)).toMatchObject([
    {
      kind: 'breaker_opened',
      run: runId,
      system: 'helpdesk',
      rule: 'unavailable',
      failures: 10,
      openings: 1,
    },
  ]);
  for (const system of ['payments', null])
    expect(await tenant.store.admit(fresh(tenant, runId, { system }))).toMatchObject({ answer: 'admitted' });
  expect(await neighbour.store.admit(fresh(neighbour, elsewhere))).toMatchObject({ answer: 'admitted' });
  expect(await neighbour.store.breakers()).toEqual([]);
});

test('N5 an answer between, or failures further apart, open nothing', async () => {
  const { tenant, runId } = await opened();
  for (let failure = 1; failure < TERMS.failures; failure += 1) await ends(tenant, runId);
  await ends(tenant, runId, { result: 'succeeded' });
  for (let failure = 1; failure < TERMS.failures; failure += 1) await ends(tenant, runId);
  // The oldest of them is just out of the window when the tenth comes.
  await pass(TERMS.within);
  await ends(tenant, runId);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'closed', failures: 10 }]);
  for (let failure = 2; failure < TERMS.failures; failure += 1) await ends(tenant, runId);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'closed' }]);
  await ends(tenant, runId);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open' }]);
});

test('N5 a refusal by the system is a sign of life between failures; a request that it gave up waiting for is none', async () => {
  const answers = (rule: string): Partial<SettleRequest> => ({
    result: 'failed',
    refusal: because({ kind: 'failed', origin: 'provider', rule }),
  });
  for (const [rule, state] of [
    ['http_422', 'closed'],
    ['result_schema', 'closed'],
    ['http_408', 'open'],
    ['http_425', 'open'],
  ] as const) {
    const { tenant, runId } = await opened();
    for (let failure = 1; failure < TERMS.failures; failure += 1) await ends(tenant, runId);
    await ends(tenant, runId, answers(rule));
    await ends(tenant, runId);
    expect([rule, await tenant.store.breakers()]).toMatchObject([rule, [{ state }]]);
  }
});

test.each<[string, Partial<SettleRequest>]>([
  [
    'a business answer',
    { result: 'failed', refusal: because({ kind: 'failed', origin: 'provider', rule: 'http_422' }) },
  ],
  ['policy', { result: 'failed', refusal: because({ kind: 'denied', origin: 'policy', rule: 'egress' }) }],
  [
    'a result out of schema',
    { result: 'failed', refusal: because({ kind: 'failed', origin: 'provider', rule: 'result_schema' }) },
  ],
  ['an abort', { result: 'open', refusal: because({ kind: 'failed', origin: 'platform', rule: 'aborted' }) }],
  [
    'a fence',
    { result: 'open', refusal: because({ kind: 'killed', origin: 'control', rule: 'lease_revoked' }) },
  ],
  [
    'trouble of the platform’s own',
    {
      result: 'open',
      refusal: because({ kind: 'provider_degraded', origin: 'platform', rule: 'unavailable' }),
    },
  ],
  [
    'a look-up that found nothing',
    {
      result: 'open',
      refusal: because({ kind: 'provider_degraded', origin: 'provider', rule: 'proven_absent' }),
    },
  ],
  [
    'nobody knows what',
    {
      result: 'unknown',
      refusal: because({ kind: 'outcome_unknown', origin: 'provider', rule: 'answer_lost' }),
    },
  ],
  [
    'a cap of the tenant’s own',
    {
      result: 'failed',
      refusal: because({ kind: 'throttled', origin: 'tenant_cap', rule: 'calls_in_flight' }),
    },
  ],
])('N5 Q4 %s is no trouble of the system', async (_what, how) => {
  const { tenant, runId } = await opened();
  for (let end = 0; end <= TERMS.failures; end += 1) await ends(tenant, runId, how);
  expect(await tenant.store.breakers()).toEqual([]);
});

test('N5 half open, twenty that race have exactly one probe; its answer lets all through', async () => {
  const { tenant, runId } = await opened();
  await halfOpen(tenant, runId);
  const asked = Array.from({ length: 20 }, () => fresh(tenant, runId));
  const answers = await Promise.all(asked.map((request) => tenant.store.admit(request)));
  expect(answers.filter(({ answer }) => answer === 'admitted')).toHaveLength(1);
  for (const answer of answers.filter((each) => each.answer === 'refused'))
    expect(answer.refusal).toMatchObject({ ...OPEN, retryAfterMs: TERMS.look });
  const probe = asked[answers.findIndex(({ answer }) => answer === 'admitted')];
  if (!probe) throw new Error('no probe');
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'half_open' }]);
  await tenant.store.settle(tenant.settlement(probe));
  expect(await tenant.store.breakers()).toEqual([]);
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({ answer: 'admitted' });
  expect((await facts(tenant)).map(({ kind }) => kind)).toEqual([
    'breaker_opened',
    'breaker_half_open',
    'breaker_closed',
  ]);
  expect(recount(await tenant.journal()).violations).toEqual([]);
  expect(await tenant.verify()).toMatchObject({ intact: true });
});

test('N5 a probe that fails doubles the wait, to five minutes at most', async () => {
  const { tenant, runId } = await opened();
  await trip(tenant, runId);
  const waits: unknown[] = [];
  for (let opening = 0; opening < 9; opening += 1) {
    const answer = await tenant.store.admit(fresh(tenant, runId));
    if (answer.answer !== 'refused') throw new Error(answer.answer);
    waits.push(answer.refusal.retryAfterMs);
    await pass(answer.refusal.retryAfterMs ?? 0);
    await ends(tenant, runId);
  }
  expect(waits).toEqual([5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000]);
  expect(await tenant.store.breakers()).toMatchObject([{ openings: 10, failures: 19 }]);
});

test.each([
  { result: 'open', refusal: because({ kind: 'failed', origin: 'platform', rule: 'aborted' }) } as const,
  {
    result: 'unknown',
    refusal: because({ kind: 'outcome_unknown', origin: 'provider', rule: 'answer_lost' }),
  } as const,
])('N5 a probe without a verdict ($result) gives its place back, and decides nothing', async (how) => {
  const { tenant, runId } = await opened();
  await halfOpen(tenant, runId);
  await ends(tenant, runId, how);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'half_open', openings: 1 }]);
  const next = fresh(tenant, runId);
  expect(await tenant.store.admit(next)).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({ refusal: OPEN });
});

test('N5 a lost probe ends with its lease, the next one may, and what comes of it late moves nothing', async () => {
  const { tenant, runId } = await opened();
  await halfOpen(tenant, runId);
  const lost = fresh(tenant, runId, { callClass: 'read' });
  await tenant.store.admit(lost);
  await pass(LEASE_MS - 1);
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({
    refusal: { ...OPEN, retryAfterMs: 1 },
  });
  await pass(1);
  const next = fresh(tenant, runId);
  expect(await tenant.store.admit(next)).toMatchObject({ answer: 'admitted' });
  await tenant.store.settle(tenant.settlement(lost));
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'half_open' }]);
  await tenant.store.settle(tenant.settlement(next, { result: 'open', refusal: down }));
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open', openings: 2 }]);
});

test('N5 what was let in before it opened moves it neither while it is open nor once it is closed again', async () => {
  const { tenant, runId } = await opened();
  const early = Array.from({ length: TERMS.failures + 2 }, () => fresh(tenant, runId, { leaseMs: 600_000 }));
  for (const asked of early) await tenant.store.admit(asked);
  const [well, half, ...ill] = early;
  if (!well || !half) throw new Error('too few');
  await pass(1);
  await trip(tenant, runId);
  await tenant.store.settle(tenant.settlement(well));
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open', failures: 10 }]);
  await pass(TERMS.first);
  const probe = fresh(tenant, runId);
  await tenant.store.admit(probe);
  await tenant.store.settle(tenant.settlement(half, { result: 'open', refusal: down }));
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'half_open', failures: 10 }]);
  await tenant.store.settle(tenant.settlement(probe));
  for (const asked of ill)
    await tenant.store.settle(tenant.settlement(asked, { result: 'open', refusal: down }));
  expect(await tenant.store.breakers()).toEqual([]);
});

test('N5 an open breaker takes no attempt away; one call that always fails ends as a dead letter and opens nothing', async () => {
  const { tenant, runId } = await opened();
  for (let attempt = 1; attempt <= 8; attempt += 1) {
    const asked = tenant.admission(runId, 'poison');
    expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted', attempt });
    await tenant.store.settle(tenant.settlement(asked, { result: 'open', refusal: down }));
  }
  expect(await tenant.store.admit(tenant.admission(runId, 'poison'))).toMatchObject({
    refusal: { origin: 'provider', rule: 'attempts_exhausted' },
  });
  expect(await tenant.store.deadLetters({ open: true, limit: 5 })).toMatchObject([
    { path: 'poison', attempts: 8 },
  ]);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'closed', failures: 8 }]);
  await ends(tenant, runId);
  const waiting = tenant.admission(runId, 'patient');
  await tenant.store.admit(waiting);
  await tenant.store.settle(tenant.settlement(waiting, { result: 'open', refusal: down }));
  for (let turn = 0; turn < 20; turn += 1)
    expect(await tenant.store.admit(tenant.admission(runId, 'patient'))).toMatchObject({ refusal: OPEN });
  expect(await tenant.store.call(runId, 'patient')).toMatchObject({ state: 'open', attempts: 1 });
  await pass(TERMS.first);
  expect(await tenant.store.admit(tenant.admission(runId, 'patient'))).toMatchObject({
    answer: 'admitted',
    attempt: 2,
  });
});

test('N5 T3 a write that may have been sent is recovered also while its system is left alone, and that decides nothing', async () => {
  const { tenant, runId } = await opened();
  const lost = fresh(tenant, runId);
  await tenant.store.admit(lost);
  await pass(LEASE_MS);
  await trip(tenant, runId);
  const again = { ...lost, token: randomUUID() };
  expect(await tenant.store.admit(again)).toMatchObject({ answer: 'recover', lookupOnly: false });
  await tenant.store.settle(tenant.settlement(again));
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open' }]);
});

test('N5 T5 an undo waits for its system like any call, keeps its attempts, and opens no review', async () => {
  const { tenant, runId } = await opened();
  const write = tenant.admission(runId, '0.1');
  await tenant.store.admit(write);
  await tenant.store.settle(tenant.settlement(write));
  await trip(tenant, runId);
  await tenant.store.beginUndo({ runId, temporalRunId: `${runId}/1` });
  const undo = () =>
    tenant.store.admit(
      tenant.admission(runId, '0.1/undo', {
        undoOf: '0.1',
        reserve: { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 },
      }),
    );
  for (let turn = 0; turn < 10; turn += 1) expect(await undo()).toMatchObject({ refusal: OPEN });
  expect(await tenant.store.reviews({ open: true, limit: 5 })).toEqual([]);
  await pass(TERMS.first);
  expect(await undo()).toMatchObject({ answer: 'admitted', attempt: 1 });
});

test('N5 trouble of a call that stays claimed counts, of the attempt that holds it alone', async () => {
  const { tenant, runId } = await opened();
  const told = async (asked: AdmitRequest, why = down) =>
    tenant.store.trouble({ runId, path: asked.path, token: asked.token, refusal: why });
  const held = Array.from({ length: TERMS.failures }, () => fresh(tenant, runId));
  for (const asked of held) {
    await tenant.store.admit(asked);
    await told({ ...asked, token: randomUUID() });
    await told(asked, because({ kind: 'failed', origin: 'platform', rule: 'aborted' }));
  }
  expect(await tenant.store.breakers()).toEqual([]);
  for (const asked of held) await told(asked);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open', openings: 1 }]);
  await pass(TERMS.first);
  const probe = fresh(tenant, runId);
  await tenant.store.admit(probe);
  await told(probe);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open', openings: 2 }]);
  await tenant.store.settle(tenant.settlement(probe));
  await told(probe);
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open', openings: 2 }]);
  expect(recount(await tenant.journal()).violations).toEqual([]);
  expect(await tenant.verify()).toMatchObject({ intact: true });
});

test('N5 O1 a kill comes before the breaker, cuts a probe off without a verdict, and leaves it as it stands', async () => {
  const { tenant, runId } = await opened();
  await halfOpen(tenant, runId);
  const probe = fresh(tenant, runId);
  await tenant.store.admit(probe);
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({
    refusal: { rule: 'tenant_killed' },
  });
  await tenant.store.settle(
    tenant.settlement(probe, {
      result: 'open',
      refusal: because({ kind: 'failed', origin: 'platform', rule: 'aborted' }),
    }),
  );
  await tenant.store.release({ reason: 'x', actor: 'op' });
  const later = await tenant.run();
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'half_open' }]);
  expect(await tenant.store.admit(fresh(tenant, later))).toMatchObject({ answer: 'admitted' });
  expect(await tenant.store.admit(fresh(tenant, later))).toMatchObject({ refusal: OPEN });
});

test('N5 a probe that another limit refuses is none: its place stays free', async () => {
  const tenant = await world.tenant({ callsInFlight: 1 });
  const runId = await tenant.run();
  await halfOpen(tenant, runId);
  const other = fresh(tenant, runId, { system: 'payments' });
  await tenant.store.admit(other);
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({
    refusal: { rule: 'calls_in_flight' },
  });
  expect(await tenant.store.breakers()).toMatchObject([{ state: 'open' }]);
  await tenant.store.settle(tenant.settlement(other));
  expect(await tenant.store.admit(fresh(tenant, runId))).toMatchObject({ answer: 'admitted' });
});

test('N5 Q3 a run that waits long for a system says so, until a call of it is let in again', async () => {
  const { tenant, runId } = await opened();
  await halfOpen(tenant, runId);
  await ends(tenant, runId);
  await tenant.store.admit(fresh(tenant, runId));
  expect(await tenant.store.run(runId)).toMatchObject({ state: 'running' });
  await pass(2 * TERMS.first);
  await ends(tenant, runId);
  await tenant.store.admit(fresh(tenant, runId));
  expect(await tenant.store.run(runId)).toMatchObject({ state: 'provider_degraded' });
  await pass(4 * TERMS.first);
  await tenant.store.admit(fresh(tenant, runId));
  expect(await tenant.store.run(runId)).toMatchObject({ state: 'running' });
});
