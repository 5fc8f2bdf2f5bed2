import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { LedgerWorld } from './harness';
import { HORIZON, type Doubt, type Resolution, type Result } from './model-words';
import { Trial } from './trial';
import { LEASE, PATHS, SILENCE, type Command } from './trial-words';

/** Set higher for a long run. */
const SEQUENCES = Number(process.env['BULKHEAD_MODEL_RUNS'] ?? 60);
const seed = process.env['BULKHEAD_MODEL_SEED'];

const bit = fc.constantFrom(0 as const, 1 as const);
const rarely = fc.integer({ min: 0, max: 9 }).map((n) => n === 0);
const hardlyEver = fc.integer({ min: 0, max: 59 }).map((n) => n === 0);
const slot = fc.integer({ min: 0, max: 1 });
const back = fc.integer({ min: 0, max: 2 });
const attempt = fc.integer({ min: 0, max: 5 });
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      slot,
      path: fc.integer({ min: 0, max: PATHS.length - 1 }),
      reworded: rarely,
      elsewhere: rarely,
      denied: rarely,
      stale: rarely,
      stranger: rarely,
      ahead: hardlyEver,
      toolCalls: bit,
      steps: bit,
      microUsd: fc.integer({ min: 0, max: 100 }),
      host: slot,
      followUp: fc.constantFrom(null, null, 0, 1),
      undo: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
      pastFence: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('ask again' as const), attempt }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('send' as const), attempt }) },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      attempt,
      result: fc.constantFrom<Result>('succeeded', 'succeeded', 'failed', 'open', 'open', 'unknown'),
      doubt: fc.constantFrom<Doubt>('none', 'none', 'none', 'read_back_mismatch', 'scope_ambiguous'),
      toolCalls: bit,
      microUsd: fc.integer({ min: 0, max: 150 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('tick' as const),
      ms: fc.constantFrom(1, 400, 1_500, LEASE, LEASE + 1, 61_000, -3_000, -90_000, 86_400_000, HORIZON),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('kill', 'release', 'release', 'publish', 'reap', 'reap') }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('limits' as const),
      callsInFlight: fc.integer({ min: 0, max: 4 }),
      toolCallsPerDay: fc.integer({ min: 0, max: 12 }),
      perRunSteps: fc.integer({ min: 0, max: 12 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('leave' as const),
      slot,
      completed: fc.boolean(),
      onFailure: fc.boolean(),
      onKill: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('start' as const, 'order undo', 'begin undo'), slot }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('resolve' as const),
      back,
      resolution: fc.constantFrom<Resolution>('happened', 'did_not_happen', 'did_not_happen', 'abandon'),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('retry' as const, 'discard', 'enter', 'enter', 'leave follow-up'),
      back,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('beat' as const), host: slot }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('mourn' as const, 'purge' as const) }) },
);

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(2);
});
afterAll(() => world.close());

test('Q2 T2 O1 O2 whatever happens in whatever order, the ledger is what the model says', async () => {
  // Leases of the dead do not end while the server itself is young, and its age is real.
  for (;;) {
    const { rows } = await world.admin.query<{ ms: number }>(
      `select extract(epoch from clock_timestamp() - pg_postmaster_start_time()) * 1000 as ms`,
    );
    if (Number(rows[0]?.ms) > SILENCE) break;
    await sleep(500);
  }
  const bystander = await world.tenant();
  const before = await bystander.row();
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 20, maxLength: 90, size: 'max' }), async (commands) => {
      const trial = await Trial.open(world);
      for (const next of commands) {
        await trial.do(next);
        await trial.check();
      }
      await trial.end();
    }),
    { numRuns: SEQUENCES, endOnFailure: true, ...(seed !== undefined && { seed: Number(seed) }) },
  );
  expect(await bystander.row()).toEqual(before);
}, 600_000);

test('T3 N5 eight sends, each looked up in vain and proven absent: the ledger counts them as the model does', async () => {
  const trial = await Trial.open(world);
  const ask = (elsewhere: boolean): Command => ({
    do: 'ask',
    slot: 0,
    path: 2,
    reworded: false,
    elsewhere,
    denied: false,
    stale: false,
    stranger: false,
    ahead: false,
    toolCalls: 0,
    steps: 0,
    microUsd: 0,
    host: 0,
    followUp: null,
    undo: false,
    pastFence: false,
  });
  const lapse: Command = { do: 'tick', ms: LEASE };
  const absent: Command = {
    do: 'settle',
    attempt: 0,
    result: 'open',
    doubt: 'none',
    toolCalls: 0,
    microUsd: 0,
  };
  for (let sends = 1; sends <= 8; sends += 1) {
    for (const next of [ask(false), lapse, ask(true), lapse, ask(true), absent]) await trial.do(next);
  }
  expect(trial.model.letters).toHaveLength(0);
  await trial.do(ask(false));
  expect(trial.model.letters).toMatchObject([{ path: '0.2', rule: 'attempts_exhausted' }]);
  await trial.check();
  await trial.end();
});
