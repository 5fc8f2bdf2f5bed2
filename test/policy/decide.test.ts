import { isAuthorized } from '@cedar-policy/cedar-wasm/nodejs';
import type { PolicyRequest } from '../../contracts/policy-decision';
import { app, compiled, profile, question, refund } from './sample';

const allowAll = '{ id: all, effect: allow, actions: ["*"] }';
const fetchFrom = (destination: string | null): PolicyRequest =>
  question({ action: 'web.fetch', args: { url: 'https://x.example/' }, destination });
const lone = String.fromCharCode(0xd800);

describe('P1 default deny', () => {
  test('P1 default deny: a profile without rules denies every action of the app, and model calls', () => {
    const policy = compiled(profile([]));
    for (const action of [...app.actions.keys(), 'model.generate']) {
      const args = {
        ticketId: 't',
        paymentId: 'p',
        amountCents: 1,
        to: 'a',
        body: 'b',
        url: 'u',
        text: 't',
        query: 'q',
      };
      const more = { tags: [], urgent: false, nested: { deep: { n: 1 } }, matrix: [], defaulted: 1 };
      const decision = policy.decide(question({ action, args: { ...args, ...more } }));
      expect([action, decision.effect, decision.rules]).toEqual([action, 'deny', ['default-deny']]);
    }
  });

  const rules = [
    '{ id: read, effect: allow, agents: ["support_*"], actions: ["ticket.*"], workspaces: [main, second] }',
    '{ id: seniors-refund, effect: allow, agents: [support_senior], actions: [payment.refund] }',
    '{ id: no-search-second, effect: forbid, actions: [ticket.search], workspaces: [second] }',
  ];
  const search = { action: 'ticket.search', args: { query: 'q' } };
  test.each<[string, Partial<PolicyRequest>, 'allow' | 'deny', string[]]>([
    ['an agent that the rule names', {}, 'allow', ['read']],
    ['an agent that it does not', { agentId: 'finance_clerk' }, 'deny', ['default-deny']],
    ['an agent whose id only contains the pattern', { agentId: 'xsupport_triage' }, 'deny', ['default-deny']],
    ['a workspace that it names', { workspaceId: 'second' }, 'allow', ['read']],
    ['a workspace that it does not', { workspaceId: 'third' }, 'deny', ['default-deny']],
    ['another environment', { environment: 'staging' }, 'deny', ['default-deny']],
    [
      'an action that no rule names',
      { action: 'email.send', args: { to: 'a', body: 'b' } },
      'deny',
      ['default-deny'],
    ],
    ['an action that does not exist', { action: 'ticket.erase' }, 'deny', ['default-deny']],
    ['an action named like a part of every object', { action: 'constructor' }, 'deny', ['default-deny']],
    ['forbid beats allow', { ...search, workspaceId: 'second' }, 'deny', ['no-search-second']],
    ['forbid of elsewhere does not', { ...search }, 'allow', ['read']],
    ['an exact agent', { ...refund(5), agentId: 'support_senior' }, 'allow', ['seniors-refund']],
    ['not that agent', { ...refund(5) }, 'deny', ['default-deny']],
    [
      'a pattern in the question is no pattern',
      { agentId: 'support_*', action: 'payment.refund', args: refund(5).args },
      'deny',
      ['default-deny'],
    ],
  ])('P1 by agent, action, workspace and environment: %s', (_, parts, effect, deciding) => {
    const decision = compiled(profile(rules)).decide(question(parts));
    expect([decision.effect, decision.rules]).toEqual([effect, deciding]);
  });

  test('P1 slices: a rule about another action is not even evaluated', () => {
    const policy = compiled(
      profile([
        allowAll,
        '{ id: fails, effect: forbid, actions: [payment.refund], when: context.args.amountCents * 9007199254740991 * 9007199254740991 > 1 }',
      ]),
    );
    expect(policy.decide(question()).rules).toEqual(['all']);
    expect(policy.decide(refund(7)).rules).toEqual(['evaluation-error', 'fails']);
  });
});

