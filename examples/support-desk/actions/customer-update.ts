import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { requestUnder, VISIBLE_WITHIN } from './lookup';
import { Customer, CustomerId, TicketId } from './records';

const Field = z.enum(['address', 'phone', 'email']);

/** The customer as it is now, and what the field said before: with it the change can be taken back. */
const Updated = Customer.extend({ previous: z.strictObject({ field: Field, value: z.string() }) });
type Updated = z.infer<typeof Updated>;

export const customerUpdate = defineAction({
  name: 'customer.update',
  description: 'Change one field of a customer in the CRM, because a ticket of that customer asks for it.',
  effect: 'write',
  args: z.object({
    customerId: CustomerId,
    ticketId: TicketId,
    field: Field,
    value: z.string().min(3).max(300),
  }),
  result: Updated,
  system: 'crm',
  secret: 'crm:write',
  records: (args, customer) =>
    customer
      ? [{ system: 'crm', id: customer.id, account: customer.account }]
      : [
          { system: 'crm', id: args.customerId },
          { system: 'helpdesk', id: args.ticketId },
        ],
  resultClasses: ['pii'],
  timeout: '10s',
  remoteHonoursKeys: true,
  reversible: 'reversible',
  visibleWithin: VISIBLE_WITHIN,
  run: async (ctx, { customerId, ticketId, field, value }) =>
    (await ctx.http.patch(`/customers/${customerId}`, { field, value, reference: ticketId })).body as Updated,
  reconcile: (ctx, _args, key) => requestUnder<Updated>(ctx, key),
  verify: async (ctx, args) =>
    ((await ctx.http.get(`/customers/${args.customerId}`)).body as Customer)[args.field] === args.value,
  // Only what we wrote is taken back: a change that somebody made since is refused by the CRM, and a person looks at it.
  compensate: async (ctx, { customerId, ticketId, field, value }, { previous }) => {
    const change = { field, value: previous.value, expected: value, reference: ticketId };
    return (await ctx.http.patch(`/customers/${customerId}`, change)).body;
  },
});
