import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseCases, runCases } from '../../policy/cases';
import { formatMistakes } from '../../policy/documents';
import { app, compiled, profile } from './sample';

const ground = { ...app, profile: 'sample', environments: ['prod', 'staging'] };

/** A case file around its cases, in YAML flow. */
const file = (cases: string[], given = ''): string =>
  [
    'apiVersion: bulkhead/v1',
    'kind: PolicyCases',
    'profile: sample',
    `given: { agent: support_triage, connections: { helpdesk: a.helpdesk.example, payments: pay.example }${given} }`,
    'cases:',
    ...cases.map((one) => `  - ${one}`),
  ].join('\n');
const read =
  '{ name: a read, action: ticket.read, args: { ticketId: t }, expect: { outcome: allow, rules: [read] } }';

const parsed = (text: string) => {
  const result = parseCases(text, ground);
  if (!result.ok) throw new Error(formatMistakes(result.mistakes, 'cases.yaml'));
  return result.cases;
};
const mistakes = (text: string): string[] => {
  const result = parseCases(text, ground);
  if (result.ok) throw new Error('this was meant to have mistakes');
  return result.mistakes.map(({ line, path, message, remedy }) => `${line} ${path}: ${message} | ${remedy}`);
};

describe('P12 a case becomes the question that the gateway would put', () => {
  test('P12 what a case leaves out is the action’s, the agent’s, given for the file, or ordinary', () => {
    const [one] = parsed(file([read]));
    expect(one).toMatchObject({ name: 'a read', line: 6 });
    expect(one?.question).toEqual({
      agentId: 'support_triage',
      agentClass: 'support',
      workspaceId: 'main',
      environment: 'prod',
      principal: { kind: 'user', subject: 'somebody' },
      target: null,
      action: 'ticket.read',
      effect: 'read',
      reversible: 'none',
      undo: false,
      system: 'helpdesk',
      destination: 'a.helpdesk.example',
      endpoint: { scheme: 'https', port: 443, connection: true },
      model: null,
      args: { ticketId: 't' },
      facts: {},
      dataClasses: [],
    });
  });

  test('P12 what a case says itself comes before what is given', () => {
    const [one] = parsed(
      file(
        [
          `{ name: n, agent: finance_clerk, action: payment.refund, args: { paymentId: p, amountCents: 5 }, workspace: second, environment: staging,
              destination: 'http://other.example:8080', facts: { vip: true, score: 3 }, requester: { kind: schedule, subject: night }, target: { system: payments, recordId: p },
              expect: { outcome: deny, rules: [default-deny] } }`,
        ],
        ', workspace: third, requester: { kind: service, subject: s }',
      ),
    );
    expect(one?.question).toMatchObject({
      agentId: 'finance_clerk',
      agentClass: 'finance',
      workspaceId: 'second',
      environment: 'staging',
      principal: { kind: 'schedule', subject: 'night' },
      target: { system: 'payments', recordId: 'p' },
      effect: 'high_risk_write',
      reversible: 'final',
      destination: 'other.example',
      endpoint: { scheme: 'http', port: 8_080, connection: true },
      facts: { vip: true, score: 3 },
    });
  });

  test('P3 P12 a call carries the classes of its arguments and those that its run has read', () => {
    const classed = new Map(app.actions);
    const refund = app.actions.get('payment.refund');
    if (!refund) throw new Error('the sample has no refund');
    classed.set('payment.refund', { ...refund, dataClasses: { amountCents: ['financial', 'internal'] } });
    const result = parseCases(
      file([
        '{ name: n, action: payment.refund, args: { paymentId: p, amountCents: 5 }, dataClasses: [public, internal], expect: { outcome: deny, rules: [default-deny] } }',
      ]),
      { ...ground, actions: classed },
    );
    expect(result.ok && result.cases[0]?.question.dataClasses).toEqual(['financial', 'internal', 'public']);
  });

  test('P12 defaults of the arguments are filled in, as for a call', () => {
    const args =
      '{ fraction: 1.5, either: a, maybe: null, free: {}, nested: { deep: { n: 1, f: 1 } }, matrix: [] }';
    const [one] = parsed(
      file([`{ name: n, action: odd.shapes, args: ${args}, expect: { outcome: deny, rules: [x] } }`]),
    );
    expect(one?.question.args).toMatchObject({ defaulted: 3, fraction: 1.5 });
  });

  test('P2 P12 a destination comes out of the arguments where the action says so, as it is compared', () => {
    const web = app.actions.get('web.fetch');
    if (!web) throw new Error('the sample fetches nothing');
    const byUrl = { ...web, destination: (args: unknown) => (args as { url: string }).url };
    const ask =
      '{ name: w, action: web.fetch, args: { url: "http://Page.Example:81/x" }, expect: { outcome: deny, rules: [x] } }';
    const result = parseCases(file([ask]), { ...ground, actions: new Map([['web.fetch', byUrl]]) });
    expect(result.ok && result.cases[0]?.question).toMatchObject({
      destination: 'page.example',
      endpoint: { scheme: 'http', port: 81, connection: false },
    });
  });

  test('P1 P12 a model call is the agent’s own, and an agent that the app does not have yet can be asked about', () => {
    const [model, other] = parsed(
      file([
        '{ name: m, action: model.generate, destination: models.example, expect: { outcome: deny, rules: [x] } }',
        '{ name: o, action: model.generate, agent: newcomer, agentClass: night_shift, model: local/tiny, destination: models.example, expect: { outcome: deny, rules: [x] } }',
      ]),
    );
    expect(model?.question).toMatchObject({ effect: 'model', model: 'openai/gpt-small', system: 'openai' });
    expect(other?.question).toMatchObject({
      agentId: 'newcomer',
      agentClass: 'night_shift',
      model: 'local/tiny',
    });
  });
});

