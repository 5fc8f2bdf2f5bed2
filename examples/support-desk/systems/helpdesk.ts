import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { runSystem } from './process';
import { requestLookUp } from './requests';
import { parsed, Problem, type Asked, type Reply } from './server';
import type { Stored } from './store';

const Ticket = z.looseObject({
  id: z.string(),
  account: z.string(),
  subject: z.string(),
  text: z.string(),
  status: z.string(),
  category: z.string(),
  priority: z.string(),
  openedAt: z.string(),
  requester: z.string(),
  customer: z.object({ id: z.string(), account: z.string() }),
  payments: z.array(z.object({ id: z.string(), account: z.string(), description: z.string() })),
  replies: z.array(z.object({ kind: z.string(), body: z.string() })).default([]),
});

const Setting = z.strictObject({
  status: z.enum(['open', 'pending', 'solved', 'escalated']),
  category: z.enum(['billing', 'account', 'question', 'technical', 'complaint']),
  priority: z.enum(['low', 'normal', 'high']),
});

const Change = Setting.extend({
  reference: z.string(),
  /** Change it only where it is still set so: whoever takes a change back must not take a later one with it. */
  expected: Setting.optional(),
});

const NewReply = z.strictObject({
  kind: z.enum(['draft', 'direct']),
  body: z.string().min(1).max(10_000),
  reference: z.string(),
});

/** Whether an account's agents draft for a person to send, or answer customers themselves: a setting of the account. */
function view(asked: Asked, stored: Stored) {
  const ticket = Ticket.parse(stored);
  const replyMode = asked.store.get('accounts', ticket.account)?.replyMode ?? 'direct';
  return { ...ticket, replyMode };
}

const settingOf = ({ status, category, priority }: Stored) => ({ status, category, priority });

function changed(
  asked: Asked,
  operation: string,
  record: Stored,
  answered: { status: number; more?: object },
): Reply {
  const answer = { status: answered.status, body: { ...view(asked, record), ...answered.more } };
  return {
    effect: {
      operation,
      recordId: record.id,
      account: record.account,
      puts: [{ collection: 'tickets', record }],
      answer,
    },
  };
}

runSystem({
  name: 'helpdesk',
  keysHonouredForMs: null,
  routes: [
    {
      method: 'GET',
      path: '/tickets/:id',
      needs: ['read', 'write'],
      handle: (asked) => ({ status: 200, body: view(asked, asked.owned('tickets', asked.params.id ?? '')) }),
    },
    {
      method: 'GET',
      path: '/tickets',
      needs: ['read'],
      handle: (asked) => {
        const words = (asked.query.get('query') ?? '').toLowerCase().split(/\s+/).filter(Boolean);
        const found = asked
          .visible('tickets')
          .map((stored) => view(asked, stored))
          .filter((ticket) => words.every((word) => JSON.stringify(ticket).toLowerCase().includes(word)))
          .slice(0, 5)
          .map(({ id, account, subject, status, openedAt, customer }) => ({
            id,
            account,
            subject,
            status,
            openedAt,
            customer,
          }));
        return { status: 200, body: { tickets: found } };
      },
    },
    {
      method: 'PATCH',
      path: '/tickets/:id',
      needs: ['write'],
      handle: (asked) => {
        const ticket = asked.owned('tickets', asked.params.id ?? '');
        const { status, category, priority, expected } = parsed(Change, asked.body);
        const previous = settingOf(ticket);
        if (expected && !isDeepStrictEqual(previous, expected))
          throw new Problem(412, `${ticket.id} was set anew since`);
        return changed(
          asked,
          'ticket.update',
          { ...ticket, status, category, priority },
          { status: 200, more: { previous } },
        );
      },
    },
    {
      method: 'POST',
      path: '/tickets/:id/replies',
      needs: ['write'],
      handle: (asked) => {
        const ticket = asked.owned('tickets', asked.params.id ?? '');
        const { kind, body } = parsed(NewReply, asked.body);
        const replies = [...Ticket.parse(ticket).replies, { kind, body }];
        return changed(asked, 'reply.create', { ...ticket, replies }, { status: 201 });
      },
    },
    requestLookUp(['write']),
  ],
});
