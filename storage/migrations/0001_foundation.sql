-- Scopes, and the platform's own tables. Runs as bulkhead_owner with search_path bulkhead (storage/migrate.ts).
--
-- Row security reads two settings, both local to a transaction: bulkhead.tenant_id and bulkhead.environment. After
-- the transaction they read as '' and not as null, so '' never matches and no id may be empty.

-- Makes the settings name this tenant for the rest of the transaction. An error if they already name another: one
-- transaction is one tenant's. Every function that takes a tenant begins with it.
-- (It runs in every call, with its caller's rights and path, and names no table: a path of its own would cost more than it does.)
create function bind_scope(p_tenant text, p_environment text) returns void
language plpgsql volatile as $$
declare
  v_tenant text := nullif(pg_catalog.current_setting('bulkhead.tenant_id', true), '');
  v_environment text := nullif(pg_catalog.current_setting('bulkhead.environment', true), '');
begin
  if p_tenant is null or p_tenant !~ '^[a-z0-9][a-z0-9-]{0,39}$'
     or p_environment is null or p_environment !~ '^[a-z0-9][a-z0-9-]{1,15}$' then
    raise exception 'this work names no tenant and environment' using errcode = 'BH002';
  end if;
  if v_tenant is distinct from p_tenant or v_environment is distinct from p_environment then
    if v_tenant is not null or (v_environment is not null and v_environment <> p_environment) then
      raise exception 'the context is of another tenant or environment' using errcode = 'BH001';
    end if;
    perform pg_catalog.set_config('bulkhead.tenant_id', p_tenant, true);
    perform pg_catalog.set_config('bulkhead.environment', p_environment, true);
  end if;
end $$;

-- For functions across the tenants of one environment, owned by bulkhead_sweep.
create function bind_environment(p_environment text) returns void
language plpgsql volatile set search_path = pg_catalog as $$
declare
  v_environment text := nullif(current_setting('bulkhead.environment', true), '');
begin
  if p_environment is null or p_environment !~ '^[a-z0-9][a-z0-9-]{1,15}$' then
    raise exception 'this work names no environment' using errcode = 'BH002';
  end if;
  if v_environment is not null and v_environment <> p_environment then
    raise exception 'the context is of another environment' using errcode = 'BH001';
  end if;
  perform set_config('bulkhead.environment', p_environment, true);
end $$;

-- Domains, here and in the ledger, and not column checks: PostgreSQL parses a table's checks anew in every statement that
-- writes to it, which was a third of an admission.
create domain tenant_name as text constraint tenant_id_form check (value ~ '^[a-z0-9][a-z0-9-]{0,39}$');
create domain environment_name as text constraint environment_form check (value ~ '^[a-z0-9][a-z0-9-]{1,15}$');

-- For use in migrations: every table that holds a tenant's rows has tenant_id and environment first in its key, and
-- is closed by this. Row security is forced, so it binds the owner and the functions of the owner too.
create function protect(p_table regclass) returns void
language plpgsql volatile set search_path = pg_catalog as $$
begin
  if not exists (
    select from pg_index i
     where i.indrelid = p_table and i.indisprimary
       and (select array_agg(a.attname::text order by k.n)
              from unnest(i.indkey[0:1]) with ordinality k(attnum, n)
              join pg_attribute a on a.attrelid = p_table and a.attnum = k.attnum) = array['tenant_id', 'environment']
  ) then
    raise exception 'the key of % does not lead with tenant_id, environment', p_table;
  end if;
  if (select relkind from pg_class where oid = p_table) = 'r' then
    execute format('alter table %s alter tenant_id type bulkhead.tenant_name, alter environment type bulkhead.environment_name', p_table);
  else
    -- The columns that a table is partitioned by keep their type.
    execute format('alter table %s add constraint tenant_id_form check (tenant_id ~ ''^[a-z0-9][a-z0-9-]{0,39}$''),
      add constraint environment_form check (environment ~ ''^[a-z0-9][a-z0-9-]{1,15}$'')', p_table);
  end if;
  execute format('alter table %s enable row level security, force row level security', p_table);
  execute format(
    'create policy tenant_scope on %s using (tenant_id = nullif(current_setting(''bulkhead.tenant_id'', true), '''')
       and environment = nullif(current_setting(''bulkhead.environment'', true), ''''))', p_table);
end $$;

-- ---------------------------------------------------------------- the platform's own, no tenant in it

create table quota_classes (
  name text primary key check (name ~ '^[a-z][a-z0-9_-]{0,63}$'),
  document jsonb not null,
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null
);

-- One number names one text: versions count across profiles, so that a tenant that changes its profile changes its
-- version too, and no decision made under the old one is admitted.
create table policies (
  version integer primary key check (version > 0),
  profile text not null check (profile ~ '^[a-z][a-z0-9_-]{0,63}$'),
  environments text[] not null check (cardinality(environments) > 0),
  text text not null,
  published_at timestamptz not null default clock_timestamp(),
  actor text not null,
  reason text not null
);
create index policies_by_profile on policies (profile, version desc);

create table agents (
  environment text not null check (environment ~ '^[a-z0-9][a-z0-9-]{1,15}$'),
  agent_id text not null check (agent_id ~ '^[a-z][a-z0-9_]{0,63}$'),
  version text not null check (version ~ '^[0-9a-f]{12}$'),
  definition jsonb not null,
  published_at timestamptz not null default clock_timestamp(),
  primary key (environment, agent_id, version)
);

-- What operators did to the platform itself. What they did to a tenant is in the tenant's journal.
create table operator_acts (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null check (actor <> ''),
  act text not null,
  subject text not null,
  detail jsonb not null default '{}'
);

-- ---------------------------------------------------------------- tenants

-- What is in force for a tenant. Lane, ceiling, limits and per-run budgets are those of its quota class as last
-- applied; policy_version is that of its profile, 0 while none is published. The ledger keeps its own copies of
-- limits and version under its lock, set in the same transaction as these.
create table tenants (
  tenant_id text not null,
  environment text not null,
  policy_profile text not null,
  policy_version integer not null default 0 check (policy_version >= 0),
  quota_class text not null references quota_classes (name),
  lane text not null check (lane in ('own', 'dedicated', 'shared')),
  weight integer not null check (weight between 1 and 1000),
  worker_ceiling integer not null check (worker_ceiling between 1 and 1000),
  expensive_ceiling integer not null check (expensive_ceiling between 1 and 1000),
  -- Limits, budgets and time zone in force: those of the class, with what was set for this tenant alone put over them.
  quota jsonb not null,
  quota_overrides jsonb not null default '{}' check (jsonb_typeof(quota_overrides) = 'object'),
  time_zone text not null default 'UTC',
  workspaces jsonb not null check (jsonb_typeof(workspaces) = 'array'),
  connections jsonb not null check (jsonb_typeof(connections) = 'object'),
  scope jsonb not null check (jsonb_typeof(scope) = 'array'),
  models jsonb not null check (jsonb_typeof(models) = 'object'),
  prices jsonb not null default '{}' check (jsonb_typeof(prices) = 'object'),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null check (updated_by <> ''),
  primary key (tenant_id, environment)
);
select protect('tenants');

-- The tenant's data key, wrapped by a key encryption key from outside (`key_id` says which). Without it every
-- ciphertext of the tenant is noise, so deleting this row erases them all.
create table tenant_keys (
  tenant_id text not null,
  environment text not null,
  wrapped_key bytea not null,
  key_id text not null check (key_id <> ''),
  created_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, environment),
  foreign key (tenant_id, environment) references tenants
);
select protect('tenant_keys');

create table credentials (
  tenant_id text not null,
  environment text not null,
  capability text not null check (capability ~ '^[a-z][a-z0-9_-]{0,39}:[a-z][a-z0-9_-]{0,39}$'),
  version integer not null check (version > 0),
  ciphertext bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  created_by text not null check (created_by <> ''),
  revoked_at timestamptz,
  primary key (tenant_id, environment, capability, version),
  foreign key (tenant_id, environment) references tenants
);
select protect('credentials');

-- Who was lent what, for which call: written by admit_call with the claim, under the lock that every fence takes. The id is
-- the token of the attempt. Never the credential.
create table leases (
  tenant_id text not null,
  environment text not null,
  lease_id uuid not null,
  capability text not null,
  run_id text not null,
  path text not null,
  epoch bigint not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  primary key (tenant_id, environment, lease_id)
);
create index leases_out on leases (tenant_id, environment, expires_at) where revoked_at is null;
create index leases_by_call on leases (tenant_id, environment, run_id, path);
select protect('leases');

-- ---------------------------------------------------------------- reading one's own

grant select on tenants, tenant_keys, credentials, leases to bulkhead_app;
grant select on agents to bulkhead_app;
grant execute on function bind_scope(text, text), bind_environment(text) to bulkhead_app, bulkhead_operator, bulkhead_sweep;

-- The TenantRecord of contracts/documents.ts.
create function record_of(t tenants) returns jsonb language sql stable as $$
  select jsonb_build_object('tenantId', t.tenant_id, 'environment', t.environment, 'policyProfile', t.policy_profile,
    'quotaClass', t.quota_class, 'lane', t.lane, 'weight', t.weight, 'workerCeiling', t.worker_ceiling,
    'expensiveCeiling', t.expensive_ceiling, 'limits', t.quota -> 'limits', 'perRun', t.quota -> 'perRun',
    'perAction', t.quota -> 'perAction', 'perAgent', t.quota -> 'perAgent', 'timeZone', t.time_zone,
    'workspaces', t.workspaces, 'connections', t.connections, 'scope', t.scope, 'models', t.models,
    'prices', t.prices)
$$;
grant execute on function record_of(tenants) to bulkhead_sweep;

-- Null for a tenant that does not exist.
create function tenant_record(p_tenant text, p_environment text) returns jsonb
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  v_record jsonb;
begin
  perform bind_scope(p_tenant, p_environment);
  select record_of(t) into v_record from tenants t where t.tenant_id = p_tenant and t.environment = p_environment;
  return v_record;
end $$;
grant execute on function tenant_record(text, text) to bulkhead_app;

-- Where the tenant's calls go, and how many hosts that have spoken within the time take them there: the ones that serve all
-- tenants do so for its own and the shared lane, a process of its own (role `lane:<tenant>`) for its own and the dedicated one.
-- No row for a tenant that does not exist.
create function tenant_lane(p_tenant text, p_environment text, p_within_ms bigint)
returns table (lane text, weight integer, worker_ceiling integer, expensive_ceiling integer, hosts bigint)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select t.lane, t.weight, t.worker_ceiling, t.expensive_ceiling,
      (select count(*) from hosts h where h.environment = p_environment
        and h.seen_at > bulkhead.now() - p_within_ms * interval '1 millisecond'
        and (t.lane <> 'dedicated' and 'host' = any (h.roles) or t.lane <> 'shared' and 'lane:' || p_tenant = any (h.roles)))
    from tenants t where t.tenant_id = p_tenant and t.environment = p_environment;
end $$;
grant execute on function tenant_lane(text, text, bigint) to bulkhead_app;

-- The text a decision is made with: of the version asked for, else of the one in force. A tenant reads versions of
-- its own profile alone.
create function policy_text(p_tenant text, p_environment text, p_version integer)
returns table (version integer, profile text, text text)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query
    select p.version, p.profile, p.text
      from tenants t join policies p on p.profile = t.policy_profile and p.version = coalesce(p_version, t.policy_version)
     where t.tenant_id = p_tenant and t.environment = p_environment and t.environment = any (p.environments);
end $$;

create function agent_definition(p_environment text, p_agent text, p_version text) returns jsonb
language sql stable security definer set search_path = bulkhead, pg_temp as $$
  select definition from agents
   where environment = p_environment and agent_id = p_agent and (p_version is null or version = p_version)
   order by published_at desc, version limit 1
$$;

grant execute on function policy_text(text, text, integer), agent_definition(text, text, text) to bulkhead_app;

-- ---------------------------------------------------------------- across tenants of one environment

-- '*' is no environment, so no caller can name it: only the listing functions below set it, for their own duration.
create policy sweep_lists on tenants for select to bulkhead_sweep
  using (nullif(current_setting('bulkhead.environment', true), '') in (environment, '*'));
grant select on tenants, policies to bulkhead_sweep;

create function placements(p_environment text)
returns table (tenant_id text, lane text, worker_ceiling integer, expensive_ceiling integer)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_environment(p_environment);
  return query select t.tenant_id::text, t.lane, t.worker_ceiling, t.expensive_ceiling from tenants t where t.environment = p_environment order by 1;
end $$;

-- Keeps a version once; publishing it again makes it the current one.
create function publish_agent(p_environment text, p_definition jsonb) returns void
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  insert into agents as a (environment, agent_id, version, definition)
  values (p_environment, p_definition ->> 'id', p_definition ->> 'version', p_definition)
  on conflict (environment, agent_id, version) do update set published_at = clock_timestamp()
  where exists (select from agents n where n.environment = a.environment and n.agent_id = a.agent_id and n.published_at > a.published_at)
$$;

create function tenant_records() returns setof jsonb
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  v_environment text := coalesce(current_setting('bulkhead.environment', true), '');
begin
  perform set_config('bulkhead.environment', '*', true);
  return query select record_of(t) from tenants t order by t.tenant_id, t.environment;
  perform set_config('bulkhead.environment', v_environment, true);
end $$;

-- Tenants that name a quota class, or a profile.
create function tenants_naming(p_quota_class text, p_profile text) returns table (tenant_id text, environment text)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  v_environment text := coalesce(current_setting('bulkhead.environment', true), '');
begin
  perform set_config('bulkhead.environment', '*', true);
  return query select t.tenant_id::text, t.environment::text from tenants t
   where t.quota_class = p_quota_class or t.policy_profile = p_profile order by 1, 2;
  perform set_config('bulkhead.environment', v_environment, true);
end $$;

-- Versions of a profile, the newest first, and how many tenants each is in force for.
create function policy_history(p_profile text)
returns table (version integer, published_at timestamptz, actor text, reason text, environments text[], tenants bigint)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  v_environment text := coalesce(current_setting('bulkhead.environment', true), '');
begin
  perform set_config('bulkhead.environment', '*', true);
  return query select p.version, p.published_at, p.actor, p.reason, p.environments,
      (select count(*) from tenants t where t.policy_version = p.version)
    from policies p where p.profile = p_profile order by p.version desc;
  perform set_config('bulkhead.environment', v_environment, true);
end $$;

grant execute on function placements(text), publish_agent(text, jsonb) to bulkhead_app;
grant execute on function tenant_records(), tenants_naming(text, text), policy_history(text) to bulkhead_operator;
-- Granted first: after this the owner has no say in them.
alter function placements(text) owner to bulkhead_sweep;
alter function tenant_records() owner to bulkhead_sweep;
alter function tenants_naming(text, text) owner to bulkhead_sweep;
alter function policy_history(text) owner to bulkhead_sweep;

-- ---------------------------------------------------------------- operators

create function put_quota_class(p_name text, p_document jsonb, p_actor text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  insert into quota_classes as q (name, document, updated_by) values (p_name, p_document, p_actor)
  on conflict (name) do update set document = p_document, updated_at = clock_timestamp(), updated_by = p_actor
  where q.document <> p_document;
  if found then
    insert into operator_acts (actor, act, subject, detail) values (p_actor, 'put_quota_class', p_name, p_document);
  end if;
end $$;

-- The next version, or the last one where it says the same already: documents are applied again at every start.
create function publish_policy(p_profile text, p_environments text[], p_text text, p_actor text, p_reason text) returns integer
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  v_last policies;
begin
  -- Numbers are given in the order in which they become visible.
  perform pg_advisory_xact_lock(7240032);
  select * into v_last from policies where profile = p_profile order by version desc limit 1;
  if found and v_last.text = p_text and v_last.environments = p_environments then
    return v_last.version;
  end if;
  insert into policies (version, profile, environments, text, actor, reason)
  select coalesce(max(version), 0) + 1, p_profile, p_environments, p_text, p_actor, p_reason from policies
  returning version into v_last.version;
  return v_last.version;
end $$;

create function policy_published(p_profile text, p_version integer) returns table (environments text[], text text)
language sql stable security definer set search_path = bulkhead, pg_temp as $$
  select environments, text from policies where profile = p_profile and version = p_version
$$;

-- Limits of agents or actions: the class's, with what was set for one tenant alone put over them, limit by limit.
create function named_quotas(p_class jsonb, p_overrides jsonb) returns jsonb language sql immutable as $$
  select coalesce(jsonb_object_agg(n.name, coalesce(p_class -> n.name, '{}') || coalesce(p_overrides -> n.name, '{}')), '{}')
    from (select jsonb_object_keys(p_class) union select jsonb_object_keys(p_overrides)) as n (name)
$$;

-- What a class grants, with what was set for one tenant alone put over it.
create function quota_of(p_class jsonb, p_overrides jsonb, p_zone text) returns jsonb language sql immutable as $$
  select jsonb_build_object('timeZone', coalesce(p_zone, 'UTC'),
    'guaranteed', coalesce(p_class -> 'guaranteed', '{}'),
    'limits', coalesce(p_class -> 'limits', '{}') || coalesce(p_overrides -> 'limits', '{}'),
    'perRun', coalesce(p_class -> 'perRun', '{}') || coalesce(p_overrides -> 'perRun', '{}'),
    'perAction', named_quotas(p_class -> 'perAction', p_overrides -> 'perAction'),
    'perAgent', named_quotas(p_class -> 'perAgent', p_overrides -> 'perAgent'))
$$;

-- Sets limits of one tenant alone, until they are set again; effective with the next `apply_tenant`, in the same transaction.
create function set_quota(p_tenant text, p_environment text, p_overrides jsonb, p_actor text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  update tenants t set quota_overrides = p_overrides, updated_at = clock_timestamp(), updated_by = p_actor
    where t.tenant_id = p_tenant and t.environment = p_environment;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
end $$;
grant execute on function set_quota(text, text, jsonb, text) to bulkhead_operator;

-- Creates or changes what the tenant's document says. Answers whether it was created. `apply_tenant` has to follow in
-- the same transaction.
create function put_tenant(p_tenant text, p_environment text, p_profile text, p_quota_class text, p_document jsonb, p_actor text, p_body text)
returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  v_class jsonb;
  v_created boolean;
begin
  perform bind_scope(p_tenant, p_environment);
  select document into v_class from quota_classes where name = p_quota_class;
  if not found then
    raise exception 'there is no quota class %: apply its document first', p_quota_class using errcode = 'BH010';
  end if;
  insert into tenants as t (tenant_id, environment, policy_profile, quota_class, lane, weight, worker_ceiling, expensive_ceiling, quota, time_zone,
    workspaces, connections, scope, models, prices, updated_by)
  values (p_tenant, p_environment, p_profile, p_quota_class, v_class ->> 'lane', coalesce((v_class ->> 'weight')::integer, 1),
    (v_class ->> 'workerCeiling')::integer, coalesce((v_class ->> 'expensiveCeiling')::integer, 2),
    quota_of(v_class, '{}', p_document ->> 'timeZone'), coalesce(p_document ->> 'timeZone', 'UTC'), p_document -> 'workspaces', p_document -> 'connections',
    p_document -> 'scope', p_document -> 'models', coalesce(p_document -> 'prices', '{}'), p_actor)
  on conflict (tenant_id, environment) do update set
    policy_profile = excluded.policy_profile, quota_class = excluded.quota_class, time_zone = excluded.time_zone, workspaces = excluded.workspaces,
    connections = excluded.connections, scope = excluded.scope, models = excluded.models, prices = excluded.prices,
    updated_at = clock_timestamp(), updated_by = excluded.updated_by
  returning xmax = 0 into v_created;
  if v_created then
    perform make_knowledge_partition(p_tenant, p_environment);
    perform open_ledger(p_tenant, p_environment, quota_of(v_class, '{}', p_document ->> 'timeZone'), 0, p_actor, p_body);
  end if;
  return v_created;
end $$;

-- Brings a tenant to its quota class and to the newest version of its profile, in the ledger and here, in this order of
-- locks: the tenant's row, then the ledger's. Does nothing where all is as it should be, so whoever finds a
-- publication half done may repeat it. The body is canonical JSON, for the tenant's journal.
create function apply_tenant(p_tenant text, p_environment text, p_actor text, p_body text) returns integer
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  v_tenant tenants;
  v_class jsonb;
  v_quota jsonb;
  v_version integer;
begin
  perform bind_scope(p_tenant, p_environment);
  select * into v_tenant from tenants t where t.tenant_id = p_tenant and t.environment = p_environment for no key update;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
  select document into strict v_class from quota_classes where name = v_tenant.quota_class;
  select coalesce(max(version), 0) into v_version from policies
   where profile = v_tenant.policy_profile and p_environment = any (environments);
  v_quota := quota_of(v_class, v_tenant.quota_overrides, v_tenant.time_zone);
  if v_quota <> v_tenant.quota then
    perform set_limits(p_tenant, p_environment, v_quota, p_actor, p_body);
  end if;
  if v_version <> v_tenant.policy_version then
    perform set_policy_version(p_tenant, p_environment, v_version, p_actor, p_body);
  end if;
  update tenants t
     set lane = v_class ->> 'lane', weight = coalesce((v_class ->> 'weight')::integer, 1),
         worker_ceiling = (v_class ->> 'workerCeiling')::integer,
         expensive_ceiling = coalesce((v_class ->> 'expensiveCeiling')::integer, 2), quota = v_quota, policy_version = v_version
   where t.tenant_id = p_tenant and t.environment = p_environment;
  return v_version;
end $$;

-- Begins to keep a credential: locks the tenant and answers the next version, which goes into what is sealed.
create function next_credential(p_tenant text, p_environment text, p_capability text)
returns table (version integer, wrapped_key bytea, key_id text, newest bytea)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  perform from tenants t where t.tenant_id = p_tenant and t.environment = p_environment for no key update;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
  return query
    select coalesce((select max(c.version) from credentials c
                      where c.tenant_id = p_tenant and c.environment = p_environment and c.capability = p_capability), 0) + 1,
           k.wrapped_key, k.key_id,
           -- Of the version before it, where that is in use.
           (select n.ciphertext from (select c.ciphertext, c.revoked_at from credentials c
              where c.tenant_id = p_tenant and c.environment = p_environment and c.capability = p_capability
              order by c.version desc limit 1) n where n.revoked_at is null)
      from (select) one left join tenant_keys k on k.tenant_id = p_tenant and k.environment = p_environment;
end $$;

create function put_credential(p_tenant text, p_environment text, p_capability text, p_version integer, p_ciphertext bytea,
  p_wrapped_key bytea, p_key_id text, p_actor text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  insert into tenant_keys (tenant_id, environment, wrapped_key, key_id)
  values (p_tenant, p_environment, p_wrapped_key, p_key_id) on conflict (tenant_id, environment) do nothing;
  insert into credentials (tenant_id, environment, capability, version, ciphertext, created_by)
  values (p_tenant, p_environment, p_capability, p_version, p_ciphertext, p_actor);
  insert into operator_acts (actor, act, subject, detail)
  values (p_actor, 'put_credential', p_tenant || '/' || p_environment,
          jsonb_build_object('capability', p_capability, 'version', p_version));
end $$;

grant execute on function put_quota_class(text, jsonb, text), publish_policy(text, text[], text, text, text),
  policy_published(text, integer), put_tenant(text, text, text, text, jsonb, text, text), apply_tenant(text, text, text, text),
  next_credential(text, text, text), put_credential(text, text, text, integer, bytea, bytea, text, text)
  to bulkhead_operator;
