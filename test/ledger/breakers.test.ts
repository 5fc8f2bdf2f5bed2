import type { SettleRequest } from '../../contracts/ledger';
import { because, breakerGround, down, OPEN } from './breaker-ground';
import { TERMS } from './breaker-model';
import { LEASE_MS } from './harness';
import { recount } from './recount';

/** When a breaker opens, what moves it, and how it closes again. */

const { pass, fresh, ends, trip, halfOpen, facts, opened, now } = breakerGround();

test('N5 a system that keeps failing is left alone: for that tenant and that system only, and said so', async () => {
  const { tenant, runId } = await opened();
  const { tenant: neighbour } = await opened();
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
      openedAt: expect.stringContaining(new Date(now()).toISOString().slice(0, 19)),
      openUntil: expect.stringContaining(new Date(now() + 5_000).toISOString().slice(0, 19)),
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
