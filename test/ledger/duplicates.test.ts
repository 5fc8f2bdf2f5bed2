import { randomUUID } from 'node:crypto';
import { LedgerWorld } from './harness';

/** Sixty-four real connections, each a host of its own. */
const RACERS = 64;
const ROUNDS = Number(process.env['BULKHEAD_DUPLICATE_ROUNDS'] ?? 500);

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(RACERS);
});
afterAll(() => world.close());

test('T2 of 64 racers on one key one has the effect, 500 times; another tenant with the same key sees nothing of it', async () => {
  const tenant = await world.tenant();
  const other = await world.tenant();
  const name = `r-${randomUUID().slice(0, 8)}`;
  const [runId, foreign] = [await tenant.run(name), await other.run(name)];
  const before = await other.row();
  // The system outside: it counts every request, whatever key it carries.
  const effects = new Map<string, number>();
  const act = (key: string) => effects.set(key, (effects.get(key) ?? 0) + 1);
  const answers = new Map<string, number>();

  for (let round = 0; round < ROUNDS; round += 1) {
    const path = `${round}.1`;
    await Promise.all(
      Array.from({ length: RACERS }, async () => {
        const asked = tenant.admission(runId, path);
        const { answer } = await tenant.store.admit(asked);
        answers.set(answer, (answers.get(answer) ?? 0) + 1);
        if (answer !== 'admitted') return;
        act(path);
        await tenant.store.settle(tenant.settlement(asked));
      }),
    );
  }
  expect(effects.size).toBe(ROUNDS);
  expect([...effects.values()].every((times) => times === 1)).toBe(true);
  expect(answers.get('admitted')).toBe(ROUNDS);
  expect((answers.get('in_flight') ?? 0) + (answers.get('replayed') ?? 0)).toBe(ROUNDS * (RACERS - 1));
  expect((answers.get('in_flight') ?? 0) > 0).toBe(true);
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: ROUNDS });
  expect(await other.row()).toEqual(before);
  expect(await other.store.call(foreign, '0.1')).toBeUndefined();
  expect(await other.store.admit(other.admission(foreign, '0.1'))).toMatchObject({
    answer: 'admitted',
    attempt: 1,
  });
}, 400_000);
