import type { PastCall } from './conversation';
import type { Intent } from './intents';
import type { SeenTicket } from './ticket';

/** What the knowledge base said. */
export interface Knowledge {
  readonly topic: string | undefined;
  readonly passages: readonly { readonly title: string; readonly text: string }[];
}

/** How a ticket ends, in the words of the helpdesk, and what is told to the customer. */
export interface Outcome {
  readonly status: 'open' | 'pending' | 'solved' | 'escalated';
  readonly category: 'billing' | 'account' | 'question' | 'technical' | 'complaint';
  readonly priority: 'low' | 'normal' | 'high';
  readonly summary: string;
  readonly message: string;
}

const money = (cents: unknown): string =>
  typeof cents === 'number' ? `$${(cents / 100).toFixed(2)}` : 'the sum';

function argument(call: PastCall | undefined, name: string): unknown {
  const args = call?.args;
  return typeof args === 'object' && args !== null
    ? Object.entries(args).find(([key]) => key === name)?.[1]
    : undefined;
}

/** From what was asked and what came of it to how the ticket ends. */
export function outcomeOf(intent: Intent, past: readonly PastCall[], knowledge: Knowledge): Outcome {
  const call = (name: string): PastCall | undefined => past.find((one) => one.name === name);
  const done = (name: string): boolean => past.some((one) => one.name === name && one.done);
  switch (intent.kind) {
    case 'refund': {
      const sum = money(argument(call('payment.refund'), 'amountCents'));
      return done('payment.refund')
        ? outcome(
            'solved',
            'billing',
            'normal',
            `refunded ${sum}`,
            `we have refunded ${sum} to your means of payment.`,
          )
        : outcome(
            'escalated',
            'billing',
            'high',
            'the refund needs a colleague',
            'a colleague in accounting is looking at your refund and will come back to you.',
          );
    }
    case 'change':
      return done('customer.update')
        ? outcome(
            'solved',
            'account',
            'normal',
            `changed the ${intent.field}`,
            `your ${intent.field} is now: ${intent.value}`,
          )
        : outcome(
            'escalated',
            'account',
            'normal',
            `the new ${intent.field} needs a colleague`,
            `a colleague will enter your new ${intent.field} and confirm it.`,
          );
    case 'mail':
      return done('email.send')
        ? outcome(
            'solved',
            'question',
            'normal',
            'answered by mail',
            'we have sent what you asked for to the mail address on file.',
          )
        : outcome(
            'pending',
            'question',
            'normal',
            'could not be mailed',
            'we may not send this by mail; please find what we can say here.',
          );
    case 'page':
      return done('web.fetch')
        ? outcome(
            'solved',
            'question',
            'normal',
            'read the page',
            'we have looked at the page that you name.',
          )
        : outcome(
            'pending',
            'technical',
            'normal',
            'the page could not be opened',
            'we cannot open outside pages from here; this is what we know about it.',
          );
    case 'complaint':
      return outcome(
        'escalated',
        'complaint',
        'high',
        'handed a complaint to a colleague',
        'we are sorry. This is not what you should get from us, and a person will call you.',
      );
    case 'technical':
      return outcome(
        'pending',
        'technical',
        'high',
        'passed to the technical team',
        'our technical team is on it.',
      );
    case 'follow_up':
      return outcome(
        'pending',
        'question',
        'high',
        'looked up the earlier tickets',
        'we have found your earlier messages and put them together with this one.',
      );
    case 'question':
      return knowledge.topic === undefined
        ? outcome(
            'escalated',
            'question',
            'normal',
            'nothing in the knowledge base',
            'a colleague who knows more about this will answer you.',
          )
        : outcome('solved', 'question', 'normal', `answered on ${knowledge.topic}`, 'thank you for asking.');
  }
}

function outcome(
  status: Outcome['status'],
  category: Outcome['category'],
  priority: Outcome['priority'],
  summary: string,
  message: string,
): Outcome {
  return { status, category, priority, summary, message };
}

/** The answer on the ticket. */
export function replyFor(ticket: SeenTicket, how: Outcome, knowledge: Knowledge): string {
  const [passage] = knowledge.topic === undefined ? [] : knowledge.passages;
  return [
    `Dear ${ticket.requester},`,
    how.message,
    ...(passage ? [passage.text] : []),
    'Your support team',
  ].join('\n\n');
}

/** The mail that a customer asked for; it quotes the request, as people do. */
export function mailFor(
  ticket: SeenTicket,
  name: string,
  knowledge: Knowledge,
): { subject: string; body: string } {
  const [passage] = knowledge.passages;
  const quoted = ticket.text
    .split('\n')
    .map((line) => `> ${line}`)
    .join('\n');
  return {
    subject: `Re: ${ticket.subject}`,
    body: [
      `Dear ${name},`,
      passage ? passage.text : 'we attach what we have on this.',
      'Your support team',
      quoted,
    ].join('\n\n'),
  };
}
