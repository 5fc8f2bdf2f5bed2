-- Pools of a model provider's capacity (promise N7): what one credential may do at a time and a minute, divided among the tenants that
-- name it. Capacity of the shared platform is divided the same way; what is its own stands in 0018. Each tenant's share is a row of its own, written under its own lock; nothing locks two tenants at once. Capacity
-- counts in each environment by itself. See docs/operating.md.

create table bulkhead.provider_pools (
  name text primary key check (name ~ '^[a-z][a-z0-9_-]{0,63}$'),
  provider text not null check (provider <> ''),
  calls_in_flight integer not null check (calls_in_flight >= 0),
  -- Null: the provider has no such limit.
  model_tokens_per_minute bigint check (model_tokens_per_minute >= 0),
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null
);

-- Governed calls at a time that the shared platform carries of all tenants that name it.
create table bulkhead.call_capacities (
  name text primary key check (name ~ '^[a-z][a-z0-9_-]{0,63}$'),
  calls_in_flight integer not null check (calls_in_flight >= 0),
  updated_at timestamptz not null default clock_timestamp(),
  updated_by text not null
);

-- A tenant without a row here owns its capacity at the provider. A share holds until the next one is written: nobody is ever
-- without a limit because nobody divides.
create table bulkhead.pool_shares (
  tenant_id text not null,
  environment text not null,
  -- Empty: `pool` is a capacity of the shared platform.
  provider text not null,
  pool text not null,
  -- Since when it is out of that capacity, and lets the calls that it has there end; its share is none.
  left_at timestamptz,
  calls_in_flight integer not null default 0 constraint pool_shares_calls_counted check (calls_in_flight >= 0),
  model_tokens_per_minute bigint constraint pool_shares_tokens_counted check (model_tokens_per_minute >= 0),
  -- What there is of what its class guarantees, as it was last divided.
  guaranteed integer not null default 0 constraint pool_shares_guaranteed_counted check (guaranteed >= 0),
  -- When it last asked for a call of the pool, and when one was last refused: by the clock itself, for the ledger's stands still after a step back.
  wanted_at timestamptz not null default '-infinity',
  refused_at timestamptz not null default '-infinity',
  constraint pool_shares_pk primary key (tenant_id, environment, provider, pool)
) with (fillfactor = 50);
create unique index pool_shares_one on bulkhead.pool_shares (tenant_id, environment, provider) where left_at is null;
select bulkhead.protect('bulkhead.pool_shares');
grant select on bulkhead.pool_shares to bulkhead_app;
create policy sweep_reads on bulkhead.pool_shares for select to bulkhead_sweep using (true);
create policy sweep_reads on bulkhead.meters for select to bulkhead_sweep using (true);
grant select on bulkhead.pool_shares, bulkhead.provider_pools, bulkhead.call_capacities, bulkhead.meters to bulkhead_sweep;
grant select (tenant_id, environment, layers, quota) on bulkhead.limits to bulkhead_sweep;

-- ---------------------------------------------------------------- steps of admit_call, which holds the tenant's row

-- The tenant's part of the pool that a model call is made from; no row where it owns its capacity.
create function bulkhead.pool_meters(t bulkhead.ledgers, l bulkhead.limits, p_provider text, p_now timestamptz)
returns setof bulkhead.named_meter language sql stable as $$
  select 'pool:' || s.pool, row(null, null, s.model_tokens_per_minute, s.calls_in_flight)::bulkhead.layers,
      coalesce(m.meter, bulkhead.new_meter(bulkhead.ledger_day(t, p_now, l.time_zone), p_now))
    from bulkhead.pool_shares s left join bulkhead.meters m
      on m.tenant_id = s.tenant_id and m.environment = s.environment and m.name = 'pool:' || s.pool
    where s.tenant_id = t.tenant_id and s.environment = t.environment and s.provider = p_provider
$$;

-- What its share of a pool says to a call: a refusal, or null. It is the provider's capacity that is short, never the tenant's cap, and
-- shares move, so there is always a time to ask again. A call that needs more tokens than a minute's share has goes when nothing is left
-- in the bucket, which it then overfills.
create function bulkhead.pool_gate(k bulkhead.named_meter, p_ask bulkhead.amounts, p_takes_slot boolean, p_now timestamptz)
returns bulkhead.refused language plpgsql stable as $$
declare
  look constant bigint := 500;
  calls constant integer := (k.layers).calls_in_flight;
  tokens constant bigint := (k.layers).model_tokens_per_minute;
  pool constant text := substr(k.name, 6);
  b bulkhead.bucket;
