import { isAuthorized } from '@cedar-policy/cedar-wasm/nodejs';
import type { PolicyRequest } from '../../contracts/policy-decision';
import { compiled, profile, question, refund } from './sample';

const allowAll = '{ id: all, effect: allow, actions: ["*"] }';
const lone = String.fromCharCode(0xd800);

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
      profile([`{ id: maybe, effect: allow, actions: [payment.refund], when: ${overflow} }`, rules[0] ?? '']),
    );
    expect(policy.decide(refund(2_000_000)).rules).toEqual(['evaluation-error', 'maybe']);
    expect(policy.decide(refund(1)).rules).toEqual(['maybe', 'any-refund']);
  });

  test('P7 errors and forbids together are all named; a rule that is not about the agent cannot fail for it', () => {
    const policy = compiled(
      profile([
        `{ id: seniors, effect: forbid, agents: [support_senior], actions: [payment.refund], when: ${overflow} }`,
        ...rules,
        '{ id: no-refunds, effect: forbid, agents: [finance_clerk], actions: ["payment.*"] }',
      ]),
    );
    expect(policy.decide(refund(2_000_000, { agentId: 'finance_clerk' })).rules).toEqual([
      'evaluation-error',
      'huge',
      'no-refunds',
    ]);
    expect(policy.decide(refund(2_000_000, { agentId: 'support_senior' })).rules).toEqual([
      'evaluation-error',
      'seniors',
      'huge',
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
    ['no data classes', { ...refund(1), dataClasses: undefined }],
    ['data classes that are one text', { ...refund(1), dataClasses: 'pii' }],
    ['a data class that is no text', { ...refund(1), dataClasses: [null] }],
    ['a million data classes', { ...refund(1), dataClasses: Array(1_000_000).fill('pii') }],
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
    ['context.dataClasses.contains("pii")', refund(1), false],
    ['context.dataClasses.contains("pii")', refund(1, { dataClasses: ['financial', 'pii'] }), true],
    ['["public", "internal"].containsAll(context.dataClasses)', refund(1), true],
    [
      '["public", "internal"].containsAll(context.dataClasses)',
      refund(1, { dataClasses: ['pii', 'public'] }),
      false,
    ],
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
