import type { GovernedCall } from '../../activities/governed-call';
import { judge } from '../../activities/judge';
import { digestOf } from '../../contracts/digest';
import type { Envelope } from '../../contracts/envelope';
import type { CompiledPolicy, PolicyDecision, PolicyRequest } from '../../contracts/policy-decision';
import type { CallContext } from '../../contracts/rows';
import type { Refusal } from '../../contracts/refusal';

const call = {
  action: 'payment.send',
  callClass: 'high_risk_write',
  undoOf: null,
  reversible: 'final',
  system: null,
  secret: 'keeper:write',
  model: null,
  agentClass: 'test',
  args: { recordId: 'r1', amountCents: 5 },
  dataClasses: ['financial', 'a_class'],
  schemaDigest: 'c'.repeat(64),
  refusedByForm: null,
  destination: () => null,
  records: [],
  verify: () => Promise.resolve(true),
} as unknown as GovernedCall;
const envelope = {
  tenantId: 'acme',
  environment: 'prod',
  workspaceId: 'main',
  agentId: 'test_worker',
  target: null,
  principal: { kind: 'user', subject: 'tester' },
} as unknown as Envelope;
const context = {
  versions: { policyVersion: 3, recordVersion: 1, factsVersion: 1 },
  facts: { verdict: 'passed' },
  dataClasses: ['pii', 'financial'],
  record: {},
  known: [],
} as unknown as CallContext;

const TERMS = { rules: ['asked'], roles: [['payer']], expiresAfterMs: 1_000, notRequester: true };
const says = (
  effect: PolicyDecision['effect'],
  approval: PolicyDecision['approval'] = null,
): PolicyDecision => ({
  effect,
  rules: ['asked'],
  policyVersion: 3,
  message: 'in words',
  approval,
});

/** Judges the call under a policy that answers so; what it was asked is kept. */
async function judged(
  decision: PolicyDecision,
  more: { call?: Partial<GovernedCall>; secret?: PolicyDecision; waived?: boolean } = {},
) {
  const asked: PolicyRequest[] = [];
  const policy = {
    version: 3,
    decide: (request: PolicyRequest) => {
      asked.push(request);
      return decision;
    },
    mayUseSecret: () => more.secret ?? { ...says('allow'), rules: ['secrets[0]'] },
    readBackWaived: () => more.waived === true,
  } as unknown as CompiledPolicy;
  const verdict = await judge({ ...call, ...more.call }, envelope, context, () =>
    Promise.resolve({ policy }),
  );
  return { verdict, asked };
}

test('P3 P9 policy is asked with the classes of the arguments and of the run, sorted, each once; the question is kept without arguments', async () => {
  const { verdict, asked } = await judged(says('allow'));
  expect(asked[0]?.dataClasses).toEqual(['a_class', 'financial', 'pii']);
  expect(verdict.decided?.input).not.toHaveProperty('args');
  expect({ ...verdict.decided?.input, args: call.args }).toEqual(asked[0]);
  // Of all that was asked, arguments too: the same question with other arguments is another one.
  expect(verdict.decided?.inputDigest).toBe(digestOf(asked[0]));
});

test('P9 what form refuses was asked of nobody; what policy, secret or read-back refuses was', async () => {
  const refusal: Refusal = {
    kind: 'denied',
    origin: 'policy',
    rule: 'schema',
    rules: ['schema'],
    message: '',
  };
  expect((await judged(says('allow'), { call: { refusedByForm: refusal } })).verdict.decided).toBeNull();
  for (const more of [{ secret: says('deny') }, { call: { verify: null } }]) {
    const { verdict } = await judged(says('allow'), more);
    expect([verdict.effect, verdict.decided?.input.action]).toEqual(['deny', 'payment.send']);
  }
  expect((await judged(says('deny'))).verdict.decided?.input.action).toBe('payment.send');
});

