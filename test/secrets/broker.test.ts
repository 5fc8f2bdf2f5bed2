import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { randomBytes } from 'node:crypto';
import { RunId } from '../../contracts/ids';
import type { CredentialLease, Leasing, TenantStore } from '../../contracts/ports';
import { StorageBusy } from '../../contracts/storage-busy';
import { createBroker, LeaseOver, type Broker } from '../../secrets/broker';
import { masterKeyOf } from '../../secrets/seal';
import { MASTER_KEY, PROD, scopeOf, STAGING, StorageWorld } from '../storage/arrange';

const SECRET = `sk-canary-${randomBytes(12).toString('hex')}`;
const CAPABILITY = 'payments:refund';
/** The secret in every form in which it could hide. */
const FORMS = [
  SECRET,
  Buffer.from(SECRET).toString('base64').replace(/=+$/, ''),
  Buffer.from(SECRET).toString('base64url'),
  Buffer.from(SECRET).toString('hex'),
  encodeURIComponent(SECRET),
  Buffer.from(Buffer.from(SECRET).reverse()).toString(),
  [...Buffer.from(SECRET)].join(','),
  [...Buffer.from(SECRET)].map((byte) => byte.toString(16)).join(' '),
];
const leaks = (text: string): string[] => FORMS.filter((form) => text.includes(form));

let world: StorageWorld;
let broker: Broker;
let acme: TenantStore;
beforeAll(async () => {
  world = await StorageWorld.open();
  await world.tenants('acme', 'globex');
  acme = world.storage.tenant(scopeOf('acme'));
  await world.operator.putCredential(scopeOf('acme'), CAPABILITY, SECRET, 'ada');
});
beforeEach(() => {
  broker = createBroker([MASTER_KEY]);
});
afterEach(() => {
  broker.close();
});
afterAll(async () => {
  await world.close();
});

const ask = (store: TenantStore = acme, over: object = {}): Promise<Leasing> =>
  broker.lease({
    store,
    runId: RunId.parse('r-1'),
    path: '0.1',
    capability: CAPABILITY,
    epoch: 0,
    ttlMs: 10_000,
    ...over,
  });
async function leased(over: object = {}): Promise<CredentialLease> {
  const leasing = await ask(acme, over);
  if (leasing.kind !== 'leased') throw new Error(leasing.refusal.message);
  return leasing.lease;
}

test('S1 a call is lent its tenant’s credential, and the lease is on record without it', async () => {
  const lease = await leased();
  expect(lease.authorization()).toBe(`Bearer ${SECRET}`);
  const rows = await world.ask('select * from bulkhead.leases where lease_id = $1', [lease.leaseId]);
  expect(rows).toMatchObject([
    {
      tenant_id: 'acme',
      environment: 'prod',
      capability: CAPABILITY,
      run_id: 'r-1',
      path: '0.1',
      revoked_at: null,
    },
  ]);
  expect(leaks(JSON.stringify(rows))).toEqual([]);
});

test('S1 another tenant, environment or capability has no such credential', async () => {
  const refusals = await Promise.all([
    ask(world.storage.tenant(scopeOf('globex'))),
    ask(world.open(STAGING).tenant(scopeOf('acme', STAGING))),
    ask(acme, { capability: 'payments:read' }),
    ask(world.storage.tenant(scopeOf('nobody'))),
  ]);
  for (const refusal of refusals) {
    expect(refusal).toMatchObject({
      kind: 'refused',
      refusal: { kind: 'failed', origin: 'platform', rule: 'credential_unavailable' },
    });
  }
});

test('S4 a row copied to another tenant does not open there, and a foreign master key opens nothing', async () => {
  await world.admin.query(
    `insert into bulkhead.tenant_keys select 'globex', environment, wrapped_key, key_id from bulkhead.tenant_keys where tenant_id = 'acme'`,
  );
  await world.admin.query(
    `insert into bulkhead.credentials (tenant_id, environment, capability, version, ciphertext, created_by)
     select 'globex', environment, capability, version, ciphertext, 'mallory' from bulkhead.credentials where tenant_id = 'acme'`,
  );
  const copied = await ask(world.storage.tenant(scopeOf('globex')));
  broker = createBroker([masterKeyOf(randomBytes(32))]);
  const foreign = await ask();
  for (const refusal of [copied, foreign]) {
    expect(refusal).toMatchObject({ kind: 'refused', refusal: { rule: 'credential_unavailable' } });
    expect(leaks(inspect(refusal))).toEqual([]);
  }
});

test('S1 a lease is useless after its end', async () => {
  const lease = await leased({ ttlMs: 60 });
  expect(lease.authorization()).toContain(SECRET);
  await sleep(90);
  expect(() => lease.authorization()).toThrow(LeaseOver);
});

test('S1 a lease ends on the clock even while the event loop is blocked', async () => {
  const lease = await leased({ ttlMs: 30 });
  const until = performance.now() + 50;
  while (performance.now() < until);
  expect(() => lease.authorization()).toThrow(LeaseOver);
});

