import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { randomBytes, randomUUID } from 'node:crypto';
import type { TenantStore } from '../../contracts/ports';
import type { CredentialLease, Leasing } from '../../contracts/secrets-ports';
import { createBroker, LeaseOver, type Broker } from '../../secrets/broker';
import { masterKeyOf } from '../../secrets/seal';
import { admissionOf, admit, CAPABILITY, contextOf, NOT_LET_IN, readContext } from './lending';
import { MASTER_KEY, PROD, scopeOf, STAGING, StorageWorld } from '../storage/arrange';

const SECRET = `sk-canary-${randomBytes(12).toString('hex')}`;
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

interface Asked {
  readonly capability?: string;
  readonly ttlMs?: number;
}

/** One governed write up to its lease, as the gateway takes it: context, admission, broker. */
async function ask(store: TenantStore = acme, asked: Asked = {}): Promise<Leasing> {
  const { capability = CAPABILITY, ttlMs = 10_000 } = asked;
  const context = await contextOf(store, capability);
  const sealed = context?.sealed ?? null;
  const admission = context ? await admit(store, context) : NOT_LET_IN;
  return broker.lease({ scope: store.scope, capability, sealed, admission, ttlMs });
}
async function leased(asked: Asked = {}): Promise<CredentialLease> {
  const leasing = await ask(acme, asked);
  if (leasing.kind !== 'leased') throw new Error(leasing.refusal.message);
  return leasing.lease;
}
const recorded = (tenant: string): Promise<{ lease_id: string; run_id: string }[]> =>
  world.ask(`select * from bulkhead.leases where tenant_id = $1 order by created_at`, [tenant]);

