import { Client } from 'pg';
import type { JournalEntry } from '../../contracts/ledger';
import { journalHash, verifyJournal, type JournalHead } from '../../storage/journal-verify';
import { ENVIRONMENT, LedgerWorld, refusal, type LedgerTenant } from './harness';

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());

async function busyTenant(): Promise<{ tenant: LedgerTenant; entries: JournalEntry[]; head: JournalHead }> {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  for (let step = 0; step < 12; step += 1) {
    const attempt = tenant.admission(runId, `${step}.1`);
    await tenant.store.admit(attempt);
    await tenant.store.settle(tenant.settlement(attempt));
  }
  const row = await tenant.row();
  const head = {
    tenantId: tenant.tenantId,
    environment: ENVIRONMENT,
    seq: row.journal_seq,
    hash: row.journal_head,
  };
  return { tenant, entries: await tenant.journal(), head };
}

test('O2 the journal verifies offline, from its own tenant’s genesis alone', async () => {
  const { entries, head } = await busyTenant();
  expect(entries.length).toBe(27);
  expect(verifyJournal(entries, head)).toEqual({ intact: true });
  expect(verifyJournal(entries, { ...head, tenantId: 'other' })).toMatchObject({ intact: false, seq: 1 });
  expect(verifyJournal(entries, { ...head, environment: 'prod' })).toMatchObject({ intact: false, seq: 1 });
  expect(verifyJournal([], head)).toMatchObject({ intact: false });
});

test('O2 every change, removal, insertion, reordering, cut and rewrite is found', async () => {
  const { entries, head } = await busyTenant();
  const at = (index: number): JournalEntry => {
    const entry = entries[index];
    if (!entry) throw new Error(`no entry ${index}`);
    return entry;
  };
  const replaced = (index: number, change: Partial<JournalEntry>) =>
    entries.with(index, { ...at(index), ...change });
  const flipped = (text: string, position: number) =>
    text.slice(0, position) + (text[position] === '0' ? '1' : '0') + text.slice(position + 1);
  /** What someone who knows the algorithm and rewrites everything after would leave. */
  const rechained = (changed: readonly JournalEntry[]) => {
    let prev = at(0).prev;
    return changed.map((entry, index) => {
      const next = { ...entry, seq: index + 1, prev };
      prev = journalHash(next);
      return { ...next, hash: prev };
    });
  };
  const mutations: [string, JournalEntry[]][] = [];
  for (let index = 0; index < entries.length; index += 1) {
    const { facts, body, hash, prev, seq } = at(index);
    for (const position of [0, Math.floor(facts.length / 2), facts.length - 1]) {
      mutations.push([
        `flip facts ${index}/${position}`,
        replaced(index, { facts: flipped(facts, position) }),
      ]);
    }
    mutations.push(
      [`flip body ${index}`, replaced(index, { body: flipped(body, body.length - 1) })],
      [
        `move text from facts to body ${index}`,
        replaced(index, { facts: facts.slice(0, -1), body: facts.slice(-1) + body }),
      ],
      [`flip hash ${index}`, replaced(index, { hash: flipped(hash, 7) })],
      [`flip prev ${index}`, replaced(index, { prev: flipped(prev, 7) })],
      [`renumber ${index}`, replaced(index, { seq: seq + 1 })],
      [`other time ${index}`, replaced(index, { at: '2020-01-01T00:00:00.000000Z' })],
      [`delete ${index}`, entries.toSpliced(index, 1)],
      [`delete and rechain ${index}`, rechained(entries.toSpliced(index, 1))],
      [`insert ${index}`, entries.toSpliced(index, 0, at(index))],
      [`insert and rechain ${index}`, rechained(entries.toSpliced(index, 0, at(index)))],
      [`cut after ${index}`, entries.slice(0, index)],
      [`rewrite ${index}`, rechained(replaced(index, { facts: facts.replace('"run"', '"ran"') + ' ' }))],
    );
    if (index > 0)
      mutations.push([`swap ${index}`, entries.with(index, at(index - 1)).with(index - 1, at(index))]);
  }
  const missed = mutations.filter(([, mutated]) => verifyJournal(mutated, head).intact).map(([name]) => name);
  expect(mutations.length).toBeGreaterThan(400);
  expect(missed).toEqual([]);
});

