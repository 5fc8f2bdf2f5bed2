-- A ledger older than what was told of it (promise O8): a backup was restored, or a failover lost what was committed. It
-- takes nothing in until `bulkhead recover` has put back what Temporal's histories know. See docs/recovery.md.
--
-- Numbers of the journal are never given twice: recovery goes on after the highest that anybody was told, and the entry
-- `renumbered` says which are missing. Reviews, letters and follow-ups are called by these numbers, also in workflow ids.

-- Accepted before the restore, put back from its envelope: the caller's key and body are not known.
alter table bulkhead.run_acceptances add column restored boolean not null default false;

-- ---------------------------------------------------------------- noticing

-- What a witness outside keeps of each journal: the newest entry on disk, and how often a loss was acknowledged before it.
create function bulkhead.journal_heads(p_environment text) returns table (tenant_id text, seq bigint, hash text, acknowledged bigint)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select t.tenant_id, t.durable_seq, left(encode(j.hash, 'hex'), 16), t.acknowledged_seq
    from bulkhead.ledgers t join bulkhead.journal j on j.tenant_id = t.tenant_id and j.environment = t.environment and j.seq = t.durable_seq
    where t.environment = p_environment order by 1
$$;

-- Those of the given heads that their journals do not hold any more. A hint: `mark_rewound` asks again under the lock.
create function bulkhead.lost_heads(p_environment text, p_tenants text[], p_seqs bigint[], p_hashes text[], p_acknowledged bigint[])
returns table (tenant_id text, seq bigint, hash text, acknowledged bigint)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select w.tenant_id, w.seq, w.hash, w.acknowledged
    from unnest(p_tenants, p_seqs, p_hashes, p_acknowledged) as w (tenant_id, seq, hash, acknowledged)
    join bulkhead.ledgers t on t.tenant_id = w.tenant_id and t.environment = p_environment
    left join bulkhead.journal j on j.tenant_id = w.tenant_id and j.environment = p_environment and j.seq = w.seq
    where t.rewound_seq = 0 and (t.acknowledged_seq < w.acknowledged
      or t.acknowledged_seq = w.acknowledged and left(encode(j.hash, 'hex'), length(w.hash)) is distinct from w.hash)
$$;

-- Marks the ledger as older than what was told of it. Not a step that others use: it trusts its caller to hold the row.
create function bulkhead.ledger_mark_rewound(t bulkhead.ledgers, p_seen bigint, p_by text) returns boolean language plpgsql as $$
declare
  n timestamptz := greatest(bulkhead.now(), t.last_clock);
begin
  if t.rewound_seq > 0 then
    return true;
  end if;
  -- Always more than what was acknowledged before, so that the next acknowledgement is another one.
  t.rewound_seq := greatest(p_seen, t.acknowledged_seq + 1);
  t.control_version := t.control_version + 1;
  t := bulkhead.ledger_append(t, n, null, json_build_object('kind', 'rewound', 'at', bulkhead.iso(n), 'seen', p_seen,
    'by', p_by, 'last', t.journal_seq), '{}');
  perform bulkhead.ledger_save(t, true);
  return true;
end $$;

-- Fences the tenant where the ledger has lost a head that was on disk, or (without a hash) is behind a number that somebody
-- was told. Answers whether it is fenced now.
create function bulkhead.mark_rewound(p_tenant text, p_environment text, p_seq bigint, p_hash text, p_acknowledged bigint, p_by text) returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  lost boolean;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if not found then
    return false;
  end if;
  lost := case when p_hash is null then p_seq > greatest(t.journal_seq, t.acknowledged_seq)
    else t.acknowledged_seq < p_acknowledged or t.acknowledged_seq = p_acknowledged and not exists (select from journal
      where tenant_id = p_tenant and environment = p_environment and seq = p_seq and left(encode(hash, 'hex'), length(p_hash)) = p_hash) end;
  return t.rewound_seq > 0 or lost and ledger_mark_rewound(t, p_seq, p_by);
end $$;