begin
  if p_takes_slot and (k.meter).inflight >= calls then
    return row('provider_degraded', 'provider', 'provider_pool/' || pool || '/calls_in_flight',
      format('what this tenant has of provider pool %s at this time is in use', pool), calls, (k.meter).inflight, look, null)::bulkhead.refused;
  end if;
  if tokens is not null and p_ask.model_tokens > 0 then
    b := bulkhead.drained((k.meter).model_tokens, tokens, p_now);
    if tokens = 0 or b.level > 0 and b.level + (p_ask.model_tokens - tokens) * 60000 > 0 then
      return row('provider_degraded', 'provider', 'provider_pool/' || pool || '/model_tokens_per_minute',
        format('what this tenant has of the model tokens per minute of provider pool %s is used up', pool), tokens, ceil(b.level / 60000.0),
        case when tokens = 0 then look else greatest(look,
          least(b.level, b.level + (p_ask.model_tokens - tokens) * 60000) / tokens) end, null)::bulkhead.refused;
    end if;
  end if;
  return null;
end $$;

-- Notes that the tenant asks for calls of a pool. Now and then is enough: shares are divided twice a second. A time to come is one that was
-- noted before the clock was put back, and says nothing.
create function bulkhead.pool_wanted(t bulkhead.ledgers, p_provider text, p_refused boolean) returns void language plpgsql as $$
declare
  often constant interval := '200 milliseconds';
  n constant timestamptz := bulkhead.now();
begin
  update bulkhead.pool_shares set wanted_at = n, refused_at = case when p_refused then n else refused_at end
    where tenant_id = t.tenant_id and environment = t.environment and provider = p_provider and left_at is null
      and (wanted_at not between n - often and n or p_refused and refused_at not between n - often and n);
end $$;

-- ---------------------------------------------------------------- for operators

