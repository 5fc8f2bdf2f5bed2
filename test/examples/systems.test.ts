import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { bearer, OneSystem, payment, ticket } from './one-system';
import { Processes } from './processes';

const processes = new Processes();
afterEach(() => processes.end());

const payments = (): OneSystem => new OneSystem('payments', ['read', 'refund'], processes);
const helpdesk = (): OneSystem => new OneSystem('helpdesk', ['read', 'write'], processes);
const refundToken = bearer('acme-1', 'refund');
const refundOf = (amountCents: number) => ({ amountCents, reason: 'test', reference: 'TKT-1' });
const update = { status: 'solved', category: 'billing', priority: 'low', reference: 'TKT-1' };

describe('keys', () => {
  it.each([
    [
      'payments',
      ['refund'],
      payment('pay_1', 'acme-1', 500),
      'POST',
      '/payments/pay_1/refunds',
      refundOf(100),
      refundOf(101),
      'refund',
    ],
    [
      'helpdesk',
      ['write'],
      ticket('TKT-1', 'acme-1'),
      'PATCH',
      '/tickets/TKT-1',
      update,
      { ...update, status: 'pending' },
      'write',
    ],
    [
      'crm',
      ['write'],
      { collection: 'customers', record: { id: 'cus_1', account: 'acme-1', phone: '1' } },
      'PATCH',
      '/customers/cus_1',
      { field: 'phone', value: '12345', reference: 'TKT-1' },
      { field: 'phone', value: '54321', reference: 'TKT-1' },
      'write',
    ],
    [
      'mail',
      ['send'],
      { collection: 'nothing', record: { id: 'x', account: 'acme-1' } },
      'POST',
      '/messages',
      { to: 'a@b.example', subject: 's', body: 'b', reference: 'TKT-1' },
      { to: 'c@d.example', subject: 's', body: 'b', reference: 'TKT-1' },
      'send',
    ],
  ] as const)(
    'T2 %s runs a repeated key once and answers as the first time; another body under it is 409',
    async (name, capabilities, record, method, route, body, other, capability) => {
      const system = await new OneSystem(name, capabilities, processes).start();
      await system.bringIn([{ collection: record.collection, record: { ...record.record } }]);
      const token = bearer('acme-1', capability);
      const first = await system.ask(method, route, { token, key: 'k-1', body });
      const again = await system.ask(method, route, { token, key: 'k-1', body });
      const conflict = await system.ask(method, route, { token, key: 'k-1', body: other });
      expect([first.status < 300, first.replayed, again.replayed, conflict.status]).toEqual([
        true,
        false,
        true,
        409,
      ]);
      expect(again.body).toEqual(first.body);
      expect(system.effects()).toHaveLength(1);
      expect(system.effects()[0]).toMatchObject({
        seq: 1,
        account: 'acme-1',
        system: name,
        idempotencyKey: 'k-1',
        reference: 'TKT-1',
        token: `acme-1/${capability}`,
      });
    },
  );

  it('T2 the same key of another account is another key', async () => {
    const system = await payments().start();
    await system.bringIn([payment('pay_1', 'acme-1', 500), payment('pay_2', 'globex-1', 500)]);
    await system.ask('POST', '/payments/pay_1/refunds', { token: refundToken, key: 'k', body: refundOf(1) });
    const other = await system.ask('POST', '/payments/pay_2/refunds', {
      token: bearer('globex-1', 'refund'),
      key: 'k',
      body: refundOf(1),
    });
    expect([other.status, other.replayed, system.effects().length]).toEqual([201, false, 2]);
  });

  it('T3 mail honours a key for a day, then it is a new message', async () => {
    const system = new OneSystem('mail', ['send'], processes);
    const ask = () =>
      system.ask('POST', '/messages', {
        token: bearer('acme-1', 'send'),
        key: 'old',
        body: { to: 'a@b.example', subject: 's', body: 'b', reference: 'TKT-1' },
      });
    await system.start();
    await ask();
    await system.kill();
    const [row] = system.effects();
    for (const [hours, expected] of [
      [23, 1],
      [25, 2],
    ] as const) {
      writeFileSync(
        system.effectsFile,
        `${JSON.stringify({ ...row, at: new Date(Date.now() - hours * 3_600_000).toISOString() })}\n`,
      );
      await system.start();
      await ask();
      expect(system.effects()).toHaveLength(expected);
      await system.kill();
    }
  });
});

