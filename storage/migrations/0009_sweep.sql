-- Across the tenants of one environment: lists of keys, states and times. They change nothing of a tenant; who acts on
-- what they list does so under that tenant's lock. Owned by bulkhead_sweep, which has policies of its own to read.

create function bulkhead.control_versions(p_environment text)
returns table (tenant_id text, fence_epoch bigint, control_version bigint, mode text)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select t.tenant_id, t.fence_epoch, t.control_version, t.mode from bulkhead.ledgers t where t.environment = p_environment
$$;

create function bulkhead.heartbeat_host(p_environment text, p_host text, p_pid integer, p_roles text[]) returns void
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  insert into bulkhead.hosts (environment, host_id, pid, roles, seen_at) values (p_environment, p_host, p_pid, p_roles, bulkhead.now())
    on conflict on constraint hosts_pk do update set pid = excluded.pid, roles = excluded.roles, seen_at = excluded.seen_at
$$;

-- In any order: the oldest may be those that cannot be mended, and must not stand before the others.
create function bulkhead.accepted_not_started(p_environment text, p_older_than_ms bigint, p_limit integer)
returns table (tenant_id text, run_id text, workflow_id text, temporal_run_id text, signed json)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select r.tenant_id, r.run_id, a.workflow_id, r.temporal_run_id, a.signed
    from bulkhead.runs r join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
    where r.environment = p_environment and r.state <> 'closed' and r.temporal_run_id is null
      and r.accepted_at <= bulkhead.now() - p_older_than_ms * interval '1 millisecond'
    order by random() limit p_limit
$$;

create function bulkhead.open_runs_idle(p_environment text, p_older_than_ms bigint, p_limit integer)
returns table (tenant_id text, run_id text, workflow_id text, temporal_run_id text, signed json)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select r.tenant_id, r.run_id, a.workflow_id, r.temporal_run_id, a.signed
    from bulkhead.runs r join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
    where r.environment = p_environment and r.state <> 'closed' and r.temporal_run_id is not null
      and r.touched_at <= bulkhead.now() - p_older_than_ms * interval '1 millisecond'
    order by random() limit p_limit
$$;

create function bulkhead.calls_due(p_environment text, p_limit integer)
returns table (tenant_id text, run_id text, path text, token uuid)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select c.tenant_id, c.run_id, c.path, c.token
    from bulkhead.calls c left join bulkhead.runs r using (tenant_id, environment, run_id)
    where c.environment = p_environment and c.state = 'claimed' and c.lease_until <= bulkhead.now()
      and (c.class in ('read', 'model') or r.state = 'closed' or r.run_id is null)
    order by random() limit p_limit
$$;

create function bulkhead.floods_due(p_environment text, p_limit integer) returns table (tenant_id text)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select distinct f.tenant_id from bulkhead.refusal_floods f
    where f.environment = p_environment and f.minute < date_trunc('minute', bulkhead.now(), 'UTC') limit p_limit
$$;

-- Journals the counts of a tenant's minutes that are over, and forgets them.
create function bulkhead.close_floods(p_tenant text, p_environment text) returns bigint
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  f refusal_floods;
  n timestamptz;
  closed bigint := 0;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  for f in delete from refusal_floods where tenant_id = p_tenant and environment = p_environment and minute < date_trunc('minute', n, 'UTC')
    returning * loop
    t := ledger_close_flood(t, n, f);
    closed := closed + 1;
  end loop;
  if closed > 0 then
    t.last_clock := n;
    perform ledger_save(t, true);
  end if;
  return closed;
end $$;

-- The sweep's functions call the clock, which is the owner's.
grant execute on function bulkhead.now() to bulkhead_sweep;
grant execute on function bulkhead.control_versions, bulkhead.heartbeat_host, bulkhead.accepted_not_started, bulkhead.open_runs_idle,
  bulkhead.calls_due, bulkhead.floods_due, bulkhead.close_floods to bulkhead_app;
alter function bulkhead.control_versions owner to bulkhead_sweep;
alter function bulkhead.heartbeat_host owner to bulkhead_sweep;
alter function bulkhead.accepted_not_started owner to bulkhead_sweep;
alter function bulkhead.open_runs_idle owner to bulkhead_sweep;
alter function bulkhead.calls_due owner to bulkhead_sweep;
alter function bulkhead.floods_due owner to bulkhead_sweep;
