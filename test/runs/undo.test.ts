import { commandControl } from '../../client/control';
import type { TenantId } from '../../contracts/ids';
import { until } from '../support/until';
import { call, failing, idOf, on, openDesk, type Desk } from './desk';

let desk: Desk;

beforeAll(async () => {
  desk = await openDesk();
  await desk.tenant('acme');
});
beforeEach(() => {
  desk.outside.faults = {};
});
afterAll(() => desk.close());

const order = (times = 1) =>
  call(...Array.from({ length: times }, (): [string, unknown] => ['order.place', { recordId: 'r1' }]));
type Effects = Desk['outside']['effects'];
const ofOperation = (effects: Effects, operation: string): Effects =>
  effects.filter((effect) => effect.operation === operation);
const cancelled = (effects: Effects): number[] =>
  ofOperation(effects, 'POST /orders/cancel').map(({ body }) => (body as { effect: number }).effect);

test('T5 a failed run whose agent asks for it is undone in reverse order, each write once, with a key of its own', async () => {
  const first = desk.outside.effects.length + 1;
  const { run, result, effects } = await desk.play(
    'acme',
    [order(2), on('tag.set'), call(['note.write', { recordId: 'r1', text: 'final' }]), order(), ...failing],
    'test_undoer',
  );
  expect(result.stopReason).toBe('model_misbehaved');
  // The tag needs no undoing, the note is final: both are left.
  expect(cancelled(effects)).toEqual([first + 4, first + 1, first]);
  expect(new Set(effects.map(({ key }) => key)).size).toBe(8);
  expect(await desk.followUps('acme', run)).toMatchObject([
    { kind: 'undo', reason: 'failed', state: 'done', outcome: { undone: 3, left: 2, abandoned: 0 } },
  ]);
  expect((await desk.journalOf('acme', run, '0.1/undo')).map(({ kind }) => kind)).toEqual([
    'admitted',
    'settled',
  ]);
  const refs = (await desk.stack.store('acme').conversation(idOf(run))).map(({ ref }) => ref);
  expect(refs.filter((ref) => ref.includes('undo'))).toEqual([]);
});

test('T5 a failed run whose agent does not ask keeps its writes, until an operator rolls it back, and then once', async () => {
  const { run, result, effects } = await desk.play('acme', [order(), ...failing]);
  expect(result.stopReason).toBe('model_misbehaved');
  expect(cancelled(effects)).toEqual([]);
  const before = desk.outside.effects.length;
  const ordered = await run.rollback({ note: 'not wanted' });
  expect(await ordered.result({ timeoutMs: 40_000 })).toMatchObject({ outcome: { undone: 1 } });
  expect(cancelled(desk.outside.effects.slice(before))).toHaveLength(1);
  expect(await desk.stack.store('acme').orderUndo({ runId: idOf(run), actor: 'x', note: 'again' })).toEqual({
    kind: 'nothing',
  });
  expect(cancelled(desk.outside.effects.slice(before))).toHaveLength(1);
});

test('T5 an undo whose answer is lost is sent again under its key: undone once', async () => {
  let moves = 0;
  const { result, effects, asked } = await desk.play(
    'acme',
    () => {
      moves += 1;
      if (moves === 1) return order();
      if (moves === 4) desk.outside.faults = { dropAfterApply: 2 };
      return call(['vault.open', {}]);
    },
    'test_undoer',
  );
  expect(result.stopReason).toBe('model_misbehaved');
  expect(cancelled(effects)).toHaveLength(1);
  expect(asked.filter((line) => line.endsWith('/cancel')).length).toBe(2);
});

test('T5 an undo that is refused is reviewed, never dropped: tried again when a person says so', async () => {
  desk.outside.faults = { cancelStatus: 422 };
  const run = await desk.begin('acme', [order(), ...failing], 'test_undoer');
  const review = await desk.openReview('acme', run.runId);
  expect(review).toMatchObject({ kind: 'undo_failed', path: '0.1/undo', refusal: { rule: 'http_422' } });
  expect((await desk.stack.store('acme').run(idOf(run)))?.state).not.toBe('closed');
  const before = desk.outside.effects.length;
  desk.outside.faults = {};
  await desk.resolve('acme', run, review, 'did_not_happen');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'model_misbehaved' });
  expect(cancelled(desk.outside.effects.slice(before))).toHaveLength(1);
});

