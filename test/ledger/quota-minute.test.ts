import fc from 'fast-check';
import type { AdmitRequest } from '../../contracts/ledger';
import { ENVIRONMENT, LedgerWorld, type LedgerTenant } from './harness';
import { claim, model, settle } from './quota-calls';

/**
 * What a limit of model tokens per minute promises, held against what was used: in any time, what calls let in within it have used, or may
 * still use, is at most a minute's limit and what drains in that time. So never more than twice the limit in a minute.
 */

const SEQUENCES = Number(process.env['BULKHEAD_MODEL_RUNS'] ?? 60);
const MINUTE = 60_000;
let world: LedgerWorld;
let now = Date.UTC(2025, 2, 10, 12);
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => pass(MINUTE));

async function pass(ms: number): Promise<void> {
  now += ms;
  await world.setClock(new Date(now));
}
const used = (modelTokens: number) => ({ charge: { toolCalls: 0, microUsd: 0, modelTokens } }) as const;
/** Calls that go on for long. */
const slow = (modelTokens: number): Partial<AdmitRequest> => ({
  ...model(modelTokens),
  system: 'openai',
  keyValidMs: null,
  reversible: null,
  leaseMs: 60 * MINUTE,
});

test('Q2 many slow calls that used nothing, and settle at one moment, let in no more than one minute of the limit', async () => {
  const tenant = await world.tenant({ more: { modelTokensPerMinute: 100 } });
  const runId = await tenant.run();
  const early: AdmitRequest[] = [];
  for (const path of ['1.0', '2.0', '3.0', '4.0']) {
    early.push(await claim(tenant, runId, path, slow(100)));
    await pass(MINUTE);
  }
  await claim(tenant, runId, '5.0', slow(100));
  const answers: string[] = [];
  for (const [index, request] of early.entries()) {
    await settle(tenant, request, used(0));
    answers.push((await tenant.store.admit(tenant.admission(runId, `6.${index}`, slow(100)))).answer);
  }
  expect(answers).toEqual(['refused', 'refused', 'refused', 'refused']);
});

test('Q2 N7 nor of a tenant’s part of a provider pool', async () => {
  const tenant = await pooled(100);
  const runId = await tenant.run();
  const early = await claim(tenant, runId, '1.0', slow(100));
  await pass(MINUTE);
  await claim(tenant, runId, '2.0', slow(100));
  await settle(tenant, early, used(0));
  expect(await tenant.store.admit(tenant.admission(runId, '3.0', slow(100)))).toMatchObject({
    refusal: { kind: 'provider_degraded', rule: 'provider_pool/minutes/model_tokens_per_minute', used: 100 },
  });
  await pass(MINUTE / 2);
  const half = await claim(tenant, runId, '3.0', slow(50));
  await settle(tenant, half, used(10));
  await claim(tenant, runId, '4.0', slow(40));
});

/** A tenant whose part of a pool has so many tokens a minute. */
async function pooled(tokens: number): Promise<LedgerTenant> {
  const tenant = await world.tenant();
  const { tenantId } = tenant;
  const ask = (sql: string, of: unknown[]) => world.admin.query(sql, of);
  await ask(`select bulkhead.put_provider_pool('minutes', 'openai', 10, $1, 'test')`, [tokens]);
  await ask('select bulkhead.set_pools($1, $2, $3)', [tenantId, ENVIRONMENT, '{"openai": "minutes"}']);
  await ask(`select bulkhead.set_pool_share($1, $2, 'openai', 'minutes', 10, $3, 0)`, [
    tenantId,
    ENVIRONMENT,
    tokens,
  ]);
  return tenant;
}

const command = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('ask' as const), tokens: fc.integer({ min: 1, max: 300 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      which: fc.nat(20),
      /** Of a hundred parts of what it reserved; and more, at times. */
      part: fc.constantFrom(0, 0, 0, 30, 90, 100, 140),
      result: fc.constantFrom('succeeded' as const, 'open' as const, 'unknown' as const),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      ms: fc.constantFrom(1, 999, 5_000, 12_345, 20_000, 40_000, 60_000, 90_000),
    }),
  },
);

test('Q2 in no time do calls use more than a minute of the limit and what drains in it, however late they give back what they did not use', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 100, max: 600 }),
      fc.array(command, { minLength: 20, maxLength: 70, size: 'max' }),
      fc.boolean(),
      async (limit, commands, ofPool) => {
        await pass(MINUTE);
        const tenant = ofPool
          ? await pooled(limit)
          : await world.tenant({ more: { modelTokensPerMinute: limit } });
        const runId = await tenant.run();
        const calls: { at: number; tokens: number; request: AdmitRequest; settled: boolean }[] = [];
        for (const [index, next] of commands.entries()) {
          if (next.do === 'pass') await pass(next.ms);
          else if (next.do === 'settle') {
            const call = calls.filter(({ settled }) => !settled).at(-1 - next.which);
            if (!call) continue;
            const { modelTokens } = call.request.reserve;
            const of = Math.floor((modelTokens * next.part) / 100);
            await settle(tenant, call.request, { result: next.result, ...used(of) });
            call.settled = true;
            // What goes beyond a reservation is the provider's making: no limit is asked, and none is kept by it.
            call.tokens = next.result === 'unknown' ? modelTokens : Math.min(of, modelTokens);
          } else {
            const tokens = Math.min(next.tokens, limit);
            const request = tenant.admission(runId, `${index}.0`, slow(tokens));
            if ((await tenant.store.admit(request)).answer !== 'admitted') continue;
            calls.push({ at: now, tokens, request, settled: false });
            let since = 0;
            for (const call of [...calls].reverse()) {
              since += call.tokens;
              const most = limit * (1 + (now - call.at) / MINUTE);
              expect({ limit, since, ms: now - call.at, within: since <= most + 1e-6 }).toMatchObject({
                within: true,
              });
            }
          }
        }
      },
    ),
    { numRuns: SEQUENCES, endOnFailure: true },
  );
}, 300_000);
