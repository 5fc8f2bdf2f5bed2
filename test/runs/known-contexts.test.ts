import { RunId } from '../../contracts/ids';
import type { TenantStore } from '../../contracts/ports';
import { KnownContexts, type Asked } from '../../activities/known-contexts';
import { StoredSteps } from '../../activities/stored-steps';
import { scopeOf, STAGING, StorageWorld, tenantDocument } from '../storage/arrange';

let world: StorageWorld;
let acme: TenantStore;
let others: TenantStore[];
beforeAll(async () => {
  world = await StorageWorld.open();
  await world.tenants('acme', 'globex');
  acme = world.storage.tenant(scopeOf('acme'));
  others = [world.storage.tenant(scopeOf('globex')), world.open(STAGING).tenant(scopeOf('acme', STAGING))];
  await world.operator.putCredential(scopeOf('acme'), 'crm:read', 'sk-acme', 'ada');
  await world.admin.query(
    `insert into bulkhead.resources (tenant_id, environment, system, record_id, account, known_at)
     values ('acme', 'prod', 'helpdesk', 't-1', 'acme-1', now())`,
  );
});
afterAll(async () => {
  await world.close();
});

const runId = RunId.parse('r-1');
const asked: Asked = {
  runId,
  records: [{ system: 'helpdesk', id: 't-1' }],
  capability: 'crm:read',
};

test('M1 what was read for one tenant is recalled for no other, nor for another environment or run', async () => {
  const contexts = new KnownContexts();
  const read = await contexts.read(acme, asked);
  expect(read).toMatchObject({ known: [{ account: 'acme-1' }], sealed: { capability: 'crm:read' } });
  expect(contexts.recall(acme, asked)).toEqual(read);
  for (const store of others) expect(contexts.recall(store, asked)).toBeUndefined();
  expect(contexts.recall(acme, { ...asked, runId: RunId.parse('r-2') })).toBeUndefined();

  const steps = new StoredSteps();
  const step = { kind: 'model', text: 'mine', toolCalls: [], inputTokens: 1, outputTokens: 1 } as const;
  steps.keep(acme, runId, '0.0', step);
  expect(await steps.read(acme, runId, '0.0')).toEqual(step);
  for (const store of others) expect(await steps.read(store, runId, '0.0')).toBeUndefined();
});

test('T6 S1 only what was found is recalled: a record or a credential that was not there is asked for again', async () => {
  const contexts = new KnownContexts();
  await contexts.read(acme, asked);
  const unknown = { ...asked, records: [...asked.records, { system: 'helpdesk', id: 't-2' }] };
  expect(contexts.recall(acme, unknown)).toBeUndefined();
  expect(contexts.recall(acme, { ...asked, capability: 'crm:write' })).toBeUndefined();
  // A name that holds the separator is another name.
  expect(contexts.recall(acme, { ...asked, records: [{ system: 'helpdesk t-1', id: '' }] })).toBeUndefined();
  expect(contexts.recall(acme, { ...asked, records: [], capability: null })).toMatchObject({
    known: [],
    sealed: null,
  });
});

test('P10 S3 records and credentials read before the tenant changed are not recalled beside what was read after', async () => {
  const contexts = new KnownContexts();
  await contexts.read(acme, asked);
  await world.operator.putTenant(
    tenantDocument('acme', { scope: [{ system: 'helpdesk', account: 'acme-2' }] }),
    'ada',
  );
  await contexts.read(acme, { ...asked, records: [], capability: null });
  expect(contexts.recall(acme, asked)).toBeUndefined();
  expect(contexts.recall(acme, { ...asked, records: [], capability: null })?.record.scope).toEqual([
    { system: 'helpdesk', account: 'acme-2' },
  ]);
});
