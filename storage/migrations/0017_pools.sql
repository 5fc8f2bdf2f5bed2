-- Pools of a model provider's capacity (promise N7): what one credential may do at a time and a minute, divided among the tenants that
-- name it. Each tenant's share is a row of its own, written under its own lock; nothing locks two tenants at once. Capacity
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

-- A tenant without a row here owns its capacity at the provider. A share holds until the next one is written: nobody is ever
-- without a limit because nobody divides.
create table bulkhead.pool_shares (
  tenant_id text not null,
  environment text not null,
  provider text not null,
  pool text not null,
  calls_in_flight integer not null default 0 constraint pool_shares_calls_counted check (calls_in_flight >= 0),
  model_tokens_per_minute bigint constraint pool_shares_tokens_counted check (model_tokens_per_minute >= 0),
  -- When it last asked for a call of the pool, and when one was last refused.
  wanted_at timestamptz not null default '-infinity',
  refused_at timestamptz not null default '-infinity',
  constraint pool_shares_pk primary key (tenant_id, environment, provider)
) with (fillfactor = 50);
select bulkhead.protect('bulkhead.pool_shares');
grant select on bulkhead.pool_shares to bulkhead_app;
create policy sweep_reads on bulkhead.pool_shares for select to bulkhead_sweep using (true);
create policy sweep_reads on bulkhead.meters for select to bulkhead_sweep using (true);
grant select on bulkhead.pool_shares, bulkhead.provider_pools, bulkhead.meters to bulkhead_sweep;

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

-- Notes that the tenant asks for calls of a pool. Now and then is enough: shares are divided twice a second.
create function bulkhead.pool_wanted(t bulkhead.ledgers, p_provider text, p_refused boolean, p_now timestamptz) returns void language sql as $$
  update bulkhead.pool_shares set wanted_at = p_now, refused_at = case when p_refused then p_now else refused_at end
    where tenant_id = t.tenant_id and environment = t.environment and provider = p_provider
      and (wanted_at < p_now - interval '200 milliseconds' or p_refused and refused_at < p_now - interval '200 milliseconds')
$$;

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

-- Puts the tenant into the pools that its document names, by provider, and out of all others. It has nothing of a pool that is new to it
-- until shares are divided the next time.
create function bulkhead.set_pools(p_tenant text, p_environment text, p_pools jsonb) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  named record;
begin
  perform bind_scope(p_tenant, p_environment);
  perform from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  for named in select e.key as provider, e.value as pool from jsonb_each_text(p_pools) e order by e.key loop
    if not exists (select from provider_pools p where p.name = named.pool and p.provider = named.provider) then
      raise exception 'there is no provider pool % of %: apply its document first', named.pool, named.provider using errcode = 'BH010';
    end if;
    insert into pool_shares as s (tenant_id, environment, provider, pool, model_tokens_per_minute)
      select p_tenant, p_environment, named.provider, named.pool, case when p.model_tokens_per_minute is not null then 0 end
        from provider_pools p where p.name = named.pool
      on conflict on constraint pool_shares_pk do update set pool = excluded.pool, calls_in_flight = 0,
        model_tokens_per_minute = excluded.model_tokens_per_minute where s.pool <> excluded.pool;
  end loop;
  delete from pool_shares where tenant_id = p_tenant and environment = p_environment and not p_pools ? provider;
end $$;
grant execute on function bulkhead.put_provider_pool, bulkhead.set_pools to bulkhead_operator;

-- ---------------------------------------------------------------- for whoever divides

-- Every tenant that has, or still uses, a part of a pool. `wants`: it asked within two seconds; `short`: and was refused.
create function bulkhead.pool_members(p_environment text)
returns table (pool text, capacity_calls integer, capacity_tokens bigint, tenant_id text, weight integer, calls integer, tokens bigint,
  inflight integer, wants boolean, short boolean)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_environment(p_environment);
  return query select p.name, p.calls_in_flight, p.model_tokens_per_minute, x.tenant_id::text,
      case when x.pool is null then 0 else w.weight end, coalesce(x.calls_in_flight, 0), x.model_tokens_per_minute, coalesce((m.meter).inflight, 0),
      coalesce((m.meter).inflight > 0, false) or coalesce(x.wanted_at > bulkhead.now() - interval '2 seconds', false),
      coalesce(x.refused_at > bulkhead.now() - interval '2 seconds', false)
    from provider_pools p
      join (select coalesce(s.tenant_id, n.tenant_id) as tenant_id, coalesce(s.pool, substr(n.name, 6)) as named, s.pool, s.calls_in_flight,
            s.model_tokens_per_minute, s.wanted_at, s.refused_at
          from (select * from pool_shares where environment = p_environment) s
            -- Who was taken out of the pool still uses it until its calls have ended.
            full join (select * from meters where environment = p_environment and name like 'pool:%' and (meter).inflight > 0) n
              on n.tenant_id = s.tenant_id and n.name = 'pool:' || s.pool) x on x.named = p.name
      join tenants w on w.tenant_id = x.tenant_id and w.environment = p_environment
      left join meters m on m.tenant_id = x.tenant_id and m.environment = p_environment and m.name = 'pool:' || p.name
    order by 1, 4;
end $$;

-- Writes a tenant's share, under its lock, so that no admission is between two shares. Answers how many of its calls are under way then:
-- what is above the share ends by itself, and is not given to anybody before.
create function bulkhead.set_pool_share(p_tenant text, p_environment text, p_pool text, p_calls integer, p_tokens bigint) returns integer
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform enter_scope(p_tenant, p_environment);
  perform from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  update pool_shares set calls_in_flight = p_calls, model_tokens_per_minute = p_tokens
    where tenant_id = p_tenant and environment = p_environment and pool = p_pool;
  return coalesce((select (meter).inflight from meters
    where tenant_id = p_tenant and environment = p_environment and name = 'pool:' || p_pool), 0);
end $$;
grant execute on function bulkhead.pool_members, bulkhead.set_pool_share to bulkhead_app;
alter function bulkhead.pool_members(text) owner to bulkhead_sweep;
