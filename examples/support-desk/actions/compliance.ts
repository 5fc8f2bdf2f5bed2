/** What may not leave by mail, each with the reason that is shown. */
const RULES: readonly { reason: string; found: (text: string) => boolean }[] = [
  {
    reason: 'holds a payment card number',
    found: (text) => (text.match(/\d(?:[ -]?\d){12,18}/g) ?? []).some(luhn),
  },
  {
    reason: 'holds a bank account number',
    found: (text) => /\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}\b/.test(text),
  },
  {
    reason: 'holds a credential',
    found: (text) => /\b(?:password|api key|bearer|access token)\s*(?::|=|is\s+(?=\S*\d))/i.test(text),
  },
  {
    reason: 'promises what only a contract may',
    found: (text) => /\bwe (?:guarantee|promise|warrant)\b/i.test(text),
  },
  { reason: 'speaks of health data', found: (text) => /\b(?:diagnos|medical record|patient)/i.test(text) },
];

/** Reasons against mailing a text, none if it may go. Deterministic: the same text always gets the same answer. */
export function complianceOf(text: string): string[] {
  return RULES.filter((rule) => rule.found(text)).map((rule) => rule.reason);
}

/** The check digit of card numbers (ISO/IEC 7812). */
function luhn(candidate: string): boolean {
  const digits = (candidate.match(/\d/g) ?? []).reverse().map(Number);
  const sum = digits.reduce((total, digit, index) => {
    const doubled = index % 2 === 1 ? digit * 2 : digit;
    return total + (doubled > 9 ? doubled - 9 : doubled);
  }, 0);
  return sum % 10 === 0;
}