-- Fences the tenant where a workflow was told the outcome of a call, or (without a path) of its entry, that the ledger has never
-- heard of.
create function bulkhead.mark_lost_call(p_tenant text, p_environment text, p_run text, p_path text, p_seen bigint) returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if not found or t.rewound_seq = 0 and (case when p_path is null
      then exists (select from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run)
      else exists (select from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path
        -- Of one that is not over here, or was reaped, a ledger that is no more has told.
        and (payload_ref is not null or state in ('succeeded', 'failed', 'unknown', 'suggested') and refusal ->> 'rule' is distinct from 'lost'))
        -- What is before a fork's first step is a copy, and no call of its own.
        or exists (select from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run
          and case when p_path ~ '^[0-9]{1,9}[.]' then split_part(p_path, '.', 1)::integer < first_step else false end) end) then
    return false;
  end if;
  return ledger_mark_rewound(t, p_seen, 'a call that is not here');
end $$;

-- ---------------------------------------------------------------- putting back

-- The tenant's row, locked, while it is fenced for this. Nothing is admitted meanwhile, so no restored row races with a call.
create function bulkhead.ledger_in_recovery(p_tenant text, p_environment text) returns bulkhead.ledgers language plpgsql as $$
declare
  t bulkhead.ledgers;
begin
  select * into t from bulkhead.ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if t.tenant_id is null or t.rewound_seq = 0 then
    raise exception 'the tenant is at work: nothing to recover' using errcode = 'BH003';
  end if;
  return t;
end $$;

-- Where recovery stands, and the time of the newest entry from before the loss was noticed. Null without a ledger.
create function bulkhead.recovery_state(p_tenant text, p_environment text) returns json
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  noticed bigint;
  as_of text;
begin
  perform bind_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment;
  if not found then
    return null;
  end if;
  -- The journal's end alone: while the tenant is fenced little is written, and a long one must not be read for this.
  with recent as (select j.seq, j.facts::json as f from journal j
      where j.tenant_id = p_tenant and j.environment = p_environment order by j.seq desc limit 10000)
    select min(seq) into noticed from recent where (f ->> 'kind' = 'rewound' or f ->> 'rule' = 'ledger_rewound')
      and seq > coalesce((select max(seq) from recent where f ->> 'kind' in ('recovered', 'released')), 0);
  select facts::json ->> 'at' into as_of from journal
    where tenant_id = p_tenant and environment = p_environment and seq < coalesce(noticed, t.journal_seq + 1) order by seq desc limit 1;
  return json_build_object('mode', t.mode, 'fenceEpoch', t.fence_epoch, 'policyVersion', t.policy_version, 'journalSeq', t.journal_seq,
    'acknowledgedSeq', t.acknowledged_seq, 'rewoundSeq', t.rewound_seq, 'asOf', as_of);
end $$;

create function bulkhead.recovery_calls(p_tenant text, p_environment text, p_run text)
returns table (path text, state text, class text, action text, digest text, review_no bigint)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select c.path, c.state::text, c.class::text, c.action, c.digest, c.review_no from calls c
    where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run;
end $$;

-- Goes on after the highest number that anybody was told. What comes later is never mistaken for what was lost.
create function bulkhead.ledger_renumber(t bulkhead.ledgers, p_now timestamptz, p_actor text) returns bulkhead.ledgers language plpgsql as $$
declare
  first_lost bigint := t.journal_seq + 1;
begin
  if t.rewound_seq > t.journal_seq then
    t.journal_seq := t.rewound_seq;
    t := bulkhead.ledger_append(t, p_now, null, json_build_object('kind', 'renumbered', 'at', bulkhead.iso(p_now), 'actor', p_actor,
      'firstLost', first_lost, 'lastLost', t.rewound_seq), '{}');
  end if;
  return t;
end $$;

-- The first step: notes the highest number that histories name.
create function bulkhead.begin_recovery(p_tenant text, p_environment text, p_highest bigint, p_actor text) returns void
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
begin
  perform enter_scope(p_tenant, p_environment);
  t := ledger_in_recovery(p_tenant, p_environment);
  t.rewound_seq := greatest(t.rewound_seq, p_highest);
  t := ledger_renumber(t, greatest(bulkhead.now(), t.last_clock), p_actor);
  perform ledger_save(t, true);
end $$;

