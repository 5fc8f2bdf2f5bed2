import { createHash } from 'node:crypto';
import { Client, Connection } from '@temporalio/client';
import { argsDigest } from '../../client/approvals';
import type { WaitingForPeople } from '../../client/beside';
import { BulkheadClient } from '../../client/bulkhead';
import { BulkheadError } from '../../client/errors';
import { plays, startModel, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant, tenantYaml } from '../support/tenants';
import { until } from '../support/until';
import { ASKING, asking, payment } from './asking-rules';

let stack: TestStack;
let outside: Outside;
let model: TestModel;
let away: Connection;
beforeAll(async () => {
  [stack, outside, model] = await Promise.all([createTestStack(), startOutside('acct'), startModel(plays())]);
  for (const name of ['acme', 'globex'])
    await readyTenant(stack, { name, keeper: outside.url, models: model.url, rules: ASKING });
  const parts = { name: 'acme', keeper: outside.url, models: `${model.url}/v1`, rules: ASKING };
  await stack.apply(tenantYaml(parts).replace('workspaces: [main]', 'workspaces: [main, second]'));
  away = Connection.lazy({ address: '127.0.0.1:1', connectTimeout: '500ms' });
}, 120_000);
afterAll(async () => {
  await away.close();
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});
beforeEach(() => {
  outside.effects.length = 0;
});
/** Begun beside a test, and over before the next one: also where an expectation fails. */
const begun: Promise<unknown>[] = [];
afterEach(async () => {
  await Promise.allSettled(begun.splice(0));
}, 120_000);

/** A person of acme with these roles. */
const person = (subject: string, ...roles: string[]) => stack.token('acme', { subject, roles });
const ended = async (runId: string, workspaces = ['main']) =>
  (await stack.client.run({ token: await stack.token('acme', { workspaces }), runId })).result({
    timeoutMs: 90_000,
  });
const failed = (step: Promise<unknown>): Promise<string> =>
  step.then(
    () => 'done',
    (error: unknown) =>
      error instanceof BulkheadError ? `${error.code} ${error.reason} ${error.message}` : String(error),
  );
/** The rule of the refusal that a step was answered with. */
const ruleOf = (step: Promise<unknown>): Promise<string | undefined> =>
  step.then(
    () => 'done',
    (error: unknown) => (error instanceof BulkheadError ? error.refusal?.rule : String(error)),
  );

