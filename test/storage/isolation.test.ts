import { Client } from 'pg';
import { StorageWorld } from './arrange';
import { ATTEMPT_SQL, attack, attemptsOn, type Attempt, type Context } from './attack';
import { plantCanaries, tenantRelations, type TenantRelation } from './plant';

/** Another tenant, and the same tenant's other environment. */
const VICTIMS = [
  ['globex', 'prod'],
  ['acme', 'staging'],
] as const;
const SCOPES = ['acme', 'globex'].flatMap((tenant) =>
  ['prod', 'staging'].map((environment) => [tenant, environment] as const),
);

/** What a context may be: none, empty, halves, each scope, look-alikes, patterns, injections. */
const CONTEXTS: Context[] = [
  undefined,
  ['', ''],
  ['acme', ''],
  ['', 'prod'],
  ...SCOPES,
  ['nobody', 'prod'],
  ['ACME', 'prod'],
  ['acme ', 'prod'],
  ['acmé', 'prod'],
  ['acme\u200b', 'prod'],
  ['globex', 'PROD'],
  ['%', '%'],
  ['_'.repeat(6), 'prod'],
  ['*', '*'],
  ['acme', '*'],
  ['.*', '.*'],
  ["' or '1'='1", "' or '1'='1"],
  ['acme,globex', 'prod'],
  ['{acme,globex}', 'prod'],
  ['acme/prod', 'prod'],
  ['null', 'null'],
];

const withoutTruncate = (all: Attempt[]): Attempt[] => all.filter(({ verb }) => verb !== 'truncate');

let world: StorageWorld;
let relations: TenantRelation[];
let attempts: Attempt[];

beforeAll(async () => {
  world = await StorageWorld.open();
  await world.tenants('acme', 'globex');
  relations = await tenantRelations(world.admin);
  for (const [tenant, environment] of SCOPES)
    await plantCanaries(world.admin, relations, tenant, environment);
  attempts = VICTIMS.flatMap((victim) => attemptsOn(relations, victim));
  await world.admin.query(ATTEMPT_SQL);
  // One that may do everything that can be granted, so that not the missing grants but row security is what refuses.
  await world.admin.query(`
    do $$ begin create role isolation_probe nologin; exception when duplicate_object or unique_violation then null; end $$;
    grant usage on schema bulkhead to isolation_probe;
    grant select, insert, update, delete on all tables in schema bulkhead to isolation_probe;
    grant execute on all functions in schema bulkhead to isolation_probe`);
});
afterAll(async () => {
  await world.admin.query('drop owned by isolation_probe');
  await world.close();
});

test('M1 every table with tenants’ rows is closed: key, row security forced, id forms, one policy for tenants', async () => {
  const open = await world.ask(
    `select c.relname, c.relrowsecurity, c.relforcerowsecurity
       from pg_class c
      where c.relnamespace = 'bulkhead'::regnamespace and c.relkind in ('r', 'p')
        and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id')
        and not (c.relrowsecurity and c.relforcerowsecurity
          and exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'tenant_scope')
          and exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary
                         and (select a.attname from pg_attribute a where a.attrelid = c.oid and a.attnum = i.indkey[0]) = 'tenant_id'
                         and (select a.attname from pg_attribute a where a.attrelid = c.oid and a.attnum = i.indkey[1]) = 'environment'))`,
  );
  expect(open).toEqual([]);
  // A table without a tenant is the platform's: named here, or it is a tenant's table that forgot its tenant.
  const platform = await world.ask<{ relname: string }>(
    `select c.relname from pg_class c
      where c.relnamespace = 'bulkhead'::regnamespace and c.relkind in ('r', 'p', 'm', 'f')
        and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') order by 1`,
  );
  expect(platform.map(({ relname }) => relname)).toEqual([
    'agents',
    'call_capacities',
    'hosts',
    'migrations',
    'operator_acts',
    'policies',
    'provider_pools',
    'quota_classes',
  ]);
});

test('M1 unique keys and foreign keys lead with the tenant, so that no error tells of another’s row', async () => {
  const revealing = await world.ask(
    `select i.indexrelid::regclass::text as index
       from pg_index i join pg_class c on c.oid = i.indrelid
      where c.relnamespace = 'bulkhead'::regnamespace and i.indisunique
        and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id')
        and (select array_agg(a.attname::text order by k.n) from unnest(i.indkey[0:1]) with ordinality k(attnum, n)
               join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum) is distinct from array['tenant_id', 'environment']`,
  );
  expect(revealing).toEqual([]);
  const reaching = await world.ask(
    `select conname from pg_constraint f
      where f.contype = 'f' and f.connamespace = 'bulkhead'::regnamespace
        and exists (select from pg_attribute a where a.attrelid = f.confrelid and a.attname = 'tenant_id')
        and (select a.attname from pg_attribute a where a.attrelid = f.conrelid and a.attnum = f.conkey[1]) <> 'tenant_id'`,
  );
  expect(reaching).toEqual([]);
});

