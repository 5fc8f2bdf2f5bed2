import type { ApprovalRow } from '../../contracts/approvals';
import type { Move, TestModel } from '../support/model';
import { plays } from '../support/model';
import type { TestStack } from '../support/stack';
import { until } from '../support/until';

/** Rules of a tenant whose agents ask people: for large payments, for tags (two of them), for orders (at once, or never), for what they suggest. */
export const ASKING = `  - { id: all, effect: allow, actions: ["*"] }
  - id: large_payment
    effect: approve
    actions: [payment.send]
    when: context.args.amountCents > 1000
    approvers: { roles: [finance, lead] }
  - { id: money_twice, effect: approve, actions: [tag.set], approvers: { roles: [finance] } }
  - { id: security_too, effect: approve, actions: [tag.set], approvers: { roles: [security], notRequester: false } }
  - { id: own_word, effect: approve, actions: [deal.make], approvers: { roles: [finance], notRequester: false } }
  - { id: at_once, effect: approve, actions: [order.place], approvers: { roles: [finance], expiresAfter: 3s } }
  - { id: drafts, effect: suggest, actions: [note.write], approvers: { roles: [support] } }`;

export const payment = (amountCents = 5_000): Move => ({
  call: [['payment.send', { recordId: 'r1', amountCents }]],
});

/** A run whose first call waits for a person, at the moment it can be decided. */
export async function asking(
  stack: TestStack,
  model: TestModel,
  move: Move,
  more: { token?: string } = {},
): Promise<{ runId: string; approval: ApprovalRow }> {
  model.script = plays(move);
  const token = more.token ?? (await stack.token('acme'));
  const { runId } = await stack.client.startRun({
    token,
    agent: 'test_worker',
    input: 'do it',
    target: { system: 'keeper', recordId: 'r1' },
  });
  const approval = await until(
    'a request for approval',
    async () => (await stack.client.approvals({ token, runId, open: false }))[0],
    60_000,
  );
  return { runId, approval };
}
