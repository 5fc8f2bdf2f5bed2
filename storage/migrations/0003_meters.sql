-- What is counted, and how: amounts, days, buckets, meters. Pure but for the closing of days and the meters beside the tenant's own;
-- whoever calls those holds the tenant's row. None is granted to anybody.

create function bulkhead.amounts_of(p_tool_calls bigint, p_steps bigint, p_active_ms bigint, p_micro_usd bigint, p_model_tokens bigint,
  p_high_risk_writes bigint) returns bulkhead.amounts language sql immutable as $$
  select row(p_tool_calls, p_steps, p_active_ms, p_micro_usd, p_model_tokens, p_high_risk_writes)::bulkhead.amounts
$$;
create function bulkhead.nothing() returns bulkhead.amounts language sql immutable as 'select bulkhead.amounts_of(0, 0, 0, 0, 0, 0)';

create function bulkhead.plus(a bulkhead.amounts, b bulkhead.amounts) returns bulkhead.amounts language sql immutable as $$
  select bulkhead.amounts_of(a.tool_calls + b.tool_calls, a.steps + b.steps, a.active_ms + b.active_ms, a.micro_usd + b.micro_usd,
    a.model_tokens + b.model_tokens, a.high_risk_writes + b.high_risk_writes)
$$;
create function bulkhead.minus(a bulkhead.amounts, b bulkhead.amounts) returns bulkhead.amounts language sql immutable as $$
  select bulkhead.amounts_of(a.tool_calls - b.tool_calls, a.steps - b.steps, a.active_ms - b.active_ms, a.micro_usd - b.micro_usd,
    a.model_tokens - b.model_tokens, a.high_risk_writes - b.high_risk_writes)
$$;
create function bulkhead.amounts_json(a bulkhead.amounts) returns json language sql immutable as $$
  select json_build_object('toolCalls', a.tool_calls, 'steps', a.steps, 'activeMs', a.active_ms, 'microUsd', a.micro_usd,
    'modelTokens', a.model_tokens, 'highRiskWrites', a.high_risk_writes)
$$;

-- Local days since 1970, in a time zone of the IANA database.
create function bulkhead.day_of(p_at timestamptz, p_zone text) returns integer language sql stable as $$
  select (p_at at time zone p_zone)::date - date '1970-01-01'
$$;
-- Where clocks are put back over midnight, the next day begins at the first of its two midnights: PostgreSQL means the second.
create function bulkhead.ms_to_end_of(p_day integer, p_at timestamptz, p_zone text) returns bigint language sql stable as $$
  select ceil(extract(epoch from case when e.first < e.second and bulkhead.day_of(e.first, p_zone) > p_day then e.first else e.second end
      - p_at) * 1000)::bigint
    from (select (d.noon at time zone p_zone) + interval '12 hours' as first, (d.noon + interval '12 hours') at time zone p_zone as second
      from (select (date '1970-01-01' + p_day)::timestamp + interval '12 hours' as noon) d) e
$$;

-- What is left in a bucket that drains a minute's limit a minute. Moves by whole milliseconds, so that looking often drains no less.
create function bulkhead.drained(b bulkhead.bucket, p_limit bigint, p_now timestamptz) returns bulkhead.bucket language sql immutable as $$
  select case when p_limit is null then row(0, p_now)::bulkhead.bucket else (
    select row(greatest(0, b.level - least(ms, 864000000) * p_limit), b.at + ms * interval '1 millisecond')::bulkhead.bucket
      from (select greatest(0, floor(extract(epoch from p_now - b.at) * 1000)::bigint) as ms) passed) end
$$;
create function bulkhead.filled(b bulkhead.bucket, p_units bigint) returns bulkhead.bucket language sql immutable as $$
  select row(b.level + p_units * 60000, b.at)::bulkhead.bucket
$$;
-- Milliseconds until so many units fit; 0 where they do, null where they never will.
create function bulkhead.ms_to_fit(b bulkhead.bucket, p_limit bigint, p_units bigint) returns bigint language sql immutable as $$
  select case when p_units > p_limit or p_limit = 0 then null
    else greatest(0, ceil((b.level + (p_units - p_limit) * 60000)::numeric / p_limit))::bigint end
