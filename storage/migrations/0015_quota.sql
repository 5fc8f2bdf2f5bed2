-- Quotas as people see and set them (promises Q1, Q3, Q6), and refusals that hosts have answered by themselves (promise P9).

-- Every layer of a tenant's quota as it stands now: its own ('' in `subject`), those of its agents and actions, and the budget of
-- each run ('run'), which has no use of its own here. Without a limit `cap` is null. `reserved` is the part of `used` that calls in
-- flight hold. `frees_ms`: until all of what is used is free again, if nothing more is used; null where no time frees it. Reads alone.
create function bulkhead.quota_state(p_tenant text, p_environment text)
returns table (at text, time_zone text, quota_class text, overrides jsonb, subject text, layer text, cap bigint, used bigint, reserved bigint,
  frees_ms bigint, frees_at text)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query
    with now_of as (
      select t, l, greatest(bulkhead.now(), t.last_clock) as n, k.quota_class, k.quota_overrides
        from ledgers t join limits l using (tenant_id, environment) join tenants k using (tenant_id, environment)
        where t.tenant_id = p_tenant and t.environment = p_environment
    ), metered as (
      select '' as of_whom, (o.l).layers as lay, (o.t).meter as met from now_of o
      union all
      select d.name, d.layers, coalesce(m.meter, new_meter(ledger_day(o.t, o.n, (o.l).time_zone), o.n))
        from now_of o join named_limits d on d.tenant_id = p_tenant and d.environment = p_environment
          left join meters m on m.tenant_id = p_tenant and m.environment = p_environment and m.name = d.name
    ), today as (
      select d.*, o.n, o.l, ledger_day(o.t, o.n, (o.l).time_zone) as day from metered d, now_of o
    ), counted as (
      select d.of_whom, d.lay, d.met, d.n, (d.lay).per_day as per_day, ms_to_end_of(d.day, d.n, (d.l).time_zone) as day_ms,
          case when d.day > (d.met).day then nothing() else (d.met).used end as day_used, h.held,
          drained((d.met).calls, (d.lay).calls_per_minute, d.n) as calls,
          drained((d.met).model_tokens, (d.lay).model_tokens_per_minute, d.n) as model_tokens
        from today d cross join lateral (
          select amounts_of(coalesce(sum((c.reserved).tool_calls), 0)::bigint, coalesce(sum((c.reserved).steps), 0)::bigint,
              coalesce(sum((c.reserved).active_ms), 0)::bigint, coalesce(sum((c.reserved).micro_usd), 0)::bigint,
              coalesce(sum((c.reserved).model_tokens), 0)::bigint, coalesce(sum((c.reserved).high_risk_writes), 0)::bigint) as held
            from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.state = 'claimed' and c.day = d.day
              and (d.of_whom = '' or d.of_whom = any (c.metered))) h
    ), layers as (
      select c.of_whom, case c.of_whom when '' then 0 else 1 end as part, v.*
        from counted c cross join lateral (values
          (1, 'callsInFlight', (c.lay).calls_in_flight::bigint, (c.met).inflight::bigint, (c.met).inflight::bigint, null::bigint),
          (2, 'callsPerMinute', (c.lay).calls_per_minute, ceil((c.calls).level / 60000.0)::bigint, null, ms_to_fit(c.calls, (c.lay).calls_per_minute,
            (c.lay).calls_per_minute)),
          (3, 'modelTokensPerMinute', (c.lay).model_tokens_per_minute, ceil((c.model_tokens).level / 60000.0)::bigint, null,
            ms_to_fit(c.model_tokens, (c.lay).model_tokens_per_minute, (c.lay).model_tokens_per_minute)),
          (4, 'modelTokensPerDay', (c.per_day).model_tokens, (c.day_used).model_tokens, (c.held).model_tokens, c.day_ms),
          (5, 'toolCallsPerDay', (c.per_day).tool_calls, (c.day_used).tool_calls, (c.held).tool_calls, c.day_ms),
          (6, 'stepsPerDay', (c.per_day).steps, (c.day_used).steps, (c.held).steps, c.day_ms),
          (7, 'activeSecondsPerDay', (c.per_day).active_ms / 1000, ceil((c.day_used).active_ms / 1000.0)::bigint,
            ceil((c.held).active_ms / 1000.0)::bigint, c.day_ms),
          (8, 'spendMicroUsdPerDay', (c.per_day).micro_usd, (c.day_used).micro_usd, (c.held).micro_usd, c.day_ms),
          (9, 'highRiskWritesPerDay', (c.per_day).high_risk_writes, (c.day_used).high_risk_writes, (c.held).high_risk_writes, c.day_ms)
        ) as v (place, layer, cap, used, reserved, frees_ms)
        where c.of_whom = '' or v.cap is not null
      union all
      select '', 0, v.* from now_of o cross join lateral (
          select drained((o.t).run_starts, (o.l).run_starts_per_minute, o.n) as starts, drained((o.t).retries, (o.l).retries_per_minute, o.n) as retries) s
        cross join lateral (values
          (10, 'runStartsPerMinute', (o.l).run_starts_per_minute, ceil((s.starts).level / 60000.0)::bigint, null::bigint,
            ms_to_fit(s.starts, (o.l).run_starts_per_minute, (o.l).run_starts_per_minute)),
          (11, 'retriesPerMinute', (o.l).retries_per_minute, ceil((s.retries).level / 60000.0)::bigint, null,
            ms_to_fit(s.retries, (o.l).retries_per_minute, (o.l).retries_per_minute)),
          (12, 'concurrentRuns', (o.l).concurrent_runs::bigint, (o.t).slots::bigint, null, null),
          (13, 'queuedRuns', (o.l).queued_runs, (o.t).queued::bigint, null, null),
          (14, 'queuedSeconds', (o.l).queued_seconds, null, null, null),
          (15, 'bestPriority', (o.l).best_priority::bigint, null, null, null),
          -- Of what is kept no time frees any.
          (16, 'storageBytes', (o.l).storage_bytes, (o.t).stored_bytes + (o.t).stored_reserved, (o.t).stored_reserved, null),
          (17, 'memoryBytes', (o.l).memory_bytes, (o.t).memory_bytes, null, null)
        ) as v (place, layer, cap, used, reserved, frees_ms)
      union all
      select 'run', 2, v.* from now_of o cross join lateral (values
          (1, 'steps', ((o.l).per_run).steps, null::bigint, null::bigint, null::bigint),
          (2, 'seconds', ((o.l).per_run).active_ms / 1000, null, null, null),
          (3, 'spendMicroUsd', ((o.l).per_run).micro_usd, null, null, null)
        ) as v (place, layer, cap, used, reserved, frees_ms)
    )
    -- What is not used has nothing to free, and what no limit counts is not shown to free.
    select iso(o.n), (o.l).time_zone, o.quota_class, o.quota_overrides, y.of_whom, y.layer, y.cap, y.used, y.reserved, f.ms,
        iso(o.n + f.ms * interval '1 millisecond')
      from now_of o cross join layers y
        cross join lateral (select case when y.cap is not null and y.used > 0 then y.frees_ms end as ms) f
      order by y.part, y.of_whom, y.place;
