import fc from 'fast-check';
import { LEASE, type Policy } from './approval-model';
import { ApprovalTrial, FIRST, PEOPLE, type Command } from './approval-trial';
import { LedgerWorld } from './harness';
import { recount } from './recount';

/** Set higher for a long run. */
const SEQUENCES = Number(process.env['BULKHEAD_MODEL_RUNS'] ?? 300);
const seed = process.env['BULKHEAD_MODEL_SEED'];

const HOUR = 3_600_000;
const rarely = fc.integer({ min: 0, max: 11 }).map((n) => n === 0);
const path = fc.integer({ min: 0, max: 1 });
const person = fc.constantFrom(1, 1, ...PEOPLE.keys());
const ms = fc.constantFrom(1, 1_000, LEASE, HOUR / 2, HOUR, 2 * HOUR, 25 * HOUR);
const change: fc.Arbitrary<Partial<Policy>> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom<Partial<Policy>>(FIRST, { ...FIRST, effect: 'suggest' }) },
  {
    weight: 3,
    arbitrary: fc.record({ effect: fc.constantFrom('approve' as const, 'suggest', 'allow', 'deny') }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ rules: fc.constantFrom(['large'], ['large', 'night'], ['night', 'large']) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      roles: fc.constantFrom([['finance']], [['finance'], ['lead']], [['support', 'lead']]),
    }),
  },
  { weight: 1, arbitrary: fc.record({ notRequester: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ expiresAfterMs: fc.constantFrom(HOUR, 2 * HOUR) }) },
);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      path,
      args: rarely.map(Number),
      schema: rarely.map(Number),
      stale: rarely,
    }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constantFrom('ask again' as const, 'approve') }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('decide' as const),
      back: fc.constantFrom(0, 0, 0, 1),
      person,
      decision: fc.constantFrom('approve' as const, 'approve', 'approve', 'approve', 'deny'),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('promote' as const), path, person }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      path,
      result: fc.constantFrom('open' as const, 'open', 'open', 'succeeded', 'failed', 'unknown'),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('retry' as const), path, ms }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('publish' as const), change }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('tick' as const), ms }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('leave' as const, 'leave', 'leave', 'leave', 'kill') }),
  },
);

const sequence = fc.array(command, { minLength: 8, maxLength: 40, size: 'max' });
const effect = fc.constantFrom('approve' as const, 'approve', 'suggest');

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(1);
});
afterAll(() => world.close());

test('P4 P8 whatever happens in whatever order, nothing is sent that an entitled, other person has not approved in its time and words, and the right retry passes', async () => {
  const clock = { now: Date.UTC(2025, 2, 10), version: 1 };
  const seen = new Map<string, number>();
  await world.setClock(new Date(clock.now));
  const tenant = await world.tenant();
  await fc.assert(
    fc.asyncProperty(effect, sequence, async (first, commands) => {
      const trial = await ApprovalTrial.open(tenant, clock, seen, first);
      for (const next of commands) await trial.do(next);
      await trial.end();
    }),
    { numRuns: SEQUENCES, endOnFailure: true, ...(seed !== undefined && { seed: Number(seed) }) },
  );
  // The journal alone says the same, and its counts are those of the ledger.
  const row = await tenant.row();
  expect(recount(await tenant.journal())).toMatchObject({ violations: [], inflight: row.inflight });
  expect(await tenant.verify()).toEqual({ intact: true });
  // A model of what never comes up says nothing.
  const often = [
    'admitted',
    'pending',
    'refused approval_denied',
    'refused approval_expired',
    'resend',
    'look',
  ];
  const missing = [
    ...often.map((what) => `${what} under approve`),
    'admitted under suggest',
    'promote ordered',
  ].filter((what) => (seen.get(what) ?? 0) < SEQUENCES / 100);
  expect(missing).toEqual([]);
}, 1_800_000);