$$;

create function bulkhead.new_meter(p_day integer, p_now timestamptz) returns bulkhead.meter language sql immutable as $$
  select row(p_day, bulkhead.nothing(), row(0, p_now), row(0, p_now), 0, 0)::bulkhead.meter
$$;

-- Drains a meter's bucket of model tokens, and counts what left it. What came in first drains first.
create function bulkhead.tokens_drained(m bulkhead.meter, p_limit bigint, p_now timestamptz) returns bulkhead.meter language plpgsql immutable as $$
declare
  b constant bulkhead.bucket := bulkhead.drained((m).model_tokens, p_limit, p_now);
begin
  m.tokens_gone := (m).tokens_gone + ((m).model_tokens).level - b.level;
  m.model_tokens := b;
  return m;
end $$;
-- Gives back what an attempt has not used of its reservation, as far as that has not drained: what has would be other calls' room. Takes
-- it from the front, so that of those who came before it no more seems left than is. Asked of a bucket that is drained to now.
create function bulkhead.tokens_returned(m bulkhead.meter, p_units bigint, p_reserved bigint, p_mark numeric) returns bulkhead.meter
language plpgsql immutable as $$
declare
  -- Without a mark it never was in the bucket.
  freed constant bigint := least(p_units * 60000, p_reserved * 60000, greatest(0, coalesce(p_mark, 0) - (m).tokens_gone));
begin
  m.tokens_gone := (m).tokens_gone + freed;
  m.model_tokens := row(((m).model_tokens).level - freed, ((m).model_tokens).at)::bulkhead.bucket;
  return m;
end $$;

-- What a limit per minute says to so many units: a refusal, or null where they fit or nothing limits them.
create function bulkhead.minute_gate(p_bucket bulkhead.bucket, p_limit bigint, p_units bigint, p_now timestamptz, p_rule text, p_message text)
returns bulkhead.refused language plpgsql immutable as $$
declare
  b bulkhead.bucket;
  frees bigint;
begin
  if p_limit is null then
    return null;
  end if;
  b := bulkhead.drained(p_bucket, p_limit, p_now);
  frees := bulkhead.ms_to_fit(b, p_limit, p_units);
  if frees = 0 then
    return null;
  end if;
  return row('throttled', 'tenant_cap', p_rule, p_message, p_limit, ceil(b.level / 60000.0), frees, null)::bulkhead.refused;
end $$;

-- What a meter's limits say to a call that asks for so much: the first that refuses, or null. Writes nothing.
-- `p_name` is put before the limit's name: empty for the tenant's own. `p_today`: the day that it would be counted in.
create function bulkhead.meter_gate(m bulkhead.meter, l bulkhead.layers, p_ask bulkhead.amounts, p_takes_slot boolean, p_today integer,
  p_now timestamptz, p_zone text, p_name text) returns bulkhead.refused language plpgsql stable as $$
declare
  cap constant bulkhead.amounts := (l).per_day;
  used constant bulkhead.amounts := case when p_today > (m).day then bulkhead.nothing() else (m).used end;
  prefix constant text := case p_name when '' then '' else p_name || '/' end;
  of_whom constant text := case when p_name = '' then 'this tenant' else p_name end;
  x bulkhead.refused;
  layer text;