-- Raises a fence again that was lost. A lower one changes nothing: what the ledger knows of stays stopped.
create function bulkhead.restore_fence(p_tenant text, p_environment text, p_epoch bigint, p_mode text, p_fenced_at timestamptz,
  p_contained_at timestamptz, p_drained_at timestamptz, p_reason text, p_actor text) returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  t := ledger_in_recovery(p_tenant, p_environment);
  if p_epoch <= t.fence_epoch then
    return false;
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  t.fence_epoch := p_epoch;
  t.mode := p_mode;
  t.control_version := t.control_version + 1;
  update fencings set fence_epoch = p_epoch, fenced_at = p_fenced_at, contained_at = p_contained_at, drained_at = p_drained_at,
      reason = p_reason, actor = p_actor where tenant_id = p_tenant and environment = p_environment;
  t := ledger_append(t, n, null, json_build_object('kind', 'restored', 'at', iso(n), 'what', 'fence', 'epoch', p_epoch, 'mode', p_mode), '{}');
  perform ledger_save(t, true);
  return true;
end $$;

-- Puts a run back as its workflow has it: accepted, and entered by the Temporal run that works on it. The input is lost with
-- the ledger, so words for the model stand in its place.
create function bulkhead.restore_run(p_tenant text, p_environment text, p_signed json, p_input json, p_fenced boolean,
  p_temporal_run text, p_generation integer, p_entered_at timestamptz, p_first_step integer, p_step json, p_data_classes text[]) returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  e json := p_signed -> 'envelope';
  run text := e ->> 'runId';
  t ledgers;
  r runs;
  n timestamptz;
  accepted boolean;
  stored bigint := 0;
begin
  perform enter_scope(p_tenant, p_environment);
  t := ledger_in_recovery(p_tenant, p_environment);
  if (e ->> 'tenantId', e ->> 'environment') is distinct from (p_tenant, p_environment) then
    raise exception 'the envelope names another tenant' using errcode = 'insufficient_privilege';
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = run;
  accepted := not found;
  if not accepted and (r.state = 'closed' or p_temporal_run is null or r.temporal_run_id = p_temporal_run and r.entered_at is not null) then
    return false;
  end if;
  if accepted then
    insert into run_acceptances (tenant_id, environment, run_id, root_run_id, workflow_id, agent_id, agent_version, workspace_id,
        target_system, target_record_id, idempotency_key, body_digest, signed, restored)
      values (p_tenant, p_environment, run, e ->> 'rootRunId', e ->> 'workflowId', e ->> 'agentId', e ->> 'agentVersion',
        e ->> 'workspaceId', e -> 'target' ->> 'system', e -> 'target' ->> 'recordId', null, 'lost', p_signed, true);
    -- One that the last fence has stopped stays stopped.
    insert into runs (tenant_id, environment, run_id, workspace_id, epoch, state, first_step, accepted_at, touched_at, queued_at, data_classes)
      values (p_tenant, p_environment, run, e ->> 'workspaceId', t.fence_epoch - p_fenced::integer, 'queued', p_first_step,
        (e ->> 'acceptedAt')::timestamptz, n, n,
        (select coalesce(array_agg(distinct name order by name), '{}') from unnest(p_data_classes) name));
    with put as (
      insert into payloads (tenant_id, environment, run_id, ref, payload, stored_at) select p_tenant, p_environment, run, k.ref, k.payload, n
          from (select 'input' as ref, p_input as payload union all select step || '.0', p_step from generate_series(0, p_first_step - 1) step) k
        on conflict on constraint payloads_pk do nothing returning payload
    ) select coalesce(sum(bytes_of(p.payload)), 0) into stored from put p;
    t.stored_bytes := t.stored_bytes + stored;
  end if;
  t.queued := t.queued + accepted::integer;
  if p_temporal_run is not null then
    -- It works, so it holds a slot, whether or not that is one too many.
    t.queued := t.queued - (accepted or r.queued_at is not null)::integer;
    t.slots := t.slots + (accepted or r.slot_at is null)::integer;
    update runs set state = 'running', temporal_run_id = p_temporal_run, generation = p_generation,
        entered_at = coalesce(entered_at, p_entered_at), touched_at = n, queued_at = null, slot_at = coalesce(slot_at, n)
      where tenant_id = p_tenant and environment = p_environment and run_id = run;
  end if;
  t := ledger_append(t, n, run, json_build_object('kind', 'restored', 'at', iso(n), 'what', 'run', 'run', run, 'accepted', accepted, 'storedBytes', stored, 'storedOvershoot', stored_overshoot(stored, 0),
    'agent', e ->> 'agentId', 'agentVersion', e ->> 'agentVersion', 'workspace', e ->> 'workspaceId', 'inputDigest', e ->> 'inputDigest',
    'temporalRun', p_temporal_run, 'generation', p_generation), '{}');
  perform ledger_save(t, true);
  return true;
