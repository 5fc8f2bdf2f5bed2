import fc from 'fast-check';
import { askedAt, backtestTenant } from '../../client/policy-backtest';
import type { DecisionRow, DecisionStore } from '../../contracts/approvals';
import type { StoredPayload } from '../../contracts/calls';
import { RunId } from '../../contracts/ids';
import type { PolicyRequest } from '../../contracts/policy-decision';
import type { TenantStore } from '../../contracts/ports';
import { isNewAllow, startBacktest } from '../../policy/backtest';
import { needsOf, outcomeOf } from '../../policy/outcome';
import { app, compiled, profile, question, refund } from './sample';

const SECRETS =
  'secrets: [{ capability: "payments:refund", agents: ["*"] }, { capability: "mail:send", agents: ["*"] }, { capability: "openai:generate", agents: ["*"] }]';
const policyOf = (...rules: string[]) =>
  compiled(profile(rules, `${SECRETS}\nmodels: { allow: [{ model: "openai/*" }] }`));
const refunds = policyOf(
  '{ id: refunds, effect: allow, actions: [payment.refund] }',
  '{ id: reads, effect: allow, actions: ["ticket.*"] }',
);

/** A decision as the policy makes it, recorded. */
function recorded(
  request: PolicyRequest,
  more: Partial<DecisionRow> = {},
  policy = refunds,
): { row: DecisionRow; args: unknown } {
  const { args, ...input } = request;
  const { effect, rules } = outcomeOf(policy, request, needsOf(request, app));
  const row = {
    runId: RunId.parse('r-1'),
    path: '1.1',
    at: '2026-01-01T00:00:00.000000Z',
    effect,
    rules,
    policyVersion: 1,
    input,
    microUsd: 200,
  };
  return { row: { ...row, ...more }, args };
}

function replayed(
  policy: ReturnType<typeof policyOf>,
  taken: readonly { row: DecisionRow; args: unknown }[],
  registry = app,
) {
  const backtest = startBacktest(policy, registry);
  for (const { row, args } of taken) backtest.take(row, args);
  return backtest.report();
}

describe('P12 recorded decisions are made again by a candidate', () => {
  const careful = policyOf(
    '{ id: small, effect: allow, actions: [payment.refund], when: context.args.amountCents <= 100 }',
    '{ id: large, effect: approve, actions: [payment.refund], when: context.args.amountCents > 1000, approvers: { roles: [finance] } }',
    '{ id: web, effect: allow, actions: [web.fetch] }',
  );

  test('P12 every change of effect is counted by rules, agent and action, with what the calls were charged', () => {
    const report = replayed(careful, [
      recorded(refund(50)),
      recorded(refund(500), { path: '1.1', microUsd: 7 }),
      recorded(refund(600), { path: '2.1', at: '2026-01-02T00:00:00.000000Z', microUsd: 8 }),
      recorded(refund(600, { agentId: 'finance_clerk' }), { microUsd: 9 }),
      recorded(refund(5_000), { microUsd: 10 }),
      recorded(
        question({ action: 'web.fetch', args: { url: 'http://a.example/' }, destination: 'a.example' }),
        { microUsd: 0 },
      ),
      recorded(question({ action: 'email.send', args: { to: 'a', body: 'b' } })),
    ]);
    expect(report).toMatchObject({
      decisions: 7,
      unknown: 0,
      notReplayable: { arguments_gone: 0, schema_changed: 0 },
    });
    const deny = {
      from: 'allow',
      to: 'deny',
      rulesThen: ['refunds'],
      rulesNow: ['default-deny'],
      action: 'payment.refund',
    };
    expect(report.changes).toEqual([
      {
        from: 'deny',
        to: 'allow',
        rulesThen: ['default-deny'],
        rulesNow: ['web'],
        agent: 'support_triage',
        action: 'web.fetch',
        decisions: 1,
        microUsd: 0n,
        last: { runId: 'r-1', path: '1.1', at: '2026-01-01T00:00:00.000000Z' },
      },
      {
        ...deny,
        agent: 'support_triage',
        decisions: 2,
        microUsd: 15n,
        last: expect.objectContaining({ path: '2.1' }),
      },
      { ...deny, agent: 'finance_clerk', decisions: 1, microUsd: 9n, last: expect.anything() },
      expect.objectContaining({
        from: 'allow',
        to: 'approve',
        rulesNow: ['large'],
        decisions: 1,
        microUsd: 10n,
      }),
    ]);
    expect(report.changes.map(isNewAllow)).toEqual([true, false, false, false]);
  });

  test('P12 spend is summed exactly, also beyond what a number holds', () => {
    const most = Number.MAX_SAFE_INTEGER;
    const report = replayed(
      careful,
      [500, 600, 700].map((cents) => recorded(refund(cents), { microUsd: most })),
    );
    expect(report.changes[0]?.microUsd).toBe(BigInt(most) * 3n);
  });

  test('P12 what a call needs beside a rule counts: without its credential it is denied', () => {
    const bare = compiled(profile(['{ id: refunds, effect: allow, actions: [payment.refund] }']));
    expect(replayed(bare, [recorded(refund(1))]).changes).toMatchObject([
      { from: 'allow', to: 'deny', rulesNow: ['secret-not-granted'] },
    ]);
  });

  test('P12 a call whose arguments are gone, or are none any more, is counted and never guessed', () => {
    const report = replayed(careful, [
      { ...recorded(refund(500)), args: undefined },
      { ...recorded(refund(500), { effect: 'approve' }), args: undefined },
      { ...recorded(refund(500), { effect: 'deny' }), args: { paymentId: 'p', amountCents: 'five' } },
    ]);
    expect(report).toEqual({
      decisions: 3,
      notReplayable: { arguments_gone: 2, schema_changed: 1 },
      unknown: 1,
      changes: [],
    });
  });

  test('P12 a model call has no arguments; an action that the app has no more is denied', () => {
    const model = recorded(question({ action: 'model.generate', system: 'openai' }));
    expect(model.row.effect).toBe('allow');
    expect(replayed(refunds, [{ ...model, args: undefined }]).changes).toEqual([]);
    const fewer = {
      ...app,
      actions: new Map([...app.actions].filter(([name]) => name !== 'payment.refund')),
    };
    const without = compiled(profile(['{ id: reads, effect: allow, actions: ["ticket.*"] }'], SECRETS));
    expect(replayed(without, [{ ...recorded(refund(5)), args: undefined }], fewer)).toMatchObject({
      notReplayable: { arguments_gone: 0 },
      changes: [{ from: 'allow', to: 'deny' }],
    });
  });

  test('P12 the policy that made the decisions changes none of them', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            amountCents: fc.integer({ min: 1, max: 2_000 }),
            agentId: fc.constantFrom('support_triage', 'finance_clerk'),
            undo: fc.boolean(),
          }),
          { maxLength: 20 },
        ),
        (asked) => {
          const taken = asked.map(({ amountCents, ...rest }) =>
            recorded(refund(amountCents, rest), {}, careful),
          );
          expect(replayed(careful, taken).changes).toEqual([]);
          // And told from another, every difference is there.
          const changed = replayed(refunds, taken).changes.reduce((sum, { decisions }) => sum + decisions, 0);
          expect(changed).toBe(taken.filter(({ row }) => row.effect !== 'allow').length);
        },
      ),
    );
  });
});

