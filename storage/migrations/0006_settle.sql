create type bulkhead.settlement as (answer text, review_no bigint, seq bigint);

-- Keeps what a call brought: its payload, the facts its result sets, the records it showed to be the tenant's, the classes of its data.
create function bulkhead.ledger_keep(t bulkhead.ledgers, p_now timestamptz, p_run text, p_path text, p_payload json, p_facts json, p_records json,
  p_data_classes text[]) returns bulkhead.ledgers language plpgsql as $$
begin
  if p_payload is not null then
    t := bulkhead.ledger_store(t, p_now, p_run, p_path, p_payload);
  end if;
  if p_facts::text <> '{}' then
    insert into bulkhead.run_facts (tenant_id, environment, run_id, name, value, path)
      select t.tenant_id, t.environment, p_run, fact.key, fact.value, p_path from json_each(p_facts) fact
      on conflict on constraint run_facts_pk do update set value = excluded.value, path = excluded.path;
    update bulkhead.runs set facts_version = facts_version + 1
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run;
  end if;
  if cardinality(p_data_classes) > 0 then
    -- What was decided before the run had read this is stale.
    update bulkhead.runs r set facts_version = facts_version + 1,
        data_classes = (select array_agg(distinct name order by name) from unnest(r.data_classes || p_data_classes) name)
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run and not p_data_classes <@ data_classes;
  end if;
  if p_records::text <> '[]' then
    -- What is known already is left alone: most calls touch the same few records.
    insert into bulkhead.resources (tenant_id, environment, system, record_id, account, known_at)
      select distinct on (record.system, record.id) t.tenant_id, t.environment, record.system, record.id, record.account, p_now
        from json_to_recordset(p_records) as record (system text, id text, account text)
        where not exists (select from bulkhead.resources r where r.tenant_id = t.tenant_id and r.environment = t.environment
          and r.system = record.system and r.record_id = record.id and (record.account is null or r.account = record.account))
        order by record.system, record.id, record.account nulls last
      on conflict on constraint resources_pk do update set account = coalesce(excluded.account, resources.account);
  end if;
  return t;
end $$;

-- What an attempt cost in the end. Open: what its provider may bill though it brought nothing, else nothing. Not known: all that was reserved. Its active time is the ledger's own, and
-- a host that hangs beyond the lease is not the tenant's to pay.
create function bulkhead.paid_of(p_reserved bulkhead.amounts, p_admitted_at timestamptz, p_now timestamptz, p_result text, p_tool_calls bigint,
  p_micro_usd bigint, p_model_tokens bigint) returns bulkhead.amounts language sql immutable as $$
  select case p_result when 'open' then bulkhead.amounts_of(0, 0, 0, p_micro_usd, p_model_tokens, 0) when 'unknown' then p_reserved
    else bulkhead.amounts_of(p_tool_calls, p_reserved.steps,
      least(p_reserved.active_ms, greatest(0, ceil(extract(epoch from p_now - p_admitted_at) * 1000))::bigint),
      p_micro_usd, p_model_tokens, p_reserved.high_risk_writes) end
$$;

-- What was charged beyond what was reserved: a provider's own making, reported as such; null where there is none.
create function bulkhead.overshoot_json(p_paid bulkhead.amounts, p_reserved bulkhead.amounts) returns json language sql immutable as $$
  select case when p_paid.micro_usd > p_reserved.micro_usd or p_paid.model_tokens > p_reserved.model_tokens then
    json_build_object('microUsd', greatest(0, p_paid.micro_usd - p_reserved.micro_usd),
      'modelTokens', greatest(0, p_paid.model_tokens - p_reserved.model_tokens)) end
$$;

-- Bytes stored beyond what was reserved for them, for what has to be kept is kept; null where there are none.
create function bulkhead.stored_overshoot(p_stored bigint, p_reserved bigint) returns bigint language sql immutable as $$
  select nullif(greatest(0, p_stored - coalesce(p_reserved, 0)), 0)
$$;

