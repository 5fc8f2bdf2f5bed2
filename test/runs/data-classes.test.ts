import type { Run } from '../../client/run';
import { call, idOf, openDesk, type Desk } from './desk';

let desk: Desk;
let partner: string;
beforeAll(async () => {
  desk = await openDesk();
  // Another host than the keeper's.
  partner = desk.outside.url.replace('127.0.0.1', 'localhost');
});
beforeEach(() => {
  desk.outside.faults = {};
});
afterAll(() => desk.close());

const read = (action: string) => call([action, { recordId: 'r1' }]);
const tell = (text: string, more: object = {}) => call(['partner.tell', { recordId: 'r1', text, ...more }]);
const told = (effects: readonly { operation: string; body: unknown }[]): string[] =>
  effects
    .filter(({ operation }) => operation === 'POST /tell')
    .map(({ body }) => (body as { text: string }).text);
const refusedRules = async (tenant: string, run: Run): Promise<string[]> =>
  (await desk.stack.refusals(tenant, run.runId)).map(({ refusal }) => refusal.rule);

/** Everything allowed, and what this rule says of it. */
const beside = (rule: string): string => `  - { id: all, effect: allow, actions: ["*"] }\n  - ${rule}`;
const stays = (except: string): string =>
  beside(`{ id: pii-stays, effect: forbid, dataClasses: [pii], exceptDestinations: ["${except}"] }`);

test('P3 a run that has read personal data may send nothing to an outside host; one that has not may', async () => {
  await desk.tenant('acme', { rules: stays('127.0.0.1'), connections: { partner } });
  const clean = await desk.play('acme', [read('record.read'), tell('clean')]);
  expect(told(clean.effects)).toEqual(['clean']);
  const tainted = await desk.play('acme', [
    read('person.read'),
    tell('about a person'),
    call(['note.write', { recordId: 'r1', text: 'inside' }]),
  ]);
  expect(tainted.result.stopReason).toBe('completed');
  expect(tainted.effects.map(({ operation }) => operation)).toEqual(['POST /notes']);
  expect(await refusedRules('acme', tainted.run)).toEqual(['pii-stays']);
});

test('P3 what was read earlier in the very same step counts, and so does what a forked run copied', async () => {
  await desk.tenant('globex', { rules: stays('127.0.0.1'), connections: { partner } });
  const both = call(
    ['person.read', { recordId: 'r1' }],
    ['partner.tell', { recordId: 'r1', text: 'same step' }],
  );
  const { run, effects } = await desk.play('globex', [both, read('record.read')]);
  expect(told(effects)).toEqual([]);
  const mark = desk.outside.effects.length;
  desk.model.script = ({ moves }) => (moves === 1 ? tell('forked') : { say: 'done' });
  const token = await desk.stack.token('globex');
  const fork = await desk.stack.client.forkRun({ token, runId: run.runId, fromStep: 1 });
  await fork.result({ timeoutMs: 40_000 });
  expect(told(desk.outside.effects.slice(mark))).toEqual([]);
  expect(await refusedRules('globex', fork)).toEqual(['pii-stays']);
});

test('P3 an argument carries its class only where it is there', async () => {
  await desk.tenant('initech', {
    rules: beside('{ id: no-amounts, effect: forbid, actions: [partner.tell], dataClasses: [financial] }'),
    connections: { partner },
  });
  const { run, effects } = await desk.play('initech', [tell('with', { amountCents: 5 }), tell('without')]);
  expect(told(effects)).toEqual(['without']);
  expect(await refusedRules('initech', run)).toEqual(['no-amounts']);
});

test('P3 a result that was refused brings no class, and one that a look-up found does', async () => {
  await desk.tenant('hooli', {});
  const { run } = await desk.play('hooli', [
    call(['person.read', { recordId: 'nobody' }]),
    read('record.read'),
  ]);
  const classesOf = async (of: Run) =>
    (await desk.stack.store('hooli').callContext({ runId: idOf(of), records: [], capability: null }))
      ?.dataClasses;
  expect(await classesOf(run)).toEqual([]);
  desk.outside.faults = { dropAfterApply: 1 };
  const found = await desk.play('hooli', [read('sealed.write')]);
  expect(found.effects).toHaveLength(1);
  expect(await classesOf(found.run)).toEqual(['financial']);
});

test('P5 a model that is not for what the run has read is not called, and the run ends as policy_denied', async () => {
  await desk.tenant('strict', { modelRules: '[{ model: "models/*", dataClasses: [public, internal] }]' });
  const asked = desk.model.requests.length;
  const { run, result } = await desk.play('strict', [
    call(['library.search', { query: 'refund' }]),
    read('person.read'),
    { say: 'never asked' },
  ]);
  expect(result).toMatchObject({ stopReason: 'policy_denied', usage: { toolCalls: 2 } });
  expect(desk.model.requests.length - asked).toBe(2);
  expect((await desk.stack.refusals('strict', run.runId)).at(-1)?.refusal).toMatchObject({
    kind: 'denied',
    origin: 'policy',
  });
});
