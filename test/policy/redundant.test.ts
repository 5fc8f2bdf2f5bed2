import { compileProfile } from '../../policy/compile';
import { app, mistakesOf, profile } from './sample';

const rule = (id: string, rest: string): string => `{ id: ${id}, ${rest} }`;
const forbid = (rest: string): string => `effect: forbid${rest}`;
const mistakes = (...rules: string[]): string[] => {
  const result = compileProfile({ text: profile(rules), version: 1, ...app });
  return result.ok ? [] : result.mistakes.map(({ line, path, message }) => `${line} ${path}: ${message}`);
};
const adds = (line: number, index: number, id: string, on: number): string =>
  `${line} rules[${index}]: this rule adds nothing: the rule "${id}" on line ${on} says as much and more`;

/** What an earlier rule says, and what a later one of the same effect says that adds nothing to it. */
const covered: [string, string, string][] = [
  ['the same', forbid(''), forbid('')],
  ['a pattern', 'effect: allow, actions: ["ticket.*"]', 'effect: allow, actions: [ticket.read, "ticket.s*"]'],
  ['everything', forbid(''), forbid(', actions: [model.generate], agents: [finance_clerk]')],
  [
    'two patterns',
    forbid(', agents: ["support_*", "*clerk"]'),
    forbid(', agents: [finance_clerk, "support_s*"]'),
  ],
  ['a workspace of several', forbid(', workspaces: [main, second]'), forbid(', workspaces: [second]')],
  ['hosts', forbid(', destinations: ["*.example"]'), forbid(', destinations: ["*.OK.example", x.example]')],
  ['a host of every port', forbid(''), forbid(', destinations: ["http://x.example:8080"]')],
  ['more stars', forbid(', destinations: ["*a*"]'), forbid(', destinations: ["*a*b*", "**a"]')],
  [
    'more exceptions',
    forbid(', exceptDestinations: [a.example]'),
    forbid(', exceptDestinations: ["*.example", b.other]'),
  ],
  [
    'no exceptions',
    forbid(', dataClasses: [pii]'),
    forbid(', dataClasses: [pii], exceptDestinations: [a.example]'),
  ],
  ['fewer classes', forbid(', dataClasses: [pii, financial]'), forbid(', dataClasses: [financial]')],
  [
    'classes of an allow',
    'effect: allow, actions: ["*"], dataClasses: [pii, public]',
    'effect: allow, actions: [email.send], dataClasses: [public]',
  ],
  [
    'the same condition',
    forbid(', when: context.undo'),
    forbid(', when: " context.undo", unless: context.facts has vip'),
  ],
  [
    'a condition more',
    forbid(', actions: [web.fetch]'),
    forbid(', actions: [web.fetch], when: context.undo'),
  ],
  [
    'the same approvers, written otherwise',
    'effect: approve, actions: ["*"], approvers: { roles: [b, a], expiresAfter: 24h }',
    'effect: approve, actions: [email.send], approvers: { roles: [a, b], expiresAfter: 1d, notRequester: true }',
  ],
  [
    'suggestions',
    'effect: suggest, actions: ["*"]',
    'effect: suggest, actions: [email.send], when: context.undo',
  ],
];
test.each(covered)(
  'U3 a rule that an earlier one covers is refused, with its line: %s',
  (_, first, second) => {
    expect(mistakes(rule('a', first), rule('b', second))).toEqual([adds(7, 1, 'a', 6)]);
  },
);

const apart: [string, string, string][] = [
  ...covered
    .filter(([name]) => !name.startsWith('the same'))
    .map(([name, first, second]): [string, string, string] => [
      `the wider one second: ${name}`,
      second,
      first,
    ]),
  [
    'another way to a host that is allowed',
    'effect: allow, actions: [web.fetch]',
    'effect: allow, actions: [web.fetch], destinations: ["http://x.example:8080"]',
  ],
  ['another port', forbid(', destinations: ["*.example:80"]'), forbid(', destinations: ["x.example:81"]')],
  ['another effect', 'effect: allow, actions: ["*"]', 'effect: suggest, actions: ["*"]'],
  [
    'other approvers',
    'effect: approve, actions: ["*"], approvers: { roles: [a] }',
    'effect: approve, actions: ["*"], approvers: { roles: [a], expiresAfter: 1h }',
  ],
  [
    'roles more',
    'effect: approve, actions: ["*"], approvers: { roles: [a] }',
    'effect: approve, actions: ["*"], approvers: { roles: [a, b] }',
  ],
  [
    'suggestions for other people',
    'effect: suggest, actions: ["*"]',
    'effect: suggest, actions: ["*"], approvers: { roles: [lead] }',
  ],
  ['another condition', forbid(', when: context.undo'), forbid(', when: "!context.undo"')],
  ['the condition on the other side', forbid(', when: context.undo'), forbid(', unless: context.undo')],
  ['a host beside the pattern', forbid(', destinations: ["*.example"]'), forbid(', destinations: [example]')],
  ['a star where a letter is', forbid(', agents: ["support_s*"]'), forbid(', agents: ["support_*"]')],
  [
    'exceptions that are not',
    forbid(', exceptDestinations: ["*.a"]'),
    forbid(', exceptDestinations: ["*.b"]'),
  ],
  [
    'one agent beside',
    forbid(', agents: [support_senior]'),
    forbid(', agents: [support_senior, finance_clerk]'),
  ],
];
test.each(apart)('U3 a rule that says something of its own is accepted: %s', (_, first, second) => {
  expect(mistakes(rule('a', first), rule('b', second))).toEqual([]);
});

test('U3 the first rule that covers is named, and each that is covered is told', () => {
  expect(
    mistakes(
      rule('narrow', forbid(', actions: [web.fetch]')),
      rule('wide', forbid(', actions: ["*"]')),
      rule('again', forbid(', actions: [web.fetch], agents: [support_senior]')),
      rule('last', forbid(', actions: [email.send]')),
    ),
  ).toEqual([adds(8, 2, 'narrow', 6), adds(9, 3, 'wide', 7)]);
});

test('U3 a rule with another mistake is not compared, and neither hides the other mistakes', () => {
  const told = mistakesOf(
    profile([
      rule('a', forbid('')),
      rule('b', 'effect: forbid, agent: [x]'),
      rule('c', forbid(', agents: [nobody]')),
    ]),
  );
  expect(told.map(({ line, path }) => `${line} ${path}`)).toEqual([
    '7 rules[1].agent',
    '8 rules[2]',
    '8 rules[2].agents[0]',
  ]);
});
