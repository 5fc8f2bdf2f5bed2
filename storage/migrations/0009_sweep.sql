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

-- Half of them of those that hold a slot, for somebody may wait for it: a run whose workflow is gone has to be found among those, and not
-- among all that stand in line.
create function bulkhead.open_runs_idle(p_environment text, p_older_than_ms bigint, p_limit integer)
returns table (tenant_id text, run_id text, workflow_id text, temporal_run_id text, signed json)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  since timestamptz := bulkhead.now() - p_older_than_ms * interval '1 millisecond';
begin
  return query with holding as (
      select r.tenant_id, r.run_id, r.temporal_run_id from bulkhead.runs r
        where r.environment = p_environment and r.slot_at is not null and r.temporal_run_id is not null and r.touched_at <= since
        order by random() limit (p_limit + 1) / 2
    ), others as (
      select r.tenant_id, r.run_id, r.temporal_run_id from bulkhead.runs r
        where r.environment = p_environment and r.state <> 'closed' and r.temporal_run_id is not null and r.touched_at <= since
          and not exists (select from holding h where h.tenant_id = r.tenant_id and h.run_id = r.run_id)
        order by random() limit p_limit - (select count(*) from holding)
    )
    select due.tenant_id::text, due.run_id, a.workflow_id, due.temporal_run_id, a.signed
      from (select * from holding union all select * from others) due
        join bulkhead.run_acceptances a on a.tenant_id = due.tenant_id and a.environment = p_environment and a.run_id = due.run_id;
end $$;

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
  bulkhead.floods_due, bulkhead.close_floods to bulkhead_app;
alter function bulkhead.control_versions owner to bulkhead_sweep;
alter function bulkhead.heartbeat_host owner to bulkhead_sweep;
alter function bulkhead.accepted_not_started owner to bulkhead_sweep;
alter function bulkhead.open_runs_idle owner to bulkhead_sweep;
alter function bulkhead.floods_due owner to bulkhead_sweep;

-- ---------------------------------------------------------------- hosts that died

-- Calls whose lease is not over, of hosts that have not renewed their row for so long. Nothing within as much time of the
-- server's own start: then it was this database that nobody could reach.
create function bulkhead.calls_of_dead_hosts(p_environment text, p_silent_ms bigint, p_limit integer)
returns table (tenant_id text, run_id text, path text, token uuid, host_id text)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_environment(p_environment);
  -- A host stops sending one second after the last word that the fence is open, and aborts for good what was in flight by then.
  if p_silent_ms is null or p_silent_ms < 5000 then
    raise exception 'a host is not dead after % ms of silence: at least 5000', p_silent_ms using errcode = 'invalid_parameter_value';
  end if;
  if pg_postmaster_start_time() > clock_timestamp() - p_silent_ms * interval '1 millisecond' then
    return;
  end if;
  return query select c.tenant_id::text, c.run_id, c.path, c.token, c.host_id
    from bulkhead.hosts h join bulkhead.calls c on c.environment = h.environment and c.host_id = h.host_id
    where h.environment = p_environment and h.seen_at <= bulkhead.now() - p_silent_ms * interval '1 millisecond'
      and c.state = 'claimed' and c.lease_until > bulkhead.now()
    order by random() limit p_limit;
end $$;

create policy ledger_reads on bulkhead.hosts for select to bulkhead_owner
  using (environment = nullif(current_setting('bulkhead.environment', true), ''));

-- Ends the lease of one attempt whose host is dead, so that it is recovered now. Its `sent_until` stays: what a look-up does
-- not find is believed to be absent no sooner for it.
create function bulkhead.end_lease(p_tenant text, p_environment text, p_run text, p_path text, p_token uuid, p_host text, p_silent_ms bigint)
returns boolean language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  c calls;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  -- The host may have spoken since the list was made.
  if c.state is distinct from 'claimed' or c.token <> p_token or c.host_id <> p_host or c.lease_until <= n
      or p_silent_ms is null or p_silent_ms < 5000 or not exists (select from hosts where environment = p_environment
        and host_id = p_host and seen_at <= bulkhead.now() - p_silent_ms * interval '1 millisecond') then
    return false;
  end if;
  update calls set lease_until = n where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'lease_ended', 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
    'host', p_host), '{}');
  perform ledger_save(t, true);
  return true;