describe('P4 approvals', () => {
  test('E1 an approval of another tenant or workspace is not found, in the words of one that does not exist; nothing of it is decided', async () => {
    const second = await stack.token('acme', { workspaces: ['second'], roles: ['finance'], subject: 'sue' });
    const { runId, approval } = await asking(stack, model, payment(), {
      token: await stack.token('acme', { workspaces: ['second'] }),
    });
    const { approvalNo } = approval;
    const main = await person('fay', 'finance');
    const foreign = await stack.token('globex', { roles: ['finance'], subject: 'gus' });
    const none = await failed(stack.client.approval({ token: main, approvalNo: 999_999_999 }));
    expect(none).toMatch(/^not_found unknown_approval/);
    for (const token of [main, foreign]) {
      expect(await failed(stack.client.approval({ token, approvalNo }))).toBe(none);
      expect(await failed(stack.client.approve({ token, approvalNo }))).toBe(none);
      expect(await failed(stack.client.deny({ token, approvalNo }))).toBe(none);
      const listed = await stack.client.approvals({ token, open: false, limit: 500 });
      expect(listed.map((row) => row.runId)).not.toContain(runId);
      expect(await failed(stack.client.approvals({ token, runId }))).toMatch(/^not_found unknown_run/);
      expect(await failed(stack.client.suggestions({ token, runId }))).toMatch(/^not_found unknown_run/);
      expect(await failed(stack.client.promoteSuggestion({ token, runId, path: '0.1' }))).toMatch(
        /^not_found unknown_run/,
      );
    }
    for (const wrong of [0, -1, 1.5, Number.NaN, 2 ** 60])
      expect(await failed(stack.client.approval({ token: main, approvalNo: wrong }))).toBe(none);
    expect(await failed(stack.client.approve({ token: undefined, approvalNo }))).toMatch(/^unauthenticated/);
    expect(await failed(stack.client.approve({ token: second, tenantId: 'globex', approvalNo }))).toMatch(
      /^refused scope_ambiguous/,
    );
    expect(await stack.client.approval({ token: second, approvalNo })).toEqual(approval);

    await stack.client.deny({ token: second, approvalNo });
    expect(await ended(runId, ['second'])).toMatchObject({ stopReason: 'approval_denied' });
    expect(outside.effects).toEqual([]);
  }, 180_000);

  test('P4 who may decide is what the verified token says, and nothing that is said beside it', async () => {
    const { runId, approval } = await asking(stack, model, payment());
    const { approvalNo } = approval;
    expect(approval).toMatchObject({
      action: 'payment.send',
      destination: '127.0.0.1',
      requester: 'user:tester',
      state: 'pending',
      kind: 'rule',
      terms: { rules: ['large_payment'], roles: [['finance', 'lead']], notRequester: true },
    });
    const decide = async (token: string, more: object = {}) => ({
      approve: await ruleOf(stack.client.approve({ token, approvalNo, ...more })),
      deny: await ruleOf(stack.client.deny({ token, approvalNo, ...more })),
    });
    const no = { approve: 'not_an_approver', deny: 'not_an_approver' };
    expect(await decide(await person('ann'))).toEqual(no);
    expect(await decide(await person('ann', 'operator', 'financed'))).toEqual(no);
    // Who asked for the run may not, whatever roles it holds.
    expect(await decide(await person('tester', 'finance', 'lead'))).toEqual(no);
    const smuggled = { roles: ['finance'], approver: { principal: 'user:fay', roles: ['finance'] } };
    expect(await decide(await person('ann', 'operator'), smuggled)).toEqual(no);
    expect(await failed(stack.client.approve({ token: await person('ann'), approvalNo }))).toMatch(
      /needs finance or lead.*bring the token of a person with the role finance or lead, other than user:tester/,
    );
    expect(await stack.client.approval({ token: await person('ann'), approvalNo })).toEqual(approval);
    expect(outside.effects).toEqual([]);

    const decided = await stack.client.approve({
      token: await person('lee', 'lead'),
      approvalNo,
      note: 'order 7',
    });
    expect(decided).toMatchObject({
      existing: false,
      told: true,
      approval: { state: 'approved', approver: 'user:lee', note: 'order 7' },
    });
    expect(await ended(runId)).toMatchObject({ stopReason: 'completed' });
    // What was shown is what was sent.
    expect(outside.effects.map(({ operation, body }) => ({ operation, body }))).toEqual([
      { operation: 'POST /payments', body: JSON.parse(approval.args) as unknown },
    ]);
    expect(argsDigest(approval)).toBe(createHash('sha256').update(approval.args).digest('hex'));

    // Said again by whoever: nothing has changed. Otherwise: refused, for good.
    const again = await stack.client.approve({ token: await person('fay', 'finance'), approvalNo });
    expect(again).toMatchObject({ existing: true, approval: { approver: 'user:lee', note: 'order 7' } });
    expect(again.approval.usedAt).not.toBeNull();
    expect(await failed(stack.client.deny({ token: await person('fay', 'finance'), approvalNo }))).toMatch(
      /^conflict already_decided approval \d+ was approved before, by user:lee/,
    );
    expect(outside.effects).toHaveLength(1);
  }, 180_000);

  test('P4 every rule that asks has its own list of roles, and one rule that wants another person is enough', async () => {
    const tag = { call: [['tag.set', { recordId: 'r1' }]] } as const;
    const { runId, approval } = await asking(stack, model, tag);
    const { approvalNo } = approval;
    expect([...approval.terms.rules].sort()).toEqual(['money_twice', 'security_too']);
    const both = await person('mia', 'security', 'finance');
    for (const token of [
      await person('fay', 'finance'),
      await person('sec', 'security'),
      await person('tester', 'security', 'finance'),
    ])
      expect(await ruleOf(stack.client.approve({ token, approvalNo }))).toBe('not_an_approver');
    await stack.client.approve({ token: both, approvalNo });
    expect(await ended(runId)).toMatchObject({ stopReason: 'completed' });

    // Where no rule wants another person, who asked may decide, with the role.
    const deal = await asking(stack, model, { call: [['deal.make', { recordId: 'r1' }]] });
    await stack.client.approve({
      token: await person('tester', 'finance'),
      approvalNo: deal.approval.approvalNo,
    });
    expect(await ended(deal.runId)).toMatchObject({ stopReason: 'completed' });
    expect(outside.effects.map(({ operation }) => operation)).toEqual(['PUT /tags', 'POST /deals']);
  }, 180_000);

  test('P4 one that nobody decided in time cannot be decided, and its run ends as approval_expired', async () => {
    const { runId, approval } = await asking(stack, model, { call: [['order.place', { recordId: 'r1' }]] });
    const token = await person('fay', 'finance');
    const { approvalNo } = approval;
    await until(
      'the request to expire',
      async () => (await stack.client.approval({ token, approvalNo })).state === 'expired',
      30_000,
    );
    expect(await ruleOf(stack.client.approve({ token, approvalNo }))).toBe('approval_expired');
    expect(await ruleOf(stack.client.deny({ token, approvalNo }))).toBe('approval_expired');
    expect(await stack.client.approvals({ token, runId })).toEqual([]);
    expect(await ended(runId)).toMatchObject({ stopReason: 'approval_expired' });
    expect(outside.effects).toEqual([]);
  }, 180_000);

  test('P4 with Temporal away the decision stands and says that nobody was told; said once more, the run is told', async () => {
    const { runId, approval } = await asking(stack, model, payment());
    const token = await person('fay', 'finance');
    const { approvalNo } = approval;
    const apart = new BulkheadClient({
      ...stack.clientPorts,
      temporal: new Client({ connection: away, namespace: stack.environment }),
    });
    expect(await apart.approve({ token, approvalNo })).toMatchObject({
      existing: false,
      told: false,
      approval: { state: 'approved' },
    });
    expect(outside.effects).toEqual([]);
    expect(await stack.client.approve({ token, approvalNo })).toMatchObject({ existing: true, told: true });
    expect(await ended(runId)).toMatchObject({ stopReason: 'completed' });
    expect(outside.effects).toHaveLength(1);
  }, 180_000);

  test('P4 whoever waits for the run sees the request; explain says since when, until when and for whom', async () => {
    const { runId, approval } = await asking(stack, model, payment());
    const token = await stack.token('acme');
    const run = await stack.client.run({ token, runId });
    const seen: WaitingForPeople[] = [];
    const result = run.result({ timeoutMs: 90_000, onLook: (waiting) => void seen.push(waiting) });
    begun.push(result);
    const why = await until('the run to wait', async () => {
      const found = await run.explain();
      return found.state === 'approval_required' && found;
    });
    expect(why).toMatchObject({
      until: approval.expiresAt,
      waitsFor: { kind: 'approval_required', origin: 'policy', rule: 'large_payment' },
      approvals: [approval],
    });
    expect(why.waitsFor?.message).toContain(
      `approval ${approval.approvalNo} of payment.send waits for a person with the role finance or lead`,
    );
    expect(why.since).toBe(approval.requestedAt);
    await until('a look at what it waits for', () => Promise.resolve(seen[0]?.approvals[0]));
    expect(seen[0]?.approvals).toEqual([approval]);
    expect(await failed(run.result({ timeoutMs: 1 }))).toContain(
      `approval ${approval.approvalNo} of payment.send is open`,
    );

    await stack.client.deny({ token: await person('fay', 'finance'), approvalNo: approval.approvalNo });
    expect(await result).toMatchObject({ stopReason: 'approval_denied' });
    expect(await run.explain()).toMatchObject({
      state: 'closed',
      until: null,
      approvals: [],
      lastRefusal: { refusal: { rule: 'approval_denied', message: 'a person refused an approval' } },
    });
    expect((await run.beside()).approvals).toMatchObject([{ state: 'denied', approver: 'user:fay' }]);
  }, 180_000);
});

