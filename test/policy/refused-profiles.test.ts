import { compileProfile } from '../../policy/compile';
import { app, mistakesOf, profile } from './sample';

const refund = (rest: string): string => `{ id: r, effect: forbid, actions: [payment.refund], ${rest} }`;
const every = (rest: string): string => `{ id: r, effect: forbid, ${rest} }`;
const text = (expression: string): string => JSON.stringify(expression);

/** Rule, expected place within the document, expected words. */
const cases: [string, string, string][] = [
  // names
  [
    '{ id: r, effect: allow, actions: [ticket.delete] }',
    'rules[0].actions[0]',
    'no action of this app matches "ticket.delete"',
  ],
  [
    '{ id: r, effect: allow, actions: ["tickets.*"] }',
    'rules[0].actions[0]',
    'no action of this app matches',
  ],
  [
    '{ id: r, effect: allow, actions: [model.generate] }',
    'rules[0].actions[0]',
    'an allow rule cannot name model calls',
  ],
  [
    '{ id: r, effect: allow, actions: ["model.*"] }',
    'rules[0].actions[0]',
    'an allow rule cannot name model calls',
  ],
  ['{ id: r, effect: allow, actions: [] }', 'rules[0].actions', 'an empty list matches nothing'],
  [
    '{ id: r, effect: allow, actions: ["*"], agents: [] }',
    'rules[0].agents',
    'an empty list matches nothing',
  ],
  [
    '{ id: r, effect: allow, actions: ["*"], agents: [nobody] }',
    'rules[0].agents[0]',
    'no agent of this app matches "nobody"',
  ],
  [
    '{ id: r, effect: allow, actions: ["*"], agents: ["suport_*"] }',
    'rules[0].agents[0]',
    'no agent of this app matches',
  ],
  ['{ id: r, effect: allow, actions: ["*"], agents: ["a+"] }', 'rules[0].agents[0]', 'an agent pattern is'],
  [
    '{ id: r, effect: allow, actions: ["*"], agents: ["*********"] }',
    'rules[0].agents[0]',
    'at most 8 stars',
  ],
  [
    '{ id: r, effect: allow, actions: ["*"], workspaces: [] }',
    'rules[0].workspaces',
    'an empty list matches nothing',
  ],
  [
    '{ id: r, effect: allow, actions: ["*"], workspaces: ["m*"] }',
    'rules[0].workspaces[0]',
    'a workspace id is',
  ],
  ['{ id: default-deny, effect: forbid }', 'rules[0].id', 'decisions use this id themselves'],
  ['{ id: approval_denied, effect: forbid }', 'rules[0].id', 'decisions use this id themselves'],
  ['{ id: review_abandoned, effect: forbid }', 'rules[0].id', 'decisions use this id themselves'],
  ['{ id: "a b", effect: forbid }', 'rules[0].id', 'a rule id is'],
  [`{ id: ${'x'.repeat(10_000)}, effect: forbid }`, 'rules[0].id', 'a rule id is'],
  // hosts
  [every('destinations: ["ftp://x.example"]'), 'rules[0].destinations[0]', 'a destination is a host'],
  [every('destinations: ["x.example:65536"]'), 'rules[0].destinations[0]', 'a destination is a host'],
  [every('destinations: ["x.example/"]'), 'rules[0].destinations[0]', 'a destination is a host'],
  [every('destinations: ["münchen.example"]'), 'rules[0].destinations[0]', 'a destination is a host'],
  [every('destinations: ["127.1"]'), 'rules[0].destinations[0]', 'it would never match'],
  [every('destinations: ["x.example."]'), 'rules[0].destinations[0]', 'it would never match'],
  [every('destinations: [""]'), 'rules[0].destinations[0]', 'a destination is a host'],
  // expressions: form
  [refund('when: ""'), 'rules[0].when', 'Too small'],
  [refund('when: true'), 'rules[0].when', 'write a Cedar expression'],
  [refund('when: "context.args.amountCents <"'), 'rules[0].when', 'not a Cedar expression'],
  [
    refund(`when: ${text('true }; permit(principal, action, resource) when { true')}`),
    'rules[0].when',
    'not a Cedar expression',
  ],
  [refund(`when: ${text('true } unless { false')}`), 'rules[0].when', 'more than one expression'],
  [refund(`unless: ${text('true } when { true')}`), 'rules[0].unless', 'more than one expression'],
  [refund(`when: ${text('true // };')}\n    , unless: "'"`), 'rules[0].unless', 'not a Cedar expression'],
  [refund('when: "principal == ?principal"'), 'rules[0].when', 'not a Cedar expression'],
  [
    refund('when: context.args.amountCents > 9007199254740993'),
    'rules[0].when',
    'beyond what can be compared exactly',
  ],
  [refund(`when: ${text('x'.repeat(2_001))}`), 'rules[0].when', 'Too big'],
  // expressions: names and types
  [refund('when: context.args.amount > 5'), 'rules[0].when', 'there is no context.args.amount'],
  [
    refund('when: context.args has amount && context.args.amount > 5'),
    'rules[0].when',
    'there is no context.args.amount',
  ],
  [refund('when: context has args.amount'), 'rules[0].when', 'there is no context.args.amount'],
  [refund('when: context.facts has complience'), 'rules[0].when', 'there is no context.facts.complience'],
  [refund('unless: context has destinaton'), 'rules[0].unless', 'there is no context.destinaton'],
  [refund('when: principal.tenant == "acme"'), 'rules[0].when', 'there is no principal.tenant'],
  [refund('when: resource.id == "main"'), 'rules[0].when', 'type error'],
  [refund('when: context.model == "x"'), 'rules[0].when', 'there is no context.model'],
  [
    refund('when: context.args.amountCents == "5"'),
    'rules[0].when',
    'type error: the types Long and String are not compatible',
  ],
  [refund('when: context.args.amountCents'), 'rules[0].when', 'type error: unexpected type: expected Bool'],
  [
    refund('when: context.facts.compliance == "passed"'),
    'rules[0].when',
    'unable to guarantee safety of access to optional attribute',
  ],
  [
    refund('when: context.destination == "x"'),
    'rules[0].when',
    'unable to guarantee safety of access to optional attribute',
  ],
  [
    refund('when: context.facts has odds'),
    'rules[0].when',
    'rules cannot read context.facts.odds: it may be a fraction',
  ],
  [refund('when: principal == Tenant::"acme"'), 'rules[0].when', 'unrecognized entity type'],
  [
    refund('when: (if true then context.args else context.args) has amount'),
    'rules[0].when',
    'by its full path',
  ],
  [refund('when: "false"'), 'rules[0].when', 'can never apply'],
  [refund('unless: "true"'), 'rules[0].unless', 'can never apply'],
  [refund('when: "true", unless: "true"'), 'rules[0]', 'can never apply'],
  [
    every('when: context.args.amountCents > 5'),
    'rules[0].when',
    'not found (for ticket.read, ticket.search, ticket.update, …)',
  ],
  [every('when: context.args has amuontCents'), 'rules[0].when', 'there is no context.args.amuontCents'],
  [
    every('when: context.args has fraction'),
    'rules[0].when',
    'rules cannot read context.args.fraction: it may be a fraction; make it a whole number (z.int()) (for odd.shapes)',
  ],
  ...[
    ['either == 1', 'either: it has more than one type'],
    ['maybe == ""', 'maybe: it has more than one type'],
    ['free == {}', 'free: its fields have no fixed names'],
    ['nested.deep.f > 1', 'nested.deep.f: it may be a fraction'],
    ['__entity == ""', '__entity: its name begins with __'],
    ['nested == context.args.nested', 'nested cannot be compared as a whole'],
  ].map(([when, words]): [string, string, string] => [
    `{ id: r, effect: forbid, actions: [odd.shapes], when: ${text(`context.args.${when}`)} }`,
    'rules[0].when',
    words ?? '',
  ]),
];

