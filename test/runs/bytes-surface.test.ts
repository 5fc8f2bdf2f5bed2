import { Client } from 'pg';
import type { Run } from '../../client/run';
import { MAX_STORED_BYTES } from '../../contracts/calls';
import { createCliWorld, type CliWorld } from '../cli/world';
import { bytesOf } from '../ledger/bytes';
import { plays, startModel, type Move, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';
import { call } from './desk';

/** Storage and memory, met through the public surface, shown, and raised by `bulkhead quota set` while a run waits. */

/** A limit that is raised is told to whoever waits for it at once; the bound is for a machine with no time. */
const SOON_MS = 5_000;
/** So much may a tool call store that declares nothing less: what a run begins with leaves too little beside it. */
const TOO_LITTLE = MAX_STORED_BYTES + 30;

let world: CliWorld;
let outside: Outside;
let model: TestModel;
let admin: Client;
const scripts = new Map<string, ReturnType<typeof plays>>();

const note = (text: string): Move => call(['note.write', { recordId: 'r1', text }]);

async function tenant(name: string, limits: string): Promise<void> {
  await readyTenant(world.stack, { name, keeper: outside.url, models: model.url, limits });
}

async function begin(name: string, ...moves: Move[]): Promise<Run> {
  const input = `input-${String(scripts.size).padStart(4, '0')}`;
  scripts.set(input, plays(...moves));
  return await world.stack.client.startRun({
    ...{ token: await world.stack.token(name), agent: 'test_worker', input },
    target: { system: 'keeper', recordId: 'r1' },
  });
}

const waitsFor = (run: Run, rule: string) =>
  until(
    `a run that waits for ${rule}`,
    async () => {
      const why = await run.explain();
      return why.waitsFor?.rule === rule ? why : undefined;
    },
    40_000,
  );

async function quotaSet(name: string, ...args: string[]): Promise<void> {
  expect(await world.run(['quota', 'set', name, ...args, '-o', 'json'])).toMatchObject({ code: 0, said: '' });
}

/** The line of a limit in `quota show`, by its columns. */
async function lineOf(name: string, limit: string): Promise<string[]> {
  const { out } = await world.run(['quota', 'show', name]);
  const line = out.split('\n').find((each) => each.includes(` ${limit} `));
  return line?.trim().split(/ +/) ?? [];
}

const books = async (name: string) =>
  await bytesOf(async (sql) => (await admin.query<object>(sql)).rows, name);

beforeAll(async () => {
  [world, outside, model] = await Promise.all([
    createCliWorld({ bounds: { maxWaitMs: 45_000 } }),
    startOutside('acct'),
    startModel(
      (seen) => scripts.get(seen.input.replace(/[^]*?(input-\d{4})[^]*/, '$1'))?.(seen) ?? { say: 'unknown' },
    ),
  ]);
  admin = new Client({ connectionString: world.stack.database.adminUrl });
  await admin.connect();
}, 120_000);

afterAll(async () => {
  await admin.end();
  await world.close();
  await Promise.all([outside.close(), model.close()]);
});

test('Q1 Q3 Q4 Q6 storageBytes: met, shown with its numbers, raised, and the run goes on at once', async () => {
  await tenant('stored', `{ storageBytes: ${TOO_LITTLE} }`);
  const run = await begin('stored', note('a'), note('b'));
  const why = await waitsFor(run, 'storage_bytes');
  const { counted, found } = await books('stored');
  expect(counted).toEqual({ ...found, reserved: 0 });
  expect(why).toMatchObject({
    state: 'throttled',
    stopReason: null,
    waitsFor: {
      ...{ kind: 'throttled', origin: 'tenant_cap', rule: 'storage_bytes' },
      ...{ value: TOO_LITTLE, used: counted.stored, retryAfterMs: 60_000 },
    },
  });
  expect(outside.effects.filter(({ bearer }) => bearer.includes('secret-stored-'))).toEqual([]);
  expect(await lineOf('stored', 'storageBytes')).toEqual([
    ...['tenant', 'storageBytes', `${TOO_LITTLE}`, `${counted.stored}`, '0'],
    ...[`${TOO_LITTLE - counted.stored}`, '-'],
  ]);

  const raised = Date.now();
  await quotaSet('stored', `storageBytes=${MAX_STORED_BYTES + 5_000}`);
  await until('a run that goes on', async () => (await run.state()) !== 'throttled');
  expect(Date.now() - raised).toBeLessThan(SOON_MS);
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({
    stopReason: 'completed',
    usage: { toolCalls: 2 },
  });
  expect(outside.effects.filter(({ bearer }) => bearer.includes('secret-stored-'))).toHaveLength(2);
  const after = await books('stored');
  expect(after.counted).toEqual({ ...after.found, reserved: 0 });
  expect(after.counted.stored).toBeGreaterThan(counted.stored);
}, 100_000);

test('Q1 Q3 Q4 a run whose input does not fit is refused, and accepted once there is room', async () => {
  await tenant('brimful', '{ storageBytes: 10 }');
  await expect(begin('brimful')).rejects.toMatchObject({
    code: 'refused',
    refusal: { kind: 'throttled', origin: 'tenant_cap', rule: 'storage_bytes', value: 10, used: 0 },
  });
  expect(await books('brimful')).toMatchObject({ counted: { stored: 0, reserved: 0 } });
  await quotaSet('brimful', 'storageBytes=2000000');
  const run = await begin('brimful');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
});

test('Q3 Q5 a call that may store more than the whole limit ends its run at once, and says so', async () => {
  await tenant('cramped', '{ storageBytes: 100000 }');
  const run = await begin('cramped', note('a'));
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'budget_exceeded' });
  const { lastRefusal } = await run.explain();
  expect(lastRefusal?.refusal).toMatchObject({ rule: 'storage_bytes', value: 100_000 });
  expect(lastRefusal?.refusal.message).toContain('may store more bytes than all that this tenant may have');
});