test('M1 who logs in owns nothing, bypasses nothing, and holds no more than reading and functions', async () => {
  const roles = await world.ask(
    `select rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb from pg_roles where rolname like 'bulkhead%' order by 1`,
  );
  const narrow = { rolsuper: false, rolbypassrls: false, rolcreaterole: false, rolcreatedb: false };
  expect(roles).toEqual([
    { rolname: 'bulkhead_app', rolcanlogin: true, ...narrow },
    { rolname: 'bulkhead_operator', rolcanlogin: true, ...narrow },
    { rolname: 'bulkhead_owner', rolcanlogin: false, ...narrow },
    { rolname: 'bulkhead_search', rolcanlogin: false, ...narrow },
    { rolname: 'bulkhead_sweep', rolcanlogin: false, ...narrow },
  ]);
  const owned = await world.ask(
    `select relname from pg_class where relowner in ('bulkhead_app'::regrole, 'bulkhead_operator'::regrole)
     union all select proname from pg_proc where proowner in ('bulkhead_app'::regrole, 'bulkhead_operator'::regrole)`,
  );
  expect(owned).toEqual([]);
  const writable = await world.ask(
    `select c.relname, p.privilege from pg_class c, unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES']) p(privilege)
      where c.relnamespace = 'bulkhead'::regnamespace and c.relkind in ('r', 'p', 'v')
        and (has_table_privilege('bulkhead_app', c.oid, p.privilege) or has_table_privilege('bulkhead_operator', c.oid, p.privilege))`,
  );
  expect(writable).toEqual([]);
  const members = await world.ask(
    `select member::regrole::text from pg_auth_members where member in ('bulkhead_app'::regrole, 'bulkhead_operator'::regrole)`,
  );
  expect(members).toEqual([]);
});

test('M1 isolation attempts: every relation, verb, context and role, and no foreign canary', async () => {
  let total = 0;
  const escapes: string[] = [];
  const reached = new Map<string, number>();
  for (const context of CONTEXTS) {
    // A session of its own for each: "never set" and "set before" are different things to PostgreSQL.
    const client = new Client({ connectionString: world.database.adminUrl });
    await client.connect();
    try {
      for (const role of ['bulkhead_app', 'bulkhead_operator', 'isolation_probe', 'bulkhead_owner']) {
        // Row security does not concern TRUNCATE, and an owner may: nobody can log in as one.
        const mine = role === 'bulkhead_owner' ? withoutTruncate(attempts) : attempts;
        const found = await attack(client, role, context, mine);
        total += found.attempts;
        reached.set(role, (reached.get(role) ?? 0) + found.reachedOwn);
        escapes.push(...found.escapes.map((escape) => `${role} in ${JSON.stringify(context)}: ${escape}`));
      }
    } finally {
      await client.end();
    }
  }
  expect(escapes).toEqual([]);
  expect(total).toBeGreaterThan(50_000);
  // Each arm reached its own tenant's rows where it may, so the walls refused and not the statements.
  expect(reached.get('bulkhead_app')).toBeGreaterThan(0);
  expect(reached.get('isolation_probe')).toBeGreaterThan(4 * relations.length);
  expect(reached.get('bulkhead_owner')).toBeGreaterThan(4 * relations.length);
});

describe('control arms: the same attempts with a wall taken down', () => {
  const tables = (): string[] => relations.filter(({ kind }) => kind !== 'view').map(({ name }) => name);

  async function withoutWall(ddl: string[], role: string): Promise<Set<string>> {
    await world.admin.query('begin');
    try {
      for (const statement of ddl) await world.admin.query(statement);
      const found = await attack(world.admin, role, ['acme', 'prod'], withoutTruncate(attempts));
      return new Set(found.escapes.map((escape) => escape.split(' ')[0] ?? ''));
    } finally {
      await world.admin.query('rollback');
    }
  }

  test('M1 without row security every table gives up its canaries', async () => {
    const open = await withoutWall(
      tables().map((name) => `alter table bulkhead."${name}" disable row level security`),
      'isolation_probe',
    );
    expect([...open].sort()).toEqual(
      relations
        .map(({ name }) => name)
        .filter((name) => !ownPartition(name))
        .sort(),
    );
  });

  test('M1 without FORCE every table gives up its canaries to its owner', async () => {
    const open = await withoutWall(
      tables().map((name) => `alter table bulkhead."${name}" no force row level security`),
      'bulkhead_owner',
    );
    expect([...open].sort()).toEqual(
      relations
        .map(({ name }) => name)
        .filter((name) => !ownPartition(name))
        .sort(),
    );
  });

  test('M1 a view with its owner’s rights would show all', async () => {
    const bare = tables().map((name) => `alter table bulkhead."${name}" no force row level security`);
    const open = await withoutWall(
      [...bare, 'alter view bulkhead.run_rows set (security_invoker = false)'],
      'bulkhead_app',
    );
    expect([...open]).toEqual(['run_rows']);
  });

  /** The attacker's own partition holds nothing foreign, wall or not. */
  const ownPartition = (name: string): boolean => name === 'kb/acme/prod';
});

test('M1 the only statement that crosses is the documented one: the application’s role may name another tenant', async () => {
  // Said in docs/storage.md: row security stops mistakes, not injected SQL. This test keeps that sentence true.
  const client = new Client({ connectionString: world.database.appUrl });
  await client.connect();
  try {
    await client.query('begin');
    await client.query(
      `select set_config('bulkhead.tenant_id', 'globex', true), set_config('bulkhead.environment', 'prod', true)`,
    );
    const { rows } = await client.query<{ tenant_id: string }>('select tenant_id from bulkhead.tenants');
    expect(rows).toEqual([{ tenant_id: 'globex' }]);
    await client.query('rollback');
  } finally {
    await client.end();
  }
});
