import { z } from 'zod';
import { runSystem } from './process';
import { requestLookUp } from './requests';
import { parsed, Problem, type Asked, type Reply } from './server';

const Payment = z.looseObject({
  id: z.string(),
  account: z.string(),
  amountCents: z.int().positive(),
  refundedCents: z.int().nonnegative(),
});

const Refund = z.looseObject({
  id: z.string(),
  account: z.string(),
  paymentId: z.string(),
  amountCents: z.int().positive(),
  status: z.enum(['pending', 'cancelled']),
});

const NewRefund = z.strictObject({
  amountCents: z.int().positive(),
  reason: z.string().min(1).max(500),
  reference: z.string(),
});

const Cancellation = z.strictObject({ reference: z.string() });

function refund(asked: Asked): Reply {
  const payment = Payment.parse(asked.owned('payments', asked.params.id ?? ''));
  const { amountCents, reason } = parsed(NewRefund, asked.body);
  const left = payment.amountCents - payment.refundedCents;
  if (amountCents > left) throw new Problem(422, `only ${left} cents of ${payment.id} are left to refund`);
  const record = {
    id: `ref_${String(asked.nextSeq).padStart(8, '0')}`,
    account: payment.account,
    paymentId: payment.id,
    amountCents,
    reason,
    status: 'pending' as const,
  };
  return {
    effect: {
      operation: 'refund.create',
      recordId: payment.id,
      account: payment.account,
      puts: [
        {
          collection: 'payments',
          record: { ...payment, refundedCents: payment.refundedCents + amountCents },
        },
        { collection: 'refunds', record },
      ],
      answer: { status: 201, body: record },
    },
  };
}

function cancel(asked: Asked): Reply {
  parsed(Cancellation, asked.body);
  const known = Refund.parse(asked.owned('refunds', asked.params.id ?? ''));
  if (known.status === 'cancelled') return { status: 200, body: known };
  const payment = Payment.parse(asked.owned('payments', known.paymentId));
  const record = { ...known, status: 'cancelled' as const };
  return {
    effect: {
      operation: 'refund.cancel',
      recordId: known.paymentId,
      account: known.account,
      puts: [
        {
          collection: 'payments',
          record: { ...payment, refundedCents: payment.refundedCents - known.amountCents },
        },
        { collection: 'refunds', record },
      ],
      answer: { status: 200, body: record },
    },
  };
}

runSystem({
  name: 'payments',
  keysHonouredForMs: null,
  routes: [
    {
      method: 'GET',
      path: '/payments/:id',
      needs: ['read'],
      handle: (asked) => ({ status: 200, body: asked.owned('payments', asked.params.id ?? '') }),
    },
    { method: 'POST', path: '/payments/:id/refunds', needs: ['refund'], handle: refund },
    {
      method: 'GET',
      path: '/refunds/:id',
      needs: ['read', 'refund'],
      handle: (asked) => ({ status: 200, body: asked.owned('refunds', asked.params.id ?? '') }),
    },
    requestLookUp(['refund']),
    { method: 'POST', path: '/refunds/:id/cancel', needs: ['refund'], handle: cancel },
  ],
});
