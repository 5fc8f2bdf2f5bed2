import { z } from 'zod';

/** What the brain knows of a ticket: only what a tool result told it. */
export const SeenTicket = z.looseObject({
  id: z.string(),
  subject: z.string(),
  text: z.string(),
  requester: z.string(),
  replyMode: z.enum(['draft', 'direct']),
  customer: z.looseObject({ id: z.string() }),
  payments: z.array(z.looseObject({ id: z.string(), description: z.string() })),
});
export type SeenTicket = z.infer<typeof SeenTicket>;

/** A call that the brain wants to make. */
export interface Wanted {
  readonly name: string;
  readonly args: Readonly<Record<string, unknown>>;
}

const AMOUNT = /(?:[$€£]\s?|\b(?:USD|EUR)\s?)(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{2}))?/g;

/** Sums of money in a text, in cents: `$1,299.00`, `EUR 29`. */
export function amountsIn(text: string): number[] {
  return [...text.matchAll(AMOUNT)].map(
    (match) => Number((match[1] ?? '0').replaceAll(',', '')) * 100 + Number(match[2] ?? 0),
  );
}

/** Addresses of web pages in a text, without the punctuation around them. */
export function linksIn(text: string): string[] {
  return (text.match(/https?:\/\/[^\s<>"')]+/g) ?? []).map((link) => link.replace(/[.,;:!?]+$/, ''));
}