describe('U3 P12 mistakes in case files are told all at once, each with its line and what to do', () => {
  const expect_ = 'expect: { outcome: allow, rules: [read] }';
  test.each<[string, string, RegExp]>([
    [
      'another profile',
      file([read]).replace('profile: sample', 'profile: other'),
      /^3 profile: these cases are about the profile other, and the policy is sample/,
    ],
    ['no cases', file([]).replace('cases:', 'cases: []'), /there is no case in it/],
    [
      'an unknown field',
      file([read.replace('args:', 'arsg:')]),
      /^6 cases\[0\]\.arsg: there is no field "arsg" here \| did you mean args\?/,
    ],
    [
      'an unknown action',
      file([`{ name: n, action: ticket.raed, ${expect_} }`]),
      /no action "ticket.raed" \| did you mean ticket.read\?/,
    ],
    [
      'an unknown agent',
      file([`{ name: n, agent: support_triag, action: ticket.read, args: { ticketId: t }, ${expect_} }`]),
      /no agent "support_triag" \| did you mean support_triage\?; for one that the app does not have yet/,
    ],
    [
      'another class than the agent’s',
      file([`{ name: n, agentClass: finance, action: ticket.read, args: { ticketId: t }, ${expect_} }`]),
      /support_triage is of class support/,
    ],
    [
      'arguments out of the schema',
      file([`{ name: n, action: payment.refund, args: { paymentId: p, amountCents: 1.5 }, ${expect_} }`]),
      /^6 cases\[0\]\.args\.amountCents/,
    ],
    [
      'a fact that nothing sets',
      file([`{ name: n, action: ticket.read, args: { ticketId: t }, facts: { vib: true }, ${expect_} }`]),
      /sets the fact "vib" \| did you mean vip\?/,
    ],
    [
      'a class that nothing declares',
      file([`{ name: n, action: ticket.read, args: { ticketId: t }, dataClasses: [pii_x], ${expect_} }`]),
      /data class "pii_x"/,
    ],
    [
      'a destination that nobody knows',
      file([`{ name: n, action: email.send, args: { to: a, body: b }, ${expect_} }`]),
      /email.send goes to mail, and nothing says where that is \| name its host: destination, or given.connections.mail/,
    ],
    [
      'an undo of what is never undone',
      file([`{ name: n, action: ticket.read, args: { ticketId: t }, undo: true, ${expect_} }`]),
      /never undone/,
    ],
    [
      'arguments of a model call',
      file([`{ name: n, action: model.generate, args: { a: 1 }, destination: m.example, ${expect_} }`]),
      /cannot read what is sent to a model/,
    ],
    ['two cases of one name', file([read, read]), /^7 cases\[1\]\.name: two cases are called "a read"/],
    ['two documents', `${file([read])}\n---\n${file([read])}`, /a case file is one document/],
    [
      'a destination that is none',
      file([read.replace('expect:', 'destination: 0x7f.1, expect:')]),
      /^6 cases\[0\]\.destination: "0x7f\.1" is no destination/,
    ],
    [
      'a destination of what stays inside',
      file([`{ name: n, action: text.classify, args: { text: t }, destination: a.example, ${expect_} }`]),
      /text\.classify stays inside/,
    ],
    ['no YAML', 'cases: [', /^1 /],
    [
      'an outcome that there is not',
      file([read.replace('outcome: allow', 'outcome: alow')]),
      /did you mean allow\?/,
    ],
    ['no rules', file([read.replace('[read]', '[]')]), /^6 cases\[0\]\.expect\.rules/],
  ])('U3 %s', (_, text, wanted) => {
    expect(mistakes(text).join('\n')).toMatch(wanted);
  });

  test('U3 several at once', () => {
    const text = file([
      `{ name: n, action: ticket.raed, ${expect_} }`,
      `{ name: n2, agent: nobody, action: ticket.read, args: { tocketId: t }, facts: { nothing: 1 }, ${expect_} }`,
    ]);
    expect(mistakes(text).length).toBeGreaterThanOrEqual(5);
  });
});

