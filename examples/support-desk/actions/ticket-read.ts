import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { recordsOfTicket, Ticket, TicketId } from './records';

export const ticketRead = defineAction({
  name: 'ticket.read',
  description: 'Read a support ticket: its text, status, customer and payments.',
  effect: 'read',
  args: z.object({ ticketId: TicketId }),
  result: Ticket,
  system: 'helpdesk',
  secret: 'helpdesk:read',
  records: (args, ticket) => (ticket ? recordsOfTicket(ticket) : [{ system: 'helpdesk', id: args.ticketId }]),
  resultClasses: ['pii'],
  timeout: '10s',
  run: async (ctx, args) => (await ctx.http.get(`/tickets/${args.ticketId}`)).body as Ticket,
});
