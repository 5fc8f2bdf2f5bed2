import { mistakesOf, profile } from './sample';

const of = (effect: string, rest: string): string =>
  `{ id: r, effect: ${effect}, actions: [payment.refund]${rest} }`;
const every = (rest: string): string => `{ id: r, effect: forbid, ${rest} }`;
const text = (expression: string): string => JSON.stringify(expression);

/** Of what a rule asks of people, and of the data that a call carries: rule, expected place, expected words. */
const cases: [string, string, string][] = [
  [
    '{ id: r, effect: approve, approvers: { roles: [x] } }',
    'rules[0].actions',
    'an approve rule names its actions',
  ],
  ['{ id: r, effect: suggest }', 'rules[0].actions', 'a suggest rule names its actions'],
  [of('approve', ''), 'rules[0].approvers', 'an approve rule names who may approve'],
  [
    of('allow', ', approvers: { roles: [x] }'),
    'rules[0].approvers',
    'only an approve or suggest rule has approvers',
  ],
  [
    of('forbid', ', approvers: { roles: [x] }'),
    'rules[0].approvers',
    'only an approve or suggest rule has approvers',
  ],
  [of('approve', ', approvers: { roles: [] }'), 'rules[0].approvers.roles', 'an empty list matches nothing'],
  [of('approve', ', approvers: {}'), 'rules[0].approvers.roles', 'roles is missing'],
  [of('approve', ', approvers: [x]'), 'rules[0].approvers', 'this is a list'],
  [of('approve', ', approvers: { roles: [X] }'), 'rules[0].approvers.roles[0]', 'a role is 1 to 64'],
  [of('suggest', ', approvers: { roles: [x], role: y }'), 'rules[0].approvers.role', 'there is no field'],
  ...['10', '1 h', '-1h', '1.5h', '1w'].map((after): [string, string, string] => [
    of('approve', `, approvers: { roles: [x], expiresAfter: "${after}" }`),
    'rules[0].approvers.expiresAfter',
    'a duration is a number and one of',
  ]),
  ...['0s', '999ms', '31d', '999999999d'].map((after): [string, string, string] => [
    of('approve', `, approvers: { roles: [x], expiresAfter: ${after} }`),
    'rules[0].approvers.expiresAfter',
    'an approval expires after 1s to 30d',
  ]),
  [
    of('approve', ', approvers: { roles: [x], notRequester: 1 }'),
    'rules[0].approvers.notRequester',
    'this is the number "1"',
  ],
  ['{ id: r, effect: suggest, actions: [ticket.read] }', 'rules[0].actions', 'a read cannot be suggested'],
  [
    '{ id: r, effect: suggest, actions: ["ticket.s*", web.fetch] }',
    'rules[0].actions',
    'a read cannot be suggested',
  ],
  [
    '{ id: r, effect: suggest, actions: [model.generate] }',
    'rules[0].actions[0]',
    'a suggest rule cannot name model calls',
  ],
  [
    '{ id: r, effect: approve, actions: ["model.*"], approvers: { roles: [x] } }',
    'rules[0].actions[0]',
    'an approve rule cannot name model calls',
  ],
  [of('allow', ', exceptDestinations: [x.example]'), 'rules[0].exceptDestinations', 'only a forbid rule has'],
  [
    of('suggest', ', exceptDestinations: [x.example]'),
    'rules[0].exceptDestinations',
    'only a forbid rule has',
  ],
  [every('exceptDestinations: []'), 'rules[0].exceptDestinations', 'an empty list matches nothing'],
  [every('exceptDestinations: ["127.1"]'), 'rules[0].exceptDestinations[0]', 'it would never match'],
  [every('dataClasses: []'), 'rules[0].dataClasses', 'an empty list matches nothing'],
  [every('dataClasses: pii'), 'rules[0].dataClasses', 'this is the string "pii"'],
  [every('dataClasses: [Pii]'), 'rules[0].dataClasses[0]', 'a data class is 1 to 40'],
  [
    every('dataClasses: [public, pi]'),
    'rules[0].dataClasses[1]',
    'no action of this app declares the data class "pi"',
  ],
  ...[
    'context.dataClasses.contains("pi")',
    '["pii", "pi"].containsAll(context.dataClasses)',
    'context.undo && context.dataClasses.containsAny(["financial", "pi"])',
    'context.dataClasses == ["pi"]',
  ].map((when): [string, string, string] => [
    every(`when: ${text(when)}`),
    'rules[0].when',
    'no action of this app declares the data class "pi"',
  ]),
  [every('when: context.dataClasses == "pii"'), 'rules[0].when', 'type error'],
];
test.each(cases)('U3 a profile is refused, at the right place: %s', (rule, path, words) => {
  const mistakes = mistakesOf(profile([rule]));
  expect(mistakes).toEqual([
    expect.objectContaining({ line: 6, path, message: expect.stringContaining(words) as string }),
  ]);
  expect(mistakes[0]?.remedy).not.toBe('');
});

test('U3 a data class of a model entry that no action declares is refused, with what was most likely meant', () => {
  const models =
    'models: { allow: [{ model: "*", dataClasses: [internal] }, { model: x, dataClasses: [finacial] }] }';
  expect(mistakesOf(profile([], models))).toEqual([
    expect.objectContaining({ path: 'models.allow[1].dataClasses[0]', remedy: 'did you mean financial?' }),
  ]);
});

test('U3 the mistakes of one rule are told together, those of form with those of names', () => {
  const rule =
    '{ id: r, effect: approve, dataClasses: [pi], exceptDestinations: [x.example], approver: { roles: [x] }, agents: [nobody] }';
  expect(mistakesOf(profile([rule])).map(({ path }) => path)).toEqual([
    'rules[0].actions',
    'rules[0].approvers',
    'rules[0].dataClasses[0]',
    'rules[0].exceptDestinations',
    'rules[0].approver',
    'rules[0].agents[0]',
  ]);
});
