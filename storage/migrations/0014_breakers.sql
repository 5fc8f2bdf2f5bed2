-- A breaker per tenant and system outside (promise N5): changed under the tenant's lock alone, and no row of one tenant is ever read
-- for another. See docs/ledger.md.

create type bulkhead.breaker_terms as (failures integer, within interval, first_open interval, longest_open interval, look interval);
-- The one place of these numbers. More failures than a call has attempts (8), so that one poisoned call, which fails on a system that
-- is well, ends as a dead letter and cuts its tenant off from nothing. `look`: how often those who wait for a probe ask how it went.
create function bulkhead.breaker_terms() returns bulkhead.breaker_terms language sql immutable as $$
  select row(10, interval '60 seconds', interval '5 seconds', interval '5 minutes', interval '2 seconds')::bulkhead.breaker_terms
$$;
comment on function bulkhead.breaker_terms() is 'When breakers open, and for how long. Tests replace it as superuser; no role of production can.';

create table bulkhead.breakers (
  tenant_id text not null,
  environment text not null,
  system text not null,
  state text not null constraint breakers_state_known check (state in ('closed', 'open', 'half_open')),
  -- Since the last sign of life; and when the newest of them were, at most as many as open it.
  failures integer not null constraint breakers_failures_counted check (failures >= 0),
  failed_at timestamptz[] not null,
  -- What the last of them was, in the words of its refusal.
  cause text not null,
  -- An attempt that was let in before this says nothing of it any more: it was closed since.
  counts_from timestamptz not null default '-infinity',
  -- Of this trouble: how often it was opened without closing between, since when, and until when it lets nothing through.
  openings integer not null default 0 constraint breakers_openings_counted check (openings >= 0),
  opened_at timestamptz,
  open_until timestamptz,
  -- The one attempt that is let through while it is half open, and the end of its lease; null where the next one may.
  probe_token uuid,
  probe_until timestamptz,
  constraint breakers_pk primary key (tenant_id, environment, system),
  constraint breakers_opened_whole check ((state = 'closed') = (opened_at is null) and (state = 'closed') = (open_until is null)),
  constraint breakers_probe_whole check ((probe_token is null) = (probe_until is null) and (probe_token is null or state = 'half_open'))
) with (fillfactor = 50);

select bulkhead.protect('bulkhead.breakers');
grant select on bulkhead.breakers to bulkhead_app;

-- ---------------------------------------------------------------- steps, for functions that hold the tenant's row

-- What the end of a call says of the system outside: `well` where it answered, be it with a refusal; `ill` where it could not be
-- reached, was too slow, was overloaded or failed; null where it says nothing: refused or stopped by ourselves, never sent, or
-- not known.
create function bulkhead.breaker_verdict(p_result text, p_refusal json) returns text language sql immutable as $$
  select case
    when p_result = 'succeeded' then 'well'
    when p_refusal ->> 'origin' is distinct from 'provider' then null
    when p_refusal ->> 'kind' = 'provider_degraded' and p_refusal ->> 'rule' <> 'proven_absent' then 'ill'
    when p_result = 'failed' and (p_refusal ->> 'rule' = 'result_schema'
      or p_refusal ->> 'rule' like 'http\_%' and p_refusal ->> 'rule' not in ('http_408', 'http_425')) then 'well'
  end
$$;

-- Whether the breaker lets a call through; reads alone. A refusal has a kind. Without one, rule `breaker_probe` says that this call,
-- if every other gate lets it in too, is the probe: ledger_breaker_enter then makes it so.
create function bulkhead.ledger_breaker_gate(t bulkhead.ledgers, p_now timestamptz, p_system text) returns bulkhead.refused
language plpgsql as $$
declare
  b bulkhead.breakers;
  terms constant bulkhead.breaker_terms := bulkhead.breaker_terms();
  wait interval;
begin
  if p_system is null then
    return null;
  end if;
  select * into b from bulkhead.breakers where tenant_id = t.tenant_id and environment = t.environment and system = p_system;
  if coalesce(b.state, 'closed') = 'closed' then
    return null;
  end if;
  if b.state = 'open' and p_now < b.open_until then
    wait := b.open_until - p_now;
  elsif p_now < b.probe_until then
    wait := least(b.probe_until - p_now, terms.look);
  else
    return row(null, 'provider', 'breaker_probe', null, null, null, null, null)::bulkhead.refused;
  end if;
  return row('provider_degraded', 'provider', 'breaker_open', format('%s fails for this tenant, so it is left alone for now: %s', p_system,
    b.cause), terms.failures, b.failures, greatest(1, ceil(extract(epoch from wait) * 1000)), null)::bulkhead.refused;
end $$;

-- Lets the call that was just claimed through as the one probe.
create function bulkhead.ledger_breaker_enter(t bulkhead.ledgers, p_now timestamptz, p_run text, p_path text, p_system text, p_token uuid,
  p_until timestamptz) returns bulkhead.ledgers language plpgsql as $$
