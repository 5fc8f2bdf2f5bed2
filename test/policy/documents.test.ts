import { type Mistake, formatMistakes, parseDocuments } from '../../policy/documents';
import { checkDocuments } from '../../policy/compile';
import { app, compiled, mistakesOf, profile } from './sample';

const tenant = `apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: acme }
environments: { prod: { policyProfile: sample, quotaClass: gold } }
workspaces: [main]
connections: { helpdesk: "https://acme.helpdesk.example" }
`;
const quota = `apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: gold }
limits: { callsInFlight: 4 }
`;

/** `line:column path: message | remedy` of each. */
const said = (mistakes: readonly Mistake[]): string[] =>
  mistakes.map(
    ({ line, column, path, message, remedy }) => `${line}:${column} ${path}: ${message} | ${remedy}`,
  );
const wrong = (text: string): string[] => {
  const result = parseDocuments(text);
  if (result.ok) throw new Error('this was meant to have mistakes');
  return said(result.mistakes);
};

test('U3 a text of several documents is read, defaults filled in, each with its own part of the text', () => {
  const result = parseDocuments(
    `# the customer\n${tenant}---\n${quota}---\n# nothing here\n---\n${profile([])}`,
  );
  if (!result.ok) throw new Error(formatMistakes(result.mistakes, 'all.yaml'));
  expect(result.documents.map(({ kind, document }) => [kind, document.metadata.name])).toEqual([
    ['Tenant', 'acme'],
    ['QuotaClass', 'gold'],
    ['PolicyProfile', 'sample'],
  ]);
  expect(result.documents[1]?.document).toMatchObject({
    lane: 'own',
    limits: { callsInFlight: 4, toolCallsPerDay: 20_000 },
  });
  for (const { text, document } of result.documents) {
    expect(parseDocuments(text)).toMatchObject({ ok: true, documents: [{ document, text }] });
  }
});

test('U3 every mistake of every document is told at once, at its line and column, with a remedy', () => {
  const text = [
    'apiVersion: bulkhead/v2', // 1
    'kind: PolicyProfile',
    'metadata: { name: Sample, owner: me }',
    'environments: [prod, P]',
    'ruels: []', // 5
    'rules:',
    '  - { id: a, effect: alow, actions: [ticket.read] }',
    '  - { id: a, effect: forbid, agent: [x] }',
    '  - { id: c, effect: allow }',
    '---', // 10
    'kind: Tenant',
    'metadata: { name: acme }',
    'workspaces: main',
    '---',
    'kind: QuotaKlass', // 15
    '---',
    'kind: QuotaClass',
    'apiVersion: bulkhead/v1',
    'metadata: { name: gold }',
    'lane: fast', // 20
    'limits: { callsInFlight: 1.5 }',
  ].join('\n');
  expect(wrong(text)).toEqual([
    '1:13 apiVersion: the string "bulkhead/v2" cannot stand here | write bulkhead/v1',
    '3:19 metadata.name: a name is 1 to 64 of a-z, 0-9, _ and -, a letter first | correct it: docs/policies.md shows the form',
    '3:27 metadata.owner: there is no field "owner" here | remove it, or write one of name',
    '4:22 environments[1]: an environment is 2 to 16 of a-z, 0-9 and - | correct it: docs/policies.md shows the form',
    '5:1 ruels: there is no field "ruels" here | did you mean rules?',
    '7:22 rules[0].effect: the string "alow" cannot stand here | did you mean allow?',
    '8:11 rules[1].id: the rule id "a" is used twice | give each rule an id of its own: decisions name it',
    '8:30 rules[1].agent: there is no field "agent" here | did you mean agents?',
    '9:5 rules[2].actions: an allow rule names its actions | add `actions`; to allow every action, write actions: ["*"]',
    '11:1 apiVersion: apiVersion is missing | write bulkhead/v1',
    '11:1 environments: environments is missing | add it, as a mapping',
    '13:13 workspaces: this is the string "main" | write a list',
    '15:7 kind: there is no kind "QuotaKlass" | did you mean QuotaClass?',
    '20:7 lane: the string "fast" cannot stand here | write one of own, dedicated, shared',
    '21:26 limits.callsInFlight: this is the number "1.5" | write a whole number',
  ]);
});

test('T3 T4 T5 what a profile says of doubt, kill and read-back is read, and safe where it says nothing', () => {
  const silent = compiled(profile([]));
  expect([silent.onUnknownOutcome, silent.compensateOnKill, silent.readBackWaived('payment.refund')]).toEqual(
    ['stop', false, false],
  );
  const waiver = 'readBackWaived: [{ action: payment.refund, because: "shown only the day after" }]';
  const said = compiled(profile([], `onUnknownOutcome: review\nonKill: { compensate: true }\n${waiver}`));
  expect([said.onUnknownOutcome, said.compensateOnKill, said.readBackWaived('payment.refund')]).toEqual([
    'review',
    true,
    true,
  ]);
});