describe('P2 destinations', () => {
  const allow = [
    '{ id: out, effect: allow, actions: [web.fetch], destinations: ["*.helpdesk.example", "API.ok.example", "[::1]", "10.0.0.*"] }',
  ];
  test.each([
    ['acme.helpdesk.example', true],
    ['a.b.helpdesk.example', true],
    ['ACME.HelpDesk.Example', true],
    ['acme.helpdesk.example.', true],
    ['helpdesk.example', false],
    ['evilhelpdesk.example', false],
    ['acme.helpdesk.example.evil.example', false],
    ['acme.helpdesk.exampleX', false],
    ['api.ok.example', true],
    ['xapi.ok.example', false],
    ['apiXok.example', false],
    ['[::1]', true],
    ['10.0.0.7', true],
    ['10.0.1.7', false],
  ])('P2 an allow rule with destinations allows %s: %s', (host, allowed) => {
    const decision = compiled(profile(allow)).decide(fetchFrom(host));
    expect([decision.effect, decision.rules]).toEqual(
      allowed ? ['allow', ['out']] : ['deny', ['default-deny']],
    );
  });

  test('P2 a call without destination never matches an allow rule that names destinations, "*" included', () => {
    const policy = compiled(
      profile(['{ id: out, effect: allow, actions: [web.fetch], destinations: ["*"] }']),
    );
    expect(policy.decide(fetchFrom('any.example')).effect).toBe('allow');
    expect(policy.decide(fetchFrom(null)).rules).toEqual(['default-deny']);
  });

  test('P2 a forbid rule with destinations forbids those hosts and no others', () => {
    const policy = compiled(
      profile([allowAll, '{ id: no-bad, effect: forbid, destinations: ["*.bad.example", bad.example] }']),
    );
    for (const host of ['bad.example', 'BAD.example', 'bad.example.', 'x.bad.example']) {
      expect([host, policy.decide(fetchFrom(host)).rules]).toEqual([host, ['no-bad']]);
    }
    for (const host of ['notbad.example', 'bad.example.org', null]) {
      expect([host, policy.decide(fetchFrom(host)).rules]).toEqual([host, ['all']]);
    }
  });

  test.each([
    '',
    '.',
    'a:443',
    'user@bad.example',
    'bad.example/x',
    'bad.example\\@ok.example',
    'bad.example%2e',
    '2130706433',
    '0x7f.1',
    '017700000001',
    '127.1',
    '１２７.0.0.1',
    'ⓐpi.ok.example',
    'api。ok。example',
    'İ.example',
    '\u212Aevil.example',
    'bad.example\u0000',
    '[::ffff:1.2.3.4]',
    'xn--a',
    'a b',
    '*',
  ])(
    'P2 what is no plain host, or would be read as another one, is denied and never compared: %j',
    (host) => {
      const decision = compiled(profile([allowAll])).decide(fetchFrom(host));
      expect([decision.effect, decision.rules]).toEqual(['deny', ['evaluation-error']]);
    },
  );
});

describe('P5 models', () => {
  const policy = compiled(
    profile(
      [
        allowAll,
        '{ id: no-clerk, effect: forbid, agents: [finance_clerk], actions: [model.generate] }',
        '{ id: no-preview, effect: forbid, actions: [model.generate], when: context.model like "*-preview" }',
      ],
      'models: { allow: [{ model: "openai/*" }, { model: local/tiny }] }',
    ),
  );
  test.each<[string | null, string, string[]]>([
    ['openai/gpt-small', 'allow', ['models.allow[0]']],
    ['local/tiny', 'allow', ['models.allow[1]']],
    ['local/tiny2', 'deny', ['default-deny']],
    ['xopenai/gpt', 'deny', ['default-deny']],
    ['openai/new-preview', 'deny', ['no-preview']],
    [null, 'deny', ['evaluation-error']],
  ])('P5 the model %s', (model, effect, deciding) => {
    const decision = policy.decide(question({ action: 'model.generate', model }));
    expect([decision.effect, decision.rules]).toEqual([effect, deciding]);
  });
  test('P5 a rule that allows every action allows no model; a forbid without actions forbids models', () => {
    const model = question({ action: 'model.generate' });
    expect(compiled(profile([allowAll])).decide(model).rules).toEqual(['default-deny']);
    const none = compiled(
      profile(['{ id: nothing, effect: forbid }'], 'models: { allow: [{ model: "*" }] }'),
    );
    expect(none.decide(model).rules).toEqual(['nothing']);
    expect(policy.decide({ ...model, agentId: 'finance_clerk' }).rules).toEqual(['no-clerk']);
  });
});

