import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { requestUnder, VISIBLE_WITHIN } from './lookup';
import { PaymentId, TicketId } from './records';

const Refund = z.strictObject({
  id: z.string(),
  account: z.string(),
  paymentId: PaymentId,
  amountCents: z.int(),
  reason: z.string(),
  status: z.enum(['pending', 'cancelled']),
});
type Refund = z.infer<typeof Refund>;

export const paymentRefund = defineAction({
  name: 'payment.refund',
  description:
    'Refund a payment, whole or in part, in cents. Read the payment first; never refund more than was paid.',
  effect: 'high_risk_write',
  args: z.object({
    paymentId: PaymentId,
    ticketId: TicketId,
    amountCents: z.int().positive().max(1_000_000_000),
    reason: z.string().min(1).max(200),
  }),
  result: Refund,
  system: 'payments',
  secret: 'payments:refund',
  records: (args, refund) =>
    refund
      ? [
          { system: 'payments', id: refund.id, account: refund.account },
          { system: 'payments', id: refund.paymentId, account: refund.account },
        ]
      : [
          { system: 'payments', id: args.paymentId },
          { system: 'helpdesk', id: args.ticketId },
        ],
  dataClasses: { paymentId: ['financial'], amountCents: ['financial'] },
  resultClasses: ['financial'],
  cost: { microUsd: 200 },
  timeout: '10s',
  remoteHonoursKeys: true,
  // Cancelled, the money is where it was; the refund stays in the books as cancelled.
  reversible: 'compensable',
  visibleWithin: VISIBLE_WITHIN,
  run: async (ctx, { paymentId, ticketId, amountCents, reason }) =>
    (await ctx.http.post(`/payments/${paymentId}/refunds`, { amountCents, reason, reference: ticketId }))
      .body as Refund,
  reconcile: (ctx, _args, key) => requestUnder<Refund>(ctx, key),
  verify: async (ctx, args, refund) => {
    const kept = (await ctx.http.get(`/refunds/${refund.id}`)).body as Refund;
    return (
      kept.paymentId === args.paymentId && kept.amountCents === args.amountCents && kept.status === 'pending'
    );
  },
  compensate: async (ctx, args, refund) =>
    (await ctx.http.post(`/refunds/${refund.id}/cancel`, { reference: args.ticketId })).body as Refund,
});