test('T4 a read-back is waived in words, for a high-risk write there is', () => {
  const told = (text: string): string[] =>
    mistakesOf(profile([], text)).map(({ path, message, remedy }) => `${path}: ${message} | ${remedy}`);
  expect(
    told(
      `readBackWaived:
  - { action: payment.refnd, because: "shown only the day after" }
  - { action: email.send, because: "shown only the day after" }`,
    ),
  ).toEqual([
    'readBackWaived[0].action: no high-risk write of this app is called "payment.refnd" | did you mean payment.refund?',
    'readBackWaived[1].action: no high-risk write of this app is called "email.send" | there is payment.refund',
  ]);
  expect(told('readBackWaived: [{ action: payment.refund, because: "   ok    " }]')).toEqual([
    'readBackWaived[0].because: this is no reason | say in words why no read-back is acceptable',
  ]);
  expect(told('onKill: { compensate: yes-please }\nonUnknownOutcome: wait')).toHaveLength(2);
});

test('U3 storage and memory are limited in whole bytes, and without a limit where nothing is said', () => {
  const limitsOf = (limits: string): unknown => {
    const result = parseDocuments(quota.replace('callsInFlight: 4', limits));
    if (!result.ok) throw new Error(formatMistakes(result.mistakes, 'sample.yaml'));
    const [first] = result.documents;
    return first?.kind === 'QuotaClass' ? first.document.limits : 'no class';
  };
  expect(limitsOf('storageBytes: 1, memoryBytes: 0')).toMatchObject({ storageBytes: 1, memoryBytes: 0 });
  expect(limitsOf('callsInFlight: 4')).not.toHaveProperty('storageBytes');
  expect(limitsOf('callsInFlight: 4')).not.toHaveProperty('memoryBytes');
  expect(() => limitsOf('storageBytes: 1.5')).toThrow('limits.storageBytes');
});

test('U3 N7 a guarantee is at most what limits let in, and shared capacity is a document of its own', () => {
  const guaranteed = (calls: number, limits = ''): string =>
    `apiVersion: bulkhead/v1\nkind: QuotaClass\nmetadata: { name: gold }\n${limits}guaranteed: { callsInFlight: ${calls} }\n`;
  const limits = 'limits: { callsInFlight: 3 }\n';
  expect(wrong(guaranteed(4, limits))).toEqual([
    '5:30 guaranteed.callsInFlight: 4 calls are guaranteed, and limits.callsInFlight lets in 3 | guarantee at most what limits.callsInFlight says, or raise that',
  ]);
  expect(wrong(guaranteed(9))).toHaveLength(1);
  expect(parseDocuments(guaranteed(3, limits))).toMatchObject({
    documents: [{ document: { guaranteed: { callsInFlight: 3 } } }],
  });
  expect(parseDocuments(quota)).toMatchObject({
    documents: [{ document: { guaranteed: { callsInFlight: 0 } } }],
  });
  const capacity = 'apiVersion: bulkhead/v1\nkind: CallCapacity\nmetadata: { name: main }\n';
  expect(parseDocuments(`${capacity}callsInFlight: 40\n---\n${tenant}capacity: main\n`)).toMatchObject({
    documents: [{ document: { callsInFlight: 40 } }, { document: { capacity: 'main' } }],
  });
  expect(wrong(capacity)).toEqual([expect.stringContaining('callsInFlight: callsInFlight is missing')]);
  expect(wrong(`${capacity}callsInFlight: -1\n`)).toHaveLength(1);
});

test('U3 retention is read with its defaults, and refused where it is none', () => {
  const retention = (text: string): unknown => {
    const result = parseDocuments(profile([], text));
    if (!result.ok) throw new Error(formatMistakes(result.mistakes, 'sample.yaml'));
    const [first] = result.documents;
    return first?.kind === 'PolicyProfile' ? first.document.retention : 'no profile';
  };
  expect(retention('')).toBeUndefined();
  expect(retention('retention: { journalDays: 400 }')).toEqual({ journalDays: 400, redact: [] });
  expect(
    retention('retention: { payloadDays: 30, memoryDays: 90, journalDays: 400, redact: [email, token] }'),
  ).toEqual({ payloadDays: 30, memoryDays: 90, journalDays: 400, redact: ['email', 'token'] });
  const bad = 'retention: { payloadDays: 0, memoryDays: 1.5, journalDays: "400", redact: [E-Mail], days: 3 }';
  expect(wrong(profile([], bad)).map((line) => line.split(' | ')[0])).toEqual([
    expect.stringMatching(/^6:27 retention.payloadDays: Too small/),
    '6:42 retention.memoryDays: this is the number "1.5"',
    '6:60 retention.journalDays: this is the string "400"',
    '6:76 retention.redact[0]: what is redacted is 1 to 40 of a-z, 0-9 and _',
    '6:85 retention.days: there is no field "days" here',
  ]);
});

