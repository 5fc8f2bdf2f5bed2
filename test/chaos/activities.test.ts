import { ZONES } from '../../activities/registry';
import { startModel, type TestModel } from '../support/model';
import { createTestStack, type TestStack } from '../support/stack';
import { activityFaults, faultsMet, forgetFaults, planFault, type ActivityFault } from './activity-faults';
import { ACTIVITY_ROWS } from './activity-rows';
import { app } from './app';
import { atMost, cleanSlate, readyBench, SCENARIOS, undoneWrites, type Bench } from './scenarios';
import { chaosScript } from './script';
import { startSystems, type ChaosSystems } from './systems';
import { witnessOf } from './witness';

type Name = keyof typeof ZONES;
const ROWS = Object.entries(ACTIVITY_ROWS) as [Name, (typeof ACTIVITY_ROWS)[Name]][];
const OF_TENANTS = ROWS.filter(([, { scenario }]) => scenario !== 'sweep');
const OF_PLATFORM = ROWS.filter(([, { scenario }]) => scenario === 'sweep').map(([name]) => name);
const ONCE: readonly ActivityFault[] = ['repeat', 'before', 'after'];
const FOR_GOOD = ROWS.flatMap(([activity, { forGood: endings }]) =>
  (['never', 'unheard'] as const).flatMap((fault) =>
    endings ? [{ activity, fault, ends: endings[fault] }] : [],
  ),
);
const UNDO: readonly Name[] = ['beginUndo', 'undoCall', 'enterFollowUp', 'leaveFollowUp'];
const UNDONE: readonly { undo: string; repeated: readonly Name[] }[] = [
  { undo: 'undone once', repeated: [] },
  { undo: 'its undo repeated', repeated: UNDO },
];
const nameOf = (activity: string, fault: string): string => `${activity}-${fault}`.toLowerCase();
const forGoodName = (activity: string, fault: string, repeated: readonly Name[]): string =>
  nameOf(activity, `${fault}${repeated.length > 0 ? '-twice' : ''}`);

let stack: TestStack;
let systems: ChaosSystems;
let model: TestModel;

// All at once, each for a tenant of its own, so many beside each other: what they wait for is mostly time.
const beside = atMost(8);
const going = new Map<string, Promise<void>>();
beforeAll(async () => {
  [systems, model] = await Promise.all([startSystems(), startModel(chaosScript)]);
  stack = await createTestStack({
    app,
    bounds: { maxMisbehaviour: 1 },
    timing: { sweepEveryMs: 1_000 },
    activityInterceptors: [activityFaults],
  });
  // There is one sweep for all tenants, so its faults come one after the other.
  const oneByOne = atMost(1);
  for (const fault of ONCE) {
    for (const [activity] of OF_TENANTS)
      begin(
        nameOf(activity, fault),
        beside(() => once(activity, fault)),
      );
    begin(
      nameOf('sweep', fault),
      oneByOne(() => swept(fault)),
    );
  }
  for (const { repeated } of UNDONE)
    for (const { activity, fault, ends } of FOR_GOOD)
      begin(
        forGoodName(activity, fault, repeated),
        beside(() => forGood(activity, fault, repeated, ends)),
      );
}, 60_000);
afterAll(async () => {
  await stack.close();
  await Promise.all([systems.close(), model.close()]);
});

/** The case goes on from here; its test waits for it. */
function begin(name: string, done: Promise<void>): void {
  done.catch(() => undefined);
  going.set(name, done);
}

const benchOf = async (tenant: string): Promise<Bench> => {
  const bench = { stack, systems, model, tenant, witness: witnessOf(stack.database.adminUrl) };
  await readyBench(bench);
  return bench;
};

async function once(activity: Name, fault: ActivityFault): Promise<void> {
  const { scenario } = ACTIVITY_ROWS[activity];
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
}

async function swept(fault: ActivityFault): Promise<void> {
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
}

async function forGood(
  activity: Name,
  fault: ActivityFault,
  repeated: readonly Name[],
  ends: readonly string[],
): Promise<void> {
  const tenant = forGoodName(activity, fault, repeated);
  const bench = await benchOf(tenant);
  planFault(tenant, activity, fault);
  for (const other of repeated) if (other !== activity) planFault(tenant, other, 'repeat');
  expect(ends).toContain(await SCENARIOS.failedRun(bench));
  await cleanSlate(bench, { reviews: false });
  undoneWrites(bench);
  expect(faultsMet(tenant, activity, fault)).toBeGreaterThan(0);
}

test('T3 every registered activity has a row, and every row an activity', () => {
  expect(Object.keys(ACTIVITY_ROWS).sort()).toEqual(Object.keys(ZONES).sort());
});

describe.each(ONCE)('%s', (fault) => {
  it.each(OF_TENANTS.map(([name]) => name))(
    'T3 %s: whatever it is part of comes out the same, and leaves nothing behind',
    async (activity) => {
      await going.get(nameOf(activity, fault));
    },
    300_000,
  );

  it('T3 the parts of the sweep, all at once: what it mends is mended, once', async () => {
    await going.get(nameOf('sweep', fault));
  }, 300_000);
});

describe.each(UNDONE)('a run whose activity fails for good, $undo', ({ repeated }) => {
  it.each(FOR_GOOD)(
    'T5 $activity, $fault: everything that happened is undone in reverse order, and nothing is left behind',
    async ({ activity, fault }) => {
      await going.get(forGoodName(activity, fault, repeated));
    },
    300_000,
  );
});
