create type bulkhead.run_acceptance as (kind text, run_id text, refusal json, seq bigint);
-- Position in line, counted no further than a thousand; how many stand in it; workflows that were given a slot meanwhile.
create type bulkhead.run_entry as (kind text, lane text, max_steps integer, first_step integer, refusal json, stop_reason text, seq bigint,
  "position" integer, waiting integer, expires_in_ms bigint, handed text[]);
create type bulkhead.run_end as (stop_reason text, follow_up_no bigint, handed text[]);
-- A ledger after slots were handed over, and the workflows that have them now.
create type bulkhead.handed_over as (t bulkhead.ledgers, workflows text[]);

-- What RunRow of contracts/ports.ts shows. The view runs with the rights of who asks, so row security holds.
create view bulkhead.run_rows with (security_invoker = true) as
  select r.tenant_id, r.environment, r.run_id, a.workflow_id, r.temporal_run_id, a.agent_id, a.agent_version, r.workspace_id,
      a.target_system, a.target_record_id, r.state, r.stop_reason, r.accepted_at, bulkhead.iso(r.accepted_at) as accepted_iso,
      bulkhead.iso(r.entered_at) as entered_iso, bulkhead.iso(r.closed_at) as closed_iso, r.steps, r.tool_calls,
      r.refusals, r.spent_micro_usd, r.output_ref, r.epoch, a.idempotency_key, a.signed, r.priority, bulkhead.iso(r.state_since) as since_iso,
      bulkhead.iso(r.slot_at) as slot_iso, bulkhead.iso(r.queued_at) as queued_iso, r.last_refusal
    from bulkhead.runs r join bulkhead.run_acceptances a using (tenant_id, environment, run_id);
grant select on bulkhead.run_rows to bulkhead_app;
grant execute on function bulkhead.iso to bulkhead_app;

-- How far back keys are kept: no run works this long, no credential's or system's own memory of keys reaches so far, and a
-- quarter is what people still ask about. A run accepted before it does nothing new, and what it did may be forgotten.
create function bulkhead.key_horizon() returns interval language sql immutable as $$ select interval '90 days' $$;

-- What a fork begins with: input and results of the other run before the step.
create function bulkhead.fork_payloads(t bulkhead.ledgers, p_from text, p_step integer) returns setof bulkhead.payloads language sql stable as $$
  select k from bulkhead.payloads k where k.tenant_id = t.tenant_id and k.environment = t.environment and k.run_id = p_from
    and case when k.ref ~ '^[0-9]{1,9}[.][0-9]{1,9}$' then split_part(k.ref, '.', 1)::integer < p_step else k.ref = 'input' end
$$;

-- Gives a run what another of the tenant knew before a step: input, results, facts. Raises where that is not to be had.
create function bulkhead.ledger_fork(t bulkhead.ledgers, p_now timestamptz, p_run text, p_from text, p_step integer) returns void
language plpgsql as $$
declare
  known integer;
