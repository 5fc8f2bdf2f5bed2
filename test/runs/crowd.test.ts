import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../support/until';
import { gate, LimitsGround, note } from './limits-ground';

/** A crowd that waits for one place among the calls in flight, on real Temporal; what it does is counted at the system outside. */

const CROWD = 24;
const WATCHED_MS = 8_000;

let ground: LimitsGround;
beforeAll(async () => {
  ground = await LimitsGround.open();
}, 120_000);
afterAll(() => ground.close());

test('N6 Q1 a crowd that waits for one place takes few attempts of Temporal, and each of its writes is made once, one at a time', async () => {
  const { outside, world } = ground;
  await ground.tenant('crowded', { limits: '{ callsInFlight: 1 }', ceiling: CROWD + 1 });
  const hold = gate();
  const holder = await ground.begin('crowded', [], hold.held);
  await until(
    'a call in flight',
    async () => (await ground.layerOf('crowded', '', 'callsInFlight')).used === 1,
  );
  const runs = await Promise.all(
    Array.from({ length: CROWD }, (_, index) => ground.begin('crowded', [note(`n${index}`)])),
  );
  /** Attempts so far of the call that each run waits with. */
  const attempts = async (): Promise<number[]> =>
    await Promise.all(
      runs.map(async ({ workflowId }) => {
        const { raw } = await world.stack.temporal.workflow.getHandle(workflowId).describe();
        return Math.max(0, ...(raw.pendingActivities ?? []).map(({ attempt }) => attempt ?? 0));
      }),
    );
  const sum = (of: readonly number[]): number => of.reduce((total, each) => total + each, 0);
  await until('all of them waiting in place', async () => Math.min(...(await attempts())) >= 2, 30_000);
  const before = sum(await attempts());
  await sleep(WATCHED_MS);
  const looks = sum(await attempts()) - before;
  // Each by itself would have looked twice a second: some 380 times. In turns it is ten a second.
  expect(looks).toBeGreaterThan(30);
  expect(looks).toBeLessThan(160);
  expect(outside.effects).toEqual([]);

  hold.open();
  const ended = await Promise.all([holder, ...runs].map((run) => run.result({ timeoutMs: 60_000 })));
  expect(new Set(ended.map(({ stopReason }) => stopReason))).toEqual(new Set(['completed']));
  const texts = outside.effects.map(({ body }) => (body as { text: string }).text);
  expect([...texts].sort()).toEqual(runs.map((_, index) => `n${index}`).sort());
  expect(outside.mostAtOnce).toBe(1);
}, 150_000);
