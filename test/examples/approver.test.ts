import type { ApprovalRow } from '../../contracts/approvals';
import type { ExampleContext, ExampleDecision } from '../../tools/example';
import { tenantData, type TicketCase } from '../../examples/support-desk/data';
import { FIONA, whileFionaDecides } from '../../examples/support-desk/scenarios/approver';
import { rowOf, type Handled } from '../../examples/support-desk/scenarios/runs';

const { tickets } = tenantData('acme');
const ticket = (id: string): TicketCase => {
  const found = tickets.find(({ record }) => record.id === id);
  if (!found) throw new Error(`no ticket ${id}`);
  return found;
};

/** What is decided of these requests in three looks; none of them goes away by being decided. */
async function decided(
  asked: readonly { action: string; args: object }[],
  decide: (decision: ExampleDecision) => Promise<void> = () => Promise.resolve(),
): Promise<{ decisions: Record<string, ExampleDecision['decision']>; said: string[] }> {
  const decisions: Record<string, ExampleDecision['decision']> = {};
  const said: string[] = [];
  let looks = 0;
  let over: () => void = () => undefined;
  const work = new Promise<void>((resolve) => (over = resolve));
  const context = {
    openApprovals: () => {
      looks += 1;
      if (looks === 3) over();
      return Promise.resolve(
        asked.map(({ action, args }, index) => ({
          approvalNo: index + 1,
          action,
          args: JSON.stringify(args),
        })) as unknown as ApprovalRow[],
      );
    },
    decide: (_tenant: string, decision: ExampleDecision) => {
      expect(decision.person).toEqual(FIONA);
      expect(decisions).not.toHaveProperty(String(decision.approvalNo));
      decisions[String(decision.approvalNo)] = decision.decision;
      return decide(decision);
    },
    say: (line: string) => void said.push(line),
  } as unknown as ExampleContext;
  await whileFionaDecides(context, tickets, work);
  return { decisions, said };
}

describe('the person who approves in the main scenario', () => {
  const refund = { ticketId: 'TKT-1008', paymentId: 'pay_a1008', amountCents: 38_900, reason: 'r' };
  const change = { ticketId: 'TKT-1011', customerId: ticket('TKT-1011').record['customer'], field: 'phone' };

  it('P4 approves exactly what a customer asks for, once, and denies all else', async () => {
    const { id } = change.customerId as { id: string };
    const asked = { ...change, customerId: id, value: '+44 7700 900713' };
    const { decisions } = await decided([
      { action: 'payment.refund', args: refund },
      { action: 'payment.refund', args: { ...refund, amountCents: 38_901 } },
      { action: 'payment.refund', args: { ...refund, paymentId: 'pay_a1022' } },
      { action: 'payment.refund', args: { ...refund, ticketId: 'TKT-1026', amountCents: 40_000 } },
      { action: 'customer.update', args: asked },
      { action: 'customer.update', args: { ...asked, value: '+44 7700 900714' } },
      { action: 'email.send', args: { ticketId: 'TKT-1008', to: 'a@b.example' } },
    ]);
    expect(Object.values(decisions)).toEqual(['approve', 'deny', 'deny', 'deny', 'approve', 'deny', 'deny']);
  });

  it('P4 leaves alone what waits on tickets that are not hers', async () => {
    const { decisions } = await decided([
      { action: 'payment.refund', args: { ...refund, ticketId: 'TKT-A1-AA1' } },
      { action: 'payment.refund', args: {} },
    ]);
    expect(decisions).toEqual({});
  });

  it('P4 says it where it is too late, and fails where she cannot decide at all', async () => {
    const answer = (code: string) => () =>
      Promise.reject(Object.assign(new Error(`it is ${code}`), { code }));
    const asked = [{ action: 'payment.refund', args: refund }];
    expect((await decided(asked, answer('refused'))).said).toEqual([expect.stringMatching(/it is refused$/)]);
    await expect(decided(asked, answer('unauthenticated'))).rejects.toThrow('it is unauthenticated');
  });
});

describe('the row of a ticket', () => {
  const judged = (id: string, more: Partial<Handled>): string => {
    const { refusals } = ticket(id).expect;
    const handled = {
      tenant: 'acme',
      ticket: { ...ticket(id), expect: { ...ticket(id).expect, effects: [] } },
      runId: 'run-1',
      report: { stopReason: 'completed' },
      refusals: refusals.map(({ action, rule }) => ({ action, rules: [rule], origin: 'policy' })),
      suggested: [],
      ...more,
    } as unknown as Handled;
    const { ok, note } = rowOf(handled, [], { exact: true });
    return `${String(ok)} ${note}`;
  };

  it('P8 holds suggestions to those that were meant', () => {
    expect(judged('TKT-1010', { suggested: ['email.send'] })).toBe('true TKT-1010 email.send suggested');
    expect(judged('TKT-1010', {})).toBe('false TKT-1010 suggested: nothing; meant: email.send');
    expect(judged('TKT-1001', { suggested: ['email.send'] })).toBe(
      'false TKT-1001 suggested: email.send; meant: nothing',
    );
  });
});