begin
  if p_takes_slot and (m).inflight >= (l).calls_in_flight then
    return row('throttled', 'tenant_cap', prefix || 'calls_in_flight', format('all calls in flight that %s may have are taken', of_whom),
      (l).calls_in_flight, (m).inflight, 500, null)::bulkhead.refused;
  end if;
  layer := case
    when p_ask.tool_calls > 0 and used.tool_calls + p_ask.tool_calls > cap.tool_calls then 'tool_calls_per_day'
    when p_ask.steps > 0 and used.steps + p_ask.steps > cap.steps then 'steps_per_day'
    when p_ask.active_ms > 0 and used.active_ms + p_ask.active_ms > cap.active_ms then 'active_seconds_per_day'
    when p_ask.micro_usd > 0 and used.micro_usd + p_ask.micro_usd > cap.micro_usd then 'spend_micro_usd_per_day'
    when p_ask.model_tokens > 0 and used.model_tokens + p_ask.model_tokens > cap.model_tokens then 'model_tokens_per_day'
    when p_ask.high_risk_writes > 0 and used.high_risk_writes + p_ask.high_risk_writes > cap.high_risk_writes then 'high_risk_writes_per_day'
  end;
  if layer is not null then
    return bulkhead.day_refused(layer, prefix, of_whom, cap, used, p_ask, bulkhead.ms_to_end_of(p_today, p_now, p_zone));
  end if;
  if p_ask.steps + p_ask.tool_calls > 0 then
    x := bulkhead.minute_gate((m).calls, (l).calls_per_minute, 1, p_now, prefix || 'calls_per_minute',
      format('the calls per minute of %s are used up', of_whom));
  end if;
  if x.kind is null and p_ask.model_tokens > 0 then
    x := bulkhead.minute_gate((m).model_tokens, (l).model_tokens_per_minute, p_ask.model_tokens, p_now, prefix || 'model_tokens_per_minute',
      format(case when p_ask.model_tokens > (l).model_tokens_per_minute then 'this call may need more model tokens than %s may use in a minute'
        else 'the model tokens per minute of %s are used up' end, of_whom));
  end if;
  return x;
end $$;

-- The refusal by a limit per day, in the limit's own unit. One that asks for more than a whole day has never frees by itself.
create function bulkhead.day_refused(p_layer text, p_prefix text, p_of_whom text, p_cap bulkhead.amounts, p_used bulkhead.amounts,
  p_ask bulkhead.amounts, p_frees_ms bigint) returns bulkhead.refused language sql stable as $$
  select row('throttled', 'tenant_cap', p_prefix || p_layer,
      case when k.asked > k.cap then format('this call may need more of %s than %s has in a day', k.words, p_of_whom)
        else format('the %s of %s are used up for today', k.words, p_of_whom) end,
      k.cap / k.unit, ceil(k.used / k.unit::numeric), case when k.asked <= k.cap then p_frees_ms end, null)::bulkhead.refused
    from (values
      ('tool_calls_per_day', 'tool calls', p_cap.tool_calls, p_used.tool_calls, p_ask.tool_calls, 1),
      ('steps_per_day', 'steps', p_cap.steps, p_used.steps, p_ask.steps, 1),
      ('active_seconds_per_day', 'active seconds', p_cap.active_ms, p_used.active_ms, p_ask.active_ms, 1000),
      ('spend_micro_usd_per_day', 'micro-dollars', p_cap.micro_usd, p_used.micro_usd, p_ask.micro_usd, 1),
      ('model_tokens_per_day', 'model tokens', p_cap.model_tokens, p_used.model_tokens, p_ask.model_tokens, 1),
      ('high_risk_writes_per_day', 'high-risk writes', p_cap.high_risk_writes, p_used.high_risk_writes, p_ask.high_risk_writes, 1)
    ) as k (layer, words, cap, used, asked, unit) where k.layer = p_layer
$$;

-- What a run's own budget says: no waiting mends it.
create function bulkhead.run_gate(r bulkhead.runs, p_cap bulkhead.amounts, p_ask bulkhead.amounts) returns bulkhead.refused language sql stable as $$
  select case
    when p_ask.steps > 0 and r.steps + p_ask.steps > p_cap.steps then
      row('budget_exceeded', 'tenant_cap', 'per_run_steps', 'the steps of this run are used up', p_cap.steps, r.steps, null, null)::bulkhead.refused
    when p_ask.active_ms > 0 and r.active_ms + p_ask.active_ms > p_cap.active_ms then
      row('budget_exceeded', 'tenant_cap', 'per_run_seconds', 'the active seconds that this run has left are fewer than the call may take',
        p_cap.active_ms / 1000, ceil(r.active_ms / 1000.0), null, null)::bulkhead.refused
    when p_ask.micro_usd > 0 and r.spent_micro_usd + p_ask.micro_usd > p_cap.micro_usd then
      row('budget_exceeded', 'tenant_cap', 'per_run_spend_micro_usd', 'the money that this run has left is less than the call may cost',
        p_cap.micro_usd, r.spent_micro_usd, null, null)::bulkhead.refused
  end
