import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { Customer, CustomerId } from './records';

export const customerRead = defineAction({
  name: 'customer.read',
  description: 'Read a customer of the CRM: name, mail address, phone, postal address.',
  effect: 'read',
  args: z.object({ customerId: CustomerId }),
  result: Customer,
  system: 'crm',
  secret: 'crm:read',
  records: (args, customer) => [{ system: 'crm', id: args.customerId, account: customer?.account }],
  resultClasses: ['pii'],
  timeout: '10s',
  // Rules let mail go only to the address on file.
  facts: {
    schema: z.object({ customer_email: z.string() }),
    from: (_args, customer) => ({ customer_email: customer.email }),
  },
  run: async (ctx, args) => (await ctx.http.get(`/customers/${args.customerId}`)).body as Customer,
});