-- Records how an attempt ended, and its true cost. Never asks a fence, never refuses: what happened, happened.
create function bulkhead.settle_call(
  p_tenant text, p_environment text, p_run text, p_path text, p_token uuid, p_result text, p_tool_calls integer, p_micro_usd bigint, p_model_tokens bigint,
  p_refusal json, p_value json, p_payload json, p_payload_digest text, p_facts json, p_records json, p_data_classes text[],
  p_body text
) returns bulkhead.settlement language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  c calls;
  g lost_attempts;
  s settlement;
  n timestamptz;
  paid amounts;
  delta amounts := nothing();
  day integer;
  metered text[];
  -- What the attempt had reserved of model tokens, and where that ends in each bucket.
  tokens bigint;
  marks numeric[];
  doubt text;
  stored bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if not found then
    raise exception 'this tenant has no ledger in this environment: create the tenant' using errcode = 'no_data_found';
  end if;
  if not counted(amounts_of(p_tool_calls, 0, 0, p_micro_usd, p_model_tokens, 0)) then
    raise exception 'an attempt costs nothing or more, never less' using errcode = 'invalid_parameter_value';
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;

  if c.token = p_token and c.state = 'claimed' then
    s.answer := 'settled';
    day := c.day;
    metered := c.metered;
    tokens := (c.reserved).model_tokens;
    marks := c.token_marks;
    paid := paid_of(c.reserved, c.admitted_at, n, p_result, p_tool_calls, p_micro_usd, p_model_tokens);
    delta := minus(paid, c.reserved);
    t := ledger_vacate(t, c);
  elsif c.token = p_token and p_result = 'succeeded' and (c.state = 'unknown' or c.state in ('open', 'failed', 'suggested') and exists (
      -- A person said of this very attempt that it did not happen, or gave it up, and was wrong.
      select from reviews v where v.tenant_id = p_tenant and v.environment = p_environment and v.run_id = p_run and v.path = p_path
        and v.token = p_token and v.kind = 'outcome_unknown' and v.resolution in ('did_not_happen', 'abandon'))) then
    s.answer := 'reconciled';
    day := c.day;
    metered := c.metered;
    tokens := (c.reserved).model_tokens;
    marks := c.token_marks;
    paid := paid_of(c.reserved, c.admitted_at, n, p_result, p_tool_calls, p_micro_usd, p_model_tokens);
    delta := minus(paid, c.charged);
  else
    select * into g from lost_attempts
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path and token = p_token;
    if c.token = p_token and (g.token is null or g.trued_up) then
      s.answer := 'already';
      s.review_no := c.review_no;
      s.seq := t.durable_seq;
      return s;
    end if;
    s.answer := 'late';
    day := coalesce(g.day, (t.meter).day);
    metered := g.metered;
    tokens := (g.reserved).model_tokens;
    marks := g.token_marks;
    if g.token is not null and not g.trued_up and p_result <> 'unknown' then
      paid := paid_of(g.reserved, g.admitted_at, n, p_result, p_tool_calls, p_micro_usd, p_model_tokens);
      -- The step was taken, whatever came of it.
      paid.steps := (g.reserved).steps;
      delta := minus(paid, g.reserved);
      update lost_attempts set trued_up = true
        where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path and token = p_token;
    end if;
  end if;

  -- One review of a call at a time. Whoever claims it anew has closed the one before.
  if s.answer = 'settled' and p_result in ('failed', 'unknown') and c.review_no is null then
    doubt := case
      when c.undo_of is not null and p_result = 'failed' then 'undo_failed'
      when p_refusal ->> 'kind' = 'scope_ambiguous' then 'scope_ambiguous'
      when p_result = 'unknown' and c.class in ('write', 'high_risk_write') then
        case p_refusal ->> 'kind' when 'read_back_mismatch' then 'read_back_mismatch' else 'outcome_unknown' end
    end;
  end if;
  stored := t.stored_bytes;
  if s.answer <> 'late' then
    update calls set state = p_result, refusal = p_refusal, value = p_value,
        charged = paid,
        payload_ref = case when p_payload is not null and p_result <> 'open' then p_path end,
        payload_digest = case when p_result <> 'open' then p_payload_digest end
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
    if p_result <> 'open' then
      t := ledger_keep(t, n, p_run, p_path, p_payload,
        case when p_result = 'succeeded' then p_facts else '{}'::json end, case when p_result = 'succeeded' then p_records else '[]'::json end,
        p_data_classes);
    end if;
  end if;
  if s.answer = 'settled' and p_result = 'open' and p_refusal ->> 'kind' = 'provider_degraded'
      and (p_refusal ->> 'retryAfterMs')::bigint > 10000 then
    -- Too long for a wait that nobody is told of; see admit_call.
    update runs set state = 'provider_degraded', touched_at = n
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run and state in ('running', 'throttled');
  end if;
  stored := t.stored_bytes - stored;
  t := ledger_charge(t, n, p_run, metered, day, delta, tokens, marks);
  t := ledger_append(t, n, p_run, json_build_object('kind', s.answer, 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
    'action', c.action, 'class', c.class, 'result', p_result, 'slot', s.answer = 'settled', 'day', day, 'charged', amounts_json(delta),
    'metered', coalesce(metered, '{}'), 'overshoot', overshoot_json(paid, coalesce(g.reserved, c.reserved)), 'payloadDigest', p_payload_digest,
    'storedBytes', stored, 'storedOvershoot', stored_overshoot(stored, case when s.answer = 'settled' then c.stored_reserved end),
    'dataClasses', p_data_classes, 'inflight', (t.meter).inflight, 'dayUsed', amounts_json((t.meter).used),
    'review', doubt), p_body);
  if s.answer = 'reconciled' and c.review_no is not null then
    t := ledger_close_review(t, n, c.review_no, 'happened', 'late settlement', '', '{}');
  elsif doubt is not null then
    s.review_no := (ledger_open_review(t, n, p_run, p_path, doubt)).review_no;
  else
    s.review_no := c.review_no;
  end if;
  if s.answer = 'settled' then
    t := ledger_breaker_settle(t, n, c, p_result, p_refusal);
  end if;
  -- The workflow builds on this answer, so it is on disk first.
  s.seq := ledger_save(t, true);
  return s;
