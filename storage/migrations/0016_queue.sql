-- Slots of a tenant, and the line for them (promise N1). A run that is open holds a slot, stands in line, or waits for a person and
-- does neither. Whenever a slot is free the next in line has it, in the transaction that made it free: `slots` and `queued` of the
-- tenant's row count both, and whoever changes either holds that row. A workflow that was given a slot is told; the sweep tells those
-- that did not hear it.

create function bulkhead.place_of(r bulkhead.runs) returns text language sql immutable as $$
  select case when r.slot_at is not null then 'slot' when r.queued_at is not null then 'queue' end
$$;

-- How many go before a run in line: by priority, then by arrival. Counts no further than `p_most`.
create function bulkhead.line_before(t bulkhead.ledgers, r bulkhead.runs, p_most bigint) returns integer language sql stable as $$
  select count(*)::integer from (select from bulkhead.runs o where o.tenant_id = t.tenant_id and o.environment = t.environment
    and o.epoch = t.fence_epoch and o.queued_at is not null
    and (o.priority, o.accepted_at, o.run_id) < (r.priority, r.accepted_at, r.run_id) limit p_most) ahead
$$;

-- Whether a run accepted now has to stand in line.
create function bulkhead.must_queue(t bulkhead.ledgers, l bulkhead.limits) returns boolean language sql stable as $$
  select l.concurrent_runs is not null and (t.slots >= l.concurrent_runs or t.queued > 0 and exists (select from bulkhead.runs o
    where o.tenant_id = t.tenant_id and o.environment = t.environment and o.epoch = t.fence_epoch and o.queued_at is not null))
$$;

-- What limits say to a run that is to be accepted: the first that refuses, or null. Writes nothing.
create function bulkhead.acceptance_gate(t bulkhead.ledgers, l bulkhead.limits, p_priority integer, p_waits boolean,
  p_bytes bigint, p_now timestamptz)
returns bulkhead.refused language plpgsql stable as $$
declare
  x bulkhead.refused;
begin
  if p_priority < l.best_priority then
    return row('denied', 'tenant_cap', 'best_priority', format('this tenant may ask for priority %s at best', l.best_priority), l.best_priority, p_priority, null,
      null)::bulkhead.refused;
  end if;
  x := bulkhead.minute_gate(t.run_starts, l.run_starts_per_minute, 1, p_now, 'run_starts_per_minute', '');
  if x.kind is not null then
    x.message := case when x.retry_after_ms is null then 'this tenant may start no run'
      else format('the run starts per minute of this tenant are used up: try again in %s s', ceil(x.retry_after_ms / 1000.0)) end;
    return x;
  end if;
  if p_waits and t.queued >= l.queued_runs then
    return row('throttled', 'tenant_cap', 'queued_runs',
      'as many runs of this tenant wait for a slot as may: try again once one of them has begun or ended', l.queued_runs, t.queued, 5000,
      null)::bulkhead.refused;
  end if;
  return bulkhead.storage_gate(t, l, p_bytes, 0, 'this run');
end $$;

-- A run that has waited too long for its first slot ends; one that comes back from a person's decision does not.
create function bulkhead.queue_age_gate(l bulkhead.limits, r bulkhead.runs, p_now timestamptz) returns bulkhead.refused language sql stable as $$
  select row('budget_exceeded', 'tenant_cap', 'queued_seconds', 'this run has waited for a slot for as long as one may', l.queued_seconds,
      floor(extract(epoch from p_now - r.accepted_at)), null, null)::bulkhead.refused
    where r.entered_at is null and p_now >= r.accepted_at + l.queued_seconds * interval '1 second'
$$;

-- Gives the slots that are free to those that are next; not more at a time than fit a short transaction.
create function bulkhead.ledger_hand_over(t bulkhead.ledgers, p_now timestamptz) returns bulkhead.handed_over language plpgsql as $$
declare
  most constant integer := 100;
  h bulkhead.handed_over;
  ceiling integer;
  next_run text;
begin
  h.workflows := '{}';
  if t.mode = 'normal' and t.queued > 0 then
    select l.concurrent_runs into ceiling from bulkhead.limits l where l.tenant_id = t.tenant_id and l.environment = t.environment;
    while cardinality(h.workflows) < most and (ceiling is null or t.slots < ceiling) loop
      select o.run_id into next_run from bulkhead.runs o where o.tenant_id = t.tenant_id and o.environment = t.environment
        and o.epoch = t.fence_epoch and o.queued_at is not null order by o.priority, o.accepted_at, o.run_id limit 1;
      exit when not found;
      update bulkhead.runs set slot_at = p_now, queued_at = null
        where tenant_id = t.tenant_id and environment = t.environment and run_id = next_run;
      t.slots := t.slots + 1;
      t.queued := t.queued - 1;
      t := bulkhead.ledger_append(t, p_now, next_run, json_build_object('kind', 'slot_given', 'at', bulkhead.iso(p_now), 'run', next_run,
        'slots', t.slots, 'queued', t.queued), '{}');
      h.workflows := h.workflows || (select a.workflow_id from bulkhead.run_acceptances a
        where a.tenant_id = t.tenant_id and a.environment = t.environment and a.run_id = next_run);
    end loop;
  end if;
  h.t := t;
  return h;
end $$;