end $$;

-- A caller that asks again for a run that was put back without its request: a run that has a key is named by it, and the same agent,
-- workspace, target and input digest make it the same request. The run gets its input back. Called by accept_run, which holds the row.
create function bulkhead.ledger_adopt(t bulkhead.ledgers, p_now timestamptz, p_run text, p_envelope json, p_idempotency_key text,
  p_body_digest text, p_input json) returns boolean language plpgsql as $$
declare
  stored constant bigint := t.stored_bytes;
begin
  update bulkhead.run_acceptances k set idempotency_key = p_idempotency_key, body_digest = p_body_digest
    where k.tenant_id = t.tenant_id and k.environment = t.environment and k.run_id = p_run and k.restored and k.body_digest = 'lost'
      and k.agent_id = p_envelope ->> 'agentId' and k.workspace_id = p_envelope ->> 'workspaceId'
      and k.signed -> 'envelope' ->> 'inputDigest' = p_envelope ->> 'inputDigest'
      and (k.signed -> 'envelope' -> 'target')::jsonb = (p_envelope -> 'target')::jsonb;
  if not found then
    return false;
  end if;
  if exists (select from bulkhead.payloads k where k.tenant_id = t.tenant_id and k.environment = t.environment and k.run_id = p_run
      and k.ref = 'input' and k.payload ->> 'lost' = 'true') then
    t := bulkhead.ledger_store(t, p_now, p_run, 'input', p_input);
  end if;
  t := bulkhead.ledger_append(t, p_now, p_run, json_build_object('kind', 'adopted', 'at', bulkhead.iso(p_now), 'run', p_run,
    'storedBytes', t.stored_bytes - stored, 'storedOvershoot', bulkhead.stored_overshoot(t.stored_bytes - stored, 0)), '{}');
  perform bulkhead.ledger_save(t, true);
  return true;
end $$;

-- What of a call is put back; contracts/recovery.ts `RestoredCall`.
create type bulkhead.restored_call as (
  action text, class text, system text, reversible text, "undoOf" text, "firstClaimedAt" timestamptz, "leaseMs" bigint,
  "toolCalls" integer, steps integer, "microUsd" bigint, "modelTokens" bigint, refusal json, value json, payload json, "payloadDigest" text, review text, "dataClasses" text[]
);

