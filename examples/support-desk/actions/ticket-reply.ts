import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { requestUnder, VISIBLE_WITHIN } from './lookup';
import { recordsOfTicket, ReplyKind, Ticket, TicketId } from './records';

export const ticketReply = defineAction({
  name: 'ticket.reply',
  description:
    'Answer a ticket. `direct` reaches the customer at once, `draft` waits for a colleague: use the replyMode of the ticket.',
  effect: 'write',
  args: z.object({ ticketId: TicketId, kind: ReplyKind, body: z.string().min(1).max(5_000) }),
  result: Ticket,
  system: 'helpdesk',
  secret: 'helpdesk:write',
  records: (args, ticket) => (ticket ? recordsOfTicket(ticket) : [{ system: 'helpdesk', id: args.ticketId }]),
  resultClasses: ['pii'],
  timeout: '10s',
  remoteHonoursKeys: true,
  // What a customer has read cannot be unsaid, and an unasked "disregard this" would be one more thing said: an undo leaves
  // the answer, sets the ticket back as it was, and a colleague sees both.
  reversible: 'final',
  visibleWithin: VISIBLE_WITHIN,
  run: async (ctx, { ticketId, ...reply }) =>
    (await ctx.http.post(`/tickets/${ticketId}/replies`, { ...reply, reference: ticketId })).body as Ticket,
  reconcile: (ctx, _args, key) => requestUnder<Ticket>(ctx, key),
});
