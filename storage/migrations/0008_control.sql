-- Acts of operators on a tenant: each one update of the tenant row, so it waits for admissions that hold it and every
-- later one sees it.

create function bulkhead.control_state(p_tenant text, p_environment text)
returns table (mode text, fence_epoch bigint, fenced_at text, contained_at text, drained_at text, reason text, actor text)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select t.mode::text, t.fence_epoch, iso(f.fenced_at), iso(f.contained_at), iso(f.drained_at), f.reason, f.actor
    from ledgers t join fencings f using (tenant_id, environment)
    where t.tenant_id = p_tenant and t.environment = p_environment;
end $$;

-- The layers of a meter, from limits as documents name them; what they leave out is not limited.
create function bulkhead.layers_of(l jsonb) returns bulkhead.layers language sql immutable as $$
  select row(bulkhead.amounts_of((l ->> 'toolCallsPerDay')::bigint, (l ->> 'stepsPerDay')::bigint, (l ->> 'activeSecondsPerDay')::bigint * 1000,
      (l ->> 'spendMicroUsdPerDay')::bigint, (l ->> 'modelTokensPerDay')::bigint, (l ->> 'highRiskWritesPerDay')::bigint),
    (l ->> 'callsPerMinute')::bigint, (l ->> 'modelTokensPerMinute')::bigint, (l ->> 'callsInFlight')::integer)::bulkhead.layers
$$;

-- Puts a quota in force. What agents and actions have used stays, also where nothing limits it any more.
create function bulkhead.ledger_limit(p_tenant text, p_environment text, p_quota jsonb) returns void language plpgsql as $$
declare
  l constant jsonb := p_quota -> 'limits';
  r constant jsonb := p_quota -> 'perRun';
begin
  delete from bulkhead.named_limits where tenant_id = p_tenant and environment = p_environment;
  insert into bulkhead.named_limits (tenant_id, environment, name, layers)
    select p_tenant, p_environment, 'action:' || key, bulkhead.layers_of(value) from jsonb_each(coalesce(p_quota -> 'perAction', '{}'))
    union all select p_tenant, p_environment, 'agent:' || key, bulkhead.layers_of(value) from jsonb_each(coalesce(p_quota -> 'perAgent', '{}'));
  insert into bulkhead.limits (tenant_id, environment, layers, per_run, run_starts_per_minute, retries_per_minute, best_priority, queued_runs,
      queued_seconds, concurrent_runs, storage_bytes, memory_bytes, time_zone, named, quota)
    values (p_tenant, p_environment, bulkhead.layers_of(l),
      bulkhead.amounts_of(null, (r ->> 'steps')::bigint, (r ->> 'seconds')::bigint * 1000, (r ->> 'spendMicroUsd')::bigint, null, null),
      (l ->> 'runStartsPerMinute')::bigint, (l ->> 'retriesPerMinute')::bigint, (l ->> 'bestPriority')::integer,
      (l ->> 'queuedRuns')::bigint, (l ->> 'queuedSeconds')::bigint, (l ->> 'concurrentRuns')::integer,
      (l ->> 'storageBytes')::bigint, (l ->> 'memoryBytes')::bigint, p_quota ->> 'timeZone',
      array(select name from bulkhead.named_limits where tenant_id = p_tenant and environment = p_environment order by name), p_quota)
    on conflict on constraint limits_pk do update set layers = excluded.layers, per_run = excluded.per_run,
      run_starts_per_minute = excluded.run_starts_per_minute, retries_per_minute = excluded.retries_per_minute,
      best_priority = excluded.best_priority, queued_runs = excluded.queued_runs, queued_seconds = excluded.queued_seconds,
      concurrent_runs = excluded.concurrent_runs, storage_bytes = excluded.storage_bytes, memory_bytes = excluded.memory_bytes,
      time_zone = excluded.time_zone, named = excluded.named, quota = excluded.quota;
end $$;

-- Opens the ledger of a new tenant: its row, its limits, and the first link of its journal. False if it is open already.
create function bulkhead.open_ledger(p_tenant text, p_environment text, p_quota jsonb, p_policy_version bigint, p_actor text, p_body text)
returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  bound text := coalesce(current_setting('bulkhead.tenant_id', true), '');
  n timestamptz := bulkhead.now();
  t ledgers;
begin
  perform enter_scope(p_tenant, p_environment);
  -- The journal hangs on what nobody can move: a link before the first that only this tenant and environment have.
  insert into ledgers (tenant_id, environment, policy_version, meter, run_starts, retries, journal_seq, journal_head, durable_seq, last_clock)
    values (p_tenant, p_environment, p_policy_version, new_meter(day_of(n, p_quota ->> 'timeZone'), n), row(0, n), row(0, n), 0, journal_genesis(p_tenant, p_environment), 0, n)
    on conflict do nothing returning * into t;
  if t.tenant_id is not null then
    perform ledger_limit(p_tenant, p_environment, p_quota);
    insert into fencings (tenant_id, environment, fence_epoch) values (p_tenant, p_environment, 0);
    t := ledger_append(t, n, null, json_build_object('kind', 'opened', 'at', iso(n), 'tenant', p_tenant, 'environment', p_environment,
      'actor', p_actor, 'policyVersion', p_policy_version, 'quota', p_quota), p_body);
    perform ledger_save(t, true);
  end if;
  perform set_config('bulkhead.tenant_id', bound, true);
  return t.tenant_id is not null;
end $$;

