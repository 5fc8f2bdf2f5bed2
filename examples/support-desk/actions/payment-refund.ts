import { z } from 'zod';
import { HttpRefused } from '../../../contracts/http-errors';
import { defineAction } from '../../../tools/define-action';
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
  cost: { microUsd: 200 },
  timeout: '10s',
  remoteHonoursKeys: true,
  reversible: 'compensable',
  run: async (ctx, { paymentId, ticketId, amountCents, reason }) =>
    (await ctx.http.post(`/payments/${paymentId}/refunds`, { amountCents, reason, reference: ticketId }))
      .body as Refund,
  reconcile: async (ctx, _args, key) => {
    try {
      return {
        happened: true,
        result: (await ctx.http.get(`/requests/${encodeURIComponent(key)}`)).body as Refund,
      };
    } catch (error) {
      if (error instanceof HttpRefused && error.status === 404) return 'absent';
      throw error;
    }
  },
  verify: async (ctx, args, refund) => {
    const kept = (await ctx.http.get(`/refunds/${refund.id}`)).body as Refund;
    return (
      kept.paymentId === args.paymentId && kept.amountCents === args.amountCents && kept.status === 'pending'
    );
  },
  compensate: async (ctx, _args, refund) =>
    (await ctx.http.post(`/refunds/${refund.id}/cancel`, {})).body as Refund,
});