describe('P12 a case passes only if the outcome and all deciding rules are those it names', () => {
  const run = (
    expected: string,
    rules: string[],
    rest = 'secrets: [{ capability: "payments:refund", agents: ["*"] }]',
  ) => {
    const cases = parsed(
      file([
        `{ name: n, action: payment.refund, args: { paymentId: p, amountCents: 5 }, expect: ${expected} }`,
      ]),
    );
    const [result] = runCases(compiled(profile(rules, rest)), cases, app);
    return [result?.passed, result?.got.effect, ...(result?.got.rules ?? [])];
  };
  const two = [
    '{ id: a, effect: allow, actions: [payment.refund] }',
    '{ id: b, effect: allow, actions: [payment.refund], agents: [support_triage] }',
  ];

  test('P12 outcome, and rules in any order', () => {
    expect(run('{ outcome: allow, rules: [a] }', two.slice(0, 1))).toEqual([true, 'allow', 'a']);
    expect(run('{ outcome: deny, rules: [a] }', two.slice(0, 1))[0]).toBe(false);
    expect(run('{ outcome: allow, rules: [b] }', two.slice(0, 1))[0]).toBe(false);
    expect(run('{ outcome: allow, rules: [a, b] }', two.slice(0, 1))[0]).toBe(false);
  });

  test('P12 S1 the credential is part of it: a call that its agent has no credential for is denied', () => {
    expect(run('{ outcome: deny, rules: [secret-not-granted] }', two.slice(0, 1), '')[0]).toBe(true);
  });

  test('P4 P12 who may approve, for how long, and whether the requester may are compared where the case names them', () => {
    const ask = [
      '{ id: a, effect: approve, actions: [payment.refund], approvers: { roles: [finance, lead], expiresAfter: 2h } }',
    ];
    const said = (approvers: string) =>
      run(`{ outcome: approve, rules: [a], approvers: ${approvers} }`, ask)[0];
    expect(run('{ outcome: approve, rules: [a] }', ask)[0]).toBe(true);
    expect(said('{ roles: [lead, finance] }')).toBe(true);
    expect(said('{ roles: [[finance, lead]], expiresAfter: 120m, notRequester: true }')).toBe(true);
    expect(said('{ roles: [finance] }')).toBe(false);
    expect(said('{ roles: [[finance], [lead]] }')).toBe(false);
    expect(said('{ expiresAfter: 3h }')).toBe(false);
    expect(said('{ notRequester: false }')).toBe(false);
    expect(run('{ outcome: allow, rules: [b], approvers: { roles: [finance] } }', [two[1] ?? ''])[0]).toBe(
      false,
    );
  });
});

test('P12 U3 the cases of docs/policy-tests.md hold for the first profile of docs/policies.md', () => {
  const first = (page: string): string =>
    /```yaml\n([^]*?)```/.exec(readFileSync(join(__dirname, '../../docs', page), 'utf8'))?.[1] ?? '';
  const cases = parseCases(first('policy-tests.md'), { ...ground, profile: 'regulated_support' });
  if (!cases.ok) throw new Error(formatMistakes(cases.mistakes, 'policy-tests.md'));
  const results = runCases(compiled(first('policies.md')), cases.cases, app);
  expect(results.filter(({ passed }) => !passed)).toEqual([]);
  expect(results).toHaveLength(4);
});
