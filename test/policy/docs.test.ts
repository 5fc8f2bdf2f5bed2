import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatMistakes } from '../../policy/documents';
import { vocabularyOf } from '../../policy/vocabulary';
import { app, compiled, mistakesOf, question, refund } from './sample';

const page = readFileSync(join(__dirname, '../../docs/policies.md'), 'utf8');
const blocks = (language: string): string[] =>
  [...page.matchAll(new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``, 'g'))].map(([, text = '']) => text);
const [regulated = '', careful = '', seniors = ''] = blocks('yaml');

test('P1 the first example of docs/policies.md decides as the page says', () => {
  const policy = compiled(regulated, 3);
  const mail = question({ action: 'email.send', args: { to: 'a', body: 'b' } });
  expect(policy.decide(question()).rules).toEqual(['read-tickets']);
  expect(policy.decide(refund(5_000)).rules).toEqual(['small-refund']);
  expect(policy.decide(refund(5_001)).rules).toEqual(['default-deny']);
  expect(policy.decide(mail).rules).toEqual(['mail-needs-compliance']);
  expect(policy.decide({ ...mail, facts: { compliance: 'passed' } }).rules).toEqual(['mail']);
  expect(policy.decide(question({ action: 'web.fetch', args: { url: 'u' } })).rules).toEqual(['no-web']);
  expect(policy.decide(question({ action: 'model.generate' })).rules).toEqual(['models.allow[0]']);
  expect(policy.mayUseSecret('support_triage', 'payments:refund').effect).toBe('allow');
});

test('P1 the second example of docs/policies.md decides as the page says', () => {
  const policy = compiled(seniors);
  const senior = { agentId: 'support_senior' };
  expect(policy.decide(refund(10_001, senior)).effect).toBe('deny');
  const known = { paymentId: 'p-2', amountCents: 10_000 };
  expect(policy.decide(refund(0, { ...senior, args: known })).rules).toEqual(['known-payments']);
  expect(policy.decide(refund(0, { ...senior, args: known, agentClass: 'finance' })).rules).toEqual([
    'default-deny',
  ]);
  expect(policy.decide(refund(100_001, senior)).rules).toEqual(['nothing-large']);
});

test('T4 T5 the example of doubt, undo and read-back in docs/policies.md decides as the page says', () => {
  const policy = compiled(careful);
  expect(policy.onUnknownOutcome).toBe('review');
  expect(policy.compensateOnKill).toBe(true);
  expect(policy.readBackWaived('payment.refund')).toBe(true);
  expect(policy.readBackWaived('ticket.update')).toBe(false);
  const back = { reversible: 'compensable' } as const;
  expect(policy.decide(refund(5_000)).rules).toEqual(['nothing-for-good']);
  expect(policy.decide(refund(5_000, back)).rules).toEqual(['refund']);
  expect(policy.decide(refund(5_001, back)).rules).toEqual(['large-needs-a-senior']);
  expect(policy.decide(refund(5_001, { ...back, undo: true })).rules).toEqual(['refund']);
  expect(policy.decide(refund(5_001, { ...back, agentId: 'support_senior' })).rules).toEqual(['refund']);
});

test('U3 mistakes look as docs/policies.md shows them', () => {
  const text = [
    'apiVersion: bulkhead/v1',
    'kind: PolicyProfile',
    'metadata: { name: acme }',
    'environments: [prod]',
    'rules:',
    '  - { id: a, effect: alow, actions: [ticket.read] }',
    '  - { id: bcd, effect: allow, actions: [ticket.raed] }',
  ].join('\n');
  expect(blocks('text')).toEqual([`${formatMistakes(mistakesOf(text), 'acme.yaml')}\n`]);
});

test('U3 docs/policies.md lists every attribute that rules can read, and no other', () => {
  const names = new Set(
    [...vocabularyOf(app.actions).contexts.values()].flatMap(({ fields }) => [...fields.keys()]),
  );
  const table = page.slice(page.indexOf('## Conditions'), page.indexOf('## What a decision says'));
  const rows = table
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|')[1] ?? '');
  const listed = new Set([...rows.join().matchAll(/context\.(\w+)/g)].map(([, name]) => name));
  expect([...listed].sort()).toEqual([...names].sort());
});
