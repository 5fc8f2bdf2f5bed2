import fc from 'fast-check';
import type { CompiledPolicy, PolicyRequest } from '../../contracts/policy-decision';
import { compileProfile } from '../../policy/compile';
import { app, compiled, profile, question } from './sample';

/**
 * The policy against an evaluator written apart from it, from the promises alone: plain loops over the rules, a
 * RegExp for patterns, bigint for sums. Whole profiles and questions are drawn, from alphabets that nearly collide.
 */

/** An expression as text, and what it is: true, false, or an error. */
interface Condition {
  readonly text: string;
  readonly of: (request: PolicyRequest) => boolean | 'error';
}
interface DrawnRule {
  readonly effect: 'allow' | 'forbid';
  readonly agents: string[] | undefined;
  readonly actions: string[] | undefined;
  readonly workspaces: string[] | undefined;
  readonly destinations: string[] | undefined;
  readonly when: Condition | undefined;
  readonly unless: Condition | undefined;
}

const I64 = 2n ** 63n;
const amount = (request: PolicyRequest): bigint | undefined =>
  request.action === 'payment.refund' ? BigInt(Number(request.args['amountCents'])) : undefined;

const conditions: fc.Arbitrary<Condition> = fc.oneof(
  fc.constantFrom('support', 'finance').map((name) => ({
    text: `principal.class == "${name}"`,
    of: (request: PolicyRequest) => request.agentClass === name,
  })),
  fc.constant({ text: 'context.undo', of: (request: PolicyRequest) => request.undo }),
  fc.constantFrom('reversible', 'final', 'none').map((word) => ({
    text: `context.reversible == "${word}"`,
    of: (request: PolicyRequest) => request.reversible === word,
  })),
  fc.constant({
    text: 'context has destination',
    of: (request: PolicyRequest) => request.destination !== null,
  }),
  fc.constant({
    text: 'context.facts has vip && context.facts.vip',
    of: (request: PolicyRequest) => request.facts['vip'] === true,
  }),
  fc.constantFrom('passed', 'failed').map((word) => ({
    text: `context.facts has compliance && context.facts.compliance == "${word}"`,
    of: (request: PolicyRequest) => request.facts['compliance'] === word,
  })),
  fc.integer({ min: -3, max: 3 }).map((limit) => ({
    text: `context.args has amountCents && context.args.amountCents <= ${limit}`,
    of: (request: PolicyRequest) => (amount(request) ?? I64) <= BigInt(limit),
  })),
  {
    weight: 3,
    arbitrary: fc.constantFrom('2', '1125899906842624 * 1024').map((factor) => ({
      text: `context.args has amountCents && context.args.amountCents * ${factor} > 100`,
      of: (request: PolicyRequest) => {
        const product = (amount(request) ?? 0n) * (factor === '2' ? 2n : 1n << 60n);
        return product >= I64 || product < -I64 ? ('error' as const) : product > 100n;
      },
    })),
  },
);

const some = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(value, { nil: undefined, freq: 2 });
const list = (...values: string[]): fc.Arbitrary<string[]> =>
  fc.uniqueArray(fc.constantFrom(...values), { minLength: 1, maxLength: 3 });
const rules: fc.Arbitrary<DrawnRule> = fc
  .record({
    effect: fc.constantFrom('allow', 'allow', 'forbid'),
    agents: some(list('support_*', 'support_triage', '*_clerk', '*', '*s*', 'finance_clerk')),
    actions: some(list('ticket.read', 'ticket.*', '*', 'payment.refund', '*.refund', 'web.fetch', '*t*')),
    workspaces: some(list('main', 'second', 'main-2')),
    destinations: some(list('*', '*.ok.example', 'ok.example', 'a.*.example', '*ok*', 'OK.example')),
    when: some(conditions),
    unless: some(conditions),
  })
  .map((rule) => {
    // An argument that no action of the rule has is a mistake of its own; see refused-profiles.
    const fits = (condition: Condition | undefined): Condition | undefined =>
      condition?.text.includes('amountCents') && !any(rule.actions ?? ['*'], 'payment.refund')
        ? undefined
        : condition;
    return { ...rule, when: fits(rule.when), unless: fits(rule.unless) };
  });
const requests: fc.Arbitrary<PolicyRequest> = fc
  .record({
    agent: fc.constantFrom(
      'support_triage/support',
      'support_senior/support',
      'finance_clerk/finance',
      'stranger/support',
    ),
    action: fc.constantFrom(
      'ticket.read',
      'ticket.read',
      'payment.refund',
      'payment.refund',
      'web.fetch',
      'model.generate',
    ),
    undo: fc.boolean(),
    reversible: fc.constantFrom('none', 'reversible', 'compensable', 'final'),
    workspaceId: fc.constantFrom('main', 'second', 'main-2', 'mai'),
    environment: fc.constantFrom('prod', 'prod', 'prod', 'prod', 'prod', 'staging'),
    destination: fc.constantFrom(
      null,
      null,
      'ok.example',
      'a.ok.example',
      'A.OK.example',
      'notok.example',
      'ok.example.org',
      'a.b',
    ),
    amountCents: fc.oneof(
      fc.integer({ min: -4, max: 60 }),
      fc.constantFrom(Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER, 2_000),
    ),
    vip: fc.constantFrom({}, { vip: true }, { vip: false }),
    compliance: fc.constantFrom({}, { compliance: 'passed' }, { compliance: 'failed' }),
    model: fc.constantFrom('openai/gpt-small', 'local/tiny', 'localx/tiny'),
  })
  .map(({ agent, action, amountCents, vip, compliance, model, ...rest }) =>
    question({
      ...rest,
      agentId: agent.split('/')[0] ?? '',
      agentClass: agent.split('/')[1] ?? '',
      action,
      model: action === 'model.generate' ? model : null,
      args: action === 'payment.refund' ? { paymentId: 'p', amountCents } : { ticketId: 't', url: 'u' },
      facts: { ...vip, ...compliance },
    }),
  );