describe('tokens and accounts', () => {
  it('S1 no token or an unknown one is 401; a read token changes nothing; a mutation token reads no payments', async () => {
    const system = await payments().start();
    await system.bringIn([payment('pay_1', 'acme-1', 500)]);
    const route = '/payments/pay_1/refunds';
    const statuses = await Promise.all([
      system.ask('POST', route, { body: refundOf(1) }),
      system.ask('POST', route, { token: 'nobody', body: refundOf(1) }),
      system.ask('POST', route, { token: bearer('acme-1', 'read'), body: refundOf(1) }),
      system.ask('GET', '/payments/pay_1', { token: refundToken }),
      system.ask('POST', '/intake', { token: refundToken, body: { puts: [] } }),
    ]);
    expect(statuses.map(({ status }) => status)).toEqual([401, 401, 403, 403, 403]);
    expect(system.effects()).toEqual([]);
  });

  it('T6 another account’s record is 404, as one that does not exist', async () => {
    const system = await helpdesk().start();
    await system.bringIn([ticket('TKT-1', 'acme-1'), ticket('TKT-2', 'globex-1')]);
    const token = bearer('acme-1', 'read');
    const foreign = await system.ask('GET', '/tickets/TKT-2', { token });
    const absent = await system.ask('GET', '/tickets/TKT-9', { token });
    expect([foreign.status, absent.status]).toEqual([404, 404]);
    const write = await system.ask('PATCH', '/tickets/TKT-2', {
      token: bearer('acme-1', 'write'),
      key: 'k',
      body: update,
    });
    expect([write.status, system.effects().length]).toEqual([404, 0]);
    const found = await system.ask('GET', '/tickets?query=question', { token });
    expect(found.body.tickets).toEqual([expect.objectContaining({ id: 'TKT-1' })]);
  });

  it('T6 with a token that reaches too far the log tells owner and caller apart', async () => {
    const system = await helpdesk().start({ overbroad: true });
    await system.bringIn([ticket('TKT-1', 'acme-1'), ticket('TKT-2', 'globex-1')]);
    expect(
      (await system.ask('GET', '/tickets/TKT-2', { token: bearer('acme-1', 'read') })).body,
    ).toMatchObject({ account: 'globex-1' });
    await system.ask('PATCH', '/tickets/TKT-2', { token: bearer('acme-1', 'write'), key: 'k', body: update });
    expect(system.effects()).toEqual([expect.objectContaining({ account: 'globex-1', caller: 'acme-1' })]);
  });

  it('S3 a changed token file counts from the next request, without a restart', async () => {
    const system = await payments().start();
    await system.bringIn([payment('pay_1', 'acme-1', 500)]);
    const old = bearer('acme-1', 'read');
    expect((await system.ask('GET', '/payments/pay_1', { token: old })).status).toBe(200);
    system.writeTokens((account, capability) => `${bearer(account, capability)}.next`);
    expect((await system.ask('GET', '/payments/pay_1', { token: old })).status).toBe(401);
    expect((await system.ask('GET', '/payments/pay_1', { token: `${old}.next` })).status).toBe(200);
  });

  it('S2 the effect log names tokens and holds none', async () => {
    const system = await payments().start();
    await system.bringIn([payment('pay_1', 'acme-1', 500)]);
    await system.ask('POST', '/payments/pay_1/refunds', { token: refundToken, key: 'k', body: refundOf(1) });
    expect(readFileSync(system.effectsFile, 'utf8')).not.toContain(refundToken);
  });
});