test('O2 nobody rewrites the journal, its owner included', async () => {
  const { tenant } = await busyTenant();
  const admin = new Client({ connectionString: world.database.adminUrl });
  await admin.connect();
  try {
    for (const who of ['bulkhead_owner', 'bulkhead_app', 'postgres']) {
      for (const sql of [
        `update bulkhead.journal set body = 'x'`,
        'delete from bulkhead.journal',
        'truncate bulkhead.journal',
      ]) {
        await admin.query('begin');
        await admin.query(`set local role ${who}`);
        await admin.query(`select bulkhead.bind_scope($1, $2)`, [tenant.tenantId, ENVIRONMENT]);
        await expect(admin.query(sql)).rejects.toThrow(/append-only|permission denied/);
        await admin.query('rollback');
      }
    }
  } finally {
    await admin.end();
  }
  expect(await tenant.verify()).toEqual({ intact: true });
});

test('O2 a run’s entries are read apart, in order', async () => {
  const { tenant } = await busyTenant();
  const runId = await tenant.run();
  const entries = await tenant.store.journal({ afterSeq: 0, limit: 100, runId });
  expect(entries.map((entry) => (JSON.parse(entry.facts) as { kind: string }).kind)).toEqual([
    'accepted',
    'entered',
  ]);
});

test('P9 a denial is journaled with its rules and the version that decided it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const denied = refusal({ rule: 'no-mail', rules: ['no-mail', 'no-pii-out'] });
  await tenant.store.admit(tenant.admission(runId, '1.1', { verdict: { effect: 'deny', refusal: denied } }));
  const last = (await tenant.journal()).at(-1);
  expect(JSON.parse(last?.facts ?? '')).toMatchObject({
    kind: 'refused',
    run: runId,
    path: '1.1',
    action: 'ticket.update',
    class: 'write',
    origin: 'policy',
    refusal: 'denied',
    rule: 'no-mail',
    rules: ['no-mail', 'no-pii-out'],
    policyVersion: 1,
  });
  expect(JSON.parse(last?.body ?? '')).toMatchObject({ refusal: denied });
});

test('P9 a flood of refusals is kept as the first five of a minute and an exact count', async () => {
  await world.setClock(new Date('2025-03-10T12:00:10.000Z'));
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const verdict = { effect: 'deny', refusal: refusal() } as const;
  const flood = async (count: number, action = 'email.send') => {
    for (let index = 0; index < count; index += 1) {
      await tenant.store.admit(tenant.admission(runId, `1.${index}`, { verdict, action }));
    }
  };
  const kept = async (kind: string) =>
    (await tenant.journal())
      .map((entry) => JSON.parse(entry.facts) as Record<string, unknown>)
      .filter((facts) => facts['kind'] === kind);

  await flood(20);
  await flood(3, 'crm.update');
  expect(await kept('refused')).toHaveLength(8);
  expect(await kept('refusals')).toEqual([]);
  expect(await tenant.store.run(runId)).toMatchObject({ refusals: 23 });

  // The next one of the same kind closes the minute.
  await world.setClock(new Date('2025-03-10T12:01:00.000Z'));
  await flood(7);
  const summary = { rule: 'no-mail', policyVersion: 1, action: 'email.send', reason: 'denied' };
  const first = '2025-03-10T12:00:10.000000Z';
  expect(await kept('refusals')).toMatchObject([{ ...summary, count: 15, first, last: first }]);
  expect(await kept('refused')).toHaveLength(13);

  // And the sweep, where no other comes.
  await world.setClock(new Date('2025-03-10T12:02:00.000Z'));
  await world.platform.reapCalls(100);
  expect(await kept('refusals')).toMatchObject([{ count: 15 }, { ...summary, count: 2 }]);
  await world.platform.reapCalls(100);
  expect(await kept('refusals')).toHaveLength(2);
  expect(await tenant.verify()).toEqual({ intact: true });
});