describe('P7 errors deny', () => {
  const overflow = 'context.args.amountCents * 9007199254740991 > 5';
  const rules = [
    '{ id: any-refund, effect: allow, actions: [payment.refund] }',
    `{ id: huge, effect: forbid, actions: [payment.refund], when: ${overflow} }`,
  ];

  test('P7 deny on error: a forbid rule that cannot be evaluated forbids, and is named', () => {
    const decision = compiled(profile(rules)).decide(refund(2_000_000));
    expect(decision).toMatchObject({ effect: 'deny', rules: ['evaluation-error', 'huge'] });
    expect(decision.message).toContain('huge could not be evaluated');
    expect(decision.message).not.toContain('2000000');
  });

  test('P7 control arm: Cedar alone passes over the failing rule and allows', () => {
    const answer = isAuthorized({
      principal: { type: 'Agent', id: 'support_triage' },
      action: { type: 'Action', id: 'payment.refund' },
      resource: { type: 'Workspace', id: 'main' },
      context: { args: { amountCents: 2_000_000 } },
      entities: [],
      policies: {
        staticPolicies: `permit(principal, action, resource); forbid(principal, action, resource) when { ${overflow} };`,
      },
    });
    if (answer.type === 'failure') throw new Error('Cedar refused the question');
    expect(answer.response.decision).toBe('allow');
    expect(answer.response.diagnostics.errors).toHaveLength(1);
  });

  test('P7 an allow rule that cannot be evaluated denies as well, whatever else allows', () => {
    const policy = compiled(
      profile([rules[0] ?? '', `{ id: maybe, effect: allow, actions: [payment.refund], when: ${overflow} }`]),
    );
    expect(policy.decide(refund(2_000_000)).rules).toEqual(['evaluation-error', 'maybe']);
    expect(policy.decide(refund(1)).rules).toEqual(['any-refund', 'maybe']);
  });

  test('P7 errors and forbids together are all named; a rule that is not about the agent cannot fail for it', () => {
    const policy = compiled(
      profile([
        ...rules,
        '{ id: no-refunds, effect: forbid, agents: [finance_clerk], actions: ["payment.*"] }',
        `{ id: seniors, effect: forbid, agents: [support_senior], actions: [payment.refund], when: ${overflow} }`,
      ]),
    );
    expect(policy.decide(refund(2_000_000, { agentId: 'finance_clerk' })).rules).toEqual([
      'evaluation-error',
      'huge',
      'no-refunds',
    ]);
    expect(policy.decide(refund(2_000_000, { agentId: 'support_senior' })).rules).toEqual([
      'evaluation-error',
      'huge',
      'seniors',
    ]);
  });

  test('P7 conditions on facts: an absent fact and another value forbid, the right value does not', () => {
    const policy = compiled(
      profile([
        '{ id: mail, effect: allow, actions: [email.send] }',
        '{ id: mail-needs-compliance, effect: forbid, actions: [email.send], unless: context.facts has compliance && context.facts.compliance == "passed" }',
      ]),
    );
    const mail = (facts: PolicyRequest['facts']) =>
      policy.decide(question({ action: 'email.send', args: { to: 'a', body: 'b' }, facts })).rules;
    expect(mail({})).toEqual(['mail-needs-compliance']);
    expect(mail({ compliance: 'failed' })).toEqual(['mail-needs-compliance']);
    expect(mail({ compliance: 'passed' })).toEqual(['mail']);
    expect(mail({ compliance: 'passed', unheardOf: 'x' })).toEqual(['mail']);
    expect(mail({ compliance: true })).toEqual(['evaluation-error']);
    expect(mail({ compliance: 'passed', score: 1.5 })).toEqual(['evaluation-error']);
  });

  test.each<[string, unknown]>([
    ['an integer beyond 2^53', refund(2 ** 53)],
    ['an integer beyond 2^63', refund(1e19)],
    ['a fraction', refund(0.5)],
    ['NaN', refund(NaN)],
    ['a bigint', { ...refund(1), args: { paymentId: 'p', amountCents: 5n } }],
    ['a missing argument', { ...refund(1), args: { paymentId: 'p' } }],
    [
      'an inherited argument',
      { ...refund(1), args: Object.create({ paymentId: 'p', amountCents: 1 }) as object },
    ],
    ['an argument of another type', { ...refund(1), args: { paymentId: 7, amountCents: 5 } }],
    ['a null argument', { ...refund(1), args: { paymentId: null, amountCents: 5 } }],
    ['a lone surrogate in an argument', { ...refund(1), args: { paymentId: lone, amountCents: 5 } }],
    [
      'a lone surrogate in the target',
      { ...refund(1), target: { system: 'payments', recordId: `a${lone}` } },
    ],
    ['a lone surrogate in the subject', { ...refund(1), principal: { kind: 'user', subject: lone } }],
    ['a lone surrogate in the agent', { ...refund(1), agentId: lone }],
    ['a lone surrogate in the workspace', { ...refund(1), workspaceId: lone }],
    ['no arguments', { ...refund(1), args: null }],
    ['arguments that are a list', { ...refund(1), args: [] }],
    ['no facts', { ...refund(1), facts: undefined }],
    ['an effect that is not the action’s', { ...refund(1), effect: 'read' }],
    [
      'a getter that throws',
      {
        ...refund(1),
        get args() {
          throw new Error('no');
        },
      },
    ],
    [
      'three million characters',
      { ...refund(1), args: { paymentId: 'x'.repeat(3_000_000), amountCents: 5 } },
    ],
    [
      'a million elements',
      {
        ...question({ action: 'ticket.update' }),
        args: { ticketId: 't', urgent: true, tags: Array(1_000_000).fill('') },
      },
    ],
  ])('P7 a question that cannot be put exactly is denied, not thrown: %s', (name, request) => {
    const decision = compiled(profile([allowAll])).decide(request as PolicyRequest);
    expect([decision.effect, decision.rules]).toEqual(['deny', ['evaluation-error']]);
    if (name.includes('surrogate')) expect(decision.message).toContain('not well-formed Unicode');
  });

  test('P7 what rules cannot read is dropped, and cannot pose as something else', () => {
    const policy = compiled(
      profile([
        '{ id: odd, effect: allow, actions: [odd.shapes], when: "context.args.nested.deep.n == 1 && context.args.matrix.contains([2])" }',
      ]),
    );
    const escape = { __entity: { type: 'Agent', id: 'x' } };
    const args = {
      fraction: 0.1,
      either: 1,
      maybe: null,
      free: escape,
      nested: { deep: { n: 1, f: 0.5, __extn: escape }, word: 'a' },
      matrix: [[2], []],
      defaulted: 3,
      ...escape,
    };
    expect(policy.decide(question({ action: 'odd.shapes', args })).rules).toEqual(['odd']);
    const disguised = { ...args, nested: { deep: escape } };
    expect(policy.decide(question({ action: 'odd.shapes', args: disguised })).rules).toEqual([
      'evaluation-error',
    ]);
  });
});

