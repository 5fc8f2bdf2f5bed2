import { Client } from 'pg';
import { assembleMessages } from '../../activities/conversation';
import { ForeignContext } from '../../activities/markers';
import type { ContextMarker, StoredItem } from '../../contracts/rows';
import { call, openDesk, type Desk } from './desk';

let desk: Desk;
let admin: Client;
beforeAll(async () => {
  desk = await openDesk();
  admin = new Client({ connectionString: desk.stack.database.adminUrl });
  await admin.connect();
});
afterAll(async () => {
  await admin.end();
  await desk.close();
});

const own = { tenantId: 'acme', environment: 'prod', rootRunId: 'run-1' } as never;
const mark: ContextMarker = { tenantId: 'acme', environment: 'prod', runId: 'run-1' };
const input = (marker: ContextMarker): StoredItem => ({
  ref: 'input',
  payload: { kind: 'input', input: 'canary' },
  marker,
});

test('M5 an item of another tenant, environment or run, or with no marker at all, is not put into a prompt', () => {
  expect(assembleMessages(own, [input(mark)], 0)).toEqual([{ role: 'user', content: 'canary' }]);
  const others: Partial<ContextMarker>[] = [
    { tenantId: 'globex' },
    { environment: 'dev' },
    { runId: 'run-2' },
    { tenantId: null },
    { environment: null },
    { runId: null },
  ];
  for (const other of others) {
    const assemble = () => assembleMessages(own, [input({ ...mark, ...other })], 0);
    expect(assemble).toThrow(ForeignContext);
    expect(assemble).not.toThrow(/canary/);
  }
  // Also where it would not be read: that it came at all says that the scope is ambiguous.
  const late = { ...input({ ...mark, tenantId: 'globex' }), ref: '7.0' };
  expect(() => assembleMessages(own, [input(mark), late], 0)).toThrow(/item 7.0 .* another marker/);
});

/** The first wall taken down: a function of the database answers for another tenant than it was asked for, while this runs. */
async function without(wall: string, by: string, body: () => Promise<void>): Promise<void> {
  const { rows } = await admin.query<{ text: string; owner: string }>(
    `select pg_get_functiondef(p.oid) as text, pg_get_userbyid(p.proowner) as owner from pg_proc p
      join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'bulkhead' and p.proname = $1`,
    [wall],
  );
  const { text, owner } = rows[0]!;
  const opened = text.replace(/begin[\s\S]*end \$function\$/, `begin\n${by}\nend $function$`);
  expect(opened).not.toBe(text);
  await admin.query(opened);
  try {
    // As superuser's, for no other role may look past row security.
    await admin.query(`alter function bulkhead.${wall} owner to current_user`);
    await body();
  } finally {
    await admin.query(text);
    await admin.query(`alter function bulkhead.${wall} owner to "${owner}"`);
  }
}

test('M5 E4 a conversation that another tenant’s item has come into is not sent: scope_ambiguous, and a review', async () => {
  for (const name of ['acme', 'globex']) await desk.tenant(name);
  await desk.play('globex', [call(['note.write', { recordId: 'r1', text: 'canary of globex' }])]);
  const asked = desk.model.requests.length;
  await without(
    'payloads_of',
    `return query select k.ref, k.payload, k.tenant_id::text, k.environment::text, k.run_id from bulkhead.payloads k
       where (k.tenant_id = p_tenant and k.run_id = p_run or k.tenant_id = 'globex' and k.ref <> 'input') and (p_ref is null or k.ref = p_ref);`,
    async () => {
      const { run, result } = await desk.play('acme', [call(['record.read', { recordId: 'r1' }])]);
      expect(result).toMatchObject({ stopReason: 'scope_ambiguous', usage: { toolCalls: 0 } });
      expect(await desk.reviews('acme', run.runId)).toMatchObject([
        { path: '0.0', kind: 'scope_ambiguous', refusal: { rule: 'scope.foreign_context' } },
      ]);
    },
  );
  expect(desk.model.requests.slice(asked)).toEqual([]);
});

test('M5 E4 nor is a passage of another tenant’s, also where the action has caught the refusal', async () => {
  await desk.tenant('initech');
  for (const name of ['initech', 'globex'])
    await desk.stack
      .store(name)
      .putKnowledge({ documentId: 'd', title: `refunds of ${name}`, text: 'how refunds are made' });
  const search = call(['library.search', { query: 'refunds' }]);
  const honest = await desk.play('initech', [search]);
  expect(honest.result.stopReason).toBe('completed');
  expect(JSON.stringify(desk.model.requests.at(-1)?.messages)).toContain('refunds of initech');

  const asked = desk.model.requests.length;
  await without(
    'search_knowledge',
    `return query select k.document_id, k.title, k.body, 1::real, k.tenant_id::text, k.environment::text from bulkhead.knowledge k;`,
    async () => {
      const { run, result } = await desk.play('initech', [search]);
      expect(result).toMatchObject({ stopReason: 'scope_ambiguous' });
      expect(await desk.reviews('initech', run.runId)).toMatchObject([
        { path: '0.1', kind: 'scope_ambiguous', refusal: { rule: 'scope.foreign_context' } },
      ]);
      expect(JSON.stringify(await desk.payload('initech', run, '0.1'))).not.toContain('globex');
    },
  );
  expect(JSON.stringify(desk.model.requests.slice(asked))).not.toContain('globex');
});
