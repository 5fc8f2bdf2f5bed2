import { amountsIn, linksIn } from './ticket';

/** What a customer wants of us. */
export type Intent =
  | { readonly kind: 'refund'; readonly amountCents: number | undefined }
  | { readonly kind: 'change'; readonly field: 'address' | 'phone' | 'email'; readonly value: string }
  | { readonly kind: 'mail' }
  | { readonly kind: 'page'; readonly url: string }
  | { readonly kind: 'complaint' }
  | { readonly kind: 'technical' }
  | { readonly kind: 'follow_up' }
  | { readonly kind: 'question' };

const REFUND =
  /\b(?:refund (?:me\b|my\b|the\b|it\b|this\b|of\b|[$€])|(?:a|my|for a|full|partial) refund|money back|reimburse|charged (?:me |us )?(?:twice|double|two times)|double charge|return (?:my|our|the) money|credited back|give (?:me|us) back|paid twice|billed twice)/i;
const MAIL =
  /\b(?:e-?mail (?:me|us|it|them|over)|(?:by|via|in an) e-?mail|to (?:my|our) (?:inbox|mailbox)|mail (?:me|us|it))\b/i;
const COMPLAINT =
  /\b(?:unacceptable|disappoint\w*|terrible|appalling|fed up|ridiculous|rude|worst|disgrace\w*|third time|complain\w*|let down)\b/i;
const TECHNICAL =
  /\b(?:error|crash\w*|outage|not working|doesn't work|broken|cannot log in|can't log in|stuck|fails?|frozen|offline)\b/i;
const FOLLOW_UP =
  /\b(?:still waiting|any news|any update|following up|wrote (?:to you )?(?:last|two|a)|earlier ticket|no answer|heard nothing|chasing)\b/i;

const CHANGES: readonly { field: 'address' | 'phone' | 'email'; pattern: RegExp }[] = [
  {
    field: 'email',
    pattern:
      /\b(?:new |reach me at |use )?(?:e-?mail|mail) address(?: \w+){0,3}?(?: is| to|:) ?([\w.+-]+@[\w-]+(?:\.[\w-]+)+)/i,
  },
  {
    field: 'phone',
    pattern:
      /\b(?:phone|mobile|telephone|cell|number)\b(?: \w+){0,4}?(?: is| to|:| at) ?(\+?\d[\d -]{6,}\d)/i,
  },
  {
    field: 'address',
    pattern:
      /\b(?:address|moved|move|deliver(?:ies)?|office|ship everything)\b(?: \w+){0,4}?(?: is| to|:| at) ?(\d+ [^.\n]{8,120}?)(?:\.|\n|$)/i,
  },
];

/** Topics that knowledge bases have documents on; the word is what is searched for. */
const TOPICS: readonly { word: string; pattern: RegExp }[] = [
  {
    word: 'refund',
    pattern:
      /\b(?:refunds?|money back|reimburse\w*|charged|billed|paid twice|credited back|give (?:me|us) back)\b/i,
  },
  { word: 'warranty', pattern: /\b(?:warrant\w*|guarantee|defect\w*|repair\w*|faulty)\b/i },
  { word: 'delivery', pattern: /\b(?:deliver\w*|shipping|shipment|parcel|arrive\w*|courier|tracking)\b/i },
  { word: 'password', pattern: /\b(?:password|log in|login|sign in|locked out|two-factor)\b/i },
  { word: 'invoice', pattern: /\b(?:invoices?|receipts?|vat|billing|tax)\b/i },
  {
    word: 'cancellation',
    pattern: /\b(?:cancel\w*|terminate|notice period|end (?:my|our) (?:plan|contract|subscription))\b/i,
  },
  {
    word: 'export',
    pattern: /\b(?:export\w*|backup|download (?:my|our|all)|data copy|take (?:my|our) data)\b/i,
  },
  {
    word: 'hours',
    pattern: /\b(?:open(?:ing)?|hours|weekend|holiday|phone line|reach a person|late in the evening)\b/i,
  },
];

/** The change of our records that a text asks for. */
export function changeOf(text: string): Extract<Intent, { kind: 'change' }> | undefined {
  for (const { field, pattern } of CHANGES) {
    const value = pattern.exec(text)?.[1]?.trim();
    if (
      value !== undefined &&
      /\b(?:chang\w*|updat\w*|new|mov\w*|correct|replace|switch\w*|from now on)\b/i.test(text)
    )
      return { kind: 'change', field, value };
  }
  return undefined;
}

/** Reads what a customer asks for. The first that fits wins: money before data, data before words. */
export function intentOf(text: string): Intent {
  if (REFUND.test(text)) return { kind: 'refund', amountCents: amountsIn(text)[0] };
  const change = changeOf(text);
  if (change) return change;
  if (MAIL.test(text)) return { kind: 'mail' };
  const [url] = linksIn(text);
  if (url !== undefined) return { kind: 'page', url };
  if (COMPLAINT.test(text)) return { kind: 'complaint' };
  if (FOLLOW_UP.test(text)) return { kind: 'follow_up' };
  if (TECHNICAL.test(text)) return { kind: 'technical' };
  return { kind: 'question' };
}

/** The one word to search the knowledge base for; `undefined` where no topic is known. */
export function topicOf(text: string): string | undefined {
  return TOPICS.find(({ pattern }) => pattern.test(text))?.word;
}
