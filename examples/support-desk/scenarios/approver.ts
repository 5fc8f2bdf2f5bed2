import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { ExampleContext } from '../../../tools/example';
import type { TicketCase } from '../data';

/** Who approves acme's writes in the main scenario: a person of the example, with the roles that acme's policy asks for. */
export const FIONA = { subject: 'fiona', roles: ['finance', 'support_lead'] } as const;

const LOOK_MS = 500;

const Refund = z.looseObject({ ticketId: z.string(), paymentId: z.string(), amountCents: z.int() });
const Change = z.looseObject({
  ticketId: z.string(),
  customerId: z.string(),
  field: z.string(),
  value: z.string(),
});

/**
 * Resolves with the work. Until then Fiona decides what waits on these tickets: she has read them, approves exactly what
 * their customers ask for, and denies all else. What waits on other tickets is not hers.
 */
export async function whileFionaDecides<T>(
  context: ExampleContext,
  tickets: readonly TicketCase[],
  work: Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const deciding = decideUntil(context, tickets, over.signal);
  try {
    // Should she be gone, nothing that waits would ever go on.
    return await Promise.race([work, deciding.then(() => work)]);
  } finally {
    over.abort();
    await deciding.catch(() => undefined);
  }
}

async function decideUntil(
  context: ExampleContext,
  tickets: readonly TicketCase[],
  over: AbortSignal,
): Promise<void> {
  const decided = new Set<number>();
  while (!over.aborted) {
    for (const { approvalNo, action, args } of await context.openApprovals('acme')) {
      if (decided.has(approvalNo)) continue;
      const asked: unknown = JSON.parse(args);
      const ticket = tickets.find(({ record }) => record.id === ticketOf(asked));
      if (!ticket) continue;
      const decision = isMeant(ticket, action, asked) ? 'approve' : 'deny';
      const note = `the example decides ${ticket.record.id}`;
      decided.add(approvalNo);
      const refused = await context
        .decide('acme', { approvalNo, decision, note, person: FIONA })
        .then(() => undefined, refusalOf);
      const what = `${decision === 'approve' ? 'approves' : 'denies'} ${action} (approval ${approvalNo})`;
      context.say(`acme    ${ticket.record.id} fiona ${what}${refused === undefined ? '' : `: ${refused}`}`);
    }
    await sleep(LOOK_MS, undefined, { signal: over }).catch(() => undefined);
  }
}

/** That it is too late, since the run was killed meanwhile, is an answer; all else is trouble. */
function refusalOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && (error.code === 'refused' || error.code === 'conflict'))
    return error.message;
  throw error;
}

/** The ticket that a write says it is for. */
export const ticketOf = (args: unknown): string | undefined =>
  z.looseObject({ ticketId: z.string() }).safeParse(args).data?.ticketId;

/** Whether the customer asks for exactly this. */
function isMeant({ expect }: TicketCase, action: string, args: unknown): boolean {
  return expect.effects.some((effect) => {
    if (action === 'payment.refund' && effect.operation === 'refund.create') {
      const refund = Refund.safeParse(args).data;
      return refund?.paymentId === effect.recordId && refund?.amountCents === effect['amountCents'];
    }
    if (action === 'customer.update' && effect.operation === 'customer.update') {
      const change = Change.safeParse(args).data;
      return (
        change?.customerId === effect.recordId &&
        change?.field === effect['field'] &&
        change?.value === effect['value']
      );
    }
    return false;
  });
}