describe('P8 suggestions', () => {
  test('P8 a suggested call is listed with what would have been sent, and is made once when a person with the role says so', async () => {
    model.script = plays({ call: [['note.write', { recordId: 'r1', text: 'call back' }]] });
    const { runId } = await stack.run('acme', 'note it');
    expect(await ended(runId)).toMatchObject({ stopReason: 'completed' });
    expect(outside.effects).toEqual([]);
    const token = await person('sam', 'support');
    const [suggestion, ...others] = await stack.client.suggestions({ token, runId });
    expect(others).toEqual([]);
    expect(suggestion).toMatchObject({
      path: '0.1',
      action: 'note.write',
      destination: '127.0.0.1',
      rules: expect.arrayContaining(['drafts']) as unknown,
      approvalNo: null,
    });
    expect(JSON.parse(suggestion?.args ?? '')).toEqual({ recordId: 'r1', text: 'call back' });

    const promote = (as: string, path = '0.1') =>
      stack.client.promoteSuggestion({ token: as, runId, path, note: 'right' });
    expect(await failed(promote(token, '0.9'))).toMatch(/^not_found unknown_suggestion/);
    expect(await failed(promote(await person('ann', 'operator')))).toMatch(/^refused .*support/);
    expect(await failed(promote(await person('tester', 'support')))).toMatch(/^refused/);
    expect(outside.effects).toEqual([]);

    const made = await promote(token);
    expect(made.existing).toBe(false);
    expect(await made.result({ timeoutMs: 90_000 })).toMatchObject({ state: 'done', actor: 'user:sam' });
    expect(await made.call()).toMatchObject({ state: 'succeeded' });
    expect(outside.effects.map(({ operation, body }) => ({ operation, body }))).toEqual([
      { operation: 'POST /notes', body: { recordId: 'r1', text: 'call back' } },
    ]);
    const again = await promote(token);
    expect(again.existing).toBe(true);
    expect(await again.result({ timeoutMs: 90_000 })).toMatchObject({ state: 'done' });
    expect(outside.effects).toHaveLength(1);
    const [approval] = await stack.client.approvals({ token, runId, open: false });
    expect(approval).toMatchObject({ kind: 'suggestion', state: 'approved', approver: 'user:sam' });
    expect(await stack.client.suggestions({ token, runId })).toMatchObject([
      { approvalNo: approval?.approvalNo },
    ]);
  }, 180_000);
});