create function bulkhead.put_provider_pool(p_name text, p_provider text, p_calls integer, p_tokens bigint, p_actor text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  if exists (select from provider_pools where name = p_name and provider <> p_provider) then
    raise exception 'provider pool % is one of another provider: make a pool of another name', p_name using errcode = 'BH010';
  end if;
  insert into provider_pools as p (name, provider, calls_in_flight, model_tokens_per_minute, updated_by)
  values (p_name, p_provider, p_calls, p_tokens, p_actor)
  on conflict (name) do update set calls_in_flight = excluded.calls_in_flight, model_tokens_per_minute = excluded.model_tokens_per_minute,
    updated_at = clock_timestamp(), updated_by = excluded.updated_by
  where (p.calls_in_flight, p.model_tokens_per_minute) is distinct from (excluded.calls_in_flight, excluded.model_tokens_per_minute);
  if found then
    insert into operator_acts (actor, act, subject, detail) values (p_actor, 'put_provider_pool', p_name,
      jsonb_build_object('provider', p_provider, 'callsInFlight', p_calls, 'modelTokensPerMinute', p_tokens));
  end if;
end $$;

-- Refuses names that nobody has given a document for yet. Nothing takes such a document away again, so what was known stays so.
create function bulkhead.must_know_pools(p_pools jsonb) returns void language plpgsql stable as $$
declare
  named record;
begin
  for named in select e.key as provider, e.value as pool from jsonb_each_text(p_pools) e order by e.key loop
    if named.provider = '' and not exists (select from bulkhead.call_capacities c where c.name = named.pool) then
      raise exception 'there is no shared capacity %: apply its document first', named.pool using errcode = 'BH010';
    elsif named.provider <> '' and not exists (select from bulkhead.provider_pools p where p.name = named.pool and p.provider = named.provider) then
      raise exception 'there is no provider pool % of %: apply its document first', named.pool, named.provider using errcode = 'BH010';
    end if;
  end loop;
end $$;

-- Puts the tenant into the pools that its document names, by provider, and out of all others; '' names its shared capacity. It has
-- nothing of what is new to it until shares are divided the next time. What it has under way in a capacity that it leaves stays counted there.
-- Where it is in those and no others already, its ledger is left alone.
create function bulkhead.set_pools(p_tenant text, p_environment text, p_pools jsonb) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  named record;
begin
  perform bind_scope(p_tenant, p_environment);
  perform must_know_pools(p_pools);
  if p_pools = (select coalesce(jsonb_object_agg(s.provider, s.pool), '{}') from pool_shares s
      where s.tenant_id = p_tenant and s.environment = p_environment and s.left_at is null)
    and exists (select from limits l where l.tenant_id = p_tenant and l.environment = p_environment
      and l.capacity is not distinct from p_pools ->> '') then
    return;
  end if;
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  delete from pool_shares where tenant_id = p_tenant and environment = p_environment and pool is distinct from p_pools ->> provider
    and (provider <> '' or (t.meter).inflight = 0);
  update pool_shares set left_at = greatest(bulkhead.now(), t.last_clock), calls_in_flight = 0, guaranteed = 0
    where tenant_id = p_tenant and environment = p_environment and pool is distinct from p_pools ->> provider and left_at is null;
  for named in select e.key as provider, e.value as pool from jsonb_each_text(p_pools) e order by e.key loop
    insert into pool_shares as s (tenant_id, environment, provider, pool, model_tokens_per_minute)
      select p_tenant, p_environment, named.provider, named.pool,
          (select 0 from provider_pools p where p.name = named.pool and p.provider = named.provider and p.model_tokens_per_minute is not null)
      on conflict on constraint pool_shares_pk do update set left_at = null where s.left_at is not null;
  end loop;
  update limits l set capacity = p_pools ->> ''
    where l.tenant_id = p_tenant and l.environment = p_environment and l.capacity is distinct from p_pools ->> '';
end $$;

-- What a tenant's document names, before anything of it is put: see `put_tenant_document`.
create function bulkhead.must_know(p_quota_classes text[], p_pools jsonb) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  unknown text;
begin
  select n.name into unknown from unnest(p_quota_classes) as n (name)
    where not exists (select from quota_classes q where q.name = n.name) order by 1 limit 1;
  if found then
    raise exception 'there is no quota class %: apply its document first', unknown using errcode = 'BH010';
  end if;
  perform must_know_pools(p_pools);
end $$;

-- All that a tenant's document says of one environment, in one statement: nothing but this tenant's own work is done between the first touch
-- of its ledger and the end of the transaction. What waits for others (a new environment's partitions, the tenant's row) comes before that.
-- Answers whether it was created.
create function bulkhead.put_tenant_document(p_tenant text, p_environment text, p_profile text, p_quota_class text, p_document jsonb,
  p_pools jsonb, p_actor text, p_body text) returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  created constant boolean := put_tenant(p_tenant, p_environment, p_profile, p_quota_class, p_document, p_actor, p_body);
begin
  perform set_pools(p_tenant, p_environment, p_pools);
  perform apply_tenant(p_tenant, p_environment, p_actor, p_body);
  return created;
end $$;
grant execute on function bulkhead.put_provider_pool, bulkhead.must_know, bulkhead.put_tenant_document to bulkhead_operator;

-- ---------------------------------------------------------------- for whoever divides

-- Every tenant that has, or still uses, a part of a pool or of a shared capacity. `wants`: it asked within two seconds, or something of it was
-- under way; `short`: and was refused. `guaranteed`: what there is of `promised`, in proportion where more is promised than there is;
-- `kept`: the same as the share was last written with. Weight 0: it was taken out, and its calls have not ended.
create function bulkhead.pool_members(p_environment text)
returns table (provider text, pool text, capacity_calls integer, capacity_tokens bigint, tenant_id text, weight integer, calls integer, tokens bigint,
  inflight integer, wants boolean, short boolean, ceiling integer, promised integer, guaranteed integer, kept integer)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_environment(p_environment);
  return query
    with pools as (
      select p.provider, p.name, p.calls_in_flight, p.model_tokens_per_minute from provider_pools p
      union all select '', c.name, c.calls_in_flight, null from call_capacities c
    ), members as (
      select p.provider, p.name, coalesce(s.tenant_id, n.tenant_id) as tenant_id, s.pool is null as gone, s.calls_in_flight, s.model_tokens_per_minute,
          s.wanted_at, s.refused_at, s.guaranteed, (n.meter).inflight, null::integer as ceiling, 0 as promised
        from (select * from pool_shares e where e.environment = p_environment and e.provider <> '') s
          -- Who was taken out of the pool still uses it until its calls have ended.
          full join (select * from meters m where m.environment = p_environment and m.name like 'pool:%') n
            on n.tenant_id = s.tenant_id and n.name = 'pool:' || s.pool
          join provider_pools p on p.name = coalesce(s.pool, substr(n.name, 6))
        where s.pool is not null or (n.meter).inflight > 0
      union all
      select s.provider, s.pool, s.tenant_id, s.left_at is not null, s.calls_in_flight, null, s.wanted_at, s.refused_at, s.guaranteed,
          case when s.left_at is null then (t.meter).inflight else (select count(*)::integer from calls c where c.tenant_id = s.tenant_id
            and c.environment = p_environment and c.state = 'claimed' and c.admitted_at <= s.left_at) end,
          (l.layers).calls_in_flight, least((l.layers).calls_in_flight, coalesce((l.quota #>> '{guaranteed,callsInFlight}')::integer, 0))
        from pool_shares s join ledgers t using (tenant_id, environment) join limits l using (tenant_id, environment)
        where s.environment = p_environment and s.provider = ''
    ), promises as (
      select m.*, w.weight, p.calls_in_flight as capacity, p.model_tokens_per_minute as capacity_tokens,
          sum(case when m.gone then 0 else m.promised end) over (partition by m.provider, m.name) as promised_in_all
        from members m join pools p on p.provider = m.provider and p.name = m.name
          join tenants w on w.tenant_id = m.tenant_id and w.environment = p_environment
    )
    select m.provider, m.name, m.capacity, m.capacity_tokens, m.tenant_id::text, case when m.gone then 0 else m.weight end,
        coalesce(m.calls_in_flight, 0), m.model_tokens_per_minute, coalesce(m.inflight, 0),
        coalesce(m.inflight > 0, false) or coalesce(m.wanted_at between bulkhead.now() - interval '2 seconds' and bulkhead.now(), false),
        coalesce(m.refused_at between bulkhead.now() - interval '2 seconds' and bulkhead.now(), false), m.ceiling, m.promised,
        (m.promised * least(m.promised_in_all, m.capacity) / greatest(m.promised_in_all, 1))::integer,
        coalesce(m.guaranteed, 0)
      from promises m order by 1, 2, 5;
end $$;

-- Writes a tenant's share, under its lock, so that no admission is between two shares. Answers how many of its calls are under way then:
-- what is above the share ends by itself, and is not given to anybody before. Of a capacity that the tenant has left nothing is written: it
-- is forgotten once its calls there have ended.
create function bulkhead.set_pool_share(p_tenant text, p_environment text, p_provider text, p_pool text, p_calls integer, p_tokens bigint,
  p_guaranteed integer) returns integer
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
begin
  perform enter_scope(p_tenant, p_environment);
  -- One tenant's row that is held must not hold up the division of all others: it keeps what it has until the next time.
  perform set_config('lock_timeout', '100ms', true);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  update pool_shares set calls_in_flight = p_calls, model_tokens_per_minute = p_tokens, guaranteed = p_guaranteed
    where tenant_id = p_tenant and environment = p_environment and provider = p_provider and pool = p_pool and left_at is null;
  if p_provider = '' then
    delete from pool_shares s where s.tenant_id = p_tenant and s.environment = p_environment and s.provider = '' and s.pool = p_pool
      and not exists (select from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.state = 'claimed'
        and c.admitted_at <= s.left_at) and s.left_at is not null;
    return (t.meter).inflight;
  end if;
  return coalesce((select (meter).inflight from meters
    where tenant_id = p_tenant and environment = p_environment and name = 'pool:' || p_pool), 0);
end $$;
grant execute on function bulkhead.pool_members, bulkhead.set_pool_share to bulkhead_app;
alter function bulkhead.pool_members(text) owner to bulkhead_sweep;
