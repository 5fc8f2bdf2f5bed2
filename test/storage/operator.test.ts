import { Limits } from '../../contracts/documents';
import { Client } from 'pg';
import { RunId } from '../../contracts/ids';
import type { TenantStore } from '../../contracts/ports';
import { StorageBusy } from '../../contracts/storage-busy';
import { until } from '../support/until';
import { quotaClass, scopeOf, STAGING, StorageWorld, tenantDocument, PROD } from './arrange';

let world: StorageWorld;
beforeEach(async () => {
  world = await StorageWorld.open();
});
afterEach(async () => {
  await world.close();
});

const policyVersionOf = async (store: TenantStore): Promise<number | undefined> =>
  (await store.callContext({ runId: RunId.parse('r-1'), records: [], capability: null }))?.versions
    .policyVersion;
const profile = (text: string, name = 'careful') => ({ name, environments: [PROD], text });

test('P10 a published policy gets the next version and is in force for the tenants that name it', async () => {
  await world.tenants('acme', 'globex');
  const acme = world.storage.tenant(scopeOf('acme'));
  expect(await acme.policyText()).toBeUndefined();

  expect(await world.operator.publishPolicy(profile('one'), 'ada', 'first')).toEqual({
    version: 1,
    tenants: 4,
  });
  expect(await acme.policyText()).toEqual({ version: 1, profile: 'careful', text: 'one' });
  expect(await policyVersionOf(acme)).toBe(1);

  await world.operator.publishPolicy(profile('two'), 'ada', 'second');
  expect(await acme.policyText()).toEqual({ version: 2, profile: 'careful', text: 'two' });
  expect(await acme.policyText(1)).toEqual({ version: 1, profile: 'careful', text: 'one' });
  expect(
    (await world.operator.policyHistory('careful')).map(({ version, actor, reason }) => ({
      version,
      actor,
      reason,
    })),
  ).toEqual([
    { version: 2, actor: 'ada', reason: 'second' },
    { version: 1, actor: 'ada', reason: 'first' },
  ]);
});

test('P10 a profile is in force only where it names the environment', async () => {
  await world.tenants('acme');
  await world.operator.publishPolicy(profile('one'), 'ada', 'first');
  const staging = world.open(STAGING).tenant(scopeOf('acme', STAGING));
  expect(await staging.policyText()).toBeUndefined();
  expect(await staging.policyText(1)).toBeUndefined();
});

test('P10 the same text again is the same version: documents are applied at every start', async () => {
  await world.tenants('acme');
  const first = await world.operator.publishPolicy(profile('one'), 'ada', 'first');
  expect(await world.operator.publishPolicy(profile('one'), 'ada', 'again')).toEqual(first);
});

test('P10 S3 what changes the tenant’s record or credentials raises its version; the same document again does not', async () => {
  await world.tenants('acme', 'globex');
  const version = async (tenant = 'acme'): Promise<number | undefined> => {
    const request = { runId: RunId.parse('r-1'), records: [], capability: null };
    return (await world.storage.tenant(scopeOf(tenant)).callContext(request))?.versions.recordVersion;
  };
  const seen = [await version()];
  for (const change of [
    () => world.operator.putTenant(tenantDocument('acme', { workspaces: ['main', 'second'] }), 'ada'),
    () => world.operator.putQuotaClass(quotaClass({ perRun: { steps: 7 } }), 'ada'),
    () => world.operator.putCredential(scopeOf('acme'), 'crm:read', 'sk-1', 'ada'),
    () => world.operator.putCredential(scopeOf('acme'), 'crm:read', 'sk-2', 'ada'),
    // By hand, in an emergency.
    () => world.admin.query(`update bulkhead.credentials set revoked_at = now() where tenant_id = 'acme'`),
    () => world.admin.query(`delete from bulkhead.tenant_keys where tenant_id = 'acme'`),
  ]) {
    await change();
    seen.push(await version());
  }
  expect(new Set(seen).size).toBe(seen.length);
  await world.operator.putTenant(tenantDocument('acme', { workspaces: ['main', 'second'] }), 'ada');
  expect(await version()).toBe(seen.at(-1));
  const globex = await version('globex');
  await world.operator.putTenant(tenantDocument('acme'), 'ada');
  expect(await version('globex')).toBe(globex);
});

test('P10 one version number names one text, so changing the profile makes older decisions stale', async () => {
  await world.tenants('acme');
  await world.operator.publishPolicy(profile('careful text'), 'ada', 'a');
  await world.operator.publishPolicy(profile('bold text', 'bold'), 'ada', 'b');
  const acme = world.storage.tenant(scopeOf('acme'));
  const before = await policyVersionOf(acme);
  const environments = { prod: { policyProfile: 'bold', quotaClass: 'standard' } };
  await world.operator.putTenant(tenantDocument('acme', { environments }), 'ada');
  const after = await policyVersionOf(acme);
  expect([before, after]).toEqual([1, 2]);
  expect(await acme.policyText()).toMatchObject({ profile: 'bold', text: 'bold text' });
  // A version of a profile that is not the tenant's is not the tenant's to read.
  expect(await acme.policyText(1)).toBeUndefined();
});