const titled = cases.map(([rule, ...rest]): [string, string, string, string] => [
  rule.slice(0, 120),
  rule,
  ...rest,
]);
test.each(titled)('U3 a profile is refused, at the right place: %s', (_, rule, path, words) => {
  const mistakes = mistakesOf(profile([rule]));
  expect(mistakes).toEqual([
    expect.objectContaining({
      line: expect.any(Number) as number,
      path,
      message: expect.stringContaining(words) as string,
    }),
  ]);
  expect(mistakes[0]?.line).toBe(rule.includes('\n') ? 7 : 6);
  expect(mistakes[0]?.remedy).not.toBe('');
});

test.each<[string, string, string, string]>([
  [
    'a capability that nothing needs',
    'secrets: [{ capability: "payments:refnd", agents: ["*"] }]',
    'secrets[0].capability',
    'did you mean payments:refund?',
  ],
  [
    'an agent that does not exist',
    'secrets: [{ capability: "mail:send", agents: [suport_triage] }]',
    'secrets[0].agents[0]',
    'did you mean support_triage?',
  ],
  [
    'a capability for nobody',
    'secrets: [{ capability: "mail:send", agents: [] }]',
    'secrets[0].agents',
    'name the agents that may use it',
  ],
  [
    'a capability without agents',
    'secrets: [{ capability: "mail:send" }]',
    'secrets[0].agents',
    'add it, as a list',
  ],
  [
    'a capability with a star',
    'secrets: [{ capability: "mail:*", agents: ["*"] }]',
    'secrets[0].capability',
    'docs/policies.md',
  ],
  [
    'a model with a space',
    'models: { allow: [{ model: "open ai/*" }] }',
    'models.allow[0].model',
    'docs/policies.md',
  ],
  ['a document after it', `---\n${profile([]).replace('sample', 'other')}`, '', 'give it alone'],
])('U3 a profile is refused: %s', (_, rest, path, remedy) => {
  expect(mistakesOf(profile([], rest))).toEqual([
    expect.objectContaining({ path, remedy: expect.stringContaining(remedy) as string }),
  ]);
});

test('U3 another kind of document is no policy', () => {
  const quota = 'apiVersion: bulkhead/v1\nkind: QuotaClass\nmetadata: { name: gold }\n';
  expect(compileProfile({ text: quota, version: 1, ...app })).toMatchObject({
    ok: false,
    mistakes: [{ remedy: 'give it alone' }],
  });
});

test('U3 a wide rule may ask whether an argument is there, and then reads it where it is', () => {
  const rule = every('when: context.args has amountCents && context.args.amountCents > 5');
  expect(compileProfile({ text: profile([rule]), version: 1, ...app }).ok).toBe(true);
});
