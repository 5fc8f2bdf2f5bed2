import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { Category, Priority, recordsOfTicket, Status, Ticket, TicketId } from './records';

export const ticketUpdate = defineAction({
  name: 'ticket.update',
  description: 'Set status, category and priority of a ticket.',
  effect: 'write',
  args: z.object({ ticketId: TicketId, status: Status, category: Category, priority: Priority }),
  result: Ticket,
  system: 'helpdesk',
  secret: 'helpdesk:write',
  records: (args, ticket) => (ticket ? recordsOfTicket(ticket) : [{ system: 'helpdesk', id: args.ticketId }]),
  timeout: '10s',
  remoteHonoursKeys: true,
  reversible: 'reversible',
  run: async (ctx, { ticketId, ...change }) =>
    (await ctx.http.patch(`/tickets/${ticketId}`, { ...change, reference: ticketId })).body as Ticket,
  verify: async (ctx, args) => {
    const now = (await ctx.http.get(`/tickets/${args.ticketId}`)).body as Ticket;
    return now.status === args.status && now.category === args.category && now.priority === args.priority;
  },
});