end $$;
grant execute on function bulkhead.quota_state to bulkhead_app;

-- Begins to set a quota: locks the tenant, and answers its class and what is set for it alone. `set_quota` and `apply_tenant` follow
-- in the same transaction.
create function bulkhead.begin_quota(p_tenant text, p_environment text) returns table (quota_class text, document jsonb, overrides jsonb)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  perform from tenants t where t.tenant_id = p_tenant and t.environment = p_environment for no key update;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
  return query select t.quota_class, c.document, t.quota_overrides from tenants t join quota_classes c on c.name = t.quota_class
    where t.tenant_id = p_tenant and t.environment = p_environment;
end $$;
grant execute on function bulkhead.begin_quota to bulkhead_operator;

-- Counts refusals that a host answered from what the ledger had told it a moment before, exactly as if it had been asked each time:
-- per rule, version, action and reason the first five of a minute one by one, the rest as a number; and per run. One update of the
-- tenant row for all of them. `p_refusals`: [{rule, rules, kind, origin, message, value, used, retryAfterMs, policyVersion,
-- action, run, count}].
create function bulkhead.count_refusals(p_tenant text, p_environment text, p_refusals jsonb) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  x refused;
  n timestamptz;
  e record;
  version bigint;
  still bigint;
  counted bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  version := t.policy_version;
  for e in select * from jsonb_to_recordset(p_refusals) as r (rule text, rules text[], kind text, origin text, message text, value bigint,
      used bigint, "retryAfterMs" bigint, "policyVersion" bigint, action text, run text, count bigint) where r.count > 0 loop
    x := row(e.kind, e.origin, e.rule, e.message, e.value, e.used, e."retryAfterMs", e.rules);
    still := e.count;
    -- Under the version that refused, which may be over by now.
    t.policy_version := coalesce(e."policyVersion", version);
    loop
      t := ledger_refuse(t, n, x, e.run, e.action, '{"remembered": true}', '{}');
      still := still - 1;
      select f.refusals into counted from refusal_floods f where f.tenant_id = p_tenant and f.environment = p_environment and f.rule = e.rule
        and f.policy_version = t.policy_version and f.action = e.action and f.reason = e.kind;
      exit when still = 0 or counted > 5;
    end loop;
    update refusal_floods f set refusals = f.refusals + still where f.tenant_id = p_tenant and f.environment = p_environment and f.rule = e.rule
      and f.policy_version = t.policy_version and f.action = e.action and f.reason = e.kind and still > 0;
    update runs r set refusals = r.refusals + e.count::integer,
        last_refusal = json_build_object('at', iso(n), 'action', e.action, 'refusal', refusal_json(x, t.policy_version))
      where r.tenant_id = p_tenant and r.environment = p_environment and r.run_id = e.run;
  end loop;
  t.policy_version := version;
  perform ledger_save(t, false);
end $$;
grant execute on function bulkhead.count_refusals to bulkhead_app;