-- Puts a call into the state that a history shows, from the one that it was seen in. Answers false where it is not in that any more.
-- A claimed one may have been sent: its lease is that of an attempt that began now, for the last one may still be under way.
create function bulkhead.restore_call(p_tenant text, p_environment text, p_run text, p_path text, p_from text, p_to text, p_call json)
returns boolean language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  k restored_call := json_populate_record(null::restored_call, p_call);
  t ledgers;
  c calls;
  n timestamptz;
  token uuid := gen_random_uuid();
  day integer;
  slots integer;
  -- Whether what the ledger had charged was for the attempt that is put back. Else that stays charged, and this one is more: a call that is
  -- open, kept instead, used up or lost has cost what it cost, and the history tells of a later attempt, or of one that is trued up by itself.
  same boolean;
  cost amounts;
  delta amounts;
  metered text[];
  stored bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  t := ledger_in_recovery(p_tenant, p_environment);
  n := greatest(bulkhead.now(), t.last_clock);
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  if c.state is distinct from p_from then
    return false;
  end if;
  t := ledger_roll(t, n);
  if c.review_no is not null then
    t := ledger_close_review(t, n, c.review_no, case p_to when 'succeeded' then 'happened' when 'claimed' then 'did_not_happen' else 'abandon' end,
      'recover', 'as the run’s history shows', '{"applied": false}');
  end if;
  same := coalesce(c.state not in ('open', 'suggested') and not c.lost and c.refusal ->> 'rule' is distinct from 'attempts_exhausted', false);
  -- What the ledger had charged is corrected where it was charged; the rest is of today, for its own day is not known.
  day := case when same then c.day else (t.meter).day end;
  metered := case when same then c.metered else '{}' end;
  slots := (p_to = 'claimed')::integer - coalesce((c.state = 'claimed')::integer, 0);
  cost := amounts_of(k."toolCalls", k.steps, 0, k."microUsd", coalesce(k."modelTokens", 0), (k.class = 'high_risk_write' and k."undoOf" is null)::integer);
  delta := minus(cost, case when not same then nothing() when c.state = 'claimed' then c.reserved else c.charged end);
  if c.state = 'claimed' then
    t := ledger_vacate(t, c);
  end if;
  t.meter.inflight := (t.meter).inflight + (p_to = 'claimed')::integer;
  insert into calls as o (tenant_id, environment, run_id, path, digest, action, class, system, state, token, admitted_as, epoch, policy_version,
      host_id, attempts, first_claimed_at, lease_until, sent_until, claimed_seq, reversible, undo_of, admitted_at, day, reserved,
      charged, refusal, value, payload_ref, payload_digest)
    values (p_tenant, p_environment, p_run, p_path, '*', k.action, k.class, k.system, p_to, token, 'admitted', t.fence_epoch, t.policy_version,
      'recover', 1, least(n, k."firstClaimedAt"), n + k."leaseMs" * interval '1 millisecond', n + k."leaseMs" * interval '1 millisecond',
      t.journal_seq + 1, k.reversible, k."undoOf", n, day, cost,
      case when p_to <> 'claimed' then cost end, k.refusal, k.value,
      case when k.payload is not null then p_path end, k."payloadDigest")
    on conflict on constraint calls_pk do update set state = p_to, token = excluded.token, admitted_as = 'admitted', host_id = 'recover',
      first_claimed_at = least(o.first_claimed_at, excluded.first_claimed_at), claimed_seq = least(o.claimed_seq, excluded.claimed_seq),
      lease_until = excluded.lease_until, sent_until = excluded.sent_until, admitted_at = n, day = excluded.day, metered = '{}',
      reserved = excluded.reserved, token_marks = '{}', stored_reserved = 0, charged = excluded.charged, lost = false, refusal = excluded.refusal, value = excluded.value,
      payload_ref = excluded.payload_ref, payload_digest = excluded.payload_digest;
  stored := t.stored_bytes;
  t := ledger_keep(t, n, p_run, p_path, k.payload, '{}', '[]', case when p_to = 'succeeded' then k."dataClasses" end);
  stored := t.stored_bytes - stored;
  t := ledger_charge(t, n, p_run, metered, day, delta);
  t := ledger_append(t, n, p_run, json_build_object('kind', 'restored', 'at', iso(n), 'what', 'call', 'run', p_run, 'path', p_path,
    'token', token, 'action', k.action, 'class', k.class, 'from', p_from, 'result', p_to, 'slots', slots, 'day', day,
    'charged', amounts_json(delta), 'metered', metered, 'payloadDigest', k."payloadDigest", 'storedBytes', stored, 'storedOvershoot', stored_overshoot(stored, 0),
    'inflight', (t.meter).inflight,
    'dayUsed', amounts_json((t.meter).used)), '{}');
  if k.review is not null then
    perform ledger_open_review(t, n, p_run, p_path, k.review);
  elsif p_to = 'failed' and k.refusal ->> 'rule' = 'attempts_exhausted' and k."undoOf" is null then
    perform ledger_dead_letter(t, n, p_run, p_path);
  end if;
  perform ledger_save(t, true);
  return true;
end $$;

