-- Shared capacity of the platform (promise N7): governed calls at a time of all tenants that name it. It is divided as provider pools are
-- (0017): a tenant's guarantee first, the rest by weight among those who want more. See docs/operating.md.

-- What its tenant's share of the shared capacity says to a call that takes a slot: a refusal, or null. All its calls in flight count, so
-- nothing else is written. It is the platform's capacity that is short, never the tenant's cap, and shares move, so there is always a
-- time to ask again. Who names a capacity and has no share there has nothing of it.
create function bulkhead.share_gate(t bulkhead.ledgers, l bulkhead.limits) returns bulkhead.refused language plpgsql stable as $$
declare
  share constant integer := coalesce((select s.calls_in_flight from bulkhead.pool_shares s where s.tenant_id = t.tenant_id
    and s.environment = t.environment and s.provider = '' and s.pool = l.capacity and s.left_at is null), 0);
begin
  if (t.meter).inflight < share then
    return null;
  end if;
  return row('throttled', 'platform', 'shared_capacity/' || l.capacity || '/calls_in_flight',
    format('what this tenant has of the shared capacity %s at this time is in use', l.capacity), share, (t.meter).inflight, 500, null)::bulkhead.refused;
end $$;

create function bulkhead.put_call_capacity(p_name text, p_calls integer, p_actor text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  insert into call_capacities as c (name, calls_in_flight, updated_by) values (p_name, p_calls, p_actor)
  on conflict (name) do update set calls_in_flight = excluded.calls_in_flight, updated_at = clock_timestamp(), updated_by = excluded.updated_by
  where c.calls_in_flight <> excluded.calls_in_flight;
  if found then
    insert into operator_acts (actor, act, subject, detail) values (p_actor, 'put_call_capacity', p_name, jsonb_build_object('callsInFlight', p_calls));
  end if;
end $$;
grant execute on function bulkhead.put_call_capacity to bulkhead_operator;

-- What the tenant has of the shared capacity that it names, as it was last divided; no row where it names none.
create function bulkhead.capacity_state(p_tenant text, p_environment text)
returns table (name text, calls integer, share integer, inflight integer, promised integer, guaranteed integer)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select c.name, c.calls_in_flight, coalesce(s.calls_in_flight, 0), (t.meter).inflight,
      least((l.layers).calls_in_flight, coalesce((l.quota #>> '{guaranteed,callsInFlight}')::integer, 0)), coalesce(s.guaranteed, 0)
    from limits l join ledgers t using (tenant_id, environment) join call_capacities c on c.name = l.capacity
      left join pool_shares s on s.tenant_id = p_tenant and s.environment = p_environment and s.provider = '' and s.pool = l.capacity and s.left_at is null
    where l.tenant_id = p_tenant and l.environment = p_environment;
end $$;
grant execute on function bulkhead.capacity_state to bulkhead_app;