test('Q2 an answer of a model that is larger than what was reserved for it is discarded whole, and its run ends', async () => {
  await tenant('verbose', '{ storageBytes: 2000000 }');
  const run = await begin('verbose', { say: 'x'.repeat(40_000) });
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'provider_degraded' });
  const { counted, found } = await books('verbose');
  expect(counted).toEqual({ ...found, reserved: 0 });
  expect(counted.stored).toBeLessThan(1_000);
  expect(JSON.stringify(await world.stack.journal('verbose'))).toContain('result_size');
});

test('Q1 Q3 Q4 Q6 memoryBytes: met, shown with its numbers, raised, and what is kept then is found', async () => {
  await tenant('mindful', '{ memoryBytes: 20 }');
  const store = world.stack.store('mindful');
  const document = { documentId: 'd', title: 'refunds', text: 'how refunds are made' };
  expect(await store.putKnowledge({ ...document, text: 'five days' })).toEqual({ kind: 'kept' });
  expect(await store.putKnowledge(document)).toMatchObject({
    kind: 'refused',
    refusal: { kind: 'throttled', origin: 'tenant_cap', rule: 'memory_bytes', value: 20, used: 16 },
  });
  expect(await lineOf('mindful', 'memoryBytes')).toEqual([
    ...['tenant', 'memoryBytes', '20', '16', '-', '4', '-'],
  ]);
  await quotaSet('mindful', 'memoryBytes=27');
  expect(await store.putKnowledge(document)).toEqual({ kind: 'kept' });
  const run = await begin('mindful', call(['library.search', { query: 'refunds' }]));
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  expect(JSON.stringify(model.requests.at(-1)?.messages)).toContain('refunds');
  expect(await store.removeKnowledge('d')).toBe(true);
  expect(await lineOf('mindful', 'memoryBytes')).toEqual([
    ...['tenant', 'memoryBytes', '27', '0', '-', '27', '-'],
  ]);
});