begin
  update bulkhead.breakers set state = 'half_open', probe_token = p_token, probe_until = p_until
    where tenant_id = t.tenant_id and environment = t.environment and system = p_system;
  return bulkhead.ledger_append(t, p_now, p_run, json_build_object('kind', 'breaker_half_open', 'at', bulkhead.iso(p_now), 'run', p_run,
    'path', p_path, 'token', p_token, 'system', p_system, 'probeUntil', bulkhead.iso(p_until)), '{}');
end $$;

-- What the end of an attempt moves of its breaker. While it is open nothing does, while it is half open the probe alone, and
-- without a verdict that gives its place back. While it is closed: every attempt that was let in since.
create function bulkhead.ledger_breaker_settle(t bulkhead.ledgers, p_now timestamptz, c bulkhead.calls, p_result text, p_refusal json)
returns bulkhead.ledgers language plpgsql as $$
declare
  b bulkhead.breakers;
  terms constant bulkhead.breaker_terms := bulkhead.breaker_terms();
  verdict constant text := bulkhead.breaker_verdict(p_result, p_refusal);
  probes boolean;
  opens boolean := false;
begin
  if c.system is null then
    return t;
  end if;
  select * into b from bulkhead.breakers where tenant_id = t.tenant_id and environment = t.environment and system = c.system;
  probes := coalesce(b.probe_token = c.token, false);
  if not probes and (coalesce(b.state, 'closed') <> 'closed' or c.admitted_at < b.counts_from or verdict is null
      or verdict = 'well' and coalesce(b.failures, 0) = 0) then
    return t;
  end if;
  if verdict = 'ill' then
    b.failures := coalesce(b.failures, 0) + 1;
    b.failed_at := coalesce(b.failed_at, '{}') || p_now;
    b.failed_at := b.failed_at[greatest(1, cardinality(b.failed_at) - terms.failures + 1):];
    b.cause := left(coalesce(p_refusal ->> 'message', p_refusal ->> 'rule', ''), 300);
    opens := probes or cardinality(b.failed_at) >= terms.failures and b.failed_at[1] > p_now - terms.within;
  elsif verdict = 'well' then
    b.failures := 0;
    b.failed_at := '{}';
  end if;
  if opens then
    b.openings := coalesce(b.openings, 0) + 1;
    b.opened_at := coalesce(b.opened_at, p_now);
    b.open_until := p_now + least(terms.longest_open, terms.first_open * 2 ^ least(b.openings - 1, 30));
    t := bulkhead.ledger_append(t, p_now, c.run_id, json_build_object('kind', 'breaker_opened', 'at', bulkhead.iso(p_now), 'run', c.run_id,
      'path', c.path, 'token', c.token, 'system', c.system, 'action', c.action, 'rule', p_refusal ->> 'rule', 'failures', b.failures,
      'openings', b.openings, 'openUntil', bulkhead.iso(b.open_until)), '{}');
  elsif probes and verdict = 'well' then
    t := bulkhead.ledger_append(t, p_now, c.run_id, json_build_object('kind', 'breaker_closed', 'at', bulkhead.iso(p_now), 'run', c.run_id,
      'path', c.path, 'token', c.token, 'system', c.system, 'openedAt', bulkhead.iso(b.opened_at), 'openings', b.openings), '{}');
    b.openings := 0;
    b.opened_at := null;
    b.open_until := null;
    b.counts_from := p_now;
  end if;
  insert into bulkhead.breakers (tenant_id, environment, system, state, failures, failed_at, cause, counts_from, openings, opened_at, open_until)
    values (t.tenant_id, t.environment, c.system, case when opens then 'open' when b.opened_at is null then 'closed' else 'half_open' end,
      b.failures, b.failed_at, b.cause, coalesce(b.counts_from, '-infinity'), coalesce(b.openings, 0), b.opened_at, b.open_until)
    on conflict on constraint breakers_pk do update set state = excluded.state, failures = excluded.failures, failed_at = excluded.failed_at,
      cause = excluded.cause, counts_from = excluded.counts_from, openings = excluded.openings, opened_at = excluded.opened_at,
      open_until = excluded.open_until, probe_token = null, probe_until = null;
  return t;
end $$;

-- ---------------------------------------------------------------- for hosts

-- Tells of trouble of the system outside before the call is settled: a write that may have been applied stays claimed until its
-- outcome is known, which may be long after. Once an attempt, by the one that holds the call; from any other it changes nothing.
create function bulkhead.call_trouble(p_tenant text, p_environment text, p_run text, p_path text, p_token uuid, p_refusal json) returns bigint
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  c calls;
  before bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  if c.state is distinct from 'claimed' or c.token <> p_token then
    return t.durable_seq;
  end if;
  before := t.journal_seq;
  t := ledger_breaker_settle(t, greatest(bulkhead.now(), t.last_clock), c, 'unknown', p_refusal);
  return case when t.journal_seq > before then ledger_save(t, true) else t.durable_seq end;
end $$;

grant execute on function bulkhead.call_trouble to bulkhead_app;
