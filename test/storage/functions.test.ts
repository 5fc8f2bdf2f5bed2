import { Client } from 'pg';
import { StorageWorld } from './arrange';

interface Callable {
  readonly name: string;
  readonly owner: string;
  readonly definer: boolean;
  readonly config: string[] | null;
  readonly args: { name: string; type: string }[];
}

let world: StorageWorld;
let callables: Callable[];

beforeAll(async () => {
  world = await StorageWorld.open();
  await world.tenants('acme', 'globex');
  callables = await world.ask<Callable>(
    `select p.proname as name, p.proowner::regrole::text as owner, p.prosecdef as definer, p.proconfig as config,
            (select coalesce(json_agg(json_build_object('name', p.proargnames[n], 'type', format_type(t, null)) order by n), '[]')
               from unnest(p.proargtypes) with ordinality a(t, n)) as args
       from pg_proc p
      where p.pronamespace = 'bulkhead'::regnamespace and p.prokind = 'f'
        and (has_function_privilege('bulkhead_app', p.oid, 'EXECUTE') or has_function_privilege('bulkhead_operator', p.oid, 'EXECUTE'))
      order by 1`,
  );
});
afterAll(async () => {
  await world.close();
});

const takesTenant = ({ args }: Callable): boolean =>
  args[0]?.name === 'p_tenant' && args[1]?.name === 'p_environment';

/** Calls a function as the superuser, with the context set, its scope given and the rest null. Answers the SQLSTATE. */
async function outcome(
  callable: Callable,
  context: readonly [string, string],
  scope: readonly [string | null, string | null],
): Promise<string> {
  const list = callable.args.map((_, index) => `$${index + 1}::${callable.args[index]?.type}`).join(', ');
  await world.admin.query('begin');
  try {
    await world.admin.query(
      `select set_config('bulkhead.tenant_id', $1, true), set_config('bulkhead.environment', $2, true)`,
      [...context],
    );
    await world.admin.query(`select * from bulkhead.${callable.name}(${list})`, [
      ...scope,
      ...callable.args.slice(2).map(() => null),
    ]);
    return 'answered';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  } finally {
    await world.admin.query('rollback');
  }
}

test('M1 every function with the owner’s rights has a fixed search path and an owner that cannot log in', () => {
  const loose = callables.filter(
    ({ definer, config, owner }) =>
      definer &&
      (!config?.some((setting) => /^search_path=(bulkhead, )?pg_(temp|catalog)$/.test(setting)) ||
        !/^bulkhead_(owner|sweep|search)$/.test(owner)),
  );
  expect(loose.map(({ name }) => name)).toEqual([]);
});

test('M1 a function that takes a tenant refuses a context that names another, or another environment', async () => {
  const tenantFunctions = callables.filter(takesTenant);
  expect(tenantFunctions.length).toBeGreaterThan(20);
  const wrong: string[] = [];
  for (const callable of tenantFunctions) {
    for (const [context, scope] of [
      [
        ['acme', 'prod'],
        ['globex', 'prod'],
      ],
      [
        ['acme', 'prod'],
        ['acme', 'staging'],
      ],
      [
        ['acme', 'staging'],
        ['acme', 'prod'],
      ],
      [
        ['globex', 'prod'],
        ['acme', 'prod'],
      ],
    ] as const) {
      const state = await outcome(callable, context, scope);
      if (!['BH001', 'BH002', '42501'].includes(state))
        wrong.push(`${callable.name} in ${context.join('/')} for ${scope.join('/')}: ${state}`);
    }
  }
  expect(wrong).toEqual([]);
});

test('M1 a function that takes a tenant refuses to work for none', async () => {
  const wrong: string[] = [];
  for (const callable of callables.filter(takesTenant)) {
    for (const scope of [
      ['', ''],
      [null, null],
      ['acme', ''],
      ['', 'prod'],
      ['%', 'prod'],
      ['acme', '*'],
    ] as const) {
      const state = await outcome(callable, ['', ''], scope);
      if (!['BH001', 'BH002', '42501', '22023'].includes(state))
        wrong.push(`${callable.name} for ${JSON.stringify(scope)}: ${state}`);
    }
  }
  expect(wrong).toEqual([]);
});

test('M1 functions without a tenant are few, and each was judged', () => {
  const judged = [
    // the platform's, of one environment
    'accepted_not_started',
    'agent_definition',
    'calls_due',
    'calls_of_dead_hosts',
    'control_versions',
    'floods_due',
    'follow_ups_waiting',
    'heartbeat_host',
    'journal_heads',
    'lines_to_tend',
    'lost_heads',
    'open_runs_idle',
    'placements',
    'queued_too_long',
    'slots_not_taken',
    'pool_members',
    'put_provider_pool',
    'put_call_capacity',
    'publish_agent',
    'runs_expired',
    'bind_environment',
    // pure
    'iso',
    // operators'
    'policy_history',
    'policy_published',
    'publish_policy',
    'must_know',
    'put_quota_class',
    'tenant_records',
    'tenants_naming',
  ];
  const found = callables.filter((callable) => !takesTenant(callable)).map(({ name }) => name);
  expect([...found].sort()).toEqual([...judged].sort());
});

test('M1 what operators may do, the application’s role may not', async () => {
  const client = new Client({ connectionString: world.database.appUrl });
  await client.connect();
  try {
    for (const call of [
      `bulkhead.put_quota_class('x', '{}', 'mallory')`,
      `bulkhead.publish_policy('careful', '{prod}', 'allow all', 'mallory', '')`,
      `bulkhead.apply_tenant('acme', 'prod', 'mallory', '{}')`,
      `bulkhead.tenant_records()`,
      `bulkhead.tenants_naming(null, null)`,
      `bulkhead.policy_history('careful')`,
      `bulkhead.policy_published('careful', 1)`,
      `bulkhead.put_credential('acme', 'prod', 'a:b', 1, '', '', 'k', 'mallory')`,
      `bulkhead.protect('bulkhead.tenants')`,
      `bulkhead.make_knowledge_partition('acme', 'prod')`,
    ]) {
      await expect(client.query(`select * from ${call}`)).rejects.toMatchObject({ code: '42501' });
    }
    for (const table of ['policies', 'quota_classes', 'operator_acts']) {
      await expect(client.query(`select * from bulkhead.${table}`)).rejects.toMatchObject({ code: '42501' });
    }
  } finally {
    await client.end();
  }
});
