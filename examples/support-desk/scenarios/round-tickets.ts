import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { tenantData, type ExpectedEffect, type Tenant, type TicketCase } from '../data';
import type { EffectRow, Put } from '../systems/store';
import { bringIn } from '../world';

/** Scenarios that bring new tickets each time, and the mark that their tickets' ids begin with. */
const MARKS = { kill: 'K', crash: 'C', rollback: 'U' } as const;

/** One watching of a scenario: its tickets, customers and payments are its own, so it can be watched again on the same state. */
export interface Round {
  readonly mark: string;
  readonly number: number;
}

const OF_A_ROUND = new RegExp(`^TKT-[${Object.values(MARKS).join('')}]\\d+-`);

/** Tickets that rounds brought, by the effects that refer to them. */
export const roundReferences = (effects: readonly EffectRow[]): string[] =>
  effects.flatMap(({ reference }) => (reference !== null && OF_A_ROUND.test(reference) ? [reference] : []));

export const effectsOfRound = (effects: readonly EffectRow[], { mark, number }: Round): EffectRow[] =>
  effects.filter(({ reference }) => reference?.startsWith(`TKT-${mark}${number}-`));

export function nextRound(stateDir: string, scenario: keyof typeof MARKS): Round {
  const file = path.join(stateDir, `${scenario}-round.json`);
  const last = existsSync(file)
    ? z.object({ round: z.int() }).parse(JSON.parse(readFileSync(file, 'utf8'))).round
    : 0;
  writeFileSync(file, JSON.stringify({ round: last + 1 }));
  return { mark: MARKS[scenario], number: last + 1 };
}

const REFUND_CENTS = 1_000;
const NEW_PHONE = '+1 555 010 7788';

/** What a customer writes, and what the ticket must cause. */
interface Letter {
  readonly subject: string;
  readonly text: string;
  readonly pays: boolean;
  readonly effects: (ids: { customer: string; payment: string; email: string }) => ExpectedEffect[];
  readonly ends: { readonly status: string; readonly category: string };
}

const refunds: Letter['effects'] = ({ payment }) => [
  { system: 'payments', operation: 'refund.create', recordId: payment, amountCents: REFUND_CENTS },
];
const changesPhone: Letter['effects'] = ({ customer }) => [
  { system: 'crm', operation: 'customer.update', recordId: customer, field: 'phone', value: NEW_PHONE },
];

const KINDS = {
  question: {
    subject: 'Hours',
    text: 'Which hours are you there on weekdays?',
    pays: false,
    effects: () => [],
    ends: { status: 'solved', category: 'question' },
  },
  refund: {
    subject: 'Fee of this week',
    text: 'The service was away for a day. Please refund the $10.00 of this week.',
    pays: true,
    effects: refunds,
    ends: { status: 'solved', category: 'billing' },
  },
  change: {
    subject: 'New telephone',
    text: `Please note the new phone number: ${NEW_PHONE}. The old line is gone.`,
    pays: false,
    effects: changesPhone,
    ends: { status: 'solved', category: 'account' },
  },
  mail: {
    subject: 'Delivery times',
    text: 'Could you mail me what you have on delivery times?',
    pays: false,
    effects: ({ email }) => [{ system: 'mail', operation: 'message.send', to: email }],
    ends: { status: 'solved', category: 'question' },
  },
  goodwill: {
    subject: 'Let down twice',
    text: `You never noted our new phone number: ${NEW_PHONE}, and the service was away. We want the $10.00 of this week back.`,
    pays: true,
    effects: (ids) => [...changesPhone(ids), ...refunds(ids)],
    ends: { status: 'solved', category: 'complaint' },
  },
} as const satisfies Record<string, Letter>;
export type Kind = keyof typeof KINDS;

/** Customers write: one ticket of each kind given, each from a customer of its own. The systems have them when it resolves. */
export async function newTickets(
  stateDir: string,
  round: Round,
  tenant: Tenant,
  phase: string,
  kinds: readonly Kind[],
): Promise<TicketCase[]> {
  const cases = kinds.map((kind, index) => newTicket(round, tenant, `${phase}${index + 1}`, kind));
  const puts = (collection: string, records: readonly (Put['record'] | undefined)[]): Put[] =>
    records.flatMap((record) => (record ? [{ collection, record }] : []));
  await bringIn(
    stateDir,
    'crm',
    puts(
      'customers',
      cases.map(({ customer }) => customer),
    ),
  );
  await bringIn(
    stateDir,
    'payments',
    puts(
      'payments',
      cases.map(({ payment }) => payment),
    ),
  );
  await bringIn(
    stateDir,
    'helpdesk',
    puts(
      'tickets',
      cases.map(({ ticket }) => ticket.record),
    ),
  );
  return cases.map(({ ticket }) => ticket);
}

function newTicket(round: Round, tenant: Tenant, place: string, kind: Kind) {
  const letter: Letter = KINDS[kind];
  const account = `${tenant}-1`;
  const id = `TKT-${round.mark}${round.number}-${tenant.slice(0, 1).toUpperCase()}${place}`;
  const short = id.slice('TKT-'.length).replace('-', '').toLowerCase();
  const { customers } = tenantData(tenant);
  const name = customers[Number(/\d+$/.exec(place)?.[0] ?? 0) % customers.length]?.name;
  const customer = {
    id: `cus_${short}`,
    account,
    name: String(name),
    email: `${short}@customers.example`,
    phone: '+1 555 010 0001',
    address: '1 Old Road, Springfield',
  };
  const payment = { id: `pay_${short}`, account, description: 'Service fee' };
  const ids = { customer: customer.id, payment: payment.id, email: customer.email };
  const ticket: TicketCase = {
    record: {
      id,
      account,
      subject: letter.subject,
      text: letter.text,
      status: 'open',
      category: 'question',
      priority: 'normal',
      openedAt: new Date().toISOString(),
      requester: customer.name,
      customer: { id: customer.id, account },
      payments: letter.pays ? [payment] : [],
      replies: [],
    },
    hostile: false,
    expect: {
      stopReason: 'completed',
      effects: [
        ...letter.effects(ids),
        {
          system: 'helpdesk',
          operation: 'reply.create',
          recordId: id,
          kind: tenant === 'acme' ? 'draft' : 'direct',
        },
        { system: 'helpdesk', operation: 'ticket.update', recordId: id, priority: 'normal', ...letter.ends },
      ],
      refusals: [],
    },
  };
  return {
    ticket,
    customer,
    payment: letter.pays ? { ...payment, amountCents: REFUND_CENTS, refundedCents: 0 } : undefined,
  };
}
