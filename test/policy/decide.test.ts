import type { PolicyRequest } from '../../contracts/policy-decision';
import { app, compiled, profile, question, refund } from './sample';

const allowAll = '{ id: all, effect: allow, actions: ["*"] }';
const fetchFrom = (destination: string | null): PolicyRequest =>
  question({ action: 'web.fetch', args: { url: 'https://x.example/' }, destination });

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

describe('P9 decisions', () => {
  test('P9 every decision names its rules, in the order of the document, the version, and no payload', () => {
    const policy = compiled(
      profile([
        '{ id: z-first, effect: allow, actions: [payment.refund] }',
        '{ id: "10", effect: allow, actions: ["payment.*"] }',
        '{ id: "9", effect: allow, actions: ["*"] }',
      ]),
      41,
    );
    expect(policy.decide(refund(5))).toEqual({
      effect: 'allow',
      rules: ['z-first', '10', '9'],
      policyVersion: 41,
      message: 'z-first, 10, 9 allows payment.refund (policy sample, version 41)',
      approval: null,
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
        rules: ['secret-not-granted'],
      });
    }
  });
});