const regExp = (pattern: string): RegExp =>
  new RegExp(
    `^${pattern
      .split('*')
      .map((part) => part.replace(/[.\\[\]]/g, '\\$&'))
      .join('[^]*')}$`,
  );
const any = (patterns: string[], text: string): boolean =>
  patterns.some((pattern) => regExp(pattern).test(text));

/** What the promises say: the effect, and the ids of the rules that decide. */
function expected(
  drawn: readonly DrawnRule[],
  models: readonly string[],
  request: PolicyRequest,
  idle: ReadonlySet<number>,
): [string, string[]] {
  if (request.environment !== 'prod') return ['deny', ['default-deny']];
  const [allows, forbids, errors]: [string[], string[], string[]] = [[], [], []];
  const isModel = request.action === 'model.generate';
  for (const [index, rule] of drawn.entries()) {
    if (rule.effect === 'allow' && isModel) continue;
    if (!any(rule.actions ?? ['*'], request.action)) continue;
    if (rule.agents && !any(rule.agents, request.agentId)) continue;
    if (rule.workspaces && !rule.workspaces.includes(request.workspaceId)) continue;
    if (rule.destinations) {
      if (request.destination === null) continue;
      if (
        !any(
          rule.destinations.map((host) => host.toLowerCase()),
          request.destination.toLowerCase(),
        )
      )
        continue;
    }
    const when = rule.when?.of(request) ?? true;
    const unless = when === true ? (rule.unless?.of(request) ?? false) : false;
    if (when === 'error' || unless === 'error') errors.push(...(idle.has(index) ? [] : [`r${index}`]));
    else if (when && !unless) (rule.effect === 'allow' ? allows : forbids).push(`r${index}`);
  }
  if (isModel) {
    for (const [index, model] of models.entries())
      if (any([model], request.model ?? '')) allows.push(`models.allow[${index}]`);
  }
  if (errors.length > 0) return ['deny', ['evaluation-error', ...errors, ...forbids]];
  if (forbids.length > 0) return ['deny', forbids];
  return allows.length > 0 ? ['allow', allows] : ['deny', ['default-deny']];
}

/**
 * Compiles without the rules that are refused because they can never apply. The evaluator keeps them, so that they
 * are shown to be rightly refused: not one may match.
 */
function compiledWithoutIdle(
  drawn: readonly DrawnRule[],
  models: readonly string[],
): { policy: CompiledPolicy; idle: ReadonlySet<number> } {
  const lines = linesOf(drawn);
  const text = (some: readonly string[]): string =>
    profile([...some], `models: ${JSON.stringify({ allow: models.map((model) => ({ model })) })}`);
  const first = compileProfile({ text: text(lines), version: 1, ...app });
  if (first.ok) return { policy: first.policy, idle: new Set() };
  const refused = first.mistakes.filter(({ message }) => message.includes('can never apply'));
  const idle = new Set(refused.map(({ path }) => Number(/^rules\[(\d+)\]/.exec(path)?.[1])));
  return { policy: compiled(text(lines.filter((_, index) => !idle.has(index)))), idle };
}

function linesOf(drawn: readonly DrawnRule[]): string[] {
  return drawn.map((rule, index) => {
    const { when, unless, actions, ...rest } = rule;
    const named = actions ?? (rule.effect === 'allow' ? ['*'] : undefined);
    return JSON.stringify({
      id: `r${index}`,
      ...rest,
      actions: named,
      when: when?.text,
      unless: unless?.text,
    });
  });
}

test('P1 20,000 decisions agree with an independent evaluator, in effect and in the rules named', () => {
  const models = list('openai/*', 'local/tiny', '*/tiny', '*');
  let decisions = 0;
  const seen = new Map<string, number>();
  fc.assert(
    fc.property(
      fc.array(rules, { minLength: 1, maxLength: 8 }),
      models,
      fc.noShrink(fc.array(requests, { minLength: 200, maxLength: 200 })),
      (drawn, allowed, asked) => {
        const { policy, idle } = compiledWithoutIdle(drawn, allowed);
        for (const request of asked) {
          const { effect, rules: named } = policy.decide(request);
          const [answer, wanted] = [
            JSON.stringify([effect, named]),
            JSON.stringify(expected(drawn, allowed, request, idle)),
          ];
          if (answer !== wanted) throw new Error(`${answer}, not ${wanted}: ${JSON.stringify(request)}`);
          const kind =
            effect === 'allow'
              ? 'allow'
              : (named.find((id) => id === 'default-deny' || id === 'evaluation-error') ?? 'forbid');
          seen.set(kind, (seen.get(kind) ?? 0) + 1);
          decisions += 1;
        }
      },
    ),
    { numRuns: 100 },
  );
  expect(decisions).toBe(20_000);
  // Each kind of answer was drawn often enough to mean something.
  for (const kind of ['allow', 'forbid', 'default-deny', 'evaluation-error'])
    expect([kind, (seen.get(kind) ?? 0) > 200]).toEqual([kind, true]);
});