test('S1 a call is lent its tenant’s credential, and the lease is on record without it', async () => {
  const lease = await leased();
  expect(lease.authorization()).toBe(`Bearer ${SECRET}`);
  const rows = await world.ask('select * from bulkhead.leases where lease_id = $1', [lease.leaseId]);
  expect(rows).toMatchObject([
    {
      tenant_id: 'acme',
      environment: 'prod',
      capability: CAPABILITY,
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
  await world.tenants('umbrella');
  const umbrella = world.storage.tenant(scopeOf('umbrella'));
  const { tenantId } = scopeOf('umbrella');
  await world.operator.putCredential(scopeOf('umbrella'), CAPABILITY, SECRET, 'ada');
  const old = await ask(umbrella);
  await umbrella.kill({ reason: 'drill', actor: 'ada' });
  await umbrella.release({ reason: 'over', actor: 'ada' });
  const young = await ask(umbrella);
  if (old.kind !== 'leased' || young.kind !== 'leased') throw new Error('no lease was given');
  expect(broker.revokeBefore(scopeOf('globex').tenantId, PROD, 9)).toBe(0);
  expect(broker.revokeBefore(tenantId, STAGING, 9)).toBe(0);
  expect(broker.revokeBefore(tenantId, PROD, 1)).toBe(1);
  expect(() => old.lease.authorization()).toThrow(/was revoked/);
  expect(young.lease.authorization()).toContain(SECRET);
  broker.close();
  expect(() => young.lease.authorization()).toThrow(LeaseOver);
});

test('O1 S1 no lease is recorded, or given, for a call that admission refuses', async () => {
  await world.tenants('initech');
  const initech = world.storage.tenant(scopeOf('initech'));
  await world.operator.putCredential(scopeOf('initech'), CAPABILITY, 'sk-initech', 'ada');
  const context = await readContext(initech);
  const request = await admissionOf(initech, context);
  await initech.kill({ reason: 'drill', actor: 'ada' });
  const refused = await initech.admit(request);
  expect(refused).toMatchObject({ answer: 'refused', refusal: { kind: 'killed', origin: 'control' } });
  expect(await recorded('initech')).toEqual([]);
  const leasing = broker.lease({
    scope: initech.scope,
    capability: CAPABILITY,
    sealed: context.sealed,
    admission: NOT_LET_IN,
    ttlMs: 1_000,
  });
  expect(leasing).toMatchObject({ kind: 'refused', refusal: { kind: 'killed', origin: 'control' } });
});

test('S1 an admission asked twice with its token records one lease; a taken-over call gets one of its own', async () => {
  await world.tenants('stark');
  const stark = world.storage.tenant(scopeOf('stark'));
  await world.operator.putCredential(scopeOf('stark'), CAPABILITY, 'sk-stark', 'ada');
  const context = await readContext(stark);
  const request = { ...(await admissionOf(stark, context)), leaseMs: 1 };
  const first = await stark.admit(request);
  expect(first).toMatchObject({ answer: 'admitted', leaseId: request.token });
  expect(await stark.admit(request)).toEqual(first);
  expect(await recorded('stark')).toHaveLength(1);
  await sleep(5);
  const second = { ...request, token: randomUUID() };
  expect(await stark.admit(second)).toMatchObject({ answer: 'recover', leaseId: second.token });
  expect((await recorded('stark')).map(({ lease_id }) => lease_id)).toEqual([request.token, second.token]);
  // A lease that was revoked meanwhile is not given again to the token that asks once more.
  await stark.revokeLeases();
  expect(await stark.admit({ ...second, leaseMs: 1 })).toMatchObject({ answer: 'recover', leaseId: null });
});

test('S3 a credential that was replaced or revoked since it was read is not lent: the call is decided again', async () => {
  await world.tenants('wayne');
  const wayne = world.storage.tenant(scopeOf('wayne'));
  await world.operator.putCredential(scopeOf('wayne'), CAPABILITY, 'sk-one', 'ada');
  const context = await readContext(wayne);
  const request = await admissionOf(wayne, context);
  await world.operator.putCredential(scopeOf('wayne'), CAPABILITY, 'sk-two', 'ada');
  expect(await wayne.admit(request)).toMatchObject({ answer: 'stale' });
  const second = { ...request, decidedBy: (await readContext(wayne)).versions };
  await world.admin.query(`update bulkhead.credentials set revoked_at = now() where tenant_id = 'wayne'`);
  expect(await wayne.admit(second)).toMatchObject({ answer: 'stale' });
  expect(await recorded('wayne')).toEqual([]);
  await world.admin.query(`update bulkhead.credentials set revoked_at = null where tenant_id = 'wayne'`);
  const third = { ...request, decidedBy: (await readContext(wayne)).versions };
  expect(await wayne.admit(third)).toMatchObject({ answer: 'admitted', leaseId: request.token });
});

test('S3 a secret that is in use already stays the version it is; another one, or one that was revoked, is a new version', async () => {
  const scope = scopeOf('acme');
  const put = async (secret: string): Promise<number> =>
    (await world.operator.putCredential(scope, 'payments:twice', secret, 'ada')).version;
  expect([await put('one'), await put('one'), await put('two'), await put('two'), await put('one')]).toEqual([
    1, 1, 2, 2, 3,
  ]);
  await world.admin.query(
    `update bulkhead.credentials set revoked_at = now() where tenant_id = 'acme' and capability = 'payments:twice'`,
  );
  expect(await put('one')).toBe(4);
});

test('S1 a context of another tenant, or of another capability, opens nothing', async () => {
  const context = await readContext(acme);
  const { sealed } = context;
  const admission = await admit(acme, context);
  const { scope } = world.storage.tenant(scopeOf('globex'));
  const ttlMs = 1_000;
  const refused = { kind: 'refused', refusal: { rule: 'credential_unavailable' } };
  expect(broker.lease({ scope, capability: CAPABILITY, sealed, admission, ttlMs })).toMatchObject(refused);
  const other = { scope: acme.scope, capability: 'payments:read', sealed, admission, ttlMs };
  expect(broker.lease(other)).toMatchObject(refused);
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
