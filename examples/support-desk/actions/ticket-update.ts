import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { requestUnder, VISIBLE_WITHIN } from './lookup';
import { Category, Priority, recordsOfTicket, Status, Ticket, TicketId } from './records';

const Setting = z.strictObject({ status: Status, category: Category, priority: Priority });

/** The ticket as it is now, and how it was set before: with it the change can be taken back. */
const Updated = Ticket.extend({ previous: Setting });
type Updated = z.infer<typeof Updated>;

export const ticketUpdate = defineAction({
  name: 'ticket.update',
  description: 'Set status, category and priority of a ticket.',
  effect: 'write',
  args: z.object({ ticketId: TicketId, ...Setting.shape }),
  result: Updated,
  system: 'helpdesk',
  secret: 'helpdesk:write',
  records: (args, ticket) => (ticket ? recordsOfTicket(ticket) : [{ system: 'helpdesk', id: args.ticketId }]),
  resultClasses: ['pii'],
  timeout: '10s',
  remoteHonoursKeys: true,
  reversible: 'reversible',
  visibleWithin: VISIBLE_WITHIN,
  run: async (ctx, { ticketId, ...setting }) =>
    (await ctx.http.patch(`/tickets/${ticketId}`, { ...setting, reference: ticketId })).body as Updated,
  reconcile: (ctx, _args, key) => requestUnder<Updated>(ctx, key),
  verify: async (ctx, args) => {
    const now = (await ctx.http.get(`/tickets/${args.ticketId}`)).body as Ticket;
    return now.status === args.status && now.category === args.category && now.priority === args.priority;
  },
  // Only what we set is taken back: where a colleague has set it anew the helpdesk refuses, and a person looks at it.
  compensate: async (ctx, { ticketId, ...setting }, { previous }) => {
    const change = { ...previous, expected: setting, reference: ticketId };
    return (await ctx.http.patch(`/tickets/${ticketId}`, change)).body;
  },
});