end $$;

-- ---------------------------------------------------------------- keys beyond their horizon

-- Closed runs beyond the horizon, the oldest first, and those that it is time to look at again. Each is looked at once, or once a day, for
-- `purge_run` notes what it found. Not of these tenants, whose rows are held: theirs would stand before everybody's.
create function bulkhead.runs_expired(p_environment text, p_limit integer, p_without text[]) returns table (tenant_id text, run_id text)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  n timestamptz := bulkhead.now();
begin
  return query (select r.tenant_id::text, r.run_id from bulkhead.runs r
      where r.environment = p_environment and r.state = 'closed' and r.purged_at is null and r.purge_again_at is null
        and r.accepted_at <= n - bulkhead.key_horizon() and r.tenant_id <> all (p_without)
      order by r.accepted_at limit p_limit)
    union all (select r.tenant_id::text, r.run_id from bulkhead.runs r
      where r.environment = p_environment and r.purge_again_at <= n and r.tenant_id <> all (p_without)
      order by r.purge_again_at limit p_limit);
end $$;

-- Forgets what is kept of positions of one such run, called or refused: keys, attempts, leases, and what was asked, shown and said; not the
-- journal. Undos go last, so that none is made twice; what is claimed or waits for a person stays. Answers how many positions, so many at most.
create function bulkhead.purge_run(p_tenant text, p_environment text, p_run text, p_limit integer) returns bigint
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  n timestamptz;
  gone text[] := '{}';
  calls_gone bigint;
  followed boolean;
  waits boolean;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  if not exists (select from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run and state = 'closed'
      and accepted_at <= n - key_horizon()) then
    return 0;
  end if;
  -- A follow-up at work needs its keys.
  followed := exists (select from follow_ups where tenant_id = p_tenant and environment = p_environment and run_id = p_run and state <> 'done');
  if not followed then
    select coalesce(array_agg(doomed.path), '{}') into gone from (
      select position.path from (
        select c.path, c.undo_of from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run
          and c.state <> 'claimed' and c.review_no is null
        union all
        select refused.path, null from (
          select d.path from decisions d where d.tenant_id = p_tenant and d.environment = p_environment and d.run_id = p_run
          union select v.path from approvals v where v.tenant_id = p_tenant and v.environment = p_environment and v.run_id = p_run
          union select g.path from suggestions g where g.tenant_id = p_tenant and g.environment = p_environment and g.run_id = p_run) refused
        where not exists (select from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run
          and c.path = refused.path)
      ) position order by position.undo_of nulls first, position.path limit p_limit) doomed;
    delete from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    get diagnostics calls_gone = row_count;
    delete from lost_attempts where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    delete from leases where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    delete from approvals where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    delete from suggestions where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    delete from decisions where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
  end if;
  if cardinality(gone) < p_limit then
    waits := followed or exists (select from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run);
    update runs set purged_at = case when not waits then n end, purge_again_at = case when waits then n + interval '1 day' end
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  end if;
  if cardinality(gone) = 0 then
    return 0;
  end if;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'purged', 'at', iso(n), 'run', p_run, 'calls', calls_gone,
    'refused', cardinality(gone) - calls_gone), '{}');
  perform ledger_save(t, true);
  return cardinality(gone);
end $$;

grant select on bulkhead.hosts, bulkhead.calls, bulkhead.runs to bulkhead_sweep;
grant execute on function bulkhead.key_horizon, bulkhead.bind_environment to bulkhead_sweep;
grant execute on function bulkhead.calls_of_dead_hosts, bulkhead.end_lease, bulkhead.runs_expired, bulkhead.purge_run to bulkhead_app;
alter function bulkhead.calls_of_dead_hosts owner to bulkhead_sweep;
alter function bulkhead.runs_expired owner to bulkhead_sweep;