create function bulkhead.journal_genesis(p_tenant text, p_environment text) returns bytea language sql immutable as $$
  select sha256(int4send(octet_length('bulkhead/journal/1')) || convert_to('bulkhead/journal/1', 'UTF8')
    || int4send(octet_length(p_tenant)) || convert_to(p_tenant, 'UTF8')
    || int4send(octet_length(p_environment)) || convert_to(p_environment, 'UTF8'))
$$;

-- In force for the next admission (promise Q6).
create function bulkhead.set_limits(p_tenant text, p_environment text, p_quota jsonb, p_actor text, p_body text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  bound text := coalesce(current_setting('bulkhead.tenant_id', true), '');
  t ledgers;
  h handed_over;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  t := ledger_roll(t, n);
  perform ledger_limit(p_tenant, p_environment, p_quota);
  t.control_version := t.control_version + 1;
  t := ledger_append(t, n, null, json_build_object('kind', 'limits', 'at', iso(n), 'actor', p_actor, 'quota', p_quota), p_body);
  -- Who has a slot for it is told by the hosts that watch for slots nobody comes for.
  h := ledger_hand_over(t, n);
  t := h.t;
  perform ledger_save(t, true);
  perform set_config('bulkhead.tenant_id', bound, true);
end $$;

-- In force for the next admission: what was decided under another version is stale (promise P10).
create function bulkhead.set_policy_version(p_tenant text, p_environment text, p_version bigint, p_actor text, p_body text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  bound text := coalesce(current_setting('bulkhead.tenant_id', true), '');
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  t.policy_version := p_version;
  t.control_version := t.control_version + 1;
  t := ledger_append(t, n, null, json_build_object('kind', 'policy', 'at', iso(n), 'actor', p_actor, 'policyVersion', p_version), p_body);
  perform ledger_save(t, true);
  perform set_config('bulkhead.tenant_id', bound, true);
end $$;

-- Stops the tenant. From this commit on nothing is admitted, accepted or entered; again changes nothing.
create function bulkhead.kill_tenant(p_tenant text, p_environment text, p_reason text, p_actor text, p_body text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if t.mode = 'killed' then
    return;
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  t.mode := 'killed';
  t.fence_epoch := t.fence_epoch + 1;
  t.control_version := t.control_version + 1;
  update fencings set fence_epoch = t.fence_epoch, fenced_at = n, contained_at = null, drained_at = null, reason = p_reason, actor = p_actor
    where tenant_id = p_tenant and environment = p_environment;
  t := ledger_append(t, n, null, json_build_object('kind', 'killed', 'at', iso(n), 'actor', p_actor, 'epoch', t.fence_epoch), p_body);
  perform ledger_save(t, true);
end $$;

-- Lets a killed tenant work again, from where the ledger stands. What the fence stopped stays stopped: its epoch is over. A ledger
-- that is rewound stays so: only what has put back what it lost may open it (finish_recovery).
create function bulkhead.release_tenant(p_tenant text, p_environment text, p_reason text, p_actor text, p_body text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if t.mode = 'normal' then
    return;
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  t.mode := 'normal';
  t.control_version := t.control_version + 1;
  update fencings set reason = p_reason, actor = p_actor where tenant_id = p_tenant and environment = p_environment;
  t := ledger_append(t, n, null, json_build_object('kind', 'released', 'at', iso(n), 'actor', p_actor, 'epoch', t.fence_epoch), p_body);
  perform ledger_save(t, true);
end $$;

-- Notes that no call of an epoch before the fence can act any more. Asks for itself, and notes nothing while one can.
create function bulkhead.mark_contained(p_tenant text, p_environment text, p_fence_epoch bigint) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  if exists (select from calls where tenant_id = p_tenant and environment = p_environment and state = 'claimed' and epoch < p_fence_epoch
      and lease_until > n) then
    return;
  end if;
  update fencings set contained_at = n where tenant_id = p_tenant and environment = p_environment and fence_epoch = p_fence_epoch
    and fenced_at is not null and contained_at is null;
  if found then
    t := ledger_append(t, n, null, json_build_object('kind', 'contained', 'at', iso(n), 'epoch', p_fence_epoch), '{}');
    perform ledger_save(t, true);
  end if;
end $$;

-- Notes that every run accepted before the fence is closed. Asks for itself, and notes nothing while one is open.
create function bulkhead.mark_drained(p_tenant text, p_environment text, p_fence_epoch bigint) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  if exists (select from runs where tenant_id = p_tenant and environment = p_environment and state <> 'closed' and epoch < p_fence_epoch) then
    return;
  end if;
  update fencings set drained_at = n where tenant_id = p_tenant and environment = p_environment and fence_epoch = p_fence_epoch
    and contained_at is not null and drained_at is null;
  if found then
    t := ledger_append(t, n, null, json_build_object('kind', 'drained', 'at', iso(n), 'epoch', p_fence_epoch), '{}');
    perform ledger_save(t, true);
  end if;
end $$;

-- Ends every lease that is out, and answers how many were. One whose time is over is not: it opens nothing, and there are as many of them
-- as the tenant has made calls. A minute more than its time, for clocks that do not agree.
create function bulkhead.revoke_leases(p_tenant text, p_environment text) returns bigint
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  n timestamptz;
  revoked bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  update leases set revoked_at = n where tenant_id = p_tenant and environment = p_environment and revoked_at is null
    and expires_at > n - interval '1 minute';
  get diagnostics revoked = row_count;
  perform set_config('synchronous_commit', 'on', true);
  return revoked;
end $$;

grant execute on function bulkhead.control_state, bulkhead.kill_tenant, bulkhead.release_tenant, bulkhead.mark_contained,
  bulkhead.mark_drained, bulkhead.revoke_leases to bulkhead_app;
