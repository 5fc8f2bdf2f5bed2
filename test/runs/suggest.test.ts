import { canonicalJson } from '../../contracts/digest';
import type { PromoteAnswer, SuggestionRow } from '../../contracts/approvals';
import { followUpWorkflowId } from '../../contracts/workflow-ids';
import type { Run } from '../../client/run';
import { startFollowUp } from '../../client/start';
import { policyYaml } from '../support/tenants';
import { until } from '../support/until';
import { asksFor, payment } from './approving';
import { call, idOf, openDesk, type Desk } from './desk';

let desk: Desk;
beforeAll(async () => {
  desk = await openDesk();
});
beforeEach(() => {
  desk.outside.faults = {};
});
afterAll(() => desk.close());

const SUGGESTS = `  - { id: all, effect: allow, actions: ["*"] }
  - { id: only-ideas, effect: suggest, actions: [payment.send], approvers: { roles: [payer] } }`;

const suggestionsOf = (tenant: string, run: Run): Promise<SuggestionRow[]> =>
  desk.stack.store(tenant).approvals.suggestions(idOf(run));

const promote = (tenant: string, run: Run, principal = 'user:payer'): Promise<PromoteAnswer> =>
  desk.stack.store(tenant).approvals.promote({
    runId: idOf(run),
    path: '0.1',
    approver: { principal, roles: ['payer'] },
    note: 'do it',
  });

/** Promotes the run's first suggestion, and answers how the workflow that makes the call has closed. */
async function promoted(tenant: string, run: Run): Promise<string> {
  const answer = await promote(tenant, run);
  if (answer.kind !== 'ordered') throw new Error(JSON.stringify(answer));
  await startFollowUp(desk.stack.temporal, answer.signed, answer.followUp);
  return await endOf(followUpWorkflowId(run.workflowId, answer.followUp));
}

/** `completed`, the type of its failure, or `still open` after a while. */
const endOf = (workflowId: string): Promise<string> =>
  desk.stack.temporal.withDeadline(Date.now() + 40_000, () =>
    desk.stack.temporal.workflow
      .getHandle(workflowId)
      .result()
      .then(
        () => 'completed',
        (error: unknown) => (error as { cause?: { type?: string } }).cause?.type ?? 'still open',
      ),
  );

test('P8 a suggestion is recorded with what would have been sent, and is not sent; its model sees that, and goes on', async () => {
  await desk.tenant('ideas', { rules: SUGGESTS });
  const { run, result, effects } = await desk.play('ideas', [
    call(payment(700)),
    call(['record.read', { recordId: 'r1' }]),
  ]);
  expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1 } });
  expect(effects).toEqual([]);
  expect(await suggestionsOf('ideas', run)).toMatchObject([
    {
      path: '0.1',
      action: 'payment.send',
      system: 'keeper',
      destination: '127.0.0.1',
      args: canonicalJson({ recordId: 'r1', amountCents: 700 }),
      rules: expect.arrayContaining(['only-ideas']),
      approvalNo: null,
    },
  ]);
  const told = desk.model.requests.at(-1)?.messages.find(({ role }) => role === 'tool');
  expect(JSON.parse(told?.content ?? '{}')).toMatchObject({
    outcome: 'suggested',
    refusal: { origin: 'policy', rule: 'only-ideas' },
  });
  expect(await desk.stack.store('ideas').call(run.runId, '0.1')).toMatchObject({ state: 'suggested' });
});

test('P8 a suggestion that a person turns into a call is sent once, with exactly what was shown, however often it is asked for', async () => {
  await desk.tenant('chosen', { rules: SUGGESTS });
  const { run } = await desk.play('chosen', [call(payment(800))]);
  const [shown] = await suggestionsOf('chosen', run);
  const mark = desk.outside.effects.length;
  expect(await promoted('chosen', run)).toBe('completed');
  expect(await promote('chosen', run)).toMatchObject({ kind: 'already' });
  expect(desk.outside.effects.slice(mark).map(({ body }) => canonicalJson(body))).toEqual([shown?.args]);
  expect(await desk.payload('chosen', run, '0.1')).toMatchObject({ outcome: 'done' });
  expect(await desk.stack.store('chosen').call(run.runId, '0.1')).toMatchObject({ state: 'succeeded' });
  const [after] = await suggestionsOf('chosen', run);
  expect(after?.approvalNo).toEqual(expect.any(Number));
});

