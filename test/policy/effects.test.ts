import type { PolicyDecision, PolicyRequest } from '../../contracts/policy-decision';
import { app, compiled, profile, question, refund } from './sample';

const refunds = (id: string, effect: string, more = ''): string =>
  `{ id: ${id}, effect: ${effect}, actions: [payment.refund]${more} }`;
const finance = ', approvers: { roles: [finance] }';
const mail = (parts: Partial<PolicyRequest> = {}): PolicyRequest =>
  question({ action: 'email.send', args: { to: 'a', body: 'b' }, ...parts });
const said = ({ effect, rules }: PolicyDecision): [string, readonly string[]] => [effect, rules];

describe('P8 effects', () => {
  const strengths = ['allow', 'approve', 'suggest', 'forbid'] as const;
  const each = strengths.map((effect) => refunds(effect, effect, effect === 'approve' ? finance : ''));
  const subsets = Array.from({ length: 15 }, (_, mask) => each.filter((_, bit) => (mask + 1) & (1 << bit)));

  test('P8 forbid beats suggest beats approve beats allow, for every set of rules and whatever their order', () => {
    for (const rules of subsets) {
      for (const written of [rules, [...rules].reverse()]) {
        const strongest = each.lastIndexOf(rules.at(-1) ?? '');
        const effect = strengths[strongest] ?? '';
        const decision = compiled(profile(written)).decide(refund(1));
        expect([written, ...said(decision)]).toEqual([
          written,
          effect === 'forbid' ? 'deny' : effect,
          [effect],
        ]);
      }
    }
  });

  test('P8 silence denies beside rules of every effect, and asks nobody', () => {
    const elsewhere = each.map((rule) =>
      rule.replace('[payment.refund]', '[payment.refund], workspaces: [second]'),
    );
    const decision = compiled(profile(elsewhere)).decide(refund(1));
    expect(decision).toMatchObject({ effect: 'deny', rules: ['default-deny'], approval: null });
    expect(decision.message).toContain('the conditions of allow, approve, suggest do not hold for it');
  });

  test('P8 reads and writes are judged apart: a suggest rule never reaches a read or a model call', () => {
    const policy = compiled(
      profile(
        [
          '{ id: drafts, effect: suggest, actions: ["*"] }',
          '{ id: reads, effect: allow, actions: [ticket.read] }',
        ],
        'models: { allow: [{ model: "*" }] }',
      ),
    );
    expect(said(policy.decide(mail()))).toEqual(['suggest', ['drafts']]);
    expect(said(policy.decide(question()))).toEqual(['allow', ['reads']]);
    expect(said(policy.decide(question({ action: 'ticket.search', args: { query: 'q' } })))).toEqual([
      'deny',
      ['default-deny'],
    ]);
    expect(said(policy.decide(question({ action: 'model.generate' })))).toEqual([
      'allow',
      ['models.allow[0]'],
    ]);
  });

  test('P8 an approve rule for every action asks for reads too, and never for model calls', () => {
    const policy = compiled(
      profile(
        ['{ id: asked, effect: approve, actions: ["*"], approvers: { roles: [lead] } }'],
        'models: { allow: [{ model: "*" }] }',
      ),
    );
    expect(said(policy.decide(question()))).toEqual(['approve', ['asked']]);
    expect(said(policy.decide(question({ action: 'model.generate' })))).toEqual([
      'allow',
      ['models.allow[0]'],
    ]);
  });

  test.each(strengths)(
    'P8 P7 a rule of effect %s that cannot be evaluated denies, whatever the others say',
    (effect) => {
      const overflow = ', when: context.args.amountCents * 9007199254740991 > 5';
      const failing = refunds('fails', effect, (effect === 'approve' ? finance : '') + overflow);
      for (const other of each) {
        const decision = compiled(profile([failing, other])).decide(refund(2_000_000));
        const forbids = other.includes('forbid') ? ['forbid'] : [];
        expect([other, ...said(decision), decision.approval]).toEqual([
          other,
          'deny',
          ['evaluation-error', 'fails', ...forbids],
          null,
        ]);
      }
    },
  );
});