describe('P12 the arguments are where the model’s step is stored', () => {
  test.each([
    ['3.1', { ref: '3.0', index: 0 }],
    ['12.4', { ref: '12.0', index: 3 }],
    ['3.2/undo', { ref: '3.0', index: 1 }],
    ['child/2/3.1', { ref: 'child/2/3.0', index: 0 }],
    ['3.0', undefined],
    ['input', undefined],
  ])('P12 %s', (path, place) => {
    expect(askedAt(path)).toEqual(place);
  });
});

describe('P12 a tenant’s decisions are read page by page', () => {
  /** Decisions of calls that each asked for another sum, three calls a step. */
  const rows = Array.from({ length: 1_201 }, (_, index) => {
    const at = `2026-01-01T00:00:${String(Math.floor(index / 100)).padStart(2, '0')}.000000Z`;
    const path = `${1 + Math.floor(index / 3)}.${1 + (index % 3)}`;
    return recorded(refund(index + 1), { at, path, microUsd: 1 }).row;
  });
  const asked: { limit: number }[] = [];
  const decisions: DecisionStore = {
    since: ({ limit, after }) => {
      asked.push({ limit });
      const from = after ? rows.findIndex(({ path }) => path === after.path) + 1 : 0;
      return Promise.resolve(rows.slice(from, from + limit));
    },
  };
  const payload = (_run: string, ref: string): Promise<StoredPayload | undefined> => {
    const step = Number(ref.split('.')[0]);
    const calls = [0, 1, 2].map((index) => ({
      id: 'c',
      name: 'payment__refund',
      args: { paymentId: 'p', amountCents: (step - 1) * 3 + index + 1 },
    }));
    // The steps of one hundred calls are gone, and one was put back without what was in it.
    if (step > 360 && step <= 393) return Promise.resolve(undefined);
    const kept: StoredPayload = {
      kind: 'model',
      text: '',
      toolCalls: calls,
      inputTokens: 0,
      outputTokens: 0,
    };
    return Promise.resolve(step === 394 ? { ...kept, lost: true } : kept);
  };
  const store = {
    scope: { tenantId: 'acme', environment: 'prod' },
    decisions,
    payload,
  } as unknown as TenantStore;
  const limited = policyOf(
    '{ id: few, effect: allow, actions: [payment.refund], when: context.args.amountCents <= 100 }',
  );
  const run = (most: number) => {
    const seen: number[] = [];
    const progress = (done: number): void => void seen.push(done);
    return backtestTenant({ store, policy: limited, registry: app, since: '', most, progress }).then(
      (report) => ({ report, seen }),
    );
  };

  test('P12 all of them, each once, each with its own arguments', async () => {
    const { report, seen } = await run(10_000);
    expect(report).toMatchObject({
      tenant: 'acme',
      decisions: 1_201,
      cutAt: null,
      notReplayable: { arguments_gone: 102 },
    });
    expect(report.changes).toMatchObject([
      { from: 'allow', to: 'deny', decisions: 1_201 - 102 - 100, microUsd: 999n },
    ]);
    expect(seen).toEqual([500, 1_000, 1_201]);
  });

  test('P12 a bound is kept and told; exactly as many as there are is no cut', async () => {
    const cut = await run(700);
    expect(cut.report).toMatchObject({ decisions: 700, cutAt: rows[699]?.at });
    expect((await run(1_201)).report.cutAt).toBeNull();
    expect((await run(1_000)).report).toMatchObject({ decisions: 1_000, cutAt: rows[999]?.at });
    expect(Math.max(...asked.map(({ limit }) => limit))).toBeLessThanOrEqual(500);
  });
});
