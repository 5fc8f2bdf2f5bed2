-- What waits for a person, or is done to a run beside its own workflow: reviews of calls whose truth is not known, dead letters,
-- and follow-ups (undoing a run's writes, one call again). See docs/ledger.md. All of it changes under the tenant's lock alone.

create domain bulkhead.review_kind as text
  constraint reviews_kind_known check (value in ('outcome_unknown', 'read_back_mismatch', 'undo_failed', 'scope_ambiguous'));
create domain bulkhead.review_resolution as text
  constraint reviews_resolution_known check (value in ('happened', 'did_not_happen', 'abandon'));

create table bulkhead.reviews (
  tenant_id text not null,
  environment text not null,
  -- Journal sequence of the entry that opened it.
  review_no bigint not null,
  run_id text not null,
  workspace_id text not null,
  path text not null,
  -- The attempt in doubt.
  token uuid not null,
  action text not null,
  class bulkhead.call_class not null,
  system text,
  kind bulkhead.review_kind not null,
  refusal json not null,
  opened_at timestamptz not null,
  resolved_at timestamptz,
  resolution bulkhead.review_resolution,
  actor text,
  note text,
  constraint reviews_pk primary key (tenant_id, environment, review_no),
  constraint reviews_resolved_whole check ((resolved_at is null) = (resolution is null) and (resolved_at is null) = (actor is null))
);
create unique index reviews_one_open on bulkhead.reviews (tenant_id, environment, run_id, path) where resolved_at is null;
create index reviews_by_run on bulkhead.reviews (tenant_id, environment, run_id, review_no);
create index reviews_by_workspace on bulkhead.reviews (tenant_id, environment, workspace_id, review_no);
create index reviews_open_by_workspace on bulkhead.reviews (tenant_id, environment, workspace_id, review_no) where resolved_at is null;

create table bulkhead.dead_letters (
  tenant_id text not null,
  environment text not null,
  letter_no bigint not null,
  run_id text not null,
  workspace_id text not null,
  path text not null,
  action text not null,
  class bulkhead.call_class not null,
  system text,
  attempts integer not null,
  refusal json not null,
  died_at timestamptz not null,
  state text not null constraint dead_letters_state_known check (state in ('dead', 'retried', 'discarded')),
  actor text,
  note text,
  decided_at timestamptz,
  constraint dead_letters_pk primary key (tenant_id, environment, letter_no)
);
create index dead_letters_dead on bulkhead.dead_letters (tenant_id, environment, letter_no) where state = 'dead';
create index dead_letters_by_run on bulkhead.dead_letters (tenant_id, environment, run_id, letter_no);
create index dead_letters_by_workspace on bulkhead.dead_letters (tenant_id, environment, workspace_id, letter_no);
create index dead_letters_dead_by_workspace on bulkhead.dead_letters (tenant_id, environment, workspace_id, letter_no) where state = 'dead';

create table bulkhead.follow_ups (
  tenant_id text not null,
  environment text not null,
  -- Journal sequence of the order.
  follow_up_no bigint not null,
  run_id text not null,
  kind text not null constraint follow_ups_kind_known check (kind in ('undo', 'retry')),
  path text,
  -- Of a retry: the dead letter; null for a suggestion that was turned into a call.
  letter_no bigint,
  reason text not null constraint follow_ups_reason_known check (reason in ('failed', 'killed', 'rollback', 'retry')),
  state text not null constraint follow_ups_state_known check (state in ('wanted', 'entered', 'done')),
  -- Fence epoch of the order: a later fence stops an undo too.
  epoch bigint not null,
  -- The workflow that has entered it.
  temporal_run_id text,
  actor text not null,
  note text not null,
  wanted_at timestamptz not null,
  touched_at timestamptz not null,
  ended_at timestamptz,
  outcome json,
  constraint follow_ups_pk primary key (tenant_id, environment, follow_up_no),
  constraint follow_ups_path_of_retry check ((kind = 'retry') = (path is not null))
);
create unique index follow_ups_one_undo on bulkhead.follow_ups (tenant_id, environment, run_id) where kind = 'undo' and state <> 'done';
create index follow_ups_by_run on bulkhead.follow_ups (tenant_id, environment, run_id, kind);
create index follow_ups_at_work on bulkhead.follow_ups (tenant_id, environment, run_id) where state <> 'done';

do $$
declare
  relation text;
begin
  foreach relation in array array['reviews', 'dead_letters', 'follow_ups'] loop
    perform bulkhead.protect(format('bulkhead.%I', relation));
    execute format('grant select on bulkhead.%I to bulkhead_app', relation);
  end loop;
end $$;
create policy sweep_reads on bulkhead.follow_ups for select to bulkhead_sweep using (true);
grant select on bulkhead.follow_ups to bulkhead_sweep;

-- ---------------------------------------------------------------- steps, for functions that hold the tenant's row

-- Opens the review of a call, under the number of the entry that was appended last. Answers the call as it is then.
create function bulkhead.ledger_open_review(t bulkhead.ledgers, p_now timestamptz, p_run text, p_path text, p_kind text)
returns bulkhead.calls language plpgsql as $$
declare
  c bulkhead.calls;
begin
  update bulkhead.calls set review_no = t.journal_seq
    where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run and path = p_path returning * into strict c;
  insert into bulkhead.reviews (tenant_id, environment, review_no, run_id, workspace_id, path, token, action, class, system, kind, refusal,
      opened_at)
    values (t.tenant_id, t.environment, t.journal_seq, p_run, bulkhead.workspace_of(t.tenant_id, t.environment, p_run), p_path, c.token,
      c.action, c.class, c.system, p_kind,
      coalesce(c.refusal, bulkhead.refusal_json(row('outcome_unknown', 'platform', p_kind, 'nobody could say why', null, null, null, null)::bulkhead.refused,
        c.policy_version)), p_now);
  return c;
end $$;

-- Closes a review, and journals who said what. `p_moved`: what it moved of the call's counters.
create function bulkhead.ledger_close_review(t bulkhead.ledgers, p_now timestamptz, p_review bigint, p_resolution text, p_actor text,
  p_note text, p_moved jsonb, p_body text default '{}') returns bulkhead.ledgers language plpgsql as $$
declare
  v bulkhead.reviews;
begin
  update bulkhead.reviews set resolved_at = p_now, resolution = p_resolution, actor = p_actor, note = p_note
    where tenant_id = t.tenant_id and environment = t.environment and review_no = p_review returning * into strict v;
  update bulkhead.calls set review_no = null
    where tenant_id = t.tenant_id and environment = t.environment and run_id = v.run_id and path = v.path and review_no = p_review;
  return bulkhead.ledger_append(t, p_now, v.run_id, (jsonb_build_object('kind', 'reviewed', 'at', bulkhead.iso(p_now), 'run', v.run_id,
    'path', v.path, 'token', v.token, 'action', v.action, 'class', v.class, 'review', p_review, 'doubt', v.kind,
    'resolution', p_resolution, 'actor', p_actor) || p_moved)::json, p_body);
end $$;

-- Keeps a forward call that nobody will ask for again, under the number of the entry that was appended last.
create function bulkhead.ledger_dead_letter(t bulkhead.ledgers, p_now timestamptz, p_run text, p_path text) returns void
language sql as $$
  insert into bulkhead.dead_letters (tenant_id, environment, letter_no, run_id, workspace_id, path, action, class, system, attempts, refusal,
      died_at, state)
    select tenant_id, environment, t.journal_seq, run_id, bulkhead.workspace_of(tenant_id, environment, run_id), path, action, class, system, attempts,
        coalesce(refusal, bulkhead.refusal_json(row('failed', 'platform', 'not_recorded', 'nobody could say why', null, null, null, null)::bulkhead.refused,
          policy_version)), p_now, 'dead' from bulkhead.calls
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run and path = p_path
$$;

-- Orders a follow-up. Its number is the sequence of the entry that this appends.
create function bulkhead.ledger_order(t bulkhead.ledgers, p_now timestamptz, p_run text, p_kind text, p_path text, p_letter bigint,
  p_reason text, p_actor text, p_note text, p_body text) returns bulkhead.ledgers language plpgsql as $$
begin
  t := bulkhead.ledger_append(t, p_now, p_run, json_build_object('kind', 'ordered', 'at', bulkhead.iso(p_now), 'run', p_run,
    'followUp', p_kind, 'path', p_path, 'letter', p_letter, 'reason', p_reason, 'actor', p_actor, 'epoch', t.fence_epoch), p_body);
  insert into bulkhead.follow_ups (tenant_id, environment, follow_up_no, run_id, kind, path, letter_no, reason, state, epoch, actor, note,
      wanted_at, touched_at)
    values (t.tenant_id, t.environment, t.journal_seq, p_run, p_kind, p_path, p_letter, p_reason, 'wanted', t.fence_epoch, p_actor, p_note,
      p_now, p_now);
  return t;
end $$;

-- Forward writes of a run that happened or may have, the newest first claim first, each with the state of its undo.
create function bulkhead.undo_items(p_tenant text, p_environment text, p_run text)
returns table (path text, action text, state text, reversible text, undo text, undo_review bigint, claimed_seq bigint)
language sql stable as $$
  -- A result that was not believed (E4) says nothing of whether the write happened: its review does.
  select c.path, c.action, case c.state when 'failed' then 'unknown' else c.state end, coalesce(c.reversible, 'final'), u.state, u.review_no, c.claimed_seq
    from bulkhead.calls c left join bulkhead.calls u on u.tenant_id = c.tenant_id and u.environment = c.environment
      and u.run_id = c.run_id and u.path = c.path || '/undo'
    where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run and c.undo_of is null
      and c.class in ('write', 'high_risk_write') and (c.state in ('claimed', 'succeeded', 'unknown') or c.state = 'failed' and c.review_no is not null)
$$;

-- Whether anything of a run is left to undo: not final, not undone, and its undo not given up by a person.
create function bulkhead.has_undo(p_tenant text, p_environment text, p_run text) returns boolean language sql stable as $$
  select exists (select from bulkhead.undo_items(p_tenant, p_environment, p_run) i where i.reversible <> 'final'
    and (i.undo is null or i.undo in ('claimed', 'open', 'unknown') or i.undo = 'failed' and i.undo_review is not null))
$$;

create function bulkhead.undo_list(p_tenant text, p_environment text, p_run text) returns json language sql stable as $$
  select coalesce(json_agg(json_build_object('path', i.path, 'action', i.action, 'state', i.state, 'reversible', i.reversible,
    'undo', i.undo) order by i.claimed_seq desc), '[]') from bulkhead.undo_items(p_tenant, p_environment, p_run) i
$$;

-- ---------------------------------------------------------------- calls and reviews

create function bulkhead.call_row(p_tenant text, p_environment text, p_run text, p_path text)
returns table (path text, action text, digest text, class text, state text, reversible text, undo_of text, attempts integer,
  review_no bigint, refusal json)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select c.path, c.action, c.digest, c.class::text, c.state::text, c.reversible::text, c.undo_of, c.attempts, c.review_no, c.refusal
    from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run and c.path = p_path;
end $$;

-- A person's word on a call. `happened`: succeeded, with what it brought. `did_not_happen`: all of it given back, claimable through
-- all of admission with its attempts anew; where no workflow is left that would ask again, as a dead letter. `abandon`: failed for
-- good. Answers resolved, already or absent.
create function bulkhead.resolve_review(p_tenant text, p_environment text, p_review bigint, p_resolution text, p_payload json,
  p_payload_digest text, p_facts json, p_records json, p_data_classes text[], p_actor text, p_note text, p_body text) returns text
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  v reviews;
  c calls;
  n timestamptz;
  given_up refused;
  back boolean := false;
  letter boolean := false;
  stored bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into v from reviews where tenant_id = p_tenant and environment = p_environment and review_no = p_review;
  if not found then
    return 'absent';
  end if;
  if v.resolved_at is not null then
    return 'already';
  end if;
  if v.class not in ('write', 'high_risk_write') and p_resolution <> 'abandon' then
    raise exception 'review % is of a %, which has no effect that could have happened: it can only be abandoned', p_review, v.class
      using errcode = 'BH020';
  end if;
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = v.run_id and path = v.path
    and review_no = p_review and token = v.token and state in ('unknown', 'failed');
  if c.path is not null then
    if p_resolution = 'happened' and p_payload is null and c.undo_of is null then
      raise exception 'review % happened with which result? The run goes on with it', p_review using errcode = 'BH020';
    end if;
    back := p_resolution = 'did_not_happen';
    -- Nobody makes it after all in a run that was undone, or is about to be.
    letter := back and c.undo_of is null and exists (select from runs r where r.tenant_id = p_tenant and r.environment = p_environment
        and r.run_id = v.run_id and r.state = 'closed' and not r.undone)
      and not exists (select from follow_ups f where f.tenant_id = p_tenant and f.environment = p_environment and f.run_id = v.run_id
        and f.state <> 'done' and (f.kind = 'undo' or f.path = v.path));
    given_up := row(coalesce(c.refusal ->> 'kind', 'outcome_unknown'), 'control', 'review_abandoned',
      'a person looked at this call and gave it up', null, null, null, null);
    update calls set state = case p_resolution when 'happened' then 'succeeded' when 'did_not_happen' then 'open' else 'failed' end,
        refusal = case p_resolution when 'happened' then null when 'abandon' then refusal_json(given_up, c.policy_version)
          else case when letter then refusal_json(row('failed', 'control', 'did_not_happen', 'a person found that this call did not happen, after its run was over',
            null, null, null, null)::refused, c.policy_version) else refusal end end,
        payload_ref = case p_resolution when 'happened' then case when p_payload is not null then v.path end
          when 'abandon' then payload_ref end,
        payload_digest = case p_resolution when 'happened' then p_payload_digest when 'abandon' then payload_digest end,
        attempts = case when back and not letter then 0 else attempts end,
        charged = case when back then nothing() else charged end
      where tenant_id = p_tenant and environment = p_environment and run_id = v.run_id and path = v.path;
    if p_resolution = 'happened' then
      stored := t.stored_bytes;
      t := ledger_keep(t, n, v.run_id, v.path, p_payload, p_facts, p_records, p_data_classes);
      stored := t.stored_bytes - stored;
    end if;
    t := ledger_roll(t, n);
    if back then
      t := ledger_charge(t, n, v.run_id, c.metered, c.day, minus(nothing(), c.charged));
    end if;
  end if;
  t := ledger_close_review(t, n, p_review, p_resolution, p_actor, p_note, jsonb_build_object('applied', c.path is not null,
    'payloadDigest', p_payload_digest, 'storedBytes', stored, 'storedOvershoot', stored_overshoot(stored, 0),
    'day', case when back then c.day end,
    'charged', case when back then amounts_json(minus(nothing(), c.charged)) end, 'metered', case when back then c.metered end), p_body);
  if letter then
    perform ledger_dead_letter(t, n, v.run_id, v.path);
  end if;
  perform ledger_save(t, true);
  return 'resolved';
end $$;

-- ---------------------------------------------------------------- dead letters

create type bulkhead.letter_answer as (kind text, follow_up_no bigint, message text);

-- Opens the call again, its attempts anew, and orders its retry: under its own key, through all of admission. A letter that could
-- not be let in now stays a letter.
create function bulkhead.retry_dead_letter(p_tenant text, p_environment text, p_letter bigint, p_actor text, p_note text, p_body text)
returns bulkhead.letter_answer language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  d dead_letters;
  c calls;
  r runs;
  s letter_answer;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into d from dead_letters where tenant_id = p_tenant and environment = p_environment and letter_no = p_letter;
  if not found then
    s.kind := 'absent';
    return s;
  end if;
  if d.state = 'retried' then
    s.kind := 'already';
    select max(f.follow_up_no) into s.follow_up_no from follow_ups f
      where f.tenant_id = p_tenant and f.environment = p_environment and f.run_id = d.run_id and f.letter_no = p_letter;
    return s;
  end if;
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = d.run_id;
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = d.run_id and path = d.path;
  s.message := case
    when d.state = 'discarded' then 'this letter was discarded'
    when d.class = 'model' then 'a model call is part of its run: fork the run from this step instead'
    when t.rewound_seq > 0 then 'the ledger has to be reconciled first: bulkhead recover'
    when t.mode <> 'normal' then 'an operator has stopped this tenant: release it first'
    when r.epoch < t.fence_epoch then 'an operator has stopped what the run of this call was accepted under'
    when r.accepted_at <= n - key_horizon() then 'the run of this call is older than its keys are kept'
    when r.undone then 'the run of this call was undone, or is being undone: nothing new is done in it'
    when (c.state, c.refusal ->> 'rule') is distinct from ('failed', 'attempts_exhausted')
      and (c.state, c.refusal ->> 'rule') is distinct from ('open', 'did_not_happen') then 'this call has moved on since'
  end;
  if s.message is not null then
    s.kind := 'refused';
    return s;
  end if;
  update calls set state = 'open', attempts = 0 where tenant_id = p_tenant and environment = p_environment and run_id = d.run_id and path = d.path;
  update dead_letters set state = 'retried', actor = p_actor, note = p_note, decided_at = n
    where tenant_id = p_tenant and environment = p_environment and letter_no = p_letter;
  t := ledger_order(t, n, d.run_id, 'retry', d.path, p_letter, 'retry', p_actor, p_note, p_body);
  s.kind := 'ordered';
  s.follow_up_no := t.journal_seq;
  perform ledger_save(t, true);
  return s;
end $$;

create function bulkhead.discard_dead_letter(p_tenant text, p_environment text, p_letter bigint, p_actor text, p_note text, p_body text)
returns text language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  d dead_letters;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into d from dead_letters where tenant_id = p_tenant and environment = p_environment and letter_no = p_letter;
  if not found then
    return 'absent';
  end if;
  if d.state <> 'dead' then
    return 'already';
  end if;
  update dead_letters set state = 'discarded', actor = p_actor, note = p_note, decided_at = n
    where tenant_id = p_tenant and environment = p_environment and letter_no = p_letter;
  t := ledger_append(t, n, d.run_id, json_build_object('kind', 'discarded', 'at', iso(n), 'run', d.run_id, 'path', d.path, 'action', d.action,
    'letter', p_letter, 'actor', p_actor), p_body);
  perform ledger_save(t, true);
  return 'discarded';
end $$;

-- ---------------------------------------------------------------- follow-ups

create type bulkhead.undo_order as (kind text, follow_up_no bigint);
create type bulkhead.follow_up_entry as (kind text, follow_up_no bigint, path text, items json, refusal json, seq bigint);

-- Orders the undo of a closed run. One that is not done is the same order.
create function bulkhead.order_undo(p_tenant text, p_environment text, p_run text, p_actor text, p_note text, p_body text)
returns bulkhead.undo_order language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  r runs;
  s undo_order;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  s.kind := case when not found then 'absent' when r.state <> 'closed' then 'open' end;
  if s.kind is not null then
    return s;
  end if;
  select f.follow_up_no into s.follow_up_no from follow_ups f where f.tenant_id = p_tenant and f.environment = p_environment
    and f.run_id = p_run and f.kind = 'undo' and f.state <> 'done';
  if found then
    s.kind := 'already';
    return s;
  end if;
  if r.accepted_at <= n - key_horizon() or not has_undo(p_tenant, p_environment, p_run) then
    s.kind := 'nothing';
    return s;
  end if;
  t := ledger_order(t, n, p_run, 'undo', null, null, 'rollback', p_actor, p_note, p_body);
  s.kind := 'ordered';
  s.follow_up_no := t.journal_seq;
  perform ledger_save(t, true);
  return s;
end $$;

-- Orders the undo of an open run and enters it, for the workflow that works on that run. Asked again, the same.
create function bulkhead.begin_undo(p_tenant text, p_environment text, p_run text, p_temporal_run text) returns bulkhead.follow_up_entry
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  r runs;
  f follow_ups;
  s follow_up_entry;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  s.kind := 'nothing';
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  if r.state is null or r.state = 'closed' or r.temporal_run_id is distinct from p_temporal_run then
    return s;
  end if;
  select * into f from follow_ups where tenant_id = p_tenant and environment = p_environment and run_id = p_run and kind = 'undo' and state <> 'done';
  if not found then
    if r.accepted_at <= n - key_horizon() or not has_undo(p_tenant, p_environment, p_run) then
      return s;
    end if;
    t := ledger_order(t, n, p_run, 'undo', null, null, 'failed', 'agent', '', '{}');
    f.follow_up_no := t.journal_seq;
    update runs set state = 'compensating', touched_at = n where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  end if;
  t := ledger_enter_follow_up(t, n, p_run, f.follow_up_no, p_temporal_run);
  s.kind := 'entered';
  s.follow_up_no := f.follow_up_no;
  s.items := undo_list(p_tenant, p_environment, p_run);
  s.seq := ledger_save(t, true);
  return s;
end $$;

create function bulkhead.ledger_enter_follow_up(t bulkhead.ledgers, p_now timestamptz, p_run text, p_follow_up bigint, p_temporal_run text)
returns bulkhead.ledgers language plpgsql as $$
declare
  entered_kind text;
begin
  update bulkhead.follow_ups set state = 'entered', temporal_run_id = p_temporal_run, touched_at = p_now
    where tenant_id = t.tenant_id and environment = t.environment and follow_up_no = p_follow_up
      and (state, temporal_run_id) is distinct from ('entered', p_temporal_run) returning kind into entered_kind;
  if found then
    if entered_kind = 'undo' then
      update bulkhead.runs set undone = true where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run;
    end if;
    t := bulkhead.ledger_append(t, p_now, p_run, json_build_object('kind', 'follow_up_entered', 'at', bulkhead.iso(p_now), 'run', p_run,
      'followUp', p_follow_up, 'temporalRun', p_temporal_run), '{}');
  end if;
  return t;
end $$;

-- Lets a workflow of its own do a follow-up. The last to ask does it: only one can be open under its id, and what an earlier one did
-- is known by its key. The undo that an open run has begun is that run's.
create function bulkhead.enter_follow_up(p_tenant text, p_environment text, p_run text, p_follow_up bigint, p_temporal_run text)
returns bulkhead.follow_up_entry language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  f follow_ups;
  s follow_up_entry;
  x refused;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into f from follow_ups where tenant_id = p_tenant and environment = p_environment and follow_up_no = p_follow_up and run_id = p_run;
  -- First, for an order that is not here may be what was lost.
  if t.rewound_seq > 0 then
    x := ledger_rewound();
  elsif f.follow_up_no is null then
    x := row('denied', 'control', 'follow_up_absent', 'nobody ordered this', null, null, null, null);
  elsif f.state = 'done' then
    x := row('denied', 'control', 'follow_up_done', 'this was done, or given up, before', null, null, null, null);
  elsif f.kind = 'undo' and exists (select from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run
      and state <> 'closed' and temporal_run_id is distinct from p_temporal_run) then
    x := row('denied', 'control', 'run_open', 'the run itself is at work on this', null, null, null, null);
  end if;
  if x.kind is not null then
    s.kind := 'refused';
    s.refusal := refusal_json(x, t.policy_version);
    t := ledger_refuse(ledger_roll(t, n), n, x, p_run, 'follow_up.enter', jsonb_build_object('followUp', p_follow_up), '{}');
    s.seq := ledger_save(t, false);
    return s;
  end if;
  t := ledger_enter_follow_up(t, n, p_run, p_follow_up, p_temporal_run);
  s.kind := 'entered';
  s.follow_up_no := p_follow_up;
  s.path := f.path;
  s.items := case f.kind when 'undo' then undo_list(p_tenant, p_environment, p_run) else '[]' end;
  s.seq := ledger_save(t, true);
  return s;
end $$;

-- Ends a follow-up, for the workflow that has entered it. A retry that brought the call no outcome leaves it what it was: a dead letter,
-- or a suggestion.
create function bulkhead.leave_follow_up(p_tenant text, p_environment text, p_run text, p_follow_up bigint, p_temporal_run text, p_outcome json)
returns boolean language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  f follow_ups;
  d dead_letters;
  n timestamptz;
  dead_again boolean := false;
  again boolean := false;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  update follow_ups set state = 'done', ended_at = n, touched_at = n, outcome = p_outcome
    where tenant_id = p_tenant and environment = p_environment and follow_up_no = p_follow_up and run_id = p_run
      and state = 'entered' and temporal_run_id = p_temporal_run returning * into f;
  if not found then
    return false;
  end if;
  if f.kind = 'retry' and f.letter_no is null then
    again := ledger_suggest_again(t, p_run, f.path);
  elsif f.kind = 'retry' then
    select * into strict d from dead_letters where tenant_id = p_tenant and environment = p_environment and letter_no = f.letter_no;
    -- What a person found not to have happened stays so.
    update calls set state = case d.refusal ->> 'rule' when 'did_not_happen' then 'open' else 'failed' end, refusal = d.refusal
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = f.path and state = 'open';
    dead_again := found;
    if dead_again then
      update dead_letters set state = 'dead', decided_at = null, actor = null, note = null
        where tenant_id = p_tenant and environment = p_environment and letter_no = f.letter_no;
    end if;
  end if;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'follow_up_left', 'at', iso(n), 'run', p_run, 'followUp', p_follow_up,
    'temporalRun', p_temporal_run, 'outcome', p_outcome, 'deadAgain', dead_again, 'suggestedAgain', again), '{}');
  perform ledger_save(t, true);
  return true;
