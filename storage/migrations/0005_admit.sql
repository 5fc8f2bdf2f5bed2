create type bulkhead.admission as (
  answer text,
  epoch bigint,
  attempt integer,
  lookup_only boolean,
  quiet_ms bigint,
  lease_id uuid,
  retry_after_ms bigint,
  policy_version bigint,
  refusal json,
  outcome json,
  approval_no bigint,
  expires_in_ms bigint,
  seq bigint
);

-- A call that a person has to say something of, as it is asked for; and how that stands. See 0012.
create type bulkhead.asked_call as (
  run_id text, path text, digest text, action text, class text, system text, token uuid, host_id text, reversible text,
  destination text, args text, schema_digest text, requester text, terms json, rules text[], refusal json, input_digest text
);
create type bulkhead.approval_standing as (answer text, approval_no bigint, expires_at timestamptz);

-- What was recorded of a finished call; contracts/ledger.ts `RecordedOutcome`.
create function bulkhead.outcome_of(c bulkhead.calls) returns json language sql stable as $$
  select json_build_object('state', c.state, 'ref', c.payload_ref, 'digest', c.payload_digest, 'refusal', c.refusal, 'value', c.value,
    'reviewNo', c.review_no)
$$;

-- Asks for one attempt of one call: key, gates in their order, claim. One transaction, one round trip.
-- Refusals are returned, never raised: a raised one could not be journaled.
create function bulkhead.admit_call(
  p_tenant text, p_environment text, p_run text, p_path text, p_digest text, p_action text, p_class text, p_system text,
  p_token uuid, p_temporal_run text, p_host text,
  -- What it was decided by: versions of the policy, of the tenant's record and credentials, of the run's facts.
  p_policy_version bigint, p_record_version bigint, p_facts_version integer,
  -- What was decided: allow, approve, suggest or deny. The refusal, with its parts, is what the call answers where it is not let in; null
  -- under allow.
  p_effect text, p_rules text[], p_refusal json, p_refusal_kind text, p_refusal_origin text, p_refusal_rule text,
  -- Of approve and suggest: who may decide, and what they are shown. Else null.
  p_terms json, p_args text, p_schema_digest text, p_requester text, p_destination text,
  -- What policy was asked; null where it was not.
  p_input json, p_input_digest text,
  p_lease_ms integer,
  -- How long the system outside honours a key; null where it honours none.
  p_key_valid_ms bigint, p_seen_seq bigint,
  -- Reserved of what is counted per day and run; the lease and the class say the rest.
  p_tool_calls integer, p_steps integer, p_micro_usd bigint, p_model_tokens bigint,
  -- The most that its result may take in storage.
  p_stored_bytes bigint,
  -- Of the credential that the attempt is to be lent; null for none.
  p_capability text,
  -- Of a write: what is left of it once undone. The write that this call undoes, and whether policy orders that also after a kill.
  p_reversible text, p_undo_of text, p_past_fence boolean,
  -- Digest of where it would be sent, and as whom.
  p_account text, p_body text
) returns bulkhead.admission language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  max_attempts constant integer := 8;
  t ledgers;
  l limits;
  c calls;
  r runs;
  x refused;
  a admission;
  n timestamptz;
  ask amounts := amounts_of(p_tool_calls, p_steps, 0, p_micro_usd, p_model_tokens, 0);
  named named_meter[];
  -- The tenant's part of the pool that its provider's capacity comes from; empty where it owns it.
  pooled named_meter[] := '{}';
  one named_meter;
  rewound boolean;
  known boolean;
  moved boolean;
  takes_slot boolean := true;
  supersedes boolean := false;
  denied boolean := false;
  suggests boolean := false;
  exhausted boolean := false;
  -- The last attempt of a write may have been sent, and this one asks for something else.
  reworded boolean := false;
  elsewhere boolean;
  undoes constant boolean := p_undo_of is not null;
  past_fence constant boolean := undoes and coalesce(p_past_fence, false);
  -- Whether the asking workflow is the one that works on the run; else the follow-up of the run that it has entered, if any.
  own_run boolean;
  follow_up_no bigint;
  follow_up_kind text;
  follow_up_path text;
  -- Fence epoch of what asks: the run's acceptance, or the order to undo.
  asked_under bigint;
  attempt_no integer := 1;
  -- Its tenant's share of the shared capacity is in use; see 0018.
  shared boolean := false;
  -- It is to find out whether its system is well again; see 0014.
  probes boolean := false;
  held reservation;
  asked asked_call;
  standing approval_standing;
