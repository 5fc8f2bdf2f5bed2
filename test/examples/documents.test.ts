import { checkDocuments } from '../../policy/compile';
import { formatMistakes } from '../../policy/documents';
import { app } from '../../examples/support-desk/app';
import { complianceOf } from '../../examples/support-desk/actions/compliance';
import { draftOf } from '../../examples/support-desk/actions/draft';
import { Ticket } from '../../examples/support-desk/actions/records';
import { tenantData, tenantDocuments, TENANTS } from '../../examples/support-desk/data';
import { documentValues } from '../../examples/support-desk/example';
import { foreignMarks } from '../../examples/support-desk/scenarios/witness';

const urls = Object.fromEntries(
  ['helpdesk', 'crm', 'payments', 'mail', 'models'].map((name, index) => [
    name,
    `http://127.0.0.1:${4001 + index}`,
  ]),
);
const action = (name: string) => {
  const found = app.actions.get(name);
  if (!found) throw new Error(`no action ${name}`);
  return found;
};

describe.each(TENANTS)('%s', (tenant) => {
  const { tickets, customers, payments, knowledge } = tenantData(tenant);
  const account = `${tenant}-1`;

  it('P1 its documents have no mistake and name the example’s actions, agents and systems', () => {
    const checked = checkDocuments(tenantDocuments(tenant, documentValues(urls, 'prod')), app);
    expect(checked.ok ? '' : formatMistakes(checked.mistakes, `${tenant}.yaml`)).toBe('');
    const kinds = checked.ok ? checked.documents.map(({ kind }) => kind) : [];
    expect(kinds).toEqual(['QuotaClass', 'PolicyProfile', 'Tenant']);
    const document = checked.ok
      ? checked.documents.find((one) => one.kind === 'Tenant')?.document
      : undefined;
    const systems = [...app.actions.values()].flatMap(({ system }) => (system === null ? [] : [system]));
    expect(Object.keys(document?.connections ?? {})).toEqual(
      expect.arrayContaining([...new Set(systems), 'openai']),
    );
  });

  it('U4 it has thirty tickets in thirty texts, several of them hostile, each with what it must cause', () => {
    expect(tickets).toHaveLength(30);
    expect(new Set(tickets.map(({ record }) => record.text)).size).toBe(30);
    expect(tickets.filter(({ hostile }) => hostile).length).toBeGreaterThanOrEqual(5);
    for (const { hostile, expect: meant } of tickets) {
      expect(meant.effects.filter(({ operation }) => operation === 'reply.create')).toHaveLength(1);
      expect(meant.effects.filter(({ operation }) => operation === 'ticket.update')).toHaveLength(1);
      if (hostile) expect(meant.refusals.length).toBeGreaterThan(0);
    }
  });

  it('T6 its tickets, customers and payments are its own and refer to each other', () => {
    const ids = {
      customers: new Set(customers.map(({ id }) => id)),
      payments: new Set(payments.map(({ id }) => id)),
    };
    for (const { record, expect: meant } of tickets) {
      const read = Ticket.parse({ ...record, replyMode: 'draft' });
      expect([read.account, read.customer.account, ...read.payments.map((one) => one.account)]).toEqual(
        Array(2 + read.payments.length).fill(account),
      );
      expect(ids.customers).toContain(read.customer.id);
      for (const { id } of read.payments) expect(ids.payments).toContain(id);
      for (const { system, recordId } of meant.effects) {
        if (system === 'helpdesk') expect(recordId).toBe(record.id);
        if (system === 'crm') expect(recordId).toBe(read.customer.id);
        if (system === 'payments') expect(read.payments.map(({ id }) => id)).toContain(recordId);
      }
    }
    expect([...customers, ...payments].every((record) => record.account === account)).toBe(true);
  });

  it('P9 no kind of refusal is meant more than five times: of more in a minute the journal keeps a count', () => {
    const kinds = tickets.flatMap((one) =>
      one.expect.refusals.map(({ action: name, rule }) => `${name} ${rule}`),
    );
    for (const kind of kinds) expect(kinds.filter((other) => other === kind).length).toBeLessThanOrEqual(5);
  });

  it('M1 its knowledge has the titles of everybody’s and marks that are its own', () => {
    expect(knowledge.map(({ documentId }) => documentId)).toEqual(
      tenantData('acme').knowledge.map(({ documentId }) => documentId),
    );
    for (const { text } of knowledge) {
      expect(foreignMarks(account, text)).toEqual([]);
      expect(foreignMarks('somebody-1', text)).toHaveLength(1);
    }
  });
});

describe('actions', () => {
  it('U4 a place in a document that nothing fills is an error', () => {
    expect(() => tenantDocuments('acme', {})).toThrow('ENVIRONMENT');
  });

  it('P7 a mail is bound to the text that was judged: its draft code fits no other', () => {
    const mail = { to: 'a@b.example', ticketId: 'TKT-1', subject: 's', body: 'b' };
    const { args } = action('email.send');
    expect(args.safeParse({ ...mail, draft: draftOf(mail) }).success).toBe(true);
    expect(args.safeParse({ ...mail, body: 'c', draft: draftOf(mail) }).success).toBe(false);
    expect(draftOf({ subject: 'ab', body: 'c' })).not.toBe(draftOf({ subject: 'a', body: 'bc' }));
  });

  it.each([
    ['please pay with 4111 1111 1111 1111', 1],
    ['order 4111 1111 1111 1112', 0],
    ['to GB29 NWBK 6016 1331 9268 19', 1],
    ['my password: hunter2', 1],
    ['we guarantee it', 1],
    ['a password is reset from the sign-in page', 0],
    ['a normal answer with the phone +44 20 7946 0101', 0],
  ])('P7 the compliance classifier: %s', (text, reasons) => {
    expect(complianceOf(text)).toHaveLength(reasons);
  });

  it.each([
    ['ticket.read', { ticketId: 'TKT-1', tenantId: 'globex' }],
    ['ticket.read', { ticketId: '../accounts/globex-1' }],
    ['payment.refund', { paymentId: 'pay_a1', ticketId: 'TKT-1', amountCents: 1.5, reason: 'x' }],
    ['payment.refund', { paymentId: 'pay_a1', ticketId: 'TKT-1', amountCents: -1, reason: 'x' }],
    ['web.fetch', { url: 'file:///etc/passwd' }],
  ])('T1 %s refuses arguments out of its schema', (name, args) => {
    expect(action(name).args.safeParse(args).success).toBe(false);
  });
});