describe('P4 approvals', () => {
  test('P4 an approve rule names who may approve, how long, and whether the requester may; all of it has a default', () => {
    const decide = (approvers: string): PolicyDecision['approval'] =>
      compiled(profile([refunds('large', 'approve', `, approvers: ${approvers}`)])).decide(refund(1))
        .approval;
    expect(decide('{ roles: [finance, lead] }')).toEqual({
      rules: ['large'],
      roles: [['finance', 'lead']],
      expiresAfterMs: 86_400_000,
      notRequester: true,
    });
    expect(decide('{ roles: [finance], expiresAfter: 30m, notRequester: false }')).toEqual({
      rules: ['large'],
      roles: [['finance']],
      expiresAfterMs: 1_800_000,
      notRequester: false,
    });
  });

  test('P4 of several approve rules that hold all are asked: every list of roles, the shortest time, the strictest', () => {
    const policy = compiled(
      profile([
        refunds('any', 'approve', ', approvers: { roles: [lead, finance], notRequester: false }'),
        refunds(
          'large',
          'approve',
          ', when: context.args.amountCents > 100, approvers: { roles: [finance], expiresAfter: 2h }',
        ),
        refunds(
          'huge',
          'approve',
          ', when: context.args.amountCents > 1000, approvers: { roles: [board], expiresAfter: 3d }',
        ),
      ]),
    );
    const terms = (amount: number): PolicyDecision['approval'] => policy.decide(refund(amount)).approval;
    expect(terms(1)).toMatchObject({ rules: ['any'], roles: [['lead', 'finance']], notRequester: false });
    expect(terms(101)).toEqual({
      rules: ['any', 'large'],
      roles: [['lead', 'finance'], ['finance']],
      expiresAfterMs: 7_200_000,
      notRequester: true,
    });
    expect(terms(1_001)).toMatchObject({
      roles: [['lead', 'finance'], ['finance'], ['board']],
      expiresAfterMs: 7_200_000,
    });
    expect(said(policy.decide(refund(1_001)))).toEqual(['approve', ['any', 'large', 'huge']]);
  });

  test('P4 P8 a suggestion is turned into a call by operators or whom its rule names, and by those of approve rules beside it', () => {
    const suggested = (...rules: string[]): PolicyDecision => compiled(profile(rules)).decide(refund(1));
    expect(suggested(refunds('draft', 'suggest'))).toMatchObject({
      effect: 'suggest',
      rules: ['draft'],
      approval: { rules: ['draft'], roles: [['operator']], expiresAfterMs: 86_400_000, notRequester: true },
    });
    expect(
      suggested(
        refunds('draft', 'suggest', ', approvers: { roles: [support_lead], notRequester: false }'),
        refunds('large', 'approve', finance),
      ),
    ).toMatchObject({
      effect: 'suggest',
      rules: ['draft'],
      approval: { rules: ['draft', 'large'], roles: [['support_lead'], ['finance']], notRequester: true },
    });
  });

  test('P4 P9 nobody is asked where a call is allowed or denied, and the message says what is asked', () => {
    const policy = compiled(
      profile([
        refunds('small', 'allow', ', when: context.args.amountCents <= 100'),
        refunds('large', 'approve', `, when: context.args.amountCents > 100${finance}`),
        refunds('none', 'forbid', ', when: context.args.amountCents > 1000'),
      ]),
      4,
    );
    expect(policy.decide(refund(1))).toMatchObject({ effect: 'allow', approval: null });
    expect(policy.decide(refund(101)).message).toBe(
      'large lets payment.refund happen once it is approved (policy sample, version 4)',
    );
    expect(policy.decide(refund(1_001))).toMatchObject({ effect: 'deny', rules: ['none'], approval: null });
    expect(policy.mayUseSecret('support_triage', 'payments:refund').approval).toBeNull();
  });
});