describe('refusals and faults', () => {
  it('T1 a body out of form, too much money, a bad key: 4xx with what is wrong, nothing done', async () => {
    const system = await payments().start();
    await system.bringIn([payment('pay_1', 'acme-1', 500)]);
    const post = (body: unknown, key = 'k') =>
      system.ask('POST', '/payments/pay_1/refunds', { token: refundToken, key, body });
    const answers = [
      await post({ ...refundOf(-1) }),
      await post({ ...refundOf(1.5) }),
      await post({ ...refundOf(1), tenant: 'globex' }),
      await post(refundOf(501)),
      await post(refundOf(1), 'a b'),
      await system.ask('POST', '/nowhere', { token: refundToken, body: {} }),
      await system.ask('GET', '/payments/%E0%A4%A', { token: bearer('acme-1', 'read') }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([422, 422, 422, 422, 422, 404, 400]);
    expect(system.effects()).toEqual([]);
  });

  it('T5 a refund is cancelled once, whoever asks how often', async () => {
    const system = await payments().start();
    await system.bringIn([payment('pay_1', 'acme-1', 500)]);
    const { body } = await system.ask('POST', '/payments/pay_1/refunds', {
      token: refundToken,
      key: 'k',
      body: refundOf(200),
    });
    const cancel = (key: string) =>
      system.ask('POST', `/refunds/${String(body.id)}/cancel`, {
        token: refundToken,
        key,
        body: { reference: 'TKT-1' },
      });
    expect((await cancel('c1')).body).toMatchObject({ status: 'cancelled' });
    expect((await cancel('c2')).body).toMatchObject({ status: 'cancelled' });
    expect(system.effects().map(({ operation }) => operation)).toEqual(['refund.create', 'refund.cancel']);
    const kept = await system.ask('GET', '/payments/pay_1', { token: bearer('acme-1', 'read') });
    expect(kept.body.refundedCents).toBe(0);
  });

  it('S1 the fault switches do not exist unless a test asked for them', async () => {
    const system = await payments().start();
    await system.bringIn([payment('pay_1', 'acme-1', 500)]);
    const token = bearer('acme-1', 'read');
    const asked = [
      await system.faults({ down: true }),
      await system.ask('POST', '/_admin/faults', { token, body: { down: true } }),
      await system.ask('GET', '/payments/pay_1', { token }),
    ];
    expect(asked.map(({ status }) => status)).toEqual([401, 404, 200]);
  });

  it('T6 a fault answers another account’s record, as a broken vendor does; others: down, slow, for one account alone', async () => {
    const system = await helpdesk().start({ faults: true });
    await system.bringIn([ticket('TKT-1', 'acme-1'), ticket('TKT-2', 'globex-1')]);
    const read = (account: string, id: string) =>
      system.ask('GET', `/tickets/${id}`, { token: bearer(account, 'read') });
    await system.faults({ foreignRecords: 1 });
    expect((await read('acme-1', 'TKT-1')).body).toMatchObject({ id: 'TKT-2', account: 'globex-1' });
    expect((await read('acme-1', 'TKT-1')).body).toMatchObject({ id: 'TKT-1' });
    await system.faults({ down: true, account: 'acme-1' });
    expect([(await read('acme-1', 'TKT-1')).status, (await read('globex-1', 'TKT-2')).status]).toEqual([
      503, 200,
    ]);
    await system.faults({ slowMs: 300 });
    const before = Date.now();
    expect((await read('acme-1', 'TKT-1')).status).toBe(200);
    expect(Date.now() - before).toBeGreaterThanOrEqual(290);
  });

  it('U4 a system without its settings says every one that is missing', async () => {
    const module = path.join(__dirname, '../../examples/support-desk/systems/mail.ts');
    await expect(processes.start('mail', module, { SYSTEM_FAULTS: 'yes' })).rejects.toThrow(
      /SYSTEM_STATE.*SYSTEM_TOKENS.*SYSTEM_FAULTS/s,
    );
  });
});