$$;

-- What a payload counts for in its tenant's `stored_bytes`: exact, for `json` is kept as the text that was sent.
create function bulkhead.bytes_of(p_payload json) returns bigint language sql immutable as $$
  select coalesce(octet_length(p_payload::text), 0)::bigint
$$;

-- What the limit of storage says to whoever may store so many bytes: a refusal, or null. `p_held`: reserved already by the attempt
-- that this one replaces. What calls in flight have reserved may be free again soon; what is stored, no time frees.
create function bulkhead.storage_gate(t bulkhead.ledgers, l bulkhead.limits, p_ask bigint, p_held bigint, p_who text)
returns bulkhead.refused language sql immutable as $$
  select row('throttled', 'tenant_cap', 'storage_bytes',
      format(case when p_ask > l.storage_bytes then '%s may store more bytes than all that this tenant may have'
        else 'the storage that this tenant has left is less than what %s may store' end, p_who),
      l.storage_bytes, k.used, case when p_ask > l.storage_bytes then null when t.stored_bytes + p_ask <= l.storage_bytes then 1000
        else 60000 end, null)::bulkhead.refused
    from (select t.stored_bytes + t.stored_reserved - p_held as used) k
    where p_ask > 0 and k.used + p_ask > l.storage_bytes
$$;

-- Keeps a payload, in the place of the one of its name if there is one, and counts what that takes more.
create function bulkhead.ledger_store(t bulkhead.ledgers, p_now timestamptz, p_run text, p_ref text, p_payload json)
returns bulkhead.ledgers language plpgsql as $$
declare
  replaced bigint := 0;
begin
  insert into bulkhead.payloads (tenant_id, environment, run_id, ref, payload, stored_at)
    values (t.tenant_id, t.environment, p_run, p_ref, p_payload, p_now) on conflict on constraint payloads_pk do nothing;
  if not found then
    select bulkhead.bytes_of(k.payload) into replaced from bulkhead.payloads k
      where k.tenant_id = t.tenant_id and k.environment = t.environment and k.run_id = p_run and k.ref = p_ref;
    update bulkhead.payloads set payload = p_payload, stored_at = p_now
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run and ref = p_ref;
  end if;
  t.stored_bytes := t.stored_bytes + bulkhead.bytes_of(p_payload) - replaced;
  return t;
end $$;

-- Opens the day; the use of the one before stays, to be trued up.
create function bulkhead.meter_roll(t bulkhead.ledgers, p_name text, m bulkhead.meter, p_today integer) returns bulkhead.meter
language plpgsql as $$
begin
  if p_today > (m).day then
    insert into bulkhead.closed_days (tenant_id, environment, name, day, used) values (t.tenant_id, t.environment, p_name, (m).day, (m).used);
    m.day := p_today;
    m.used := bulkhead.nothing();
  end if;
  return m;
end $$;

-- The day that the tenant is in: never one that is over for it already, also where its time zone was changed since.
create function bulkhead.ledger_day(t bulkhead.ledgers, p_now timestamptz, p_zone text) returns integer language sql stable as $$
  select greatest(bulkhead.day_of(p_now, p_zone), (t.meter).day)
$$;

create function bulkhead.ledger_roll(t bulkhead.ledgers, p_now timestamptz) returns bulkhead.ledgers language plpgsql as $$
begin
  t.meter := bulkhead.meter_roll(t, '', t.meter, bulkhead.ledger_day(t, p_now,
    (select l.time_zone from bulkhead.limits l where l.tenant_id = t.tenant_id and l.environment = t.environment)));
  return t;
end $$;

