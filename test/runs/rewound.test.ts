import { Client } from 'pg';
import { call, openDesk, type Desk } from './desk';
import { until } from '../support/until';

let desk: Desk;

beforeAll(async () => {
  // The sweep notices a rewound ledger too, and is kept away here.
  desk = await openDesk({ timing: { sweepEveryMs: 3_600_000 } });
  await desk.tenant('acme');
});
afterAll(() => desk.close());

/** Takes the newest entries of acme's ledger away, as a restore from before them would. */
async function rewind(entries: number): Promise<void> {
  const admin = new Client({ connectionString: desk.stack.database.adminUrl });
  await admin.connect();
  try {
    await admin.query("set session_replication_role = 'replica'");
    const ofAcme = `tenant_id = 'acme' and environment = '${desk.stack.environment}'`;
    await admin.query(
      `delete from bulkhead.journal where ${ofAcme} and seq > (select journal_seq from bulkhead.ledgers where ${ofAcme}) - ${entries}`,
    );
    await admin.query(
      `update bulkhead.ledgers l set journal_seq = j.seq, durable_seq = j.seq, journal_head = j.hash
         from (select seq, hash from bulkhead.journal where ${ofAcme} order by seq desc limit 1) j where ${ofAcme}`,
    );
  } finally {
    await admin.end();
  }
}

test('O8 a run that has seen nothing is stopped too by a host that was told more than the ledger knows', async () => {
  const note = call(['note.write', { recordId: 'r1', text: 'x' }]);
  await desk.play('acme', [note, note, note]);
  await rewind(12);
  const before = [desk.outside.effects.length, desk.model.requests.length];
  const run = await desk.begin('acme', [note]);
  await until('a refusal by the ledger', async () =>
    (await desk.stack.journal('acme')).some(
      ({ facts }) => facts.includes('ledger_rewound') && facts.includes(run.runId),
    ),
  );
  expect([desk.outside.effects.length, desk.model.requests.length]).toEqual(before);
});