test.each(['approve', 'suggest'] as const)(
  'P4 P8 S1 what may never be used is denied at once, also where a rule says %s',
  async (effect) => {
    const may = await judged(says(effect, TERMS));
    expect(may.verdict).toMatchObject({
      effect,
      rules: ['asked', 'secrets[0]'],
      terms: TERMS,
      schemaDigest: call.schemaDigest,
      refusal: {
        kind: effect === 'approve' ? 'approval_required' : 'suggested',
        origin: 'policy',
        rule: 'asked',
        rules: ['asked'],
        policyVersion: 3,
      },
    });
    const secret = { ...says('deny'), rules: ['default-deny'] };
    expect((await judged(says(effect, TERMS), { secret })).verdict).toMatchObject({
      effect: 'deny',
      refusal: { kind: 'denied', rule: 'default-deny' },
    });
    expect((await judged(says(effect, TERMS), { call: { verify: null } })).verdict).toMatchObject({
      effect: 'deny',
      refusal: { kind: 'denied', rule: 'read_back_missing' },
    });
    expect((await judged(says(effect, TERMS), { call: { verify: null }, waived: true })).verdict.effect).toBe(
      effect,
    );
  },
);

test.each(['approve', 'suggest'] as const)(
  'P4 P8 %s without terms, or for what has no schema of arguments, is no way in',
  async (effect) => {
    for (const { verdict } of [
      await judged(says(effect, null)),
      await judged(says(effect, TERMS), { call: { schemaDigest: null } }),
    ])
      expect(verdict).toMatchObject({
        effect: 'deny',
        refusal: { origin: 'platform', rule: 'policy_unusable' },
      });
  },
);

test('T5 P8 an undo goes where a forward call would need approval, and not where it would be suggested', async () => {
  const undo = { undoOf: '0.1', verify: null };
  expect((await judged(says('approve', TERMS), { call: undo })).verdict).toMatchObject({ effect: 'allow' });
  expect((await judged(says('suggest', TERMS), { call: undo })).verdict).toMatchObject({
    effect: 'deny',
    refusal: { kind: 'denied', rule: 'asked' },
  });
  expect((await judged(says('deny'), { call: undo })).verdict).toMatchObject({ effect: 'deny' });
});

test('P2 T7 a redirect is judged as the call itself would be, going there: allow alone lets it', async () => {
  const answers: Record<string, PolicyDecision['effect']> = { 'b.example': 'allow', 'c.example': 'approve' };
  const policy = {
    version: 3,
    decide: ({ destination }: PolicyRequest) =>
      says(answers[destination ?? ''] ?? (destination ? 'deny' : 'allow')),
    mayUseSecret: () => says('allow'),
    readBackWaived: () => true,
  } as unknown as CompiledPolicy;
  const verdict = await judge(call, envelope, context, () => Promise.resolve({ policy }));
  if (verdict.effect !== 'allow') throw new Error('not allowed');
  const hosts = ['http://b.example/x', 'http://B.example./', 'http://c.example/', 'http://d.example/'];
  expect(hosts.map((url) => verdict.mayGo(new URL(url)))).toEqual([true, true, false, false]);
});

describe('a model in the place of another one', () => {
  const standIn = {
    model: 'models/small',
    insteadOf: 'models/big',
    secret: 'models:generate',
    callClass: 'model' as const,
    args: {},
  };
  const judgedIn = (named: string[], sealed: object | null) =>
    judge({ ...call, ...standIn }, envelope, { ...context, sealed } as unknown as CallContext, () =>
      Promise.resolve({
        policy: {
          version: 3,
          decide: () => says('allow'),
          mayUseSecret: () => ({ ...says('allow'), rules: ['secrets[0]'] }),
          readBackWaived: () => false,
          fallbacksOf: (model: string) => (model === 'models/big' ? named : []),
        } as unknown as CompiledPolicy,
      }),
    );

  test('P5 P10 answers only where the policy that decides the call names it so', async () => {
    expect(await judgedIn(['models/small'], {})).toMatchObject({ effect: 'allow' });
    expect(await judgedIn(['models/other'], {})).toMatchObject({
      effect: 'deny',
      refusal: { origin: 'policy', rule: 'fallback_not_named', policyVersion: 3 },
    });
  });

  test('S3 is not asked without a credential: the call would end there, and the other model may answer yet', async () => {
    expect(await judgedIn(['models/small'], null)).toMatchObject({
      effect: 'deny',
      refusal: { kind: 'denied', origin: 'platform', rule: 'credential_unavailable' },
    });
  });
});