begin
  if not exists (select from bulkhead.payloads where tenant_id = t.tenant_id and environment = t.environment and run_id = p_from and ref = 'input') then
    raise exception 'there is no run % to fork', p_from using errcode = 'no_data_found';
  end if;
  if p_step < 0 or p_step > 0 and not exists (select from bulkhead.calls where tenant_id = t.tenant_id and environment = t.environment
      and run_id = p_from and path = (p_step - 1) || '.0' and state = 'succeeded')
    or exists (select from bulkhead.calls where tenant_id = t.tenant_id and environment = t.environment and run_id = p_from
      and state = 'claimed' and undo_of is null and split_part(path, '.', 1)::integer < p_step)
    -- One that stopped within a step never asked for the rest of it: a model would miss those results.
    or exists (select from bulkhead.payloads s, generate_series(1, json_array_length(s.payload -> 'toolCalls')) ordinal
      where s.tenant_id = t.tenant_id and s.environment = t.environment and s.run_id = p_from
        and case when s.ref ~ '^[0-9]{1,9}[.]0$' then split_part(s.ref, '.', 1)::integer < p_step else false end and not exists (select from bulkhead.payloads k where k.tenant_id = t.tenant_id
          and k.environment = t.environment and k.run_id = p_from and k.ref = split_part(s.ref, '.', 1) || '.' || ordinal)) then
    raise exception 'run % has no step % to begin from: the steps before it are not all done', p_from, p_step using errcode = 'no_data_found';
  end if;
  insert into bulkhead.payloads (tenant_id, environment, run_id, ref, payload, stored_at)
    select k.tenant_id, k.environment, p_run, k.ref, k.payload, p_now from bulkhead.fork_payloads(t, p_from, p_step) k;
  -- Of a fact only its last value is kept: one that a later step set again is absent, and what needs it denies.
  insert into bulkhead.run_facts (tenant_id, environment, run_id, name, value, path)
    select tenant_id, environment, p_run, name, value, path from bulkhead.run_facts
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_from
        and case when path ~ '^[0-9]{1,9}[.][0-9]{1,9}$' then split_part(path, '.', 1)::integer < p_step else false end;
  get diagnostics known = row_count;
  -- All that the other run has ever read, also after the step: which step a class came with is not kept, and a fork is never believed
  -- to know less than it does.
  update bulkhead.runs r set first_step = p_step, facts_version = least(known, 1), data_classes = f.data_classes from bulkhead.runs f
    where r.tenant_id = t.tenant_id and r.environment = t.environment and r.run_id = p_run
      and f.tenant_id = t.tenant_id and f.environment = t.environment and f.run_id = p_from;
end $$;

-- Records a run. The caller's key (its run id where it gives none) with the same body is the same run, for ever, whatever the limits say.
-- A fork begins where another run stood, with what that knew then. Where a slot is free and nobody waits for one it has that at once;
-- else it stands in line (promise N1).
create function bulkhead.accept_run(p_tenant text, p_environment text, p_signed json, p_idempotency_key text, p_body_digest text,
  p_input json, p_fork_of text, p_fork_step integer, p_priority integer, p_body text) returns bulkhead.run_acceptance
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  e json := p_signed -> 'envelope';
  t ledgers;
  l limits;
  known run_acceptances;
  x refused;
  s run_acceptance;
  n timestamptz;
  -- When it came: no two at one moment, also while the ledger's clock stands still after a step back, for the line and pages go by it.
  arrived timestamptz;
  waits boolean;
  -- Bytes that it begins with.
  begins_with bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if not found then
    x := row('failed', 'platform', 'ledger_absent', 'this tenant has no ledger in this environment: create the tenant', null, null, null, null);
    s := row('refused', null, refusal_json(x, null), 0);
    return s;
  end if;
  if (e ->> 'tenantId', e ->> 'environment') is distinct from (p_tenant, p_environment) then
    raise exception 'the envelope names another tenant' using errcode = 'insufficient_privilege';
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into known from run_acceptances where tenant_id = p_tenant and environment = p_environment
    and (idempotency_key = p_idempotency_key or run_id = e ->> 'runId') order by idempotency_key = p_idempotency_key desc nulls last limit 1;
  if found then
    if known.restored and p_fork_of is null and ledger_adopt(t, n, known.run_id, e, p_idempotency_key, p_body_digest, p_input) then
      known.body_digest := p_body_digest;
    end if;
    s := row(case when known.body_digest = p_body_digest then 'existing' else 'conflict' end, known.run_id, null, t.durable_seq);
    return s;
  end if;
  if t.rewound_seq > 0 then
    x := ledger_rewound();
  elsif t.mode <> 'normal' then
    x := row('killed', 'control', 'tenant_killed', 'an operator has stopped this tenant', null, null, null, null);
  else
    select * into strict l from limits where tenant_id = p_tenant and environment = p_environment;
    waits := must_queue(t, l);
    begins_with := case when p_fork_of is null then bytes_of(p_input)
      else (select coalesce(sum(bytes_of(k.payload)), 0)::bigint from fork_payloads(t, p_fork_of, p_fork_step) k) end;
    x := acceptance_gate(t, l, p_priority, waits, begins_with, n);
  end if;
  t := ledger_roll(t, n);
  if x.kind is not null then
    t := ledger_refuse(t, n, x, null, 'run.accept', '{}', p_body);
    s := row('refused', null, refusal_json(x, t.policy_version), ledger_save(t, false));
    return s;
  end if;
  arrived := n;
  if bulkhead.now() < t.last_clock then
    select greatest(n, max(r.accepted_at) + interval '1 microsecond') into arrived from runs r
      where r.tenant_id = p_tenant and r.environment = p_environment;
  end if;
  insert into run_acceptances (tenant_id, environment, run_id, root_run_id, workflow_id, agent_id, agent_version, workspace_id,
      target_system, target_record_id, idempotency_key, body_digest, signed)
    values (p_tenant, p_environment, e ->> 'runId', e ->> 'rootRunId', e ->> 'workflowId', e ->> 'agentId', e ->> 'agentVersion',
      e ->> 'workspaceId', e -> 'target' ->> 'system', e -> 'target' ->> 'recordId', p_idempotency_key, p_body_digest, p_signed);
  insert into runs (tenant_id, environment, run_id, workspace_id, epoch, state, accepted_at, touched_at, state_since, priority, slot_at,
      queued_at)
    values (p_tenant, p_environment, e ->> 'runId', e ->> 'workspaceId', t.fence_epoch, case when waits then 'queued' else 'accepted' end,
      arrived, n, n, p_priority, case when not waits then n end, case when waits then n end);
  t.slots := t.slots + (not waits)::integer;
  t.queued := t.queued + waits::integer;
  t.run_starts := filled(drained(t.run_starts, l.run_starts_per_minute, n), 1);
  if p_fork_of is null then
    insert into payloads (tenant_id, environment, run_id, ref, payload, stored_at)
      values (p_tenant, p_environment, e ->> 'runId', 'input', p_input, n);
  else
    perform ledger_fork(t, n, e ->> 'runId', p_fork_of, p_fork_step);
  end if;
  t.stored_bytes := t.stored_bytes + begins_with;
  t := ledger_append(t, n, e ->> 'runId', json_build_object('kind', 'accepted', 'at', iso(n), 'run', e ->> 'runId', 'storedBytes', begins_with,
    'agent', e ->> 'agentId', 'agentVersion', e ->> 'agentVersion', 'workspace', e ->> 'workspaceId',
    'inputDigest', e ->> 'inputDigest', 'epoch', t.fence_epoch, 'policyVersion', t.policy_version, 'forkOf', p_fork_of,
    'firstStep', p_fork_step, 'priority', p_priority, 'place', case when waits then 'queue' else 'slot' end), p_body);
  s := row('accepted', e ->> 'runId', null, ledger_save(t, true));
  return s;