-- Adds what a call reserves to a meter of this day.
create function bulkhead.meter_spend(m bulkhead.meter, l bulkhead.layers, p_ask bulkhead.amounts, p_slots integer, p_now timestamptz)
returns bulkhead.meter language plpgsql immutable as $$
begin
  m.used := bulkhead.plus((m).used, p_ask);
  m.inflight := (m).inflight + p_slots;
  -- A bucket that nothing limits is looked at by nobody, and begins empty where a limit is set.
  if (l).calls_per_minute is not null and p_ask.steps + p_ask.tool_calls > 0 then
    m.calls := bulkhead.filled(bulkhead.drained((m).calls, (l).calls_per_minute, p_now), 1);
  end if;
  if (l).model_tokens_per_minute is not null and p_ask.model_tokens > 0 then
    m := bulkhead.tokens_drained(m, (l).model_tokens_per_minute, p_now);
    m.model_tokens := bulkhead.filled((m).model_tokens, p_ask.model_tokens);
  end if;
  return m;
end $$;

-- The limits beside the tenant's own that concern a call, and what is used of them.
create type bulkhead.named_meter as (name text, layers bulkhead.layers, meter bulkhead.meter);
create function bulkhead.named_meters(t bulkhead.ledgers, l bulkhead.limits, p_run text, p_action text, p_now timestamptz)
returns setof bulkhead.named_meter language sql stable as $$
  select n.name, n.layers, coalesce(m.meter, bulkhead.new_meter(bulkhead.ledger_day(t, p_now, l.time_zone), p_now))
    from bulkhead.named_limits n left join bulkhead.meters m using (tenant_id, environment, name)
    where n.tenant_id = t.tenant_id and n.environment = t.environment and n.name in ('action:' || p_action, 'agent:' || (
      select a.agent_id from bulkhead.run_acceptances a where a.tenant_id = t.tenant_id and a.environment = t.environment and a.run_id = p_run))
    order by n.name
$$;

-- Where a reservation of model tokens ends in a meter's bucket; null where nothing limits it there.
create function bulkhead.token_mark(m bulkhead.meter, l bulkhead.layers) returns numeric language sql immutable as $$
  select case when (l).model_tokens_per_minute is not null then (m).tokens_gone + ((m).model_tokens).level end
$$;

-- A ledger after a reservation, and `calls.token_marks` of that.
create type bulkhead.reservation as (t bulkhead.ledgers, token_marks numeric[]);

-- Reserves on the tenant's meter and on those named, all in the day that the tenant is in.
create function bulkhead.ledger_reserve(t bulkhead.ledgers, l bulkhead.limits, p_named bulkhead.named_meter[], p_ask bulkhead.amounts,
  p_slots integer, p_now timestamptz) returns bulkhead.reservation language plpgsql as $$
declare
  k bulkhead.named_meter;
  marks numeric[] := '{}';
begin
  t.meter := bulkhead.meter_spend(t.meter, l.layers, p_ask, p_slots, p_now);
  if p_ask.model_tokens > 0 then
    marks := array[bulkhead.token_mark(t.meter, l.layers)];
  end if;
  foreach k in array coalesce(p_named, '{}') loop
    k.meter := bulkhead.meter_spend(bulkhead.meter_roll(t, k.name, k.meter, (t.meter).day), k.layers, p_ask, p_slots, p_now);
    insert into bulkhead.meters (tenant_id, environment, name, meter) values (t.tenant_id, t.environment, k.name, k.meter)
      on conflict on constraint meters_pk do update set meter = excluded.meter;
    if p_ask.model_tokens > 0 then
      marks := array_append(marks, bulkhead.token_mark(k.meter, k.layers));
    end if;
  end loop;
  return row(t, marks)::bulkhead.reservation;
end $$;

-- Gives back the slot of an attempt, on every meter that it was taken from, and the storage that it held.
create function bulkhead.ledger_vacate(t bulkhead.ledgers, c bulkhead.calls) returns bulkhead.ledgers language plpgsql as $$
begin
  t.meter.inflight := (t.meter).inflight - 1;
  t.stored_reserved := t.stored_reserved - c.stored_reserved;
  if cardinality(c.metered) > 0 then
    update bulkhead.meters set meter.inflight = (meter).inflight - 1
      where tenant_id = t.tenant_id and environment = t.environment and name = any (c.metered);
  end if;
  return t;