end $$;

-- Ends a claimed call that nobody will bring an outcome: charged in full, its slot freed. One that may have happened waits for a
-- person.
create function bulkhead.ledger_reap(t bulkhead.ledgers, p_now timestamptz, c bulkhead.calls, p_result text, x bulkhead.refused)
returns bulkhead.ledgers language plpgsql as $$
begin
  update bulkhead.calls set state = p_result, lost = (p_result = 'failed'), charged = reserved,
      refusal = bulkhead.refusal_json(x, c.policy_version)
    where tenant_id = t.tenant_id and environment = t.environment and run_id = c.run_id and path = c.path;
  t := bulkhead.ledger_vacate(t, c);
  t := bulkhead.ledger_append(t, p_now, c.run_id, json_build_object('kind', 'reaped', 'at', bulkhead.iso(p_now), 'run', c.run_id,
    'path', c.path, 'token', c.token, 'action', c.action, 'class', c.class, 'result', p_result, 'rule', x.rule, 'slot', true,
    'inflight', (t.meter).inflight, 'review', case when p_result = 'unknown' and c.review_no is null then 'outcome_unknown' end), '{}');
  if p_result = 'unknown' and c.review_no is null then
    perform bulkhead.ledger_open_review(t, p_now, c.run_id, c.path, 'outcome_unknown');
  end if;
  return t;
end $$;

-- Ends a call that outlived its lease, if it is still the attempt that was seen. Reads and model calls are lost; a
-- write is left to its own retry, which knows how to ask the system, while its run or a follow-up of it is at work. After
-- that it is unknown, and waits for a person.
create function bulkhead.reap_call(p_tenant text, p_environment text, p_run text, p_path text, p_token uuid) returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
declare
  t ledgers;
  c calls;
  x refused;
  n timestamptz;
  result text;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  if c.state is distinct from 'claimed' or c.token <> p_token or n < c.lease_until then
    return false;
  end if;
  if c.class in ('read', 'model') then
    result := 'failed';
    x := row('failed', 'platform', 'lost', 'the attempt ended without an outcome', null, null, null, null);
    perform ledger_lose(t, c);
  elsif exists (select from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run and state <> 'closed')
      or exists (select from follow_ups where tenant_id = p_tenant and environment = p_environment and run_id = p_run and state <> 'done') then
    return false;
  else
    result := 'unknown';
    x := row('outcome_unknown', 'platform', 'lost', 'the attempt ended without an outcome, and it may have happened', null, null, null, null);
  end if;
  perform ledger_save(ledger_reap(t, n, c, result, x), true);
  return true;
end $$;

grant execute on function bulkhead.settle_call, bulkhead.reap_call to bulkhead_app;
