import type { Run } from '../../client/run';
import { createCliWorld, type CliWorld } from '../cli/world';
import { plays, startModel, type Move, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { tenantYaml, readyTenant } from '../support/tenants';
import { until } from '../support/until';
import { on } from './desk';

/** Guarantee and burst through the public surface: documents by the command line, runs, and systems outside that count. */

const CAPACITY = 4;
const CALL_MS = 800;
/** Divisions, waits in place of half a second, and a machine with no time. */
const MARGIN_MS = 4_000;
const WIDE = '{ callsInFlight: 40, concurrentRuns: 40 }';
const RULE = 'shared_capacity/main/calls_in_flight';

let world: CliWorld;
let outside: Outside;
let model: TestModel;

const capacityYaml = (name: string, callsInFlight: number): string => `
apiVersion: bulkhead/v1
kind: CallCapacity
metadata: { name: ${name} }
callsInFlight: ${callsInFlight}
`;
/** By the command line, as an operator does it. */
async function create(text: string) {
  return await world.run(['tenant', 'create', '-f', world.file('documents.yaml', text)]);
}
async function tenant(name: string, capacity: string, guaranteed: number, limits = WIDE): Promise<void> {
  const parts = { name, keeper: outside.url, models: `${model.url}/v1`, limits, capacity, guaranteed };
  await readyTenant(world.stack, parts);
}
const begin = async (name: string): Promise<Run> =>
  await world.stack.client.startRun({
    ...{ token: await world.stack.token(name), agent: 'test_worker', input: 'go' },
    target: { system: 'keeper', recordId: 'r1' },
  });
const capacityOf = async (name: string) =>
  (await world.stack.client.quotas({ token: await world.stack.token(name) })).capacity;
const factsOf = async (name: string) =>
  (await world.stack.journal(name)).map(
    ({ facts }) =>
      JSON.parse(facts) as { kind: string; at: string; origin?: string; rule?: string; inflight?: number },
  );

let stuck: Run;
beforeAll(async () => {
  const script: Move[] = [on('record.read'), on('record.read')];
  [world, outside, model] = await Promise.all([
    createCliWorld({ bounds: { maxWaitMs: 120_000 } }),
    startOutside('acct'),
    startModel(plays(...script)),
  ]);
  expect(await create(`${capacityYaml('main', CAPACITY)}---${capacityYaml('none', 0)}`)).toMatchObject({
    code: 0,
    out: expect.stringMatching(/CallCapacity +main +saved\s+CallCapacity +none +saved/),
  });
  await tenant('stuck', 'none', 3);
  stuck = await begin('stuck');
}, 120_000);
afterAll(async () => {
  await world.close();
  await Promise.all([outside.close(), model.close()]);
});

test('N7 Q4 idle capacity is used above a guarantee, is back within one call’s length, and systems outside never see more than the capacity', async () => {
  await tenant('busy', 'main', 1);
  await tenant('owner', 'main', 2);
  outside.faults.delayMs = CALL_MS;
  model.delayMs = CALL_MS / 4;
  let most = 0;
  const watch = setInterval(() => {
    const asked = [...model.underWay.values()].reduce((sum, n) => sum + n, 0);
    most = Math.max(most, asked + outside.underWay());
  }, 5);
  let over = false;
  const flood = Array.from({ length: 10 }, async () => {
    const ends: string[] = [];
    while (!over) ends.push((await (await begin('busy')).result({ timeoutMs: 90_000 })).stopReason ?? '-');
    return ends;
  });
  try {
    await until('idle capacity is used', () => Promise.resolve(most >= CAPACITY), 60_000);
    await until('a refusal', async () => (await factsOf('busy')).some(({ rule }) => rule === RULE), 60_000);
    const runs = await Promise.all(Array.from({ length: 6 }, () => begin('owner')));
    const waiting = await until(
      'a refusal that a run explains',
      async () => {
        const all = await Promise.all(runs.map((run) => run.explain()));
        return all.find(({ lastRefusal }) => lastRefusal?.refusal.rule === RULE);
      },
      40_000,
    );
    expect(waiting.lastRefusal?.refusal).toMatchObject({ kind: 'throttled', origin: 'platform' });
    const results = await Promise.all(runs.map((run) => run.result({ timeoutMs: 90_000 })));
    over = true;
    // The flood never ebbed until all of them were served.
    expect(results.map(({ stopReason }) => stopReason)).toEqual(runs.map(() => 'completed'));
    expect(new Set((await Promise.all(flood)).flat())).toEqual(new Set(['completed']));
  } finally {
    over = true;
    await Promise.allSettled(flood);
    clearInterval(watch);
    outside.faults = {};
    model.delayMs = 0;
  }
  expect(most).toBe(CAPACITY);
  expect(outside.mostAtOnce).toBeLessThanOrEqual(CAPACITY);
  const facts = await factsOf('owner');
  const [asked] = facts.filter(({ kind }) => kind === 'refused' || kind === 'admitted');
  const back = facts.find(({ kind, inflight = 0 }) => kind === 'admitted' && inflight >= 2);
  const tookMs = Date.parse(back?.at ?? '') - Date.parse(asked?.at ?? '');
  expect(tookMs).toBeLessThan(CALL_MS + MARGIN_MS);
  for (const name of ['busy', 'owner']) {
    const refused = (await factsOf(name)).filter(({ kind }) => kind === 'refused');
    expect(refused.filter(({ origin, rule }) => origin !== 'platform' || rule !== RULE)).toEqual([]);
  }
}, 240_000);

test('N7 Q3 Q4 a run that waits long for shared capacity is throttled, says by whom and by what, and goes on when there is some', async () => {
  const rule = 'shared_capacity/none/calls_in_flight';
  // Waits in place come first: half a minute of them.
  const why = await until(
    'a run that is throttled',
    async () => {
      const explained = await stuck.explain();
      return explained.waitsFor?.rule === rule ? explained : undefined;
    },
    110_000,
  );
  expect(why).toMatchObject({
    ...{ state: 'throttled', stopReason: null },
    waitsFor: { kind: 'throttled', origin: 'platform', rule, value: 0, used: 0, retryAfterMs: 500 },
  });
  expect(await capacityOf('stuck')).toEqual({
    ...{ name: 'none', callsInFlight: 0, share: 0, used: 0, promised: 3, guaranteed: 0 },
  });
  const told = await world.run(['run', 'explain', stuck.runId, '--tenant', 'stuck']);
  expect(told.out).toContain(rule);
  const shown = await world.run(['quota', 'show', 'stuck']);
  expect(shown.out).toMatch(/capacity:none +callsInFlight +0 +0 +0 +0/);
  expect(shown.out).toMatch(/capacity:none +guaranteed +0 +0 +0 +0/);
  expect(shown.said).toContain('shared capacity none carries 0 calls at a time');
  expect(shown.said).toContain('3 calls are guaranteed and 0 can be kept');
  expect(await create(capacityYaml('none', 5))).toMatchObject({ code: 0 });
  expect(await stuck.result({ timeoutMs: 90_000 })).toMatchObject({ stopReason: 'completed' });
  expect(await capacityOf('stuck')).toMatchObject({ callsInFlight: 5, promised: 3, guaranteed: 3 });
}, 240_000);

test('N7 U3 documents: a guarantee above the tenant’s own limit, an unknown capacity, and a field that is none are told', async () => {
  const quota = `apiVersion: bulkhead/v1\nkind: QuotaClass\nmetadata: { name: greedy }\nlimits: { callsInFlight: 4 }\n`;
  const greedy = await create(`${quota}guaranteed: { callsInFlight: 5 }\n`);
  expect(greedy.code).not.toBe(0);
  expect(greedy.said).toContain('5 calls are guaranteed, and limits.callsInFlight lets in 4');
  const nowhere = await create(
    tenantYaml({ name: 'lost', keeper: outside.url, models: model.url, capacity: 'nowhere' }).replace(
      /---\n\napiVersion: bulkhead\/v1\nkind: PolicyProfile[^]*?---/,
      '---',
    ),
  );
  expect(nowhere.code).not.toBe(0);
  expect(nowhere.said).toContain('there is no shared capacity nowhere: apply its document first');
  const share = await create(`${capacityYaml('main', 4)}share: 3\n`);
  expect(share.said).toContain('there is no field "share" here');
});