test('S3 revocation reaches leases already out, of that tenant and of epochs before the fence alone', async () => {
  await world.operator
    .putCredential(scopeOf('globex'), 'crm:read', 'sk-globex', 'ada')
    .catch(() => undefined);
  const [old, young] = [await leased({ epoch: 0 }), await leased({ epoch: 3 })];
  expect(broker.revokeBefore(scopeOf('globex').tenantId, PROD, 9)).toBe(0);
  expect(broker.revokeBefore(scopeOf('acme').tenantId, STAGING, 9)).toBe(0);
  expect(broker.revokeBefore(scopeOf('acme').tenantId, PROD, 2)).toBe(1);
  expect(() => old.authorization()).toThrow(/was revoked/);
  expect(young.authorization()).toContain(SECRET);
  broker.close();
  expect(() => young.authorization()).toThrow(LeaseOver);
});

test('O1 no lease is given for a call of an epoch before the fence', async () => {
  await world.tenants('initech');
  const initech = world.storage.tenant(scopeOf('initech'));
  await world.operator.putCredential(scopeOf('initech'), CAPABILITY, 'sk-initech', 'ada');
  await initech.kill({ reason: 'drill', actor: 'ada' });
  expect(await ask(initech)).toMatchObject({
    kind: 'refused',
    refusal: { kind: 'killed', origin: 'control', rule: 'fence' },
  });
});

test('S3 a new version is lent from the next call on, without a restart', async () => {
  await world.tenants('hooli');
  const hooli = world.storage.tenant(scopeOf('hooli'));
  const authorization = async (): Promise<string> => {
    const leasing = await ask(hooli);
    return leasing.kind === 'leased' ? leasing.lease.authorization() : leasing.refusal.rule;
  };
  expect(await world.operator.putCredential(scopeOf('hooli'), CAPABILITY, 'sk-one', 'ada')).toEqual({
    version: 1,
  });
  expect(await authorization()).toBe('Bearer sk-one');
  expect(await world.operator.putCredential(scopeOf('hooli'), CAPABILITY, 'sk-two', 'ada')).toEqual({
    version: 2,
  });
  expect(await authorization()).toBe('Bearer sk-two');
  // A revoked newest one never falls back to the one before it.
  await world.admin.query(
    `update bulkhead.credentials set revoked_at = now() where tenant_id = 'hooli' and version = 2`,
  );
  expect(await authorization()).toBe('credential_unavailable');
});

test('S1 what the database cannot answer is thrown, never read as permission; the lease that was not recorded is dead', async () => {
  const busy = { ...acme, credential: () => Promise.reject(new StorageBusy('away')) };
  await expect(ask(busy)).rejects.toThrow(StorageBusy);
  const unrecorded = { ...acme, recordLease: () => Promise.reject(new StorageBusy('away')) };
  await expect(ask(unrecorded)).rejects.toThrow(StorageBusy);
  expect(broker.revokeBefore(scopeOf('acme').tenantId, PROD, 99)).toBe(0);
});

test('S2 nothing that prints or throws shows the secret', async () => {
  const lease = await leased({ ttlMs: 50 });
  const printed = [
    inspect(lease, { depth: 10, showHidden: true, getters: true }),
    JSON.stringify(lease),
    JSON.stringify({ lease }),
    inspect({ nested: [lease] }, { depth: 10 }),
    inspect(broker, { depth: 10, showHidden: true }),
    JSON.stringify(Object.getOwnPropertyDescriptors(lease)),
    inspect(Object.entries(lease), { depth: 10 }),
  ];
  await sleep(60);
  try {
    lease.authorization();
  } catch (error) {
    printed.push(inspect(error, { depth: 10, showHidden: true }), String((error as Error).stack));
  }
  expect(printed).toHaveLength(9);
  for (const text of printed) expect(leaks(text)).toEqual([]);
  expect(() => structuredClone(lease)).not.toThrow(SECRET);
});

test('S4 the secret is nowhere in the database: no table, no row, no form of it', async () => {
  await leased();
  const tables = await world.ask<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'm') and n.nspname not in ('information_schema')`,
  );
  expect(tables.length).toBeGreaterThan(60);
  let rowsSeen = 0;
  for (const { name } of tables) {
    const rows = await world.ask<{ text: string }>(`select to_jsonb(x)::text as text from ${name} x`);
    rowsSeen += rows.length;
    for (const row of rows) expect({ name, leaks: leaks(row.text) }).toEqual({ name, leaks: [] });
  }
  expect(rowsSeen).toBeGreaterThan(1_000);
  // Control arm: the search finds what is there to find.
  const found = await world.ask<{ text: string }>(
    `select to_jsonb(x)::text as text from bulkhead.credentials x`,
  );
  const [row] = await world.ask<{ ciphertext: Buffer }>(
    'select ciphertext from bulkhead.credentials limit 1',
  );
  expect(found.some(({ text }) => text.includes(row?.ciphertext.toString('hex') ?? 'none'))).toBe(true);
});
