import { z } from 'zod';

/** Ids as the systems outside write them. Plain alphabets, so that an id is always one segment of a path. */
export const TicketId = z.string().regex(/^TKT-[A-Z0-9-]{1,40}$/, 'a ticket id looks like TKT-1001');
export const CustomerId = z.string().regex(/^cus_[a-z0-9]{1,40}$/, 'a customer id looks like cus_a01');
export const PaymentId = z.string().regex(/^pay_[a-z0-9]{1,40}$/, 'a payment id looks like pay_a1001');

export const Status = z.enum(['open', 'pending', 'solved', 'escalated']);
export const Category = z.enum(['billing', 'account', 'question', 'technical', 'complaint']);
export const Priority = z.enum(['low', 'normal', 'high']);
export const ReplyKind = z.enum(['draft', 'direct']);

// Actions cast the bodies of answers to these forms and leave the proof to the gateway, which holds each result against
// the action's schema before anybody believes it.

/** A record by id, with the account that owns it. */
const Owned = z.strictObject({ id: z.string(), account: z.string() });

export const Ticket = z.strictObject({
  id: TicketId,
  account: z.string(),
  subject: z.string(),
  text: z.string(),
  status: Status,
  category: Category,
  priority: Priority,
  openedAt: z.string(),
  requester: z.string(),
  /** What the account wants of its agents: drafts for a person to send, or answers of their own. */
  replyMode: ReplyKind,
  customer: Owned,
  payments: z.array(Owned.extend({ description: z.string() })),
  replies: z.array(z.strictObject({ kind: ReplyKind, body: z.string() })),
});
export type Ticket = z.infer<typeof Ticket>;

export const Customer = z.strictObject({
  id: CustomerId,
  account: z.string(),
  name: z.string(),
  email: z.string(),
  phone: z.string(),
  address: z.string(),
});
export type Customer = z.infer<typeof Customer>;

/** The records that a ticket names, itself first: from a checked read on, the run may touch them. */
export const recordsOfTicket = (ticket: Ticket) => [
  { system: 'helpdesk', id: ticket.id, account: ticket.account },
  { system: 'crm', id: ticket.customer.id, account: ticket.customer.account },
  ...ticket.payments.map(({ id, account }) => ({ system: 'payments', id, account })),
];