test('P8 T3 a suggestion that was promoted and whose answer is lost is sent again under its key: one effect', async () => {
  await desk.tenant('lossy', { rules: SUGGESTS });
  const { run } = await desk.play('lossy', [call(payment(900))]);
  const mark = desk.outside.effects.length;
  desk.outside.faults = { dropAfterApply: 1 };
  expect(await promoted('lossy', run)).toBe('completed');
  expect(desk.outside.effects.slice(mark)).toHaveLength(1);
});

test.each([
  ['asks for an approval now', asksFor(), 'approval_required'],
  ['forbids it now', '  - { id: all, effect: allow, actions: ["record.*"] }', 'denied'],
] as const)(
  'P8 P10 a promoted suggestion whose policy %s is not sent: what it was refused by is how its workflow ends, and it is a suggestion again',
  async (_says, rules, kind) => {
    const tenant = kind === 'denied' ? 'forbidden' : 'stricter';
    await desk.tenant(tenant, { rules: SUGGESTS });
    const { run } = await desk.play(tenant, [call(payment(1_000))]);
    await desk.stack.apply(policyYaml(tenant, rules));
    const mark = desk.outside.effects.length;
    expect(await promoted(tenant, run)).toBe(kind);
    expect(desk.outside.effects.slice(mark)).toEqual([]);
    await until('a suggestion again', async () => {
      const row = await desk.stack.store(tenant).call(run.runId, '0.1');
      return row?.state === 'suggested';
    });
    expect(await suggestionsOf(tenant, run)).toMatchObject([{ approvalNo: null }]);
  },
);

test('P8 a model that is answered with suggestions alone is no misbehaving one, and is bounded by its steps', async () => {
  await desk.tenant('endless', { rules: SUGGESTS });
  const { result, effects } = await desk.play('endless', ({ moves }) => call(payment(1 + moves)));
  expect(result).toMatchObject({ stopReason: 'budget_exceeded', usage: { toolCalls: 0, steps: 12 } });
  expect(effects).toEqual([]);
});

test('P8 one that is answered with denials alone misbehaves', async () => {
  await desk.tenant('denied', { rules: '  - { id: reads, effect: allow, actions: ["record.*"] }' });
  const { result } = await desk.play('denied', ({ moves }) => call(payment(1 + moves)));
  expect(result).toMatchObject({ stopReason: 'model_misbehaved', usage: { toolCalls: 0 } });
});

test('P8 T5 an undo is never a suggestion, and needs no approval beside its order', async () => {
  await desk.tenant('undoing', {
    rules: `  - { id: all, effect: allow, actions: ["*"] }
  - { id: asked, effect: approve, actions: [order.place], when: context.undo, approvers: { roles: [payer] } }`,
  });
  const lost = [1, 2, 3].map(() => call(['vault.open', {}]));
  const order = call(['order.place', { recordId: 'r1' }]);
  const { effects } = await desk.play('undoing', [order, ...lost], 'test_undoer');
  expect(effects.map(({ operation }) => operation)).toEqual(['POST /orders', 'POST /orders/cancel']);

  await desk.stack.apply(
    policyYaml(
      'undoing',
      `  - { id: all, effect: allow, actions: ["*"] }
  - { id: ideas, effect: suggest, actions: [order.place], when: context.undo }`,
    ),
  );
  const mark = desk.outside.effects.length;
  const run = await desk.begin('undoing', [order, ...lost], 'test_undoer');
  const review = await desk.openReview('undoing', run.runId);
  expect(review).toMatchObject({ kind: 'undo_failed', refusal: { kind: 'denied', rule: 'ideas' } });
  expect(desk.outside.effects.slice(mark).map(({ operation }) => operation)).toEqual(['POST /orders']);
  await desk.resolve('undoing', run, review, 'abandon');
  await run.result({ timeoutMs: 40_000 });
});