end $$;

-- Lets a workflow work on its run: the first to ask, the one that continues the current one, or the current one again, also after
-- it has given its slot up. `queued` without a slot: it is told once it has one, and asks again. `waits` while the approval or review
-- that it names is open: then it needs none yet.
create function bulkhead.enter_run(p_tenant text, p_environment text, p_run text, p_temporal_run text, p_previous text, p_generation integer,
  p_approval bigint, p_review bigint)
returns bulkhead.run_entry language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  l limits;
  r runs;
  x refused;
  s run_entry;
  h handed_over;
  n timestamptz;
  again boolean;
  comes_back boolean := false;
  expires timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  select * into l from limits where tenant_id = p_tenant and environment = p_environment;
  again := coalesce(r.temporal_run_id = p_temporal_run, false);
  -- First, for what is not here may be what was lost. What is closed here, or killed, is so for good.
  if t.rewound_seq > 0 and t.mode = 'normal' and r.state is distinct from 'closed' then
    x := ledger_rewound();
    s.stop_reason := 'failed';
  elsif r.run_id is null then
    x := row('denied', 'control', 'run_not_entered', 'this run was never accepted', null, null, null, null);
    s.stop_reason := 'failed';
  elsif r.state = 'closed' then
    x := row(case r.stop_reason when 'killed' then 'killed' else 'denied' end, 'control', 'run_closed', 'this run is closed', null, null, null, null);
    s.stop_reason := r.stop_reason;
  elsif t.mode <> 'normal' then
    x := row('killed', 'control', 'tenant_killed', 'an operator has stopped this tenant', null, null, null, null);
    s.stop_reason := 'killed';
  elsif r.epoch < t.fence_epoch then
    x := row('killed', 'control', 'run_fenced', 'an operator has stopped what this run was accepted under', null, null, null, null);
    s.stop_reason := 'killed';
  elsif not again and r.temporal_run_id is distinct from p_previous then
    x := row('denied', 'control', 'run_not_entered', 'another workflow works on this run: a reset run starts nothing', null, null, null, null);
    s.stop_reason := 'failed';
  elsif r.slot_at is null then
    if again and p_approval is not null then
      select v.expires_at into expires from approvals v where v.tenant_id = p_tenant and v.environment = p_environment
        and v.approval_no = p_approval and v.state = 'pending' and v.expires_at > n
        -- Under another policy the call may need none.
        and v.policy_version = t.policy_version;
    end if;
    if expires is not null or again and p_review is not null and exists (select from reviews v where v.tenant_id = p_tenant
        and v.environment = p_environment and v.review_no = p_review and v.resolved_at is null) then
      s.kind := 'waits'; s.seq := t.durable_seq;
      s.expires_in_ms := ceil(extract(epoch from expires - n) * 1000);
      return s;
    end if;
    if r.queued_at is null then
      update runs set queued_at = n where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
      t.queued := t.queued + 1;
      t := ledger_append(t, n, p_run, json_build_object('kind', 'came_back', 'at', iso(n), 'run', p_run), '{}');
    end if;
    h := ledger_hand_over(t, n);
    t := h.t;
    -- The others: who asks is answered.
    s.handed := array_remove(h.workflows, (select a.workflow_id from run_acceptances a
      where a.tenant_id = p_tenant and a.environment = p_environment and a.run_id = p_run));
    comes_back := true;
    select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
    if r.slot_at is null then
      x := queue_age_gate(l, r, n);
      s.stop_reason := case when x.kind is not null then 'budget_exceeded' end;
    end if;
  end if;
  select lane into s.lane from tenants where tenant_id = p_tenant and environment = p_environment;
  s.max_steps := (l.per_run).steps;
  if x.kind is not null then
    s.kind := 'refused';
    s.refusal := refusal_json(x, t.policy_version);
    update runs set refusals = refusals + 1, last_refusal = json_build_object('at', iso(n), 'action', 'run.enter', 'refusal', s.refusal)
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
    t := ledger_refuse(ledger_roll(t, n), n, x, r.run_id, 'run.enter', jsonb_build_object('temporalRun', p_temporal_run), '{}');
    s.seq := ledger_save(t, coalesce(cardinality(s.handed) > 0, false));
    return s;
  end if;
  s.first_step := r.first_step;
  if r.slot_at is null then
    s.kind := 'queued';
    s.refusal := refusal_json(row('throttled', 'tenant_cap', 'concurrent_runs', 'all slots of this tenant are taken', l.concurrent_runs, t.slots,
      null, null)::refused, null);
    s.waiting := t.queued;
    s.position := line_before(t, r, 1000) + 1;
    if s.position > 1000 then
      s.position := null;
    end if;
    -- It is this workflow's from now on, as if it were entered.
    update runs set state = 'queued', temporal_run_id = p_temporal_run, generation = p_generation, touched_at = n
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run and (state <> 'queued' or not again);
    t.last_clock := n;
    s.seq := ledger_save(t, true);
    return s;
  end if;
  s.kind := 'entered';
  s.seq := t.durable_seq;
  -- It works already.
  if again and r.entered_at is not null and r.state <> 'queued' and not comes_back then
    return s;
  end if;
  update runs set state = case when undone then 'compensating' else 'running' end, temporal_run_id = p_temporal_run, generation = p_generation,
      entered_at = coalesce(entered_at, n), touched_at = n
    where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  t := ledger_append(t, n, p_run, json_build_object('kind', case when again and r.entered_at is not null then 'resumed' else 'entered' end,
    'at', iso(n), 'run', p_run, 'temporalRun', p_temporal_run, 'previous', p_previous, 'generation', p_generation), '{}');
  s.seq := ledger_save(t, true);
  return s;