test('P10 a tenant whose row is held delays nobody else, and publishing again brings it up', async () => {
  await world.tenants('acme', 'globex');
  const holder = new Client({ connectionString: world.database.adminUrl });
  await holder.connect();
  await holder.query('begin');
  await holder.query(
    `select 1 from bulkhead.ledgers where tenant_id = 'acme' and environment = 'prod' for update`,
  );
  try {
    const publishing = world.operator.publishPolicy(profile('one'), 'ada', 'first');
    await expect(publishing).rejects.toThrow(StorageBusy);
    await expect(publishing).rejects.toThrow(/acme in prod/);
    expect(await world.storage.tenant(scopeOf('globex')).policyText()).toMatchObject({ version: 1 });
    expect(await world.storage.tenant(scopeOf('acme')).policyText()).toBeUndefined();
  } finally {
    await holder.query('rollback');
    await holder.end();
  }
  expect(await world.operator.publishPolicy(profile('one'), 'ada', 'again')).toMatchObject({ version: 1 });
  expect(await world.storage.tenant(scopeOf('acme')).policyText()).toMatchObject({ version: 1 });
});

test('P10 publishers at once get distinct versions, and every tenant ends on the newest', async () => {
  await world.tenants('acme');
  const texts = Array.from({ length: 8 }, (_, index) => `text ${index}`);
  const published = await Promise.all(
    texts.map((text) => world.operator.publishPolicy(profile(text), 'ada', 'race')),
  );
  expect(published.map(({ version }) => version).sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(await world.storage.tenant(scopeOf('acme')).policyText()).toMatchObject({ version: 8 });
});

test('Q6 limits of a quota class change in force for every tenant that names it', async () => {
  await world.tenants('acme', 'globex');
  await world.operator.putQuotaClass(
    quotaClass({ lane: 'dedicated', workerCeiling: 3, limits: { callsInFlight: 2 } }),
    'ada',
  );
  const record = await world.storage.tenant(scopeOf('acme')).record();
  expect(record).toMatchObject({
    lane: 'dedicated',
    workerCeiling: 3,
    limits: { callsInFlight: 2, toolCallsPerDay: 20_000 },
  });
  const ledger = await world.ask<{ calls_in_flight: number }>(
    'select distinct (layers).calls_in_flight from bulkhead.limits',
  );
  expect(ledger).toEqual([{ calls_in_flight: 2 }]);
  expect(await world.storage.platform.placements()).toEqual([
    { tenantId: 'acme', lane: 'dedicated', workerCeiling: 3, expensiveCeiling: 2 },
    { tenantId: 'globex', lane: 'dedicated', workerCeiling: 3, expensiveCeiling: 2 },
  ]);
});

test('O2 what operators do to a tenant is in its journal with the actor, and a document applied again adds nothing', async () => {
  await world.tenants('acme');
  await world.operator.publishPolicy(profile('one'), 'grace', 'because');
  const acme = world.storage.tenant(scopeOf('acme'));
  const journal = await acme.journal({ afterSeq: 0, limit: 100 });
  expect(journal.map((entry) => JSON.parse(entry.facts) as object)).toMatchObject([
    { kind: 'opened', actor: 'test' },
    { kind: 'policy', actor: 'grace', policyVersion: 1 },
  ]);
  await world.tenants('acme');
  await world.operator.publishPolicy(profile('one'), 'grace', 'because');
  expect(await acme.journal({ afterSeq: 0, limit: 100 })).toHaveLength(journal.length);
});

test('E4 a tenant that names no known quota class is refused with the remedy, and nothing of it is left', async () => {
  await expect(world.operator.putTenant(tenantDocument('acme'), 'ada')).rejects.toThrow(
    /no quota class standard: apply its document first/,
  );
  expect(await world.operator.tenants()).toEqual([]);
  expect(await world.ask(`select from pg_class where relname like 'kb/%'`)).toEqual([]);
});

test('E4 a class that one environment alone names and nobody knows is refused before anything is put in the others', async () => {
  await world.operator.putQuotaClass(quotaClass(), 'ada');
  const environments = {
    prod: { policyProfile: 'careful', quotaClass: 'standard' },
    staging: { policyProfile: 'careful', quotaClass: 'absent' },
  };
  await expect(world.operator.putTenant(tenantDocument('acme', { environments }), 'ada')).rejects.toThrow(
    /no quota class absent: apply its document first/,
  );
  const pools = { openai: 'absent' };
  await expect(world.operator.putTenant(tenantDocument('acme', { pools }), 'ada')).rejects.toThrow(
    /no provider pool absent of openai: apply its document first/,
  );
  expect(await world.operator.tenants()).toEqual([]);
});

test('N6 while one environment of a tenant waits for others, no ledger of its other environments is held', async () => {
  const prod = { prod: { policyProfile: 'careful', quotaClass: 'standard' } };
  await world.operator.putQuotaClass(quotaClass(), 'ada');
  await world.operator.putTenant(tenantDocument('acme', { environments: prod }), 'ada');
  const other = new Client({ connectionString: world.database.adminUrl });
  await other.connect();
  try {
    await other.query('begin');
    // What whoever attaches a partition there, or an autovacuum of it, takes.
    await other.query('lock table bulkhead."kb/acme" in share update exclusive mode');
    const changed = tenantDocument('acme', { workspaces: ['main', 'second'] });
    const putting = world.operator.putTenant(changed, 'ada');
    await until('it waits for the partition', async () => {
      const [row] = await world.ask<{ waits: boolean }>(
        `select exists (select from pg_locks where not granted and relation = 'bulkhead."kb/acme"'::regclass) as waits`,
      );
      return row?.waits === true;
    });
    const held = world.ask(
      `select from bulkhead.ledgers where tenant_id = 'acme' and environment = 'prod' for no key update nowait`,
    );
    await expect(held).resolves.toHaveLength(1);
    const record = await world.storage.tenant(scopeOf('acme')).record();
    expect(record?.workspaces).toEqual(['main', 'second']);
    await other.query('rollback');
    await expect(putting).resolves.toEqual({ created: true });
  } finally {
    await other.end();
  }
});

test('N6 a tenant document that changes nothing waits for no ledger', async () => {
  await world.tenants('acme');
  const holder = new Client({ connectionString: world.database.adminUrl });
  await holder.connect();
  try {
    await holder.query('begin');
    await holder.query(`select 1 from bulkhead.ledgers where tenant_id = 'acme' for update`);
    expect(await world.operator.putTenant(tenantDocument('acme'), 'ada')).toEqual({ created: false });
  } finally {
    await holder.query('rollback');
    await holder.end();
  }
}, 30_000);

test('U1 a tenant is created once, changed after, and read back as its record', async () => {
  await world.operator.putQuotaClass(quotaClass(), 'ada');
  expect(await world.operator.putTenant(tenantDocument('acme'), 'ada')).toEqual({ created: true });
  expect(
    await world.operator.putTenant(tenantDocument('acme', { workspaces: ['main', 'labs'] }), 'ada'),
  ).toEqual({ created: false });
  const record = await world.storage.tenant(scopeOf('acme')).record();
  expect(record).toEqual({
    tenantId: 'acme',
    environment: 'prod',
    policyProfile: 'careful',
    quotaClass: 'standard',
    lane: 'own',
    workerCeiling: 8,
    weight: 1,
    expensiveCeiling: 2,
    limits: Limits.parse({}),
    perRun: { steps: 50 },
    perAction: {},
    perAgent: {},
    timeZone: 'UTC',
    workspaces: ['main', 'labs'],
    connections: { helpdesk: 'https://acme.helpdesk.example' },
    scope: [{ system: 'helpdesk', account: 'acme-1' }],
    models: {},
    prices: {},
  });
  expect(
    (await world.operator.tenants()).map((tenant) => `${tenant.tenantId}/${tenant.environment}`),
  ).toEqual(['acme/prod', 'acme/staging']);
  expect(await world.storage.tenant(scopeOf('nobody')).record()).toBeUndefined();
});

test('U3 agents keep their versions, and the one published last is the current one', async () => {
  const agent = (version: string, instructions: string) => ({
    id: 'triage',
    class: 'support',
    model: 'scripted/small',
    instructions,
    actions: ['ticket.read'],
    budget: { steps: 5, maxOutputTokens: 100 },
    version,
  });
  const publish = (version: string, text: string) =>
    world.storage.platform.publishAgent(agent(version, text) as never);
  await publish('aaaaaaaaaaaa', 'one');
  await publish('bbbbbbbbbbbb', 'two');
  const acme = world.storage.tenant(scopeOf('acme'));
  expect(await acme.agent('triage')).toMatchObject({ version: 'bbbbbbbbbbbb', instructions: 'two' });
  expect(await acme.agent('triage', 'aaaaaaaaaaaa')).toMatchObject({ instructions: 'one' });
  await publish('aaaaaaaaaaaa', 'one');
  expect(await acme.agent('triage')).toMatchObject({ version: 'aaaaaaaaaaaa' });
  expect(await acme.agent('triage', 'cccccccccccc')).toBeUndefined();
  expect(await world.open(STAGING).tenant(scopeOf('acme', STAGING)).agent('triage')).toBeUndefined();
});

test('O7 a storage serves one environment: a scope of another is refused before any statement', () => {
  expect(() => world.storage.tenant(scopeOf('acme', STAGING))).toThrow(/serves prod, not staging/);
});
