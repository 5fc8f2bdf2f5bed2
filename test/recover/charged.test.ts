import type { RunId } from '../../contracts/ids';
import type { AdmitRequest } from '../../contracts/ledger';
import type { LedgerCall, RestoredCall } from '../../contracts/recovery';
import { LedgerWorld, type LedgerTenant } from '../ledger/harness';
import { claim, countersOf, dayOf, HOUR, model, NOON, settle } from '../ledger/quota-calls';
import { NOTHING, recount } from '../ledger/recount';

/** What recovery counts of a call that it puts back, whatever the backup had counted of it: no unit that was billed is taken back. */

const DAY = 24 * HOUR;
const BILLED = { toolCalls: 0, microUsd: 9, modelTokens: 5_000 } as const;
let world: LedgerWorld;
const at = (time: number) => world.setClock(new Date(time));
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(NOON));

/** One whose agent is limited, too: what is counted twice is wrong twice. */
const tenantWithRun = async (): Promise<[LedgerTenant, RunId]> => {
  const perAgent = { support_triage: { modelTokensPerDay: 1_000_000, modelTokensPerMinute: 100_000 } };
  const tenant = await world.tenant({ more: { modelTokensPerMinute: 100_000 }, perAgent });
  return [tenant, await tenant.run()];
};

/** Puts a call back as done, as the run's history has it: 800 tokens and 3 micro-dollars. */
async function restored(
  tenant: LedgerTenant,
  { runId, path, action, callClass }: AdmitRequest,
  from: LedgerCall['state'],
): Promise<void> {
  await world.admin.query('update bulkhead.ledgers set rewound_seq = 9999 where tenant_id = $1', [
    tenant.tenantId,
  ]);
  const call: RestoredCall = {
    action,
    class: callClass,
    system: null,
    reversible: null,
    undoOf: null,
    firstClaimedAt: new Date(NOON).toISOString(),
    leaseMs: 1,
    toolCalls: 0,
    steps: 1,
    microUsd: 3,
    modelTokens: callClass === 'model' ? 800 : 0,
    refusal: null,
    value: null,
    payload: null,
    payloadDigest: null,
    review: null,
    dataClasses: [],
  };
  expect(await tenant.store.recovery.restoreCall({ runId, path, from, to: 'succeeded', call })).toBe(true);
}

/** Model tokens of the tenant by day, of its run, and of its agent in all; the journal gives the same. */
async function tokensOf(
  tenant: LedgerTenant,
): Promise<{ days: Record<number, number>; run: number; agent: number }> {
  const { own, named, closed } = await countersOf(world, tenant);
  const counted = recount(await tenant.journal());
  expect(counted.violations).toEqual([]);
  expect(counted.days[own.day] ?? NOTHING).toEqual(own.used);
  const days: Record<number, number> = { [own.day]: own.used.modelTokens };
  let agent = 0;
  for (const [name, { day, used, inflight }] of Object.entries(named)) {
    expect([counted.meters[name]?.days[day] ?? NOTHING, counted.meters[name]?.inflight]).toEqual([
      used,
      inflight,
    ]);
    agent += used.modelTokens;
  }
  for (const [key, used] of Object.entries(closed)) {
    const [name = '', day = ''] = key.split('@');
    const journal = name === '' ? counted.days : counted.meters[name]?.days;
    expect(journal?.[Number(day)] ?? NOTHING).toEqual(used);
    if (name === '') days[Number(day)] = used.modelTokens;
    else agent += used.modelTokens;
  }
  const { rows } = await world.admin.query<{ tokens: string }>(
    'select model_tokens as tokens from bulkhead.runs where tenant_id = $1',
    [tenant.tenantId],
  );
  return { days, run: Number(rows[0]?.tokens), agent };
}

test.each([
  ['the same day', 0, { [dayOf(NOON)]: 5_800 }],
  ['another day', DAY, { [dayOf(NOON)]: 5_000, [dayOf(NOON) + 1]: 800 }],
])(
  'O8 Q2 what an attempt was billed that came to nothing stays billed: put back on %s',
  async (_, ms, days) => {
    const [tenant, runId] = await tenantWithRun();
    const request = await claim(tenant, runId, '0.0', model(5_000, 9));
    await settle(tenant, request, { result: 'open', charge: BILLED });
    await at(NOON + ms);
    await restored(tenant, request, 'open');
    expect(await tokensOf(tenant)).toMatchObject({ days, run: 5_800, agent: 5_000 });
  },
);

test('O8 Q2 a model call that was reaped stays charged beside the attempt that is put back, and is trued up once', async () => {
  const [tenant, runId] = await tenantWithRun();
  const request = await claim(tenant, runId, '0.0', { ...model(5_000, 9), leaseMs: 1_000 });
  await at(NOON + DAY);
  expect(await world.platform.reapCalls(100)).toBe(1);
  await restored(tenant, request, 'failed');
  expect(await tokensOf(tenant)).toMatchObject({
    days: { [dayOf(NOON)]: 5_000, [dayOf(NOON) + 1]: 800 },
    run: 5_800,
  });
  const late = { charge: { toolCalls: 0, microUsd: 1, modelTokens: 700 } } as const;
  expect(await settle(tenant, request, late)).toMatchObject({ answer: 'late' });
  expect(await tokensOf(tenant)).toMatchObject({
    days: { [dayOf(NOON)]: 700, [dayOf(NOON) + 1]: 800 },
    run: 1_500,
  });
});

test('O8 Q2 a call that used up its attempts stays billed for them', async () => {
  const [tenant, runId] = await tenantWithRun();
  const reserve = { toolCalls: 1, steps: 1, microUsd: 20, modelTokens: 0 } as const;
  for (let attempt = 1; attempt <= 8; attempt += 1) {
    const request = await claim(tenant, runId, '0.1', { reserve });
    await settle(tenant, request, { result: 'open', charge: { toolCalls: 0, microUsd: 5, modelTokens: 0 } });
  }
  const last = tenant.admission(runId, '0.1', { reserve });
  expect(await tenant.store.admit(last)).toMatchObject({ refusal: { rule: 'attempts_exhausted' } });
  await restored(tenant, last, 'failed');
  expect((await countersOf(world, tenant)).own.used.microUsd).toBe(43);
  await tokensOf(tenant);
});

test('O8 Q2 what the backup had reserved for the very attempt that is put back is corrected, where it was reserved', async () => {
  const [tenant, runId] = await tenantWithRun();
  const request = await claim(tenant, runId, '0.0', model(5_000, 9));
  await at(NOON + DAY);
  await restored(tenant, request, 'claimed');
  expect(await tokensOf(tenant)).toMatchObject({ days: { [dayOf(NOON)]: 800 }, run: 800, agent: 800 });
  const { own, named } = await countersOf(world, tenant);
  expect([own.inflight, named['agent:support_triage']?.inflight]).toEqual([0, 0]);
});
