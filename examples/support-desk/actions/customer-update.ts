import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { Customer, CustomerId, TicketId } from './records';

export const customerUpdate = defineAction({
  name: 'customer.update',
  description: 'Change one field of a customer in the CRM, because a ticket of that customer asks for it.',
  effect: 'write',
  args: z.object({
    customerId: CustomerId,
    ticketId: TicketId,
    field: z.enum(['address', 'phone', 'email']),
    value: z.string().min(3).max(300),
  }),
  result: Customer,
  system: 'crm',
  secret: 'crm:write',
  records: (args, customer) =>
    customer
      ? [{ system: 'crm', id: customer.id, account: customer.account }]
      : [
          { system: 'crm', id: args.customerId },
          { system: 'helpdesk', id: args.ticketId },
        ],
  timeout: '10s',
  remoteHonoursKeys: true,
  reversible: 'reversible',
  run: async (ctx, { customerId, ticketId, field, value }) =>
    (await ctx.http.patch(`/customers/${customerId}`, { field, value, reference: ticketId }))
      .body as Customer,
  verify: async (ctx, args) =>
    ((await ctx.http.get(`/customers/${args.customerId}`)).body as Customer)[args.field] === args.value,
});
