import type * as registry from '../../activities/registry';
import { ZONES } from '../../activities/registry';
import { startModel, type TestModel } from '../support/model';
import { createTestStack, type TestStack } from '../support/stack';
import type * as activityFaults from './activity-faults';
import { faultsMet, forgetFaults, planFault, type ActivityFault } from './activity-faults';
import { ACTIVITY_ROWS } from './activity-rows';
import { app } from './app';
import { atMost, cleanSlate, readyBench, SCENARIOS, undoneWrites, type Bench } from './scenarios';
import { chaosScript } from './script';
import { startSystems, type ChaosSystems } from './systems';
import { witnessOf } from './witness';

jest.mock('../../activities/registry', () => {
  const actual = jest.requireActual<typeof registry>('../../activities/registry');
  const { withFaults } = jest.requireActual<typeof activityFaults>('./activity-faults');
  return {
    ...actual,
    laneActivities: (parts: never) => withFaults(actual.laneActivities(parts)),
    lifecycleActivities: (parts: never) => withFaults(actual.lifecycleActivities(parts)),
    controlActivities: (parts: never) => withFaults(actual.controlActivities(parts)),
  };
});

type Name = keyof typeof ZONES;
const ROWS = Object.entries(ACTIVITY_ROWS) as [Name, (typeof ACTIVITY_ROWS)[Name]][];
const OF_TENANTS = ROWS.filter(([, { scenario }]) => scenario !== 'sweep');
const OF_PLATFORM = ROWS.filter(([, { scenario }]) => scenario === 'sweep').map(([name]) => name);
const UNDO: readonly Name[] = ['beginUndo', 'undoCall', 'enterFollowUp', 'leaveFollowUp'];

let stack: TestStack;
let systems: ChaosSystems;
let model: TestModel;

beforeAll(async () => {
  [systems, model] = await Promise.all([startSystems(), startModel(chaosScript)]);
  stack = await createTestStack({
    app,
    bounds: { maxMisbehaviour: 1 },
    timing: { sweepEveryMs: 1_000 },
  });
}, 60_000);
afterAll(async () => {
  await stack.close();
  await Promise.all([systems.close(), model.close()]);
});

const benchOf = async (tenant: string): Promise<Bench> => {
  const bench = { stack, systems, model, tenant, witness: witnessOf(stack.database.adminUrl) };
  await readyBench(bench);
  return bench;
};
const beside = atMost(6);
const nameOf = (activity: string, fault: string): string => `${activity}-${fault}`.toLowerCase();

test('T3 every registered activity has a row, and every row an activity', () => {
  expect(Object.keys(ACTIVITY_ROWS).sort()).toEqual(Object.keys(ZONES).sort());
});

// Beside each other, each for a tenant of its own: what they wait for is mostly time.
describe.each<ActivityFault>(['repeat', 'before', 'after'])('%s', (fault) => {
  const under = new Map<Name, Promise<void>>();
  beforeAll(() => {
    for (const [activity, { scenario }] of OF_TENANTS) {
      const going = beside(async () => {
        const tenant = nameOf(activity, fault);
        const bench = await benchOf(tenant);
        planFault(tenant, activity, fault);
        const stopReason = await SCENARIOS[scenario](bench);
        await cleanSlate(bench, { reviews: scenario === 'kill' });
        if (scenario === 'failedRun') {
          expect(stopReason).toBe('model_misbehaved');
          expect(undoneWrites(bench)).toBe(2);
        }
        if (scenario === 'rollback') expect(undoneWrites(bench)).toBe(2);
        if (scenario === 'deadLetter')
          expect(systems.effects.filter((effect) => effect.tenant === tenant)).toHaveLength(1);
        expect(faultsMet(tenant, activity, fault)).toBeGreaterThan(0);
      });
      going.catch(() => undefined);
      under.set(activity, going);
    }
  });

  it.each(OF_TENANTS.map(([name]) => name))(
    'T3 %s: whatever it is part of comes out the same, and leaves nothing behind',
    async (activity) => {
      await under.get(activity);
    },
    150_000,
  );

  it('T3 the parts of the sweep, all at once: what it mends is mended, once', async () => {
    const bench = await benchOf(nameOf('sweep', fault));
    for (const activity of OF_PLATFORM) planFault('platform', activity, fault);
    try {
      await SCENARIOS.sweep(bench);
      await cleanSlate(bench, { reviews: true });
      for (const activity of OF_PLATFORM)
        expect([activity, faultsMet('platform', activity, fault) > 0]).toEqual([activity, true]);
    } finally {
      forgetFaults('platform');
    }
  }, 400_000);
});

const FOR_GOOD = ROWS.flatMap(([activity, { forGood }]) =>
  (['never', 'unheard'] as const).flatMap((fault) =>
    forGood ? [{ activity, fault, ends: forGood[fault] }] : [],
  ),
);

describe.each([
  { undo: 'undone once', repeated: [] as readonly Name[] },
  { undo: 'its undo repeated', repeated: UNDO },
])('a run whose activity fails for good, $undo', ({ repeated }) => {
  const under = new Map<string, Promise<void>>();
  const key = (activity: string, fault: string): string =>
    nameOf(activity, `${fault}${repeated.length > 0 ? '-twice' : ''}`);
  beforeAll(() => {
    for (const { activity, fault, ends } of FOR_GOOD) {
      const going = beside(async () => {
        const tenant = key(activity, fault);
        const bench = await benchOf(tenant);
        planFault(tenant, activity, fault);
        for (const other of repeated) if (other !== activity) planFault(tenant, other, 'repeat');
        expect(ends).toContain(await SCENARIOS.failedRun(bench));
        await cleanSlate(bench, { reviews: false });
        undoneWrites(bench);
        expect(faultsMet(tenant, activity, fault)).toBeGreaterThan(0);
      });
      going.catch(() => undefined);
      under.set(key(activity, fault), going);
    }
  });

  it.each(FOR_GOOD)(
    'T5 $activity, $fault: everything that happened is undone in reverse order, and nothing is left behind',
    async ({ activity, fault }) => {
      await under.get(key(activity, fault));
    },
    150_000,
  );
});
