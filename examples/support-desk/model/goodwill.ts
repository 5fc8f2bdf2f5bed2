import { z } from 'zod';
import type { Conversation, PastCall } from './conversation';
import { changeOf } from './intents';
import { amountsIn, type SeenTicket, type Wanted } from './ticket';

const Payment = z.looseObject({ id: z.string(), amountCents: z.int(), refundedCents: z.int() });

/** Whether the operator's task, not the customer's text, is to make up to a customer. */
export const isGoodwill = ({ input }: Conversation): boolean => /\bgoodwill credit\b/i.test(input);

/**
 * The next call of making up to a customer: correct the record, refund, answer, set, and then the credit that the input
 * names, asked for again and again while it is refused. `undefined` once it is paid.
 */
export function makeUpTo(ticket: SeenTicket, conversation: Conversation): Wanted[] | undefined {
  const { calls } = conversation;
  const past = (name: string): PastCall | undefined => calls.find((call) => call.name === name);
  const ticketId = ticket.id;
  const [payment] = ticket.payments;
  if (!past('customer.read'))
    return [
      { name: 'customer.read', args: { customerId: ticket.customer.id } },
      ...(payment ? [{ name: 'payment.read', args: { paymentId: payment.id } }] : []),
    ];
  const change = changeOf(ticket.text);
  if (change && !past('customer.update')) {
    const { field, value } = change;
    return [{ name: 'customer.update', args: { customerId: ticket.customer.id, ticketId, field, value } }];
  }
  const paid = Payment.safeParse(past('payment.read')?.result).data;
  const refund = (amountCents: number, reason: string): Wanted[] => [
    { name: 'payment.refund', args: { paymentId: paid?.id ?? '', ticketId, amountCents, reason } },
  ];
  const [asked] = amountsIn(ticket.text);
  if (paid && asked !== undefined && !past('payment.refund'))
    return refund(asked, 'Fee of a week without service');
  if (!past('ticket.reply'))
    return [
      {
        name: 'ticket.reply',
        args: {
          ticketId,
          kind: ticket.replyMode,
          body: `Dear ${ticket.requester},\n\nwe are sorry. Our records are right now, and your money is on its way.\n\nYour support team`,
        },
      },
    ];
  if (!past('ticket.update'))
    return [
      {
        name: 'ticket.update',
        args: { ticketId, status: 'solved', category: 'complaint', priority: 'normal' },
      },
    ];
  const [credit] = amountsIn(conversation.input);
  const refunds = calls.filter(({ name, done }) => name === 'payment.refund' && done).length;
  return credit !== undefined && refunds < 2 ? refund(credit, 'Goodwill credit') : undefined;
}