-- Puts back an undo or a retry that was ordered, as far as its workflow has come. It keeps its number, which names that workflow.
create function bulkhead.restore_follow_up(p_tenant text, p_environment text, p_run text, p_follow_up bigint, p_kind text, p_path text,
  p_reason text, p_state text, p_temporal_run text, p_wanted_at timestamptz, p_outcome json) returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  stage constant text[] := array['wanted', 'entered', 'done'];
  t ledgers;
  f follow_ups;
  n timestamptz;
  letter bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  t := ledger_in_recovery(p_tenant, p_environment);
  n := greatest(bulkhead.now(), t.last_clock);
  select * into f from follow_ups where tenant_id = p_tenant and environment = p_environment and follow_up_no = p_follow_up;
  if found and (f.run_id <> p_run or array_position(stage, f.state) > array_position(stage, p_state)
      or f.state = p_state and f.temporal_run_id is not distinct from p_temporal_run) then
    return false;
  end if;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'restored', 'at', iso(n), 'what', 'follow_up', 'run', p_run,
    'followUp', p_follow_up, 'followUpKind', p_kind, 'path', p_path, 'state', p_state, 'temporalRun', p_temporal_run), '{}');
  -- One that was ordered since, for the same run, is the same order.
  update follow_ups set state = 'done', ended_at = n, touched_at = n, note = note || ' (done as ' || p_follow_up || ')'
    where tenant_id = p_tenant and environment = p_environment and run_id = p_run and kind = 'undo' and p_kind = 'undo'
      and follow_up_no <> p_follow_up and state <> 'done' and p_state <> 'done';
  if p_kind = 'retry' then
    select max(d.letter_no) into letter from dead_letters d
      where d.tenant_id = p_tenant and d.environment = p_environment and d.run_id = p_run and d.path = p_path;
    -- A suggestion that was turned into a call was no letter.
    if letter is null and not exists (select from suggestions g where g.tenant_id = p_tenant and g.environment = p_environment
        and g.run_id = p_run and g.path = p_path) then
      perform ledger_dead_letter(t, n, p_run, p_path);
      letter := t.journal_seq;
    end if;
    update dead_letters set state = 'retried', decided_at = n, actor = 'recover', note = 'as its workflow shows'
      where tenant_id = p_tenant and environment = p_environment and letter_no = letter and state = 'dead';
  end if;
  insert into follow_ups (tenant_id, environment, follow_up_no, run_id, kind, path, letter_no, reason, state, epoch, temporal_run_id, actor, note,
      wanted_at, touched_at, ended_at, outcome)
    values (p_tenant, p_environment, p_follow_up, p_run, p_kind, p_path, letter, p_reason, p_state, t.fence_epoch, p_temporal_run, 'recover',
      'put back from its workflow', p_wanted_at, n, case when p_state = 'done' then n end, p_outcome)
    on conflict on constraint follow_ups_pk do update set state = excluded.state, temporal_run_id = excluded.temporal_run_id,
      touched_at = n, ended_at = excluded.ended_at, outcome = excluded.outcome;
  if p_kind = 'undo' and p_state <> 'wanted' then
    update runs set undone = true where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  end if;
  perform ledger_save(t, true);
  return true;
end $$;

-- The last step: the loss is acknowledged, and the tenant works again, unless it was killed.
create function bulkhead.finish_recovery(p_tenant text, p_environment text, p_actor text, p_counts json, p_body text) returns bigint
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  t := ledger_in_recovery(p_tenant, p_environment);
  n := greatest(bulkhead.now(), t.last_clock);
  t := ledger_renumber(t, n, p_actor);
  t.acknowledged_seq := greatest(t.acknowledged_seq, t.rewound_seq);
  t.rewound_seq := 0;
  t.control_version := t.control_version + 1;
  t := ledger_append(t, n, null, json_build_object('kind', 'recovered', 'at', iso(n), 'actor', p_actor, 'mode', t.mode,
    'acknowledgedSeq', t.acknowledged_seq, 'counts', p_counts), p_body);
  return ledger_save(t, true);
end $$;

grant execute on function bulkhead.mark_rewound, bulkhead.mark_lost_call, bulkhead.recovery_state, bulkhead.recovery_calls,
  bulkhead.begin_recovery, bulkhead.restore_fence, bulkhead.restore_run, bulkhead.restore_call, bulkhead.restore_follow_up, bulkhead.finish_recovery,
  bulkhead.journal_heads, bulkhead.lost_heads to bulkhead_app;

-- Chains alone: no fact of any tenant.
create policy sweep_reads on bulkhead.journal for select to bulkhead_sweep using (true);
grant select (tenant_id, environment, seq, hash) on bulkhead.journal to bulkhead_sweep;
alter function bulkhead.journal_heads owner to bulkhead_sweep;
alter function bulkhead.lost_heads owner to bulkhead_sweep;