describe('P3 data classes', () => {
  const web = (dataClasses: string[], destination: string | null = 'x.example'): PolicyRequest =>
    question({ action: 'web.fetch', args: { url: 'u' }, destination, dataClasses });

  test('P3 a forbid, suggest or approve rule holds as soon as a call carries one of its classes', () => {
    for (const effect of ['forbid', 'suggest', 'approve']) {
      const more = effect === 'approve' ? finance : '';
      const policy = compiled(
        profile([
          refunds('open', 'allow'),
          refunds('strict', effect, `, dataClasses: [pii, internal]${more}`),
        ]),
      );
      const rules = (...dataClasses: string[]) => policy.decide(refund(1, { dataClasses })).rules;
      expect(rules()).toEqual(['open']);
      expect(rules('financial')).toEqual(['open']);
      expect(rules('financial', 'pii')).toEqual(['strict']);
      expect(rules('internal')).toEqual(['strict']);
    }
  });

  test('P3 an allow rule with classes is for calls that carry these and no others', () => {
    const policy = compiled(profile([refunds('plain', 'allow', ', dataClasses: [public, financial]')]));
    const effect = (...dataClasses: string[]) => policy.decide(refund(1, { dataClasses })).effect;
    expect([effect(), effect('public'), effect('public', 'financial')]).toEqual(['allow', 'allow', 'allow']);
    expect([effect('pii'), effect('public', 'pii'), effect('a_class_of_tomorrow')]).toEqual([
      'deny',
      'deny',
      'deny',
    ]);
  });

  test('P3 P2 what carries a class leaves for the excepted hosts only; what stays inside does not leave', () => {
    const policy = compiled(
      profile([
        '{ id: all, effect: allow, actions: ["*"] }',
        '{ id: no-pii-out, effect: forbid, dataClasses: [pii], exceptDestinations: ["*.helpdesk.example", ok.example] }',
      ]),
    );
    for (const host of ['a.helpdesk.example', 'A.HelpDesk.Example', 'ok.example', 'ok.example.', null])
      expect([host, policy.decide(web(['pii'], host)).rules]).toEqual([host, ['all']]);
    for (const host of ['helpdesk.example', 'a.helpdesk.example.evil.example', 'notok.example', '10.0.0.1'])
      expect([host, policy.decide(web(['pii'], host)).rules]).toEqual([host, ['no-pii-out']]);
    expect(policy.decide(web(['financial'], 'evil.example')).rules).toEqual(['all']);
    expect(policy.decide(web(['pii'], 'evil.example:80')).rules).toEqual(['evaluation-error']);
  });

  test('P2 exceptDestinations without classes keeps everything that leaves to these hosts, model calls included', () => {
    const policy = compiled(
      profile(
        [
          '{ id: all, effect: allow, actions: ["*"] }',
          '{ id: only-ok, effect: forbid, exceptDestinations: ["*.ok.example"] }',
        ],
        'models: { allow: [{ model: "*" }] }',
      ),
    );
    const model = (destination: string) => question({ action: 'model.generate', destination });
    expect(policy.decide(web([], 'a.ok.example')).rules).toEqual(['all']);
    expect(policy.decide(web([], 'elsewhere.example')).rules).toEqual(['only-ok']);
    expect(policy.decide(model('llm.ok.example')).rules).toEqual(['models.allow[0]']);
    expect(policy.decide(model('llm.example')).rules).toEqual(['only-ok']);
  });

  test('P5 P3 a model gets the run’s data only if its entry lists all classes that the run has read', () => {
    const policy = compiled(
      profile(
        [],
        'models: { allow: [{ model: "openai/*", dataClasses: [public, internal] }, { model: local/tiny }] }',
      ),
    );
    const ask = (model: string, ...dataClasses: string[]) =>
      policy.decide(question({ action: 'model.generate', model, dataClasses })).rules;
    expect(ask('openai/gpt')).toEqual(['models.allow[0]']);
    expect(ask('openai/gpt', 'internal', 'public')).toEqual(['models.allow[0]']);
    expect(ask('openai/gpt', 'internal', 'pii')).toEqual(['default-deny']);
    expect(ask('openai/gpt', 'unheard_of')).toEqual(['default-deny']);
    expect(ask('local/tiny', 'pii')).toEqual(['models.allow[1]']);
  });

  test('P3 a class that only an earlier read declares may be named: it comes with the run', () => {
    expect([...app.actions.values()].flatMap(({ resultClasses }) => resultClasses)).toContain('pii');
    const policy = compiled(
      profile([
        '{ id: mail, effect: allow, actions: [email.send], unless: context.dataClasses.contains("pii") }',
      ]),
    );
    expect(policy.decide(mail()).effect).toBe('allow');
    expect(policy.decide(mail({ dataClasses: ['pii'] })).effect).toBe('deny');
  });
});