end $$;

-- Closes a run, whoever asks: only one workflow can be open under its id. The first stop reason stays. With it an undo is
-- ordered where the caller's flags ask for one, given what the run ended by, and there is something to undo; one that the run
-- itself had begun goes on. Answers the order that is not done, again when asked again. Its slot goes to whoever is next.
create function bulkhead.leave_run(p_tenant text, p_environment text, p_run text, p_temporal_run text, p_stop_reason text, p_output_ref text,
  p_undo_failed boolean, p_undo_killed boolean) returns bulkhead.run_end
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  r runs;
  s run_end;
  h handed_over;
  n timestamptz;
  ended_by text := p_stop_reason;
  begun boolean;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  if not found then
    raise exception 'there is no run % to leave', p_run using errcode = 'no_data_found';
  end if;
  if r.state = 'closed' then
    select f.follow_up_no into s.follow_up_no from follow_ups f where f.tenant_id = p_tenant and f.environment = p_environment
      and f.run_id = p_run and f.kind = 'undo' and f.state <> 'done';
    s.stop_reason := r.stop_reason;
    return s;
  end if;
  -- Calls that the fence cut off answer in many ways; why the run ended is the operator's act.
  if r.epoch < t.fence_epoch and ended_by not in ('completed', 'cancelled') then
    ended_by := 'killed';
  end if;
  update runs set state = 'closed', stop_reason = ended_by, output_ref = p_output_ref, closed_at = n, touched_at = n, slot_at = null, queued_at = null
    where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'left', 'at', iso(n), 'run', p_run, 'temporalRun', p_temporal_run,
    'stopReason', ended_by, 'outputRef', p_output_ref, 'steps', r.steps, 'toolCalls', r.tool_calls,
    'microUsd', r.spent_micro_usd, 'refusals', r.refusals, 'place', place_of(r)), '{}');
  t.slots := t.slots - (r.slot_at is not null)::integer;
  t.queued := t.queued - (r.queued_at is not null)::integer;
  h := ledger_hand_over(t, n);
  t := h.t;
  s.handed := h.workflows;
  s.stop_reason := ended_by;
  begun := exists (select from follow_ups f where f.tenant_id = p_tenant and f.environment = p_environment and f.run_id = p_run and f.kind = 'undo');
  if begun then
    -- A kill stops it like everything else, unless policy says otherwise: an operator may order it anew.
    update follow_ups f set state = case when ended_by <> 'killed' or p_undo_killed then 'wanted' else 'done' end, temporal_run_id = null,
        ended_at = case when ended_by <> 'killed' or p_undo_killed then null else n end, touched_at = n, epoch = t.fence_epoch
      where f.tenant_id = p_tenant and f.environment = p_environment and f.run_id = p_run and f.kind = 'undo' and f.state <> 'done';
  elsif (case ended_by when 'killed' then p_undo_killed when 'completed' then false when 'cancelled' then false else p_undo_failed end)
      and has_undo(p_tenant, p_environment, p_run) then
    t := ledger_order(t, n, p_run, 'undo', null, null, case ended_by when 'killed' then 'killed' else 'failed' end,
      case ended_by when 'killed' then 'policy' else 'agent' end, '', '{}');
  end if;
  select f.follow_up_no into s.follow_up_no from follow_ups f where f.tenant_id = p_tenant and f.environment = p_environment
    and f.run_id = p_run and f.kind = 'undo' and f.state <> 'done';
  perform ledger_save(t, true);
  return s;