test('T5 an undo that nobody answers uses up its attempts, is reviewed, and may be done by hand', async () => {
  desk.outside.faults = { cancelStatus: 429 };
  const run = await desk.begin('acme', [order(), ...failing], 'test_undoer');
  const review = await desk.openReview('acme', run.runId);
  expect(review).toMatchObject({ kind: 'undo_failed', refusal: { rule: 'attempts_exhausted' } });
  desk.outside.faults = {};
  await desk.resolve('acme', run, review, 'happened', { by: 'hand' });
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'model_misbehaved' });
  expect(await desk.followUps('acme', run)).toMatchObject([
    { outcome: { undone: 1, left: 0, abandoned: 0 } },
  ]);
});

test('T5 P9 an undo is judged like any call: a rule may forbid it, and then a person gives it up', async () => {
  await desk.tenant('strict', {
    rules: `  - { id: all, effect: allow, actions: ["*"] }
  - { id: no-way-back, effect: forbid, actions: [order.place], when: context.undo }`,
  });
  const before = desk.outside.effects.length;
  const run = await desk.begin('strict', [order(), ...failing], 'test_undoer');
  const review = await desk.openReview('strict', run.runId);
  expect(review).toMatchObject({ kind: 'undo_failed', refusal: { kind: 'denied', rule: 'no-way-back' } });
  await desk.resolve('strict', run, review, 'abandon');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'model_misbehaved' });
  expect(desk.outside.effects.slice(before)).toHaveLength(1);
  expect(await desk.followUps('strict', run)).toMatchObject([
    { outcome: { undone: 0, left: 0, abandoned: 1 } },
  ]);
});

test('T5 what is not known to have happened is resolved first, and undone then with the result that a person gave', async () => {
  desk.outside.faults = { dropAfterApply: 1 };
  const before = desk.outside.effects.length;
  const run = await desk.begin('acme', [on('deal.make')], 'test_undoer');
  const review = await desk.openReview('acme', run.runId);
  expect(review).toMatchObject({ kind: 'outcome_unknown', path: '0.1' });
  // Asked to undo it, the run waits: nothing is undone that may not have happened.
  await desk.waitsForReview(run);
  const effect = before + 1;
  expect(desk.outside.effects.length).toBe(effect);
  await desk.resolve('acme', run, review, 'happened', { id: 'r1', account: 'acct', effect });
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'outcome_unknown' });
  expect(
    ofOperation(desk.outside.effects.slice(before), 'POST /deals/cancel').map(({ body }) => body),
  ).toEqual([{ recordId: 'r1', effect }]);
});

test('T5 what did not happen is not undone', async () => {
  desk.outside.faults = { dropBeforeApply: 1 };
  const before = desk.outside.effects.length;
  const run = await desk.begin('acme', [on('deal.make')], 'test_undoer');
  const review = await desk.openReview('acme', run.runId);
  await desk.waitsForReview(run);
  await desk.resolve('acme', run, review, 'did_not_happen');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'outcome_unknown' });
  expect(desk.outside.effects.slice(before)).toEqual([]);
});

test.each([
  ['undoes what the killed run had done', 'killing', 'onKill: { compensate: true }', 1],
  ['leaves it where the policy does not order it', 'sparing', '', 0],
])('T5 O1 a kill %s', async (_what, tenant, policy, undone) => {
  await desk.tenant(tenant, { policy });
  const before = desk.outside.effects.length;
  const run = await desk.begin(tenant, ({ moves }) => (moves === 0 ? order() : on('record.read')));
  await until('a write', () => Promise.resolve(desk.outside.effects.length > before));
  desk.outside.faults = { delayMs: 200 };
  await commandControl(desk.stack.temporal, tenant as TenantId, desk.stack.environment, {
    op: 'kill',
    scope: { kind: 'tenant' },
    reason: 'test',
    actor: 'test',
  });
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'killed' });
  if (undone > 0) {
    await until(
      'the undo is done',
      async () => (await desk.followUps(tenant, run))[0]?.state === 'done',
      40_000,
    );
  } else expect(await desk.followUps(tenant, run)).toEqual([]);
  expect(cancelled(desk.outside.effects.slice(before))).toHaveLength(undone);
});
