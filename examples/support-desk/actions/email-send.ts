import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { draftOf } from './draft';
import { requestUnder, VISIBLE_WITHIN } from './lookup';
import { TicketId } from './records';

const Sent = z.strictObject({
  id: z.string(),
  account: z.string(),
  to: z.string(),
  status: z.literal('queued'),
});
type Sent = z.infer<typeof Sent>;

export const emailSend = defineAction({
  name: 'email.send',
  description:
    'Mail a customer. Have subject and body judged by compliance.classify first and pass its draft code, with both unchanged.',
  effect: 'write',
  args: z
    .object({
      to: z.email(),
      ticketId: TicketId,
      subject: z.string().min(1).max(200),
      body: z.string().min(1).max(20_000),
      draft: z.string(),
    })
    .refine((mail) => mail.draft === draftOf(mail), {
      path: ['draft'],
      message: 'is not the code of this very subject and body: ask compliance.classify for it',
    }),
  result: Sent,
  system: 'mail',
  secret: 'mail:send',
  records: (args, message) =>
    message
      ? [{ system: 'mail', id: message.id, account: message.account }]
      : [{ system: 'helpdesk', id: args.ticketId }],
  dataClasses: { to: ['pii'] },
  timeout: '10s',
  remoteHonoursKeys: true,
  keyValidFor: '24h',
  reversible: 'final',
  visibleWithin: VISIBLE_WITHIN,
  run: async (ctx, { to, subject, body, ticketId }) =>
    (await ctx.http.post('/messages', { to, subject, body, reference: ticketId })).body as Sent,
  reconcile: (ctx, _args, key) => requestUnder<Sent>(ctx, key),
});