end $$;

-- Keeps what a run is told without a call: why one was refused. It has reserved nothing and is kept whatever the limit of storage says,
-- for a model that is not told asks again; what that takes meets whoever asks next. The first of a name stays.
create function bulkhead.put_payload(p_tenant text, p_environment text, p_run text, p_ref text, p_payload json) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  -- Before the lock: a call that is told again has it already.
  if exists (select from payloads k where k.tenant_id = p_tenant and k.environment = p_environment and k.run_id = p_run and k.ref = p_ref) then
    return;
  end if;
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if not found then
    raise exception 'this tenant has no ledger in this environment: create the tenant' using errcode = 'no_data_found';
  end if;
  if exists (select from payloads k where k.tenant_id = p_tenant and k.environment = p_environment and k.run_id = p_run and k.ref = p_ref) then
    return;
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  t := ledger_store(t, n, p_run, p_ref, p_payload);
  t := ledger_append(t, n, p_run, json_build_object('kind', 'kept', 'at', iso(n), 'run', p_run, 'path', p_ref,
    'storedBytes', bytes_of(p_payload), 'storedOvershoot', bytes_of(p_payload)), '{}');
  perform ledger_save(t, true);
end $$;

-- What a run has said and been told, or the payload named. Each names whose it is, which whoever puts it into a prompt checks again. What undoing brought is
-- nobody's answer to a model. Of more than `p_most` bytes only how many there are, in a row without a name.
create function bulkhead.payloads_of(p_tenant text, p_environment text, p_run text, p_ref text, p_most bigint)
returns table (ref text, payload json, tenant_id text, environment text, run_id text)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  taken bigint;
begin
  perform bind_scope(p_tenant, p_environment);
  if p_ref is null then
    select coalesce(sum(bytes_of(k.payload)), 0) into taken from payloads k
      where k.tenant_id = p_tenant and k.environment = p_environment and k.run_id = p_run and k.ref not like '%/undo';
    if taken > p_most then
      return query select null::text, to_json(taken), null::text, null::text, null::text;
      return;
    end if;
  end if;
  return query select k.ref, k.payload, k.tenant_id::text, k.environment::text, k.run_id from payloads k
    where k.tenant_id = p_tenant and k.environment = p_environment and k.run_id = p_run
      and case when p_ref is null then k.ref not like '%/undo' else k.ref = p_ref end;