end $$;

-- ---------------------------------------------------------------- across the tenants of one environment

-- Ordered, not done, not touched for so long. An open run does its own undo.
create function bulkhead.follow_ups_waiting(p_environment text, p_older_than_ms bigint, p_limit integer)
returns table (tenant_id text, run_id text, follow_up_no bigint, kind text, signed json)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select f.tenant_id, f.run_id, f.follow_up_no, f.kind, a.signed
    from bulkhead.follow_ups f join bulkhead.runs r using (tenant_id, environment, run_id)
      join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
    where f.environment = p_environment and f.state <> 'done' and (f.kind = 'retry' or r.state = 'closed')
      and f.touched_at <= bulkhead.now() - p_older_than_ms * interval '1 millisecond'
    order by random() limit p_limit
$$;

-- What `reap_call` would end.
create function bulkhead.calls_due(p_environment text, p_limit integer)
returns table (tenant_id text, run_id text, path text, token uuid)
language sql volatile security definer set search_path = bulkhead, pg_temp as $$
  select c.tenant_id, c.run_id, c.path, c.token
    from bulkhead.calls c left join bulkhead.runs r using (tenant_id, environment, run_id)
    where c.environment = p_environment and c.state = 'claimed' and c.lease_until <= bulkhead.now()
      and (c.class in ('read', 'model') or (r.state = 'closed' or r.run_id is null) and not exists (select from bulkhead.follow_ups f
        where f.tenant_id = c.tenant_id and f.environment = c.environment and f.run_id = c.run_id and f.state <> 'done'))
    order by random() limit p_limit
$$;

grant execute on function bulkhead.call_row, bulkhead.resolve_review, bulkhead.retry_dead_letter, bulkhead.discard_dead_letter,
  bulkhead.order_undo, bulkhead.begin_undo, bulkhead.enter_follow_up, bulkhead.leave_follow_up, bulkhead.follow_ups_waiting,
  bulkhead.calls_due to bulkhead_app;
alter function bulkhead.follow_ups_waiting owner to bulkhead_sweep;
alter function bulkhead.calls_due owner to bulkhead_sweep;
