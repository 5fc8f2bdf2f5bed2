import { app } from '../../examples/support-desk/app';
import type { ActionContext } from '../../contracts/action';
import type { Envelope } from '../../contracts/envelope';
import { createHttpPools } from '../../tools/http';
import { bearer, OneSystem, payment, ticket } from './one-system';
import { Processes } from './processes';

const processes = new Processes();
const pools = createHttpPools();
afterEach(() => processes.end());
afterAll(() => pools.close());

const SYSTEMS = {
  helpdesk: ['read', 'write'],
  crm: ['read', 'write'],
  payments: ['read', 'refund'],
  mail: ['send'],
} as const;
type Name = keyof typeof SYSTEMS;

/** A write of the desk with arguments that its system takes. */
const WRITES: Readonly<Record<string, { system: Name; token: string; args: Record<string, unknown> }>> = {
  'ticket.update': {
    system: 'helpdesk',
    token: 'write',
    args: { ticketId: 'TKT-1', status: 'solved', category: 'billing', priority: 'low' },
  },
  'ticket.reply': {
    system: 'helpdesk',
    token: 'write',
    args: { ticketId: 'TKT-1', kind: 'direct', body: 'done' },
  },
  'customer.update': {
    system: 'crm',
    token: 'write',
    args: { customerId: 'cus_1', ticketId: 'TKT-1', field: 'phone', value: '12345' },
  },
  'payment.refund': {
    system: 'payments',
    token: 'refund',
    args: { paymentId: 'pay_1', ticketId: 'TKT-1', amountCents: 200, reason: 'test' },
  },
  'email.send': {
    system: 'mail',
    token: 'send',
    args: { to: 'a@b.example', ticketId: 'TKT-1', subject: 's', body: 'b', draft: 'd' },
  },
};

const actionOf = (name: string) => {
  const action = app.actions.get(name);
  if (!action) throw new Error(`no action ${name}`);
  return action;
};

async function started(name: Name): Promise<OneSystem> {
  const system = await new OneSystem(name, SYSTEMS[name], processes).start();
  const records = {
    helpdesk: [ticket('TKT-1', 'acme-1')],
    crm: [
      {
        collection: 'customers',
        record: {
          id: 'cus_1',
          account: 'acme-1',
          name: 'N',
          email: 'n@b.example',
          phone: '999',
          address: 'A',
        },
      },
    ],
    payments: [payment('pay_1', 'acme-1', 500)],
    mail: [],
  };
  await system.bringIn(records[name]);
  return system;
}

function contextOf(system: OneSystem, token: string, key: string): ActionContext {
  return {
    envelope: {} as Envelope,
    knowledge: { search: () => Promise.resolve([]) },
    idempotencyKey: key,
    signal: AbortSignal.timeout(10_000),
    http: pools.open({
      poolKey: 'acme',
      baseUrl: new URL(system.url),
      privateGranted: true,
      authorization: () => `Bearer ${bearer('acme-1', token)}`,
      idempotencyKey: key,
      signal: AbortSignal.timeout(10_000),
      beforeSend: () => undefined,
      remainingMs: () => 10_000,
    }),
  };
}

const readAll = async (system: OneSystem): Promise<unknown> => {
  const routes = {
    helpdesk: '/tickets/TKT-1',
    crm: '/customers/cus_1',
    payments: '/payments/pay_1',
    mail: '',
  };
  return (await system.ask('GET', routes[system.name], { token: bearer('acme-1', 'read') })).body;
};

it('T5 each write of the desk says how it is undone and how it is found out, and is tested here', () => {
  const writes = [...app.actions.values()].filter(({ effect }) => effect !== 'read');
  expect(writes.map(({ name }) => name).sort()).toEqual(Object.keys(WRITES).sort());
  for (const { reconcile, visibleWithinMs, reversible, compensate } of writes) {
    expect([reconcile !== null, visibleWithinMs !== null]).toEqual([true, true]);
    expect(compensate !== null).toBe(reversible !== 'final');
  }
});

it.each(Object.entries(WRITES))(
  'T3 %s is found by its key with the result that was answered, before that it is absent',
  async (name, { system: systemName, token, args }) => {
    const system = await started(systemName);
    const action = actionOf(name);
    const context = contextOf(system, token, 'k-1');
    expect(await action.reconcile?.(context, args, 'k-1')).toBe('absent');
    const result: unknown = action.result.parse(await action.run(context, args));
    expect(await action.reconcile?.(contextOf(system, token, 'other'), args, 'k-1')).toEqual({
      happened: true,
      result,
    });
    // Another account's key is nobody's business.
    const stranger = { token: bearer('globex-1', token) };
    expect((await system.ask('GET', '/requests/k-1', stranger)).status).toBe(404);
    expect(system.effects()).toHaveLength(1);
  },
);

const undoable = Object.entries(WRITES).filter(([name]) => actionOf(name).reversible !== 'final');

it.each(undoable)(
  'T5 %s undone reads as before; undone again under its key changes nothing more',
  async (name, { system: systemName, token, args }) => {
    const system = await started(systemName);
    const action = actionOf(name);
    const before = await readAll(system);
    const result: unknown = action.result.parse(await action.run(contextOf(system, token, 'forward'), args));
    expect(await readAll(system)).not.toEqual(before);
    for (let time = 0; time < 2; time += 1)
      await action.compensate?.(contextOf(system, token, 'undo'), args, result);
    expect(await readAll(system)).toEqual(before);
    expect(system.effects().map(({ idempotencyKey, reference }) => [idempotencyKey, reference])).toEqual([
      ['forward', 'TKT-1'],
      ['undo', 'TKT-1'],
    ]);
  },
);

it.each([
  ['ticket.update', '/tickets/TKT-1', { status: 'escalated', category: 'billing', priority: 'high' }],
  ['customer.update', '/customers/cus_1', { field: 'phone', value: '77777' }],
])(
  'T5 %s is not undone over a change that somebody made since: refused, and the change stays',
  async (name, route, since) => {
    const write = WRITES[name];
    if (!write) throw new Error(`no write ${name}`);
    const { system: systemName, token, args } = write;
    const system = await started(systemName);
    const action = actionOf(name);
    const result: unknown = await action.run(contextOf(system, token, 'forward'), args);
    await system.ask('PATCH', route, {
      token: bearer('acme-1', 'write'),
      key: 'colleague',
      body: { ...since, reference: 'TKT-1' },
    });
    const now = await readAll(system);
    await expect(action.compensate?.(contextOf(system, token, 'undo'), args, result)).rejects.toMatchObject({
      status: 412,
    });
    expect(await readAll(system)).toEqual(now);
  },
);