describe('P7 expressions read what the question holds', () => {
  test.each<[string, Partial<PolicyRequest>, boolean]>([
    ['context.args.amountCents <= 5000', refund(5000), true],
    ['context.args.amountCents <= 5000', refund(5001), false],
    ['principal.class == "support"', refund(1), true],
    ['principal.id == "support_triage" && principal == Agent::"support_triage"', refund(1), true],
    ['context.workspace == "main" && context.environment == "prod"', refund(1), true],
    [
      'context.effect == "high_risk_write" && context has system && context.system == "payments"',
      refund(1),
      true,
    ],
    ['context.requester.kind == "user" && context.requester.subject == "u-1"', refund(1), true],
    [
      'context has target && context.target.recordId like "r-*"',
      { ...refund(1), target: { system: 'x', recordId: 'r-1' } },
      true,
    ],
    ['context has target && context.target.recordId like "r-*"', refund(1), false],
    ['!(context has destination)', refund(1), true],
    [
      'context has destination && context.destination == "pay.example"',
      { ...refund(1), destination: 'PAY.example.' },
      true,
    ],
    ['context.facts has vip && context.facts.vip', { ...refund(1), facts: { vip: true } }, true],
    ['context.facts has score && context.facts.score > -3', { ...refund(1), facts: { score: -2 } }, true],
    ['["p-1", "p-2"].contains(context.args.paymentId)', refund(1), true],
    [
      'context.args.paymentId == "it\'s // no comment { }"',
      { ...refund(1), args: { paymentId: "it's // no comment { }", amountCents: 1 } },
      true,
    ],
  ])('P7 %s', (when, parts, holds) => {
    const policy = compiled(
      profile([`{ id: r, effect: allow, actions: [payment.refund], when: ${JSON.stringify(when)} }`]),
    );
    expect(policy.decide(question(parts)).effect).toBe(holds ? 'allow' : 'deny');
    const other = compiled(
      profile([`{ id: r, effect: allow, actions: [payment.refund], unless: ${JSON.stringify(when)} }`]),
    );
    expect(other.decide(question(parts)).effect).toBe(holds ? 'deny' : 'allow');
  });
});

