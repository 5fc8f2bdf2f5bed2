import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatMistakes } from '../../policy/documents';
import { vocabularyOf } from '../../policy/vocabulary';
import { app, compiled, mistakesOf, question, refund } from './sample';

const page = readFileSync(join(__dirname, '../../docs/policies.md'), 'utf8');
const blocks = (language: string): string[] =>
  [...page.matchAll(new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``, 'g'))].map(([, text = '']) => text);
const profiles = blocks('yaml').filter((text) => text.startsWith('apiVersion'));
const [regulated = '', fourEyes = '', careful = '', seniors = ''] = profiles;

test('P1 P3 P4 P5 P8 the first example of docs/policies.md decides as the page says', () => {
  const policy = compiled(regulated, 3);
  const mail = question({ action: 'email.send', args: { to: 'a', body: 'b' } });
  const passed = { facts: { compliance: 'passed' } };
  const update = question({ action: 'ticket.update', args: { ticketId: 't', tags: [], urgent: true } });
  const model = question({ action: 'model.generate', destination: 'llm.example' });
  const pii = { dataClasses: ['pii'] };
  expect(policy.decide(question()).rules).toEqual(['read-tickets']);
  expect(policy.decide(refund(5_000)).rules).toEqual(['small-refund']);
  expect(policy.decide(refund(5_001))).toMatchObject({
    effect: 'approve',
    rules: ['large-refund'],
    approval: { roles: [['finance']], expiresAfterMs: 86_400_000, notRequester: true },
  });
  expect(policy.decide(mail).rules).toEqual(['mail-needs-compliance']);
  expect(policy.decide({ ...mail, ...passed })).toMatchObject({
    effect: 'suggest',
    rules: ['draft-mail'],
    approval: { roles: [['operator']] },
  });
  expect(policy.decide({ ...mail, ...passed, ...pii, destination: 'mail.example' }).rules).toEqual([
    'no-pii-out',
  ]);
  expect(policy.decide({ ...update, ...pii, destination: 'acme.helpdesk.example' }).rules).toEqual([
    'update-ticket',
  ]);
  expect(policy.decide(question({ action: 'web.fetch', args: { url: 'u' } })).rules).toEqual([
    'default-deny',
  ]);
  expect(policy.decide({ ...model, dataClasses: ['internal'] }).rules).toEqual(['models.allow[0]']);
  expect(policy.decide({ ...model, dataClasses: ['financial'] }).rules).toEqual(['default-deny']);
  expect(policy.decide({ ...model, ...pii }).rules).toEqual(['no-pii-out']);
  expect(policy.mayUseSecret('support_triage', 'payments:refund').effect).toBe('allow');
  expect([policy.onUnknownOutcome, policy.compensateOnKill]).toEqual(['review', true]);
});

test('P4 P8 the example of approvals in docs/policies.md asks whom the page says', () => {
  const policy = compiled(fourEyes);
  const mail = question({ action: 'email.send', args: { to: 'a', body: 'b' } });
  const update = question({ action: 'ticket.update', args: { ticketId: 't', tags: [], urgent: true } });
  expect(policy.decide(mail).approval).toMatchObject({ roles: [['lead', 'finance']], notRequester: true });
  expect(policy.decide(refund(100_000)).approval).toEqual({
    rules: ['refund'],
    roles: [['lead']],
    expiresAfterMs: 2 * 86_400_000,
    notRequester: false,
  });
  expect(policy.decide(refund(200_000)).approval).toEqual({
    rules: ['refund', 'large-refund'],
    roles: [['lead'], ['finance']],
    expiresAfterMs: 8 * 3_600_000,
    notRequester: true,
  });
  expect(policy.decide(update)).toMatchObject({ effect: 'suggest', approval: { roles: [['lead']] } });
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