-- Gives up the slot of a run that waits for a person. Answers the workflows that have been given one for it; for another workflow
-- than the one that works on the run, nothing happens.
create function bulkhead.park_run(p_tenant text, p_environment text, p_run text, p_temporal_run text, p_state text) returns text[]
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  r runs;
  h handed_over;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  if r.slot_at is null or r.temporal_run_id is distinct from p_temporal_run then
    return '{}';
  end if;
  update runs set slot_at = null, state = p_state, touched_at = n
    where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  t.slots := t.slots - 1;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'parked', 'at', iso(n), 'run', p_run, 'state', p_state), '{}');
  h := ledger_hand_over(t, n);
  perform ledger_save(h.t, true);
  return h.workflows;
end $$;

-- Where a run stands in line, exactly, for people: outside every lock.
create function bulkhead.standing_in_line(p_tenant text, p_environment text, p_run text)
returns table ("position" integer, waiting integer, value integer, used integer)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select line_before(t, r, null) + 1, t.queued, l.concurrent_runs, t.slots
    from ledgers t join limits l using (tenant_id, environment) join runs r using (tenant_id, environment)
    where t.tenant_id = p_tenant and t.environment = p_environment and r.run_id = p_run and r.queued_at is not null;
end $$;

-- ---------------------------------------------------------------- mending

-- Workflows that hold a slot and have not come for it. In any order.
create function bulkhead.slots_not_taken(p_environment text, p_older_than_ms bigint, p_limit integer)
returns table (tenant_id text, run_id text, workflow_id text, temporal_run_id text, signed json, slot_at text)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select r.tenant_id, r.run_id, a.workflow_id, r.temporal_run_id, a.signed, r.slot_at::text from bulkhead.runs r join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
    where r.environment = p_environment and r.slot_at <= bulkhead.now() - p_older_than_ms * interval '1 millisecond'
      and r.state in ('accepted', 'queued')
      -- Ever more rarely: each time it is told is an event in its history.
      and random() * extract(epoch from bulkhead.now() - r.slot_at) < 60
    order by random() limit p_limit
$$;

-- Workflows that stand in line for their first slot and have done so for too long. As rarely.
create function bulkhead.queued_too_long(p_environment text, p_limit integer) returns table (workflow_id text)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select a.workflow_id
    from (select r.tenant_id, r.environment, r.run_id
      from bulkhead.runs r join bulkhead.limits l using (tenant_id, environment),
        lateral (select extract(epoch from bulkhead.now() - r.accepted_at) - l.queued_seconds as seconds) over_by
      where r.environment = p_environment and r.queued_at is not null and r.entered_at is null and over_by.seconds >= 0
        and random() * over_by.seconds < 60
      order by random() limit p_limit) due
    join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
$$;

-- Tenants with runs in line, who may be next, and those whose counts of slots or of the line are not what their runs say, which is counted
-- here, where nobody waits for it. In any order: whose row is held must not stand before the others.
create function bulkhead.lines_to_tend(p_environment text) returns table (tenant_id text, differs boolean)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select t.tenant_id, counted.differs from bulkhead.ledgers t
    left join (select r.tenant_id, count(*) as n from bulkhead.runs r where r.environment = p_environment and r.slot_at is not null
      group by 1) held on held.tenant_id = t.tenant_id
    left join (select r.tenant_id, count(*) as n from bulkhead.runs r where r.environment = p_environment and r.queued_at is not null
      group by 1) line on line.tenant_id = t.tenant_id,
    lateral (select t.slots <> coalesce(held.n, 0) or t.queued <> coalesce(line.n, 0) as differs) counted
    where t.environment = p_environment and (t.queued > 0 or counted.differs)
    order by random()
$$;

-- Hands over what is free of a tenant's slots. Where its counts are said to differ, its slots and line are counted again first, under its
-- lock; a difference, which nothing here can make, is journaled and mended. Answers the workflows that have a slot for it.
create function bulkhead.tend_line(p_tenant text, p_environment text, p_recount boolean) returns text[]
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  h handed_over;
  n timestamptz;
  held integer;
  line integer;
  differed boolean := false;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  if p_recount then
    select count(*) into held from runs where tenant_id = p_tenant and environment = p_environment and slot_at is not null;
    select count(*) into line from runs where tenant_id = p_tenant and environment = p_environment and queued_at is not null;
    differed := (t.slots, t.queued) is distinct from (held, line);
    if differed then
      t := ledger_append(t, n, null, json_build_object('kind', 'recounted', 'at', iso(n), 'slots', t.slots, 'queued', t.queued,
        'slotsHeld', held, 'inLine', line), '{}');
      t.slots := held;
      t.queued := line;
    end if;
  end if;
  h := ledger_hand_over(t, n);
  if not differed and cardinality(h.workflows) = 0 then
    return '{}';
  end if;
  perform ledger_save(h.t, true);
  return h.workflows;
end $$;

grant execute on function bulkhead.park_run, bulkhead.standing_in_line, bulkhead.slots_not_taken, bulkhead.queued_too_long,
  bulkhead.lines_to_tend, bulkhead.tend_line to bulkhead_app;
create policy sweep_reads on bulkhead.limits for select to bulkhead_sweep using (true);
grant select (tenant_id, environment, queued_seconds) on bulkhead.limits to bulkhead_sweep;
alter function bulkhead.slots_not_taken owner to bulkhead_sweep;
alter function bulkhead.queued_too_long owner to bulkhead_sweep;
alter function bulkhead.lines_to_tend owner to bulkhead_sweep;
