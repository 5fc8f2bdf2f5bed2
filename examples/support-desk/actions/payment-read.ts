import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { PaymentId } from './records';

const Payment = z.strictObject({
  id: PaymentId,
  account: z.string(),
  description: z.string(),
  amountCents: z.int(),
  refundedCents: z.int(),
});
type Payment = z.infer<typeof Payment>;

export const paymentRead = defineAction({
  name: 'payment.read',
  description: 'Read a payment: what was paid, and how much of it was refunded. Amounts are cents.',
  effect: 'read',
  args: z.object({ paymentId: PaymentId }),
  result: Payment,
  system: 'payments',
  secret: 'payments:read',
  records: (args, payment) => [{ system: 'payments', id: args.paymentId, account: payment?.account }],
  resultClasses: ['financial'],
  timeout: '10s',
  run: async (ctx, args) => (await ctx.http.get(`/payments/${args.paymentId}`)).body as Payment,
});