end $$;

-- What one call is judged by and done with, in one round trip: the version in force, facts and data classes of its run, the tenant as it is
-- now, which of the records that it names are known to be the tenant's, and the credential that it needs, sealed: the newest
-- version or none, for a revoked one never falls back to the one before it.
create function bulkhead.call_context(p_tenant text, p_environment text, p_run text, p_systems text[], p_ids text[], p_capability text)
returns table (policy_version bigint, record_version bigint, facts_version integer, facts json, data_classes text[], record jsonb, known json,
  credential_version integer, ciphertext bytea, wrapped_key bytea, key_id text)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select l.policy_version, l.record_version, coalesce(r.facts_version, 0),
      (select coalesce(json_object_agg(f.name, f.value), '{}') from run_facts f
        where f.tenant_id = p_tenant and f.environment = p_environment and f.run_id = p_run),
      coalesce(r.data_classes, '{}'), record_of(t),
      (select coalesce(json_agg(json_build_object('system', o.system, 'id', o.record_id, 'account', o.account)), '[]')
        from unnest(p_systems, p_ids) as asked (system, id) join resources o
          on o.tenant_id = p_tenant and o.environment = p_environment and o.system = asked.system and o.record_id = asked.id),
      c.version, c.ciphertext, k.wrapped_key, k.key_id
    from ledgers l
    join tenants t on t.tenant_id = p_tenant and t.environment = p_environment
    left join runs r on r.tenant_id = p_tenant and r.environment = p_environment and r.run_id = p_run
    left join lateral (select n.version, n.ciphertext, n.revoked_at from credentials n
      where n.tenant_id = p_tenant and n.environment = p_environment and n.capability = p_capability
      order by n.version desc limit 1) c on c.revoked_at is null
    left join tenant_keys k on k.tenant_id = p_tenant and k.environment = p_environment and c.version is not null
    where l.tenant_id = p_tenant and l.environment = p_environment;
end $$;

-- Calls that may still act: claimed, and their lease not over.
create function bulkhead.claimed_calls(p_tenant text, p_environment text, p_run text, p_before_epoch bigint) returns bigint
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return (select count(*) from calls c join ledgers t using (tenant_id, environment)
    where c.tenant_id = p_tenant and c.environment = p_environment and c.state = 'claimed'
      and c.lease_until > greatest(bulkhead.now(), t.last_clock)
      and (p_run is null or c.run_id = p_run) and (p_before_epoch is null or c.epoch < p_before_epoch));
end $$;

grant execute on function bulkhead.accept_run, bulkhead.enter_run, bulkhead.leave_run, bulkhead.put_payload,
  bulkhead.payloads_of, bulkhead.call_context, bulkhead.claimed_calls to bulkhead_app;