end $$;

-- Corrects a meter's use of the day that a call reserved in. That day may be over: then its record is corrected. `p_reserved` and `p_mark`:
-- what the attempt had reserved of model tokens, and where that ends in this meter's bucket.
create function bulkhead.meter_true_up(t bulkhead.ledgers, p_now timestamptz, p_name text, m bulkhead.meter, p_day integer,
  p_delta bulkhead.amounts, p_reserved bigint, p_mark numeric) returns bulkhead.meter language plpgsql as $$
begin
  if p_day = (m).day then
    m.used := bulkhead.plus((m).used, p_delta);
  else
    update bulkhead.closed_days set used = bulkhead.plus(used, p_delta)
      where tenant_id = t.tenant_id and environment = t.environment and name = p_name and day = p_day;
    if not found then
      raise exception 'no day % of % to true up', p_day, p_name using errcode = 'data_corrupted';
    end if;
  end if;
  if p_delta.model_tokens <> 0 then
    -- An overshoot is known of from now on: the time before has drained none of it.
    m := bulkhead.tokens_drained(m, case when p_name = '' then
        (select (l.layers).model_tokens_per_minute from bulkhead.limits l
          where l.tenant_id = t.tenant_id and l.environment = t.environment)
      when p_name like 'pool:%' then
        (select s.model_tokens_per_minute from bulkhead.pool_shares s
          where s.tenant_id = t.tenant_id and s.environment = t.environment and s.provider <> '' and 'pool:' || s.pool = p_name)
      else (select (n.layers).model_tokens_per_minute from bulkhead.named_limits n
          where n.tenant_id = t.tenant_id and n.environment = t.environment and n.name = p_name) end, p_now);
    if p_delta.model_tokens > 0 then
      m.model_tokens := bulkhead.filled((m).model_tokens, p_delta.model_tokens);
    else
      m := bulkhead.tokens_returned(m, -p_delta.model_tokens, p_reserved, p_mark);
    end if;
  end if;
  return m;
end $$;

-- Corrects what a call was charged: in the day it reserved in, on each meter that it reserved on, and in its run. Deltas may be negative.
-- Whoever names no reservation of model tokens frees none in a bucket: they have drained by then, or are taken to have.
create function bulkhead.ledger_charge(t bulkhead.ledgers, p_now timestamptz, p_run text, p_metered text[], p_day integer,
  p_delta bulkhead.amounts, p_reserved bigint default 0, p_marks numeric[] default '{}') returns bulkhead.ledgers language plpgsql as $$
declare
  k record;
begin
  if p_delta <> bulkhead.nothing() then
    t.meter := bulkhead.meter_true_up(t, p_now, '', t.meter, p_day, p_delta, p_reserved, p_marks[1]);
    for k in select name, meter from bulkhead.meters
        where tenant_id = t.tenant_id and environment = t.environment and name = any (p_metered) loop
      update bulkhead.meters set meter = bulkhead.meter_true_up(t, p_now, k.name, k.meter, p_day, p_delta, p_reserved,
          p_marks[1 + array_position(p_metered, k.name)])
        where tenant_id = t.tenant_id and environment = t.environment and name = k.name;
    end loop;
    update bulkhead.runs set steps = steps + p_delta.steps, tool_calls = tool_calls + p_delta.tool_calls,
        spent_micro_usd = spent_micro_usd + p_delta.micro_usd, active_ms = active_ms + p_delta.active_ms,
        model_tokens = model_tokens + p_delta.model_tokens, touched_at = p_now
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run;
  end if;
  return t;
end $$;

-- Keeps an attempt that is replaced or reaped while it might still cost: charged in full, trued up once if it reports.
create function bulkhead.ledger_lose(t bulkhead.ledgers, c bulkhead.calls) returns void language sql as $$
  insert into bulkhead.lost_attempts (tenant_id, environment, run_id, path, token, admitted_at, day, metered, reserved,
      token_marks)
    values (t.tenant_id, t.environment, c.run_id, c.path, c.token, c.admitted_at, c.day, c.metered, c.reserved, c.token_marks) on conflict do nothing
$$;