begin
  perform enter_scope(p_tenant, p_environment);
  -- The lock, alone in its statement: every later statement sees what it waited for.
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if not found then
    x := row('failed', 'platform', 'ledger_absent', 'this tenant has no ledger in this environment: create the tenant', null, null, null, null);
    a.answer := 'refused'; a.refusal := refusal_json(x, null); a.seq := 0;
    return a;
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  rewound := t.rewound_seq > 0 or p_seen_seq > greatest(t.journal_seq, t.acknowledged_seq);
  a.seq := t.durable_seq;

  -- The key.
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  known := found;
  if c.digest = '*' then
    -- Put back by `recover`, which does not know what it was asked with: its position decides.
    c.digest := p_digest;
  end if;
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  moved := t.record_version <> p_record_version or coalesce(r.facts_version, 0) <> p_facts_version;
  asked_under := r.epoch;
  own_run := coalesce(r.state <> 'closed' and r.temporal_run_id = p_temporal_run, false);
  if undoes or not own_run then
    select f.follow_up_no, f.kind, f.path, case when undoes then f.epoch else r.epoch end
      into follow_up_no, follow_up_kind, follow_up_path, asked_under
      from follow_ups f where f.tenant_id = p_tenant and f.environment = p_environment and f.run_id = p_run
        and f.state = 'entered' and f.temporal_run_id = p_temporal_run and (f.kind = 'undo' or f.path = p_path)
      order by f.follow_up_no desc limit 1;
    asked_under := coalesce(asked_under, r.epoch);
  end if;
  if undoes and (p_path <> p_undo_of || '/undo' or ask <> nothing() or p_stored_bytes <> 0
      or p_effect in ('approve', 'suggest')) then
    raise exception 'the undo of % has a path of its own, reserves nothing and asks nobody', p_undo_of using errcode = 'invalid_parameter_value';
  end if;
  if not undoes then
    -- What an undo takes comes from a reserve that nobody's limits count.
    ask.active_ms := p_lease_ms;
    ask.high_risk_writes := (p_class = 'high_risk_write')::integer;
  end if;
  if p_effect in ('approve', 'suggest') then
    asked := row(p_run, p_path, p_digest, p_action, p_class, p_system, p_token, p_host, p_reversible, p_destination, p_args, p_schema_digest,
      p_requester, p_terms, p_rules, p_refusal, p_input_digest);
  elsif coalesce(p_effect not in ('allow', 'deny'), true) then
    raise exception 'nothing was decided about %', p_path using errcode = 'invalid_parameter_value';
  end if;
  <<decision>>
  begin
    if known then
      if c.state = 'claimed' and c.token = p_token then
        a.answer := case when c.admitted_as = 'admitted' then 'admitted' else 'recover' end;
        a.lookup_only := c.admitted_as = 'recover_lookup';
        a.epoch := c.epoch; a.attempt := c.attempts + c.looks; a.quiet_ms := c.quiet_ms;
        select e.lease_id into a.lease_id from leases e where e.tenant_id = p_tenant and e.environment = p_environment
          and e.lease_id = p_token and e.capability = p_capability and e.revoked_at is null;
        return a;
      end if;
      if c.state = 'claimed' and n < c.lease_until then
        a.answer := 'in_flight';
        a.retry_after_ms := least(1000, greatest(1, ceil(extract(epoch from c.lease_until - n) * 1000)));
        return a;
      end if;
      if rewound and c.state <> 'succeeded' then
        -- Others may have been told more of it than this ledger knows; only what has happened stays true.
        x := ledger_rewound();
        exit decision;
      end if;
      -- The key of an undo is its position alone: what is not sent yet takes new words, what is over stays so.
      if c.digest <> p_digest and c.class in ('write', 'high_risk_write') and not (undoes and c.state <> 'claimed') then
        reworded := c.state = 'claimed';
        x := row('idempotency_conflict', 'platform', 'idempotency_conflict',
          'this position of the run was used for another call; it is never run again', null, null, null, null);
        exit decision;
      end if;
      if c.state in ('succeeded', 'failed', 'unknown', 'suggested') and (c.digest = p_digest or undoes) and not (c.lost and c.token <> p_token) then
        a.answer := 'replayed'; a.outcome := outcome_of(c);
        return a;
      end if;
      if c.state = 'claimed' and c.class in ('write', 'high_risk_write') then
        if moved or t.policy_version <> p_policy_version then
          a.answer := 'stale'; a.policy_version := t.policy_version;
          return a;
        end if;
        -- Of what was sent to another account, or as somebody else, a look-up here proves nothing.
        elsewhere := coalesce(c.account <> p_account, false);
        -- It may have been sent: whoever takes over recovers first, and only looks where it could not be let in anew.
        a.answer := 'recover'; a.epoch := t.fence_epoch; a.attempt := c.attempts + c.looks + 1;
        if p_effect = 'approve' then
          standing := ledger_approval(t, n, asked, p_effect, c.approval_no);
        end if;
        a.lookup_only := t.mode <> 'normal' and not past_fence or elsewhere
          -- Sent again only with the approval that it was sent with, and never what is now only to be suggested.
          or p_effect in ('deny', 'suggest') or p_effect = 'approve' and (standing.answer <> 'usable' or standing.approval_no is distinct from c.approval_no)
          or asked_under < t.fence_epoch and not past_fence or c.attempts >= max_attempts
          or not own_run and follow_up_no is null
          -- The key has to be honoured until the last moment that this attempt may send in.
          or n + p_lease_ms * interval '1 millisecond' > c.first_claimed_at + coalesce(p_key_valid_ms, 0) * interval '1 millisecond';
        a.quiet_ms := case when not elsewhere then floor(extract(epoch from n - c.sent_until) * 1000) end;
        exit decision;
      end if;
      -- A call without effect, one surely not sent, or a read that was reworded: a new attempt through every gate.
      supersedes := c.state = 'claimed';
      takes_slot := not supersedes;
      attempt_no := case when c.digest = p_digest or undoes then c.attempts + 1 else 1 end;
    end if;

    -- Gates: the first that refuses is the answer. Nothing is written yet.
    if rewound then
      x := ledger_rewound();
      exit decision;
    end if;
    if t.mode <> 'normal' and not past_fence then
      x := row('killed', 'control', 'tenant_killed', 'an operator has stopped this tenant', null, null, null, null);
      exit decision;
    end if;
    -- What a fence stopped stays stopped after a release: the run was accepted before it.
    if asked_under < t.fence_epoch and not past_fence then
      x := row('killed', 'control', 'run_fenced', 'an operator has stopped what this run was accepted under', null, null, null, null);
      exit decision;
    end if;
    -- Of a run so old what was done may be forgotten, so what is not known may have been done.
    if not known and r.accepted_at <= n - key_horizon() then
      x := row('failed', 'platform', 'key_expired', 'this run is older than its keys are kept; nothing new is done in it', null, null, null, null);
      exit decision;
    end if;
    if undoes then
      if follow_up_kind is distinct from 'undo' then
        x := row('denied', 'control', 'undo_not_entered', 'the workflow that asks has entered no undo of this run', null, null, null, null);
        exit decision;
      end if;
      if not exists (select from calls f where f.tenant_id = p_tenant and f.environment = p_environment and f.run_id = p_run
          and f.path = p_undo_of and f.state = 'succeeded' and f.undo_of is null) then
        x := row('denied', 'control', 'undo_not_due', 'the write to undo is not known to have happened', null, null, null, null);
        exit decision;
      end if;
    end if;
    if t.policy_version <> p_policy_version or moved then
      a.answer := 'stale'; a.policy_version := t.policy_version;
      return a;
    end if;
    if p_effect = 'deny' then
      x := row(p_refusal_kind, p_refusal_origin, p_refusal_rule, null, null, null, null, p_rules);
      denied := true;
      exit decision;
    end if;
    select * into strict l from limits where tenant_id = p_tenant and environment = p_environment;
    -- A retry that a person ordered stands in for the run.
    if undoes or follow_up_kind = 'retry' and known then
      null;
    elsif r.state = 'closed' then
      x := row(case r.stop_reason when 'killed' then 'killed' else 'denied' end, 'control', 'run_closed', 'this run is closed', null, null, null, null);
      exit decision;
    elsif not own_run then
      x := row('denied', 'control', 'run_not_entered', 'this run was not entered by the workflow that asks', null, null, null, null);
      exit decision;
    elsif r.slot_at is null then
      -- Whatever its workflow believes: who has given its slot up, or was never given one, does nothing new. Waiting gives it none, it has
      -- to stand in line: too long to be waited for in place.
      x := row('throttled', 'tenant_cap', 'concurrent_runs', 'this run holds no slot of its tenant', l.concurrent_runs, t.slots, 60000, null);
      exit decision;
    end if;
    if r.undone and not undoes then
      x := row('denied', 'control', 'run_undone', 'this run is undone: nothing new is done in it', null, null, null, null);
      exit decision;
    end if;
    if attempt_no > max_attempts then
      -- Whoever kept the last attempt from an outcome is whose trouble it is.
      x := row('failed', coalesce(c.refusal ->> 'origin', 'platform'), 'attempts_exhausted',
        'this call was tried too often without an outcome', max_attempts, c.attempts, null, null);
      exhausted := true;
      exit decision;
    end if;
    -- A person's word, before anything is taken up for the call.
    if p_effect in ('approve', 'suggest') then
      standing := ledger_approval(t, n, asked, p_effect, c.approval_no);
      if standing.answer <> 'usable' then
        x := case
          when p_effect = 'suggest' or standing.answer in ('none', 'pending') then
            row(p_refusal_kind, p_refusal_origin, p_refusal_rule, null, null, null, null, p_rules)::refused
          when standing.answer = 'denied' then
            row('denied', 'control', 'approval_denied', 'a person has refused this call', null, null, null, null)::refused
          else row('denied', 'policy', 'approval_expired', 'nobody approved this call in time', null, null, null, null)::refused
        end;
        suggests := p_effect = 'suggest';
        exit decision;
      end if;
    end if;
    x := ledger_breaker_gate(t, n, p_system);
    exit decision when x.kind is not null;
    probes := x.rule is not distinct from 'breaker_probe';
    if attempt_no > 1 and not undoes then
      x := minute_gate(t.retries, l.retries_per_minute, 1, n, 'retries_per_minute', 'the retries that this tenant may make in a minute are used up');
      exit decision when x.kind is not null;
    end if;
    -- An undo takes its slot from a reserve: what is half done is never kept so by a full house.
    if not undoes then
      x := meter_gate(t.meter, l.layers, ask, takes_slot, ledger_day(t, n, l.time_zone), n, l.time_zone, '');
      if x.kind is null and cardinality(l.named) > 0 then
        named := array(select m from named_meters(t, l, p_run, p_action, n) m);
        foreach one in array named loop
          -- What it replaces may have been another action, or was let in before this one was limited.
          x := meter_gate(one.meter, one.layers, ask, takes_slot or one.name <> all (c.metered), ledger_day(t, n, l.time_zone), n, l.time_zone,
            one.name);
          exit when x.kind is not null;
        end loop;
      end if;
      if x.kind is null then
        x := run_gate(r, l.per_run, ask);
      end if;
      if x.kind is null then
        x := storage_gate(t, l, p_stored_bytes, case when supersedes then c.stored_reserved else 0 end, 'this call');
      end if;
      if x.kind is null and takes_slot and l.capacity is not null then
        x := share_gate(t, l);
        shared := x.kind is not null;
      end if;
      if x.kind is null and p_class = 'model' then
        pooled := array(select m from pool_meters(t, l, p_system, n) m);
        foreach one in array pooled loop
          x := pool_gate(one, ask, takes_slot or one.name <> all (c.metered), n);
        end loop;
      end if;
      if x.kind is not null then
        exit decision;
      end if;
    end if;
    a.answer := 'admitted'; a.epoch := t.fence_epoch; a.attempt := attempt_no;
  end;

  t := ledger_roll(t, n);
  if cardinality(pooled) > 0 then
    perform pool_wanted(t, p_system, x.kind is not null);
  end if;
  -- Also of who is let in: its calls may be short, and all over when shares are divided the next time.
  if shared or a.answer = 'admitted' and l.capacity is not null then
    perform pool_wanted(t, '', shared);
  end if;
  -- Of a call whose position is another one's, that one's decision stays.
  if p_input is not null and x.kind is distinct from 'idempotency_conflict' then
    perform ledger_decided(t, n, p_run, p_path, p_effect, p_rules, p_policy_version, p_input, p_input_digest);
  end if;
  if a.answer is null then
    a.answer := 'refused';
    a.refusal := case when denied or suggests or standing.answer in ('none', 'pending') then p_refusal
      else refusal_json(x, t.policy_version) end;
    if exhausted or denied and undoes then
      if supersedes then
        t := ledger_vacate(t, c);
        perform ledger_lose(t, c);
      end if;
      -- An undo that policy refuses was never claimed, and is an item for a person all the same.
      insert into calls as k (tenant_id, environment, run_id, path, digest, action, class, system, state, token, admitted_as, epoch,
          policy_version, host_id, attempts, first_claimed_at, lease_until, sent_until, claimed_seq, reversible, undo_of, admitted_at, day,
          reserved, charged, refusal)
        values (p_tenant, p_environment, p_run, p_path, p_digest, p_action, p_class, p_system, 'failed', p_token, 'admitted', t.fence_epoch,
          t.policy_version, p_host, 0, n, n, n, t.journal_seq + 1, p_reversible, p_undo_of, n, (t.meter).day, nothing(), nothing(), a.refusal)
        on conflict on constraint calls_pk do update set state = 'failed', lost = false, refusal = excluded.refusal, token = excluded.token,
          charged = coalesce(k.charged, k.reserved);
    end if;
    if reworded then
      t := ledger_reap(t, n, c, 'unknown', row('outcome_unknown', 'platform', 'arguments_changed',
        'an earlier attempt was lost, and what it was asked with cannot be asked again; it may have happened',
        null, null, null, null)::refused);
    end if;
    -- Of a short wait nobody is told: the call asks again by itself.
    update runs set refusals = refusals + 1, touched_at = n,
        last_refusal = json_build_object('at', iso(n), 'action', p_action, 'refusal', a.refusal),
        state = case when x.kind = 'throttled' and x.retry_after_ms > 10000 and state <> 'closed' then 'throttled'
          when x.kind = 'provider_degraded' and x.retry_after_ms > 10000 and state <> 'closed' then 'provider_degraded'
          when x.kind = 'approval_required' and state in ('running', 'throttled', 'provider_degraded', 'frozen') then 'approval_required'
          when x.kind = 'frozen' and state in ('running', 'throttled', 'provider_degraded') then 'frozen' else state end
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
    if rewound and t.rewound_seq = 0 then
      t.control_version := t.control_version + 1;
    end if;
    if rewound then
      t.rewound_seq := greatest(t.rewound_seq, p_seen_seq);
    end if;
    if exhausted or denied and undoes then
      -- Moves a call, and with it counters: never folded into a flood.
      t := ledger_append(t, n, p_run, json_build_object('kind', case when exhausted then 'exhausted' else 'undo_denied' end, 'at', iso(n),
        'run', p_run, 'path', p_path, 'token', p_token, 'action', p_action, 'class', p_class, 'undoOf', p_undo_of, 'origin', x.origin,
        'refusal', x.kind, 'rule', x.rule, 'value', x.value, 'used', x.used, 'policyVersion', t.policy_version, 'slot', supersedes), p_body);
      if undoes then
        a.answer := 'replayed';
        a.outcome := outcome_of(ledger_open_review(t, n, p_run, p_path, 'undo_failed'));
      else
        perform ledger_dead_letter(t, n, p_run, p_path);
      end if;
    elsif reworded and undoes then
      -- It waits for its review, as one that was lost in the same words does.
      a.answer := 'replayed';
      select outcome_of(k) into a.outcome from calls k
        where k.tenant_id = p_tenant and k.environment = p_environment and k.run_id = p_run and k.path = p_path;
    elsif suggests then
      t := ledger_suggest(t, n, asked, case when supersedes then c end, p_body);
    elsif standing.answer = 'none' then
      t := ledger_request_approval(t, n, asked, p_body);
      a.approval_no := t.journal_seq;
      a.expires_in_ms := (p_terms ->> 'expiresAfterMs')::bigint;
    elsif standing.answer = 'pending' then
      -- Journaled when it was asked for.
      t.last_clock := n;
      a.approval_no := standing.approval_no;
      a.expires_in_ms := ceil(extract(epoch from standing.expires_at - n) * 1000);
    else
      if standing.answer = 'expired' then
        t := ledger_expire_approval(t, n, standing.approval_no);
      end if;
      t := ledger_refuse(t, n, x, p_run, p_action, jsonb_build_object('path', p_path, 'token', p_token, 'class', p_class,
        'inputs', p_input_digest), p_body);
    end if;
    -- What people are told of, and what ends a run for a person's word, is on disk before it is answered.
    a.seq := ledger_save(t, exhausted or reworded or denied and undoes or suggests or coalesce(standing.answer in ('none', 'denied', 'expired'), false));
    return a;
  end if;

  if p_capability is not null then
    -- Lent with the claim, under the lock that every fence takes: no lease without a record, none beyond a fence. A token that
    -- was replaced meanwhile and comes back through every gate has its row already.
    insert into leases as e (tenant_id, environment, lease_id, capability, run_id, path, epoch, created_at, expires_at)
      values (p_tenant, p_environment, p_token, p_capability, p_run, p_path, t.fence_epoch, n, n + p_lease_ms * interval '1 millisecond')
      on conflict (tenant_id, environment, lease_id) do update set capability = excluded.capability, epoch = excluded.epoch,
        created_at = excluded.created_at, expires_at = excluded.expires_at, revoked_at = null;
    a.lease_id := p_token;
  end if;

  if a.answer = 'recover' then
    update calls set token = p_token, admitted_as = case when a.lookup_only then 'recover_lookup' else 'recover' end,
        epoch = t.fence_epoch, policy_version = t.policy_version, host_id = p_host,
        -- Who may only look takes no send away from the call.
        attempts = attempts + (not a.lookup_only)::integer, looks = looks + a.lookup_only::integer,
        lease_until = n + p_lease_ms * interval '1 millisecond', quiet_ms = a.quiet_ms,
        sent_until = case when a.lookup_only then sent_until else n + p_lease_ms * interval '1 millisecond' end,
        account = case when a.lookup_only then account else p_account end
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
    update runs set touched_at = n where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
    t := ledger_append(t, n, p_run, json_build_object('kind', 'recovering', 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
      'from', c.token, 'action', c.action, 'class', c.class, 'lookupOnly', a.lookup_only, 'elsewhere', elsewhere, 'rules', p_rules,
      'effect', p_effect, 'inputs', p_input_digest, 'approval', c.approval_no, 'policyVersion', t.policy_version, 'epoch', t.fence_epoch, 'attempt', a.attempt), p_body);
    a.seq := ledger_save(t, true);
    return a;
  end if;

  if supersedes then
    t := ledger_vacate(t, c);
    perform ledger_lose(t, c);
    if cardinality(named) > 0 then
      -- They were read while the slot was still taken.
      named := array(select m from named_meters(t, l, p_run, p_action, n) m);
    end if;
  end if;
  if cardinality(pooled) > 0 then
    named := coalesce(named, '{}') || array(select m from pool_meters(t, l, p_system, n) m);
  end if;
  if standing.approval_no is not null then
    -- Used once: from now on it is this key's alone.
    update approvals set used_at = n, used_by = p_token where tenant_id = p_tenant and environment = p_environment
      and approval_no = standing.approval_no and used_at is null;
  end if;
  if c.review_no is not null then
    -- Of a read that is asked again as something else: what this attempt ends as is an item of its own.
    t := ledger_close_review(t, n, c.review_no, 'abandon', 'ledger', 'superseded: this position was asked for again in other words',
      '{"applied": false}');
  end if;
  held := ledger_reserve(t, l, named, ask, 1, n);
  t := held.t;
  insert into calls as k (tenant_id, environment, run_id, path, digest, action, class, system, state, token, admitted_as, epoch,
      policy_version, host_id, attempts, first_claimed_at, lease_until, sent_until, account, claimed_seq, reversible, undo_of,
      admitted_at, day, metered, reserved, token_marks, stored_reserved, approval_no)
    values (p_tenant, p_environment, p_run, p_path, p_digest, p_action, p_class, p_system, 'claimed', p_token, 'admitted', t.fence_epoch,
      t.policy_version, p_host, a.attempt, n, n + p_lease_ms * interval '1 millisecond', n + p_lease_ms * interval '1 millisecond',
      p_account, t.journal_seq + 1, p_reversible, p_undo_of, n, (t.meter).day,
      array(select m.name from unnest(named) m), ask, held.token_marks, p_stored_bytes, standing.approval_no)
    on conflict on constraint calls_pk do update set digest = excluded.digest, action = excluded.action, class = excluded.class,
      system = excluded.system, state = 'claimed', token = excluded.token, admitted_as = 'admitted', epoch = excluded.epoch,
      policy_version = excluded.policy_version, host_id = excluded.host_id, attempts = excluded.attempts, looks = 0,
      first_claimed_at = least(k.first_claimed_at, excluded.first_claimed_at), claimed_seq = least(k.claimed_seq, excluded.claimed_seq),
      lease_until = excluded.lease_until, sent_until = excluded.sent_until, quiet_ms = 0, account = excluded.account,
      approval_no = coalesce(excluded.approval_no, case when k.digest = excluded.digest then k.approval_no end),
      reversible = excluded.reversible,
      undo_of = excluded.undo_of, admitted_at = excluded.admitted_at, day = excluded.day, metered = excluded.metered,
      reserved = excluded.reserved, token_marks = excluded.token_marks, stored_reserved = excluded.stored_reserved, charged = null, lost = false, refusal = null,
      value = null, payload_ref = null, payload_digest = null;
  update runs set steps = steps + p_steps, tool_calls = tool_calls + p_tool_calls, spent_micro_usd = spent_micro_usd + p_micro_usd,
      active_ms = active_ms + ask.active_ms, model_tokens = model_tokens + p_model_tokens, touched_at = n, state = case when state in ('throttled', 'provider_degraded', 'frozen', 'approval_required') then 'running' else state end
    where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  t.stored_reserved := t.stored_reserved + p_stored_bytes;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'admitted', 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
    'digest', p_digest, 'action', p_action, 'class', p_class, 'system', p_system, 'rules', p_rules, 'effect', p_effect, 'inputs', p_input_digest,
    'approval', standing.approval_no, 'policyVersion', t.policy_version, 'epoch', t.fence_epoch, 'attempt', a.attempt, 'slot', takes_slot, 'day', (t.meter).day, 'reserved', amounts_json(ask),
    'storedReserved', p_stored_bytes, 'metered', array(select m.name from unnest(named) m), 'inflight', (t.meter).inflight, 'dayUsed', amounts_json((t.meter).used), 'followUp', follow_up_no,
    'undoOf', p_undo_of, 'pastFence', past_fence), p_body);
  if probes then
    t := ledger_breaker_enter(t, n, p_run, p_path, p_system, p_token, n + p_lease_ms * interval '1 millisecond');
  end if;
  if attempt_no > 1 and not undoes then
    t.retries := filled(drained(t.retries, l.retries_per_minute, n), 1);
  end if;
  -- A free read that a crash forgets is read again; anything else is on disk before it may act.
  a.seq := ledger_save(t, p_class <> 'read' or p_micro_usd > 0);
  return a;
end $$;

grant execute on function bulkhead.admit_call to bulkhead_app;