test.each<[string, string, string]>([
  ['nothing', '', '1:1 : there is no document in this text'],
  ['only comments', '# hello\n---\n# again\n', '1:1 : there is no document in this text'],
  ['a list', '- a\n', '1:1 : a document is a mapping'],
  ['no kind', 'apiVersion: bulkhead/v1\n', '1:1 kind: kind is missing'],
  ['an unknown kind', 'kind: Policy\n', '1:7 kind: there is no kind "Policy"'],
  ['a kind that every object has', 'kind: constructor\n', '1:7 kind: there is no kind "constructor"'],
  ['a kind that is no text', 'kind: [a]\n', '1:7 kind: there is no kind'],
  ['a key twice', `${tenant}workspaces: [a]\n`, '7:1 : this key is written twice in one mapping'],
  ['an alias', `${tenant.replace('[main]', '&w [main]')}scope: *w\n`, '7:8 : aliases are not supported'],
  ['an alias of nothing', `${tenant}scope: *w\n`, '7:8 : '],
  ['a tag', `${tenant}models: !js/function "x"\n`, '7:9 : '],
  ['a binary', `${tenant}models: !!binary aGk=\n`, '7:'],
  ['a merge', `${tenant}"<<": { a: b }\n`, '7:1 ["<<"]: there is no field'],
  ['__proto__', `${tenant}__proto__: { kind: QuotaClass }\n`, '7:1 __proto__: there is no field'],
  ['a key that is a list', `${tenant}? [a]\n: b\n`, '7:3 : a key is a plain word'],
  ['YAML 1.1', `%YAML 1.1\n---\n${tenant}`, ': documents are YAML 1.2'],
  ['a tab', 'kind:\n\t- a\n', '2:1 : '],
  ['an open quote', 'kind: "Tenant\n', ': '],
  ['an open bracket', 'kind: [Tenant\n', ': '],
  [
    'the same tenant twice',
    `${tenant}---\n${tenant}`,
    '10:19 metadata.name: there are two documents of kind Tenant with this name',
  ],
  [
    'credentials in a connection',
    tenant.replace('https://', 'https://user:pw@'),
    '6:26 connections.helpdesk: a connection holds no credentials',
  ],
  [
    'a password alone in a connection',
    tenant.replace('https://', 'https://:pw@'),
    '6:26 connections.helpdesk: a connection holds no credentials',
  ],
  [
    'a query in a connection',
    tenant.replace('.example', '.example/v1?key=x'),
    '6:26 connections.helpdesk: a connection has no query and no fragment',
  ],
  [
    'a fragment in a connection',
    tenant.replace('.example', '.example/v1#x'),
    '6:26 connections.helpdesk: a connection has no query and no fragment',
  ],
  [
    'a connection that is no URL',
    tenant.replace('https://acme', 'acme'),
    '6:26 connections.helpdesk: Invalid URL',
  ],
])('U3 refused: %s', (_, text, expected) => {
  expect(wrong(text).join('\n')).toContain(expected);
});

test('U3 a broken document does not hide the mistakes of the others', () => {
  expect(wrong(`kind: [\n---\n${quota}lane: fast\n`).some((line) => line.includes('lane'))).toBe(true);
});

test('U3 checkDocuments checks profiles against the app as well, at the lines of the whole text', () => {
  const text = `${tenant}---\n${profile(['{ id: a, effect: allow, actions: [ticket.raed], when: context.args.x == }'])}\nlane: own`;
  const result = checkDocuments(text, app);
  expect(said(result.ok ? [] : result.mistakes)).toEqual([
    '13:39 rules[0].actions[0]: no action of this app matches "ticket.raed" | did you mean ticket.read?',
    expect.stringMatching(/^13:59 rules\[0\]\.when: not a Cedar expression: unexpected token/),
    '15:1 lane: there is no field "lane" here | remove it, or write one of apiVersion, kind, metadata, environments, rules, models, secrets, onUnknownOutcome, onKill, readBackWaived, retention',
  ]);
  expect(checkDocuments(`${tenant}---\n${profile([])}`, app)).toMatchObject({
    ok: true,
    documents: [{ kind: 'Tenant' }, { kind: 'PolicyProfile' }],
  });
});

test('U3 mistakes for a terminal: file, line, column, path, remedy, and no control characters of the document', () => {
  const escape = String.fromCharCode(27);
  const text = formatMistakes(
    mistakesOf(profile([], `"x\\e[31m\\u202e\\x9b": 1\n${'k'.repeat(1_000)}: 2`)),
    'acme.yaml',
  );
  expect(text.split('\n')[0]).toBe(
    'acme.yaml:6:1  ["x\\u{1b}[31m\\u{202e}\\u{9b}"]: there is no field "x\\u{1b}[31m\\u{202e}\\u{9b}" here',
  );
  expect(text).toMatch(/2 mistakes$/);
  expect(text).not.toContain(escape);
  expect(text.length).toBeLessThan(1_000);
});

test('U3 a report is cut at a hundred mistakes and says how many more there are', () => {
  const mistakes = mistakesOf(
    profile(Array.from({ length: 150 }, (_, index) => `{ id: r${index}, effect: maybe, actions: ["*"] }`)),
  );
  expect(mistakes).toHaveLength(101);
  expect(mistakes.at(-1)?.message).toBe('50 more mistakes are not shown');
});