describe('P9 decisions', () => {
  test('P9 every decision names its rules, in the order of the document, the version, and no payload', () => {
    const policy = compiled(
      profile([
        '{ id: z-first, effect: allow, actions: ["*"] }',
        '{ id: a-second, effect: allow, actions: [payment.refund] }',
      ]),
      41,
    );
    expect(policy.decide(refund(5))).toEqual({
      effect: 'allow',
      rules: ['z-first', 'a-second'],
      policyVersion: 41,
      message: 'z-first, a-second allows payment.refund (policy sample, version 41)',
    });
    const secretive = question({
      action: 'no.such',
      args: { canary: 'CANARY' },
      destination: 'canary.example',
      agentId: 'canary',
    });
    expect(policy.decide(secretive).message.toLowerCase()).not.toContain('canary');
    expect(
      policy.decide({ ...refund(1), args: { paymentId: 'CANARY', amountCents: 0.5 } }).message,
    ).not.toContain('CANARY');
  });

  test('P9 two versions decide side by side, each by its own rules', () => {
    const first = compiled(profile(['{ id: open, effect: allow, actions: [ticket.read] }']), 1);
    const second = compiled(profile(['{ id: shut, effect: forbid, actions: [ticket.read] }']), 2);
    for (let turn = 0; turn < 3; turn++) {
      expect(first.decide(question())).toMatchObject({ rules: ['open'], policyVersion: 1 });
      expect(second.decide(question())).toMatchObject({ rules: ['shut'], policyVersion: 2 });
    }
  });
});

describe('S1 capabilities', () => {
  test('S1 a capability is for the agents that secrets names, and silence is no', () => {
    const policy = compiled(
      profile(
        [allowAll],
        'secrets: [{ capability: "payments:refund", agents: ["support_s*"] }, { capability: "openai:generate", agents: ["*"] }]',
      ),
      7,
    );
    expect(policy.mayUseSecret('support_senior', 'payments:refund')).toMatchObject({
      effect: 'allow',
      rules: ['secrets[0]'],
      policyVersion: 7,
    });
    expect(policy.mayUseSecret('support_triage', 'openai:generate')).toMatchObject({
      effect: 'allow',
      rules: ['secrets[1]'],
    });
    for (const [agent, capability] of [
      ['support_triage', 'payments:refund'],
      ['support_senior', 'payments:read'],
      ['support_senior', 'payments:refund '],
      ['support_senior', '*'],
      ['', ''],
    ] as const) {
      expect(policy.mayUseSecret(agent, capability)).toMatchObject({
        effect: 'deny',
        rules: ['default-deny'],
      });
    }
  });
});
