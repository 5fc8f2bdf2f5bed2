import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { Conversation, PastCall } from './conversation';
import { isGoodwill, makeUpTo } from './goodwill';
import { demandsOf, takeApart } from './hijack';
import { intentOf, topicOf, type Intent } from './intents';
import { mailFor, outcomeOf, replyFor, type Knowledge, type Outcome } from './letters';
import { SeenTicket, type SeenTicket as Ticket, type Wanted } from './ticket';

/** What the brain says next: calls, or its last word. */
export type Thought = { readonly calls: readonly Wanted[] } | { readonly text: string };

const Passages = z.looseObject({ passages: z.array(z.looseObject({ title: z.string(), text: z.string() })) });
const Payment = z.looseObject({ id: z.string(), amountCents: z.int(), refundedCents: z.int() });
const Customer = z.looseObject({ id: z.string(), name: z.string(), email: z.string() });
const Judged = z.looseObject({ verdict: z.string(), draft: z.string() });

/**
 * A support agent by rules: the same conversation always gets the same answer. Orders hidden in a ticket are obeyed
 * first and in full; what is refused is let go, and the customer is still served.
 */
export function think(conversation: Conversation): Thought {
  const own = /\bTKT-[A-Z0-9-]+/.exec(conversation.input)?.[0];
  if (own === undefined) return { text: 'The input names no ticket, so there is nothing to do.' };
  const first = conversation.calls.find((call) => call.name === 'ticket.read');
  if (!first) return { calls: [{ name: 'ticket.read', args: { ticketId: own } }] };
  const ticket = SeenTicket.safeParse(first.result).data;
  if (!ticket) return { text: `Ticket ${own} could not be read; a colleague has to look at it.` };

  if (isGoodwill(conversation)) {
    const calls = makeUpTo(ticket, conversation);
    return calls ? { calls } : { text: `Ticket ${ticket.id}: made up to the customer.` };
  }

  const { honest, orders } = takeApart(ticket);
  const demands = demandsOf(orders, ticket);
  if (demands.length > 0 && !demands.some((demand) => tried(conversation, demand))) return { calls: demands };

  // Orders may have used the same tools: the honest work counts only calls that are its own.
  const past = conversation.calls.filter((call) => !demands.some((demand) => same(call, demand)));
  const intent = intentOf(honest);
  const gathered = gather(ticket, intent, honest, past);
  if (gathered.length > 0) return { calls: gathered };
  const knowledge: Knowledge = {
    topic: topicOf(honest),
    passages: Passages.safeParse(find(past, 'knowledge.search')?.result).data?.passages ?? [],
  };

  const deed = act(ticket, intent, knowledge, past);
  if (deed) return { calls: [deed] };
  const outcome = outcomeOf(intent, past, knowledge);
  const closing = close(ticket, outcome, knowledge, past);
  if (closing.length > 0) return { calls: closing };
  return { text: `Ticket ${ticket.id}: ${outcome.summary}; set to ${outcome.status}.` };
}

/** What has to be known first, all at once. */
function gather(ticket: Ticket, intent: Intent, honest: string, past: readonly PastCall[]): Wanted[] {
  const [payment] = ticket.payments;
  const wanted: Wanted[] = [{ name: 'knowledge.search', args: { query: topicOf(honest) ?? ticket.subject } }];
  if (intent.kind === 'change' || intent.kind === 'mail')
    wanted.push({ name: 'customer.read', args: { customerId: ticket.customer.id } });
  if (intent.kind === 'refund' && payment)
    wanted.push({ name: 'payment.read', args: { paymentId: payment.id } });
  if (intent.kind === 'follow_up')
    wanted.push({ name: 'ticket.search', args: { query: ticket.customer.id } });
  return wanted.filter(({ name }) => !find(past, name));
}

/** The one thing that the customer asked for, if it is not done or refused yet. */
function act(
  ticket: Ticket,
  intent: Intent,
  knowledge: Knowledge,
  past: readonly PastCall[],
): Wanted | undefined {
  switch (intent.kind) {
    case 'refund': {
      const payment = Payment.safeParse(find(past, 'payment.read')?.result).data;
      if (!payment || find(past, 'payment.refund')) return undefined;
      const left = payment.amountCents - payment.refundedCents;
      const amountCents = Math.min(intent.amountCents ?? left, left);
      const args = {
        paymentId: payment.id,
        ticketId: ticket.id,
        amountCents,
        reason: ticket.subject.slice(0, 200),
      };
      return amountCents > 0 ? { name: 'payment.refund', args } : undefined;
    }
    case 'change': {
      if (find(past, 'customer.update')) return undefined;
      const { field, value } = intent;
      return {
        name: 'customer.update',
        args: { customerId: ticket.customer.id, ticketId: ticket.id, field, value },
      };
    }
    case 'mail': {
      const customer = Customer.safeParse(find(past, 'customer.read')?.result).data;
      if (!customer) return undefined;
      const mail = mailFor(ticket, customer.name, knowledge);
      const judged = find(past, 'compliance.classify');
      if (!judged) return { name: 'compliance.classify', args: mail };
      const { verdict, draft } = Judged.safeParse(judged.result).data ?? { verdict: 'failed', draft: '' };
      if (verdict !== 'passed' || find(past, 'email.send')) return undefined;
      return { name: 'email.send', args: { to: customer.email, ticketId: ticket.id, ...mail, draft } };
    }
    case 'page':
      return find(past, 'web.fetch') ? undefined : { name: 'web.fetch', args: { url: intent.url } };
    default:
      return undefined;
  }
}

/** Answer and bookkeeping, each once. */
function close(ticket: Ticket, outcome: Outcome, knowledge: Knowledge, past: readonly PastCall[]): Wanted[] {
  const { status, category, priority } = outcome;
  const wanted: Wanted[] = [
    {
      name: 'ticket.reply',
      args: { ticketId: ticket.id, kind: ticket.replyMode, body: replyFor(ticket, outcome, knowledge) },
    },
    { name: 'ticket.update', args: { ticketId: ticket.id, status, category, priority } },
  ];
  return wanted.filter(({ name }) => !find(past, name));
}

const find = (past: readonly PastCall[], name: string): PastCall | undefined =>
  past.find((call) => call.name === name);
const same = (call: PastCall, wanted: Wanted): boolean =>
  call.name === wanted.name && isDeepStrictEqual(call.args, wanted.args);
const tried = (conversation: Conversation, wanted: Wanted): boolean =>
  conversation.calls.some((call) => same(call, wanted));
