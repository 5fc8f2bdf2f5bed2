import fc from 'fast-check';
import type { NamedLimits } from '../../contracts/documents';
import { LedgerWorld } from './harness';
import { localDay, endOfDay } from './quota-days';
import { AGENTS, KINDS, Trial, type Command } from './quota-trial';
import type { Quota, Result } from './quota-words';

/** Set higher for a long run. */
const SEQUENCES = Number(process.env['BULKHEAD_MODEL_RUNS'] ?? 150);
const seed = process.env['BULKHEAD_MODEL_SEED'];
/** Holds the tables against the model after each command, not at the end alone: where a sequence is looked into. */
const DEEP = process.env['BULKHEAD_MODEL_DEEP'] === '1';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** The evening before clocks are changed somewhere: days of 23 and 25 hours, and days that begin twice or an hour late. */
const STARTS = [
  Date.UTC(2025, 2, 10, 12),
  Date.UTC(2025, 2, 29, 22, 30),
  Date.UTC(2025, 9, 25, 21, 30),
  Date.UTC(2025, 10, 2, 3, 30),
  Date.UTC(2025, 2, 9, 4, 30),
  Date.UTC(2025, 3, 5, 13, 30),
];
const ZONES = [
  'UTC',
  'Europe/Berlin',
  'America/Los_Angeles',
  'America/Havana',
  'Atlantic/Azores',
  'Australia/Lord_Howe',
  'Asia/Kolkata',
  'Pacific/Kiritimati',
  'Pacific/Pago_Pago',
];

const bit = fc.constantFrom(0 as const, 1 as const);
const mostly = fc.integer({ min: 0, max: 9 }).map((n) => (n === 0 ? (0 as const) : (1 as const)));
const rarely = fc.integer({ min: 0, max: 14 }).map((n) => n === 0);
const upTo = (max: number) =>
  fc.oneof({ weight: 1, arbitrary: fc.constant(0) }, { weight: 14, arbitrary: fc.integer({ min: 1, max }) });
const attempt = fc.constantFrom(0, 0, 0, 1, 1, 2, 3, 5);

const LAYERS = {
  toolCallsPerDay: upTo(12),
  stepsPerDay: upTo(12),
  activeSecondsPerDay: upTo(90),
  spendMicroUsdPerDay: upTo(600),
  modelTokensPerDay: upTo(4_000),
  highRiskWritesPerDay: upTo(4),
  callsPerMinute: upTo(6),
  modelTokensPerMinute: upTo(1_200),
  callsInFlight: upTo(5),
};
/** Each layer limited or not; a limit of everything at once hides all but the tightest. */
const sparse = (presence: number): fc.Arbitrary<NamedLimits> =>
  fc
    .record(
      Object.fromEntries(
        Object.entries(LAYERS).map(([layer, of]) => [
          layer,
          fc
            .tuple(fc.integer({ min: 0, max: 99 }), of)
            .map(([n, value]) => (n < presence ? value : undefined)),
        ]),
      ),
    )
    .map(
      (all) =>
        Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as NamedLimits,
    );
const some = (names: readonly string[]): fc.Arbitrary<Record<string, NamedLimits>> =>
  fc
    .subarray([...names])
    .chain((chosen) =>
      fc
        .tuple(...chosen.map(() => sparse(25)))
        .map((each) => Object.fromEntries(chosen.map((name, at) => [name, each[at] ?? {}]))),
    );
const quota: fc.Arbitrary<Quota> = fc
  .record({
    limits: sparse(25),
    perRun: fc.record(
      {
        steps: fc.integer({ min: 3, max: 25 }),
        seconds: fc.integer({ min: 20, max: 200 }),
        spendMicroUsd: upTo(1_500),
      },
      { requiredKeys: ['steps'] },
    ),
    perAction: some(KINDS.map(({ action }) => action)),
    perAgent: some(AGENTS),
    timeZone: fc.constantFrom(...ZONES),
  })
  .map((all) => ({ ...all, limits: { callsInFlight: 6, toolCallsPerDay: 20, ...all.limits } }) as Quota);

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 14,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      slot: bit,
      kind: fc.integer({ min: 0, max: KINDS.length - 1 }),
      again: fc.constantFrom(null, null, 0, 0, 1, 2),
      reworded: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
      denied: rarely,
      leaseMs: fc.constantFrom(1_000, 5_000, 7_001, 20_000),
      toolCalls: mostly,
      steps: mostly,
      microUsd: fc.integer({ min: 0, max: 150 }),
      modelTokens: fc.integer({ min: 0, max: 700 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('ask again' as const), attempt }) },
  {
    weight: 9,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      attempt,
      result: fc.constantFrom<Result>('succeeded', 'succeeded', 'failed', 'open', 'unknown'),
      charge: fc.record({
        toolCalls: bit,
        microUsd: fc.integer({ min: 0, max: 250 }),
        modelTokens: fc.integer({ min: 0, max: 1_500 }),
      }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('tick' as const),
      ms: fc.constantFrom(
        1,
        333,
        1_000,
        1_500,
        5_000,
        7_001,
        20_000,
        MINUTE,
        HOUR / 2,
        HOUR,
        25 * HOUR,
        -3_000,
        -HOUR,
      ),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('reap' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('quota' as const), quota }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('zone' as const), timeZone: fc.constantFrom(...ZONES) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('start' as const), slot: bit }) },
);

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(2);
});
afterAll(() => world.close());

test('Q1 Q2 Q6 whatever is asked, settled, lost and limited in whatever order: answers and counters are the model’s', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...STARTS),
      quota,
      fc.array(command, { minLength: 20, maxLength: 80, size: 'max' }),
      async (start, first, commands) => {
        const trial = await Trial.open(world, start, first);
        for (const next of commands) {
          await trial.do(next);
          if (DEEP) expect(await trial.counters()).toEqual(trial.expected());
        }
        await trial.end();
      },
    ),
    { numRuns: SEQUENCES, endOnFailure: true, ...(seed !== undefined && { seed: Number(seed) }) },
  );
}, 600_000);

test('Q1 a day begins and ends as the calendar of its time zone shows it, also where clocks are changed at midnight', async () => {
  const moments = STARTS.flatMap((start) =>
    Array.from({ length: 150 }, (_, n) => start - HOUR + n * (HOUR / 4)),
  );
  for (const zone of ZONES) {
    const { rows } = await world.admin.query<{ day: number; frees: string }>(
      `select bulkhead.day_of(at, $2) as day, bulkhead.ms_to_end_of(bulkhead.day_of(at, $2), at, $2) as frees
         from unnest($1::timestamptz[]) with ordinality m (at, no) order by no`,
      [moments.map((at) => new Date(at).toISOString()), zone],
    );
    const found = rows.map(({ day, frees }, at) => [moments[at], day, Number(frees)]);
    const days = moments.map((at) => [at, localDay(at, zone), endOfDay(localDay(at, zone), zone) - at]);
    expect(found).toEqual(days);
  }
});
