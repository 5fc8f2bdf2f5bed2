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

const inner = z.object({ id: z.string() });
test.each<[string, z.ZodObject, string]>([
  ['an object in it', z.object({ order: inner }), 'args.order'],
  ['one in a list', z.object({ orders: z.array(inner) }), 'args.orders[]'],
  [
    'one that may be left out',
    z.object({ order: z.strictObject({ to: inner.nullable().default(null) }) }),
    'args.order.to',
  ],
  [
    'one of several',
    z.object({
      order: z.union([z.string(), z.discriminatedUnion('id', [z.object({ id: z.literal('a') })])]),
    }),
    'args.order',
  ],
  ['one in a record', z.object({ orders: z.record(z.string(), inner) }), 'args.orders{}'],
  ['one in a tuple', z.object({ orders: z.tuple([z.string()]).rest(inner) }), 'args.orders[]'],
  [
    'one behind a function',
    z.object({
      order: z.preprocess(
        (given) => given,
        z.lazy(() => inner),
      ),
    }),
    'args.order',
  ],
])(
  'T1 arguments of which %s drops fields that it does not know are a mistake, told at load',
  (_what, loose, where) => {
    expect(() => defineAction(spec({ args: loose }))).toThrow(`${where} drops fields that it does not know`);
  },
);

test('T1 arguments that refuse or take what they do not know are as their author wrote them, also one that holds itself', () => {
  interface Tree {
    kids: Tree[];
  }
  const tree: z.ZodType<Tree> = z.lazy(() => z.strictObject({ kids: z.array(tree) }));
  const strict = z.object({ tree, more: z.looseObject({}), all: z.array(z.strictObject({ n: z.int() })) });
  const { args } = defineAction(spec({ args: strict }));
  const given = { tree: { kids: [{ kids: [] }] }, more: { x: 1 }, all: [{ n: 1 }] };
  expect(args.parse(given)).toEqual(given);
  expect(args.safeParse({ ...given, all: [{ n: 1, dryRun: true }] }).success).toBe(false);
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
