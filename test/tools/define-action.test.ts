import { z } from 'zod';
import type { ActionSpec } from '../../contracts/action';
import { defineAction } from '../../tools/define-action';

const spec = (more: Partial<ActionSpec>): ActionSpec => ({
  name: 'thing.do',
  description: 'Does it.',
  effect: 'write',
  args: z.object({}),
  result: z.object({}),
  system: 'keeper',
  timeout: '1s',
  run: () => Promise.resolve({}),
  ...more,
});
const compensate = () => Promise.resolve();
const reconcile = () => Promise.resolve('absent' as const);

test.each<[string, Partial<ActionSpec>, RegExp]>([
  ['a final action with a way back', { compensate }, /final action is never undone/],
  ['the same, said in words', { compensate, reversible: 'final' }, /final action is never undone/],
  ['a compensable action without one', { reversible: 'compensable' }, /declares `compensate`/],
  ['a read with one', { effect: 'read', compensate }, /nothing to compensate/],
  ['a time to show, and no look-up', { visibleWithin: '5s' }, /declare `reconcile`/],
  ['a day and more until it shows', { visibleWithin: '2d', reconcile }, /at most 24h/],
])('T3 T5 %s is a mistake, told at load', (_what, more, message) => {
  expect(() => defineAction(spec(more))).toThrow(message);
});

test('T3 T5 what an action says of look-up and undo is kept, and says nothing where it is silent', () => {
  expect(defineAction(spec({}))).toMatchObject({ reversible: 'final', visibleWithinMs: null });
  expect(defineAction(spec({ reconcile, visibleWithin: '5s' })).visibleWithinMs).toBe(5_000);
  expect(defineAction(spec({ reversible: 'reversible', compensate })).reversible).toBe('reversible');
});

const args = z.object({ text: z.string() });
test.each<[string, Partial<ActionSpec>, RegExp]>([
  [
    'a class for an argument that there is not',
    { args, dataClasses: { txt: ['pii'] } },
    /txt, which is no argument/,
  ],
  [
    'a name that only an object has by itself',
    { args, dataClasses: { toString: ['pii'] } },
    /toString, which is no/,
  ],
  [
    'a class of an argument in capitals',
    { args, dataClasses: { text: ['PII'] } },
    /"PII" is no name of a data class/,
  ],
  ['a class of the result with a blank', { resultClasses: ['per son'] }, /"per son" is no name/],
  ['a class without a name', { resultClasses: [''] }, /"" is no name/],
  ['a class of forty-one letters', { resultClasses: ['a'.repeat(41)] }, /at most 40/],
])('P3 %s is a mistake, told at load', (_what, more, message) => {
  expect(() => defineAction(spec(more))).toThrow(message);
});

test('P3 classes of arguments and of the result are kept, each once; none where nothing is said', () => {
  expect(defineAction(spec({}))).toMatchObject({ dataClasses: {}, resultClasses: [] });
  const classed = spec({
    args,
    dataClasses: { text: ['pii'] },
    resultClasses: ['pii', 'pii', 'a_1'],
  });
  expect(defineAction(classed)).toMatchObject({
    dataClasses: { text: ['pii'] },
    resultClasses: ['pii', 'a_1'],
  });
});

test.each(['db__drop.now', 'db_.drop', 'db.drop__now', 'db.drop_.now'])(
  'T1 %s is refused as a name: a model would know it by the name of another action',
  (name) => {
    expect(() => defineAction(spec({ name }))).toThrow(/no "__" in a name, and no "_" before a dot/);
  },
);

test('T1 a name with single underscores is kept', () => {
  for (const name of ['db_x.drop_it.now', 'db.drop_']) expect(defineAction(spec({ name })).name).toBe(name);
});

test('S1 a secret is for the tenant’s own system: beside a destination out of arguments it is refused', () => {
  const destination = () => 'https://elsewhere.example/';
  expect(() => defineAction(spec({ secret: 'keeper:write', destination }))).toThrow(
    /action thing.do: an argument says where it goes.* leave out `secret`, or `destination`/,
  );
  expect(defineAction(spec({ destination })).secret).toBeNull();
});
