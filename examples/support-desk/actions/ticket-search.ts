import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { Status, TicketId } from './records';

const FoundTicket = z.strictObject({
  id: TicketId,
  account: z.string(),
  subject: z.string(),
  status: Status,
  openedAt: z.string(),
  customer: z.strictObject({ id: z.string(), account: z.string() }),
});

const Found = z.strictObject({ tickets: z.array(FoundTicket) });
type Found = z.infer<typeof Found>;

export const ticketSearch = defineAction({
  name: 'ticket.search',
  description:
    'Find tickets that hold all the given words, for example the id of a customer. At most five come back.',
  effect: 'read',
  args: z.object({ query: z.string().min(1).max(200) }),
  result: Found,
  system: 'helpdesk',
  secret: 'helpdesk:read',
  records: (_args, result) =>
    (result?.tickets ?? []).flatMap(({ id, account, customer }) => [
      { system: 'helpdesk', id, account },
      { system: 'crm', id: customer.id, account: customer.account },
    ]),
  resultClasses: ['pii'],
  timeout: '10s',
  run: async (ctx, args) =>
    (await ctx.http.get(`/tickets?query=${encodeURIComponent(args.query)}`)).body as Found,
});
