-- The steps that every function of the ledger is made of. None is granted to anybody: they trust their caller to hold
-- the tenant's row.

-- Binds the transaction to one tenant. Touches no table, so the lock that follows is the first statement that does.
create function bulkhead.enter_scope(p_tenant text, p_environment text) returns void language plpgsql as $$
begin
  perform bulkhead.bind_scope(p_tenant, p_environment);
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the ledger works in read committed alone: an older snapshot would not see what the lock waited for'
      using errcode = 'invalid_transaction_state';
  end if;
  perform set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '2s', true);
end $$;

create function bulkhead.iso(p_at timestamptz) returns text language sql stable as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

create function bulkhead.refusal_json(x bulkhead.refused, p_policy_version bigint) returns json language sql stable as $$
  select json_strip_nulls(json_build_object('kind', x.kind, 'origin', x.origin, 'rule', x.rule,
    'rules', coalesce(x.rules, array[x.rule]), 'message', x.message, 'policyVersion', p_policy_version,
    'value', x.value, 'used', x.used, 'retryAfterMs', x.retry_after_ms))
$$;

-- What everybody is told of a ledger that is older than what was told of it.
create function bulkhead.ledger_rewound() returns bulkhead.refused language sql immutable as $$
  select row('frozen', 'platform', 'ledger_rewound',
    'the ledger lost entries that its runs have seen: `bulkhead recover` brings them back', null, null, 30000, null)::bulkhead.refused
$$;

-- One more link of the chain. Facts are ours, the body is the writer's canonical JSON; both are stored as hashed.
create function bulkhead.ledger_append(t bulkhead.ledgers, p_now timestamptz, p_run text, p_facts json, p_body text)
returns bulkhead.ledgers language plpgsql as $$
declare
  facts bytea := convert_to(p_facts::text, 'UTF8');
  prev bytea := t.journal_head;
begin
  t.journal_seq := t.journal_seq + 1;
  t.journal_head := sha256(prev || int8send(t.journal_seq) || int4send(octet_length(facts)) || facts || convert_to(p_body, 'UTF8'));
  t.last_clock := p_now;
  insert into bulkhead.journal (tenant_id, environment, seq, run_id, facts, body, prev, hash)
    values (t.tenant_id, t.environment, t.journal_seq, p_run, p_facts::text, p_body, prev, t.journal_head);
  return t;
end $$;

-- THE update of the tenant row, last in its transaction. Durable: on disk before anybody is answered, and everything
-- before it with it. Returns the sequence that may be told.
create function bulkhead.ledger_save(t bulkhead.ledgers, p_durable boolean) returns bigint language plpgsql as $$
begin
  if p_durable then
    t.durable_seq := t.journal_seq;
    perform set_config('synchronous_commit', 'on', true);
  end if;
  update bulkhead.ledgers set mode = t.mode, fence_epoch = t.fence_epoch, control_version = t.control_version,
      policy_version = t.policy_version, meter = t.meter, slots = t.slots, queued = t.queued, run_starts = t.run_starts, retries = t.retries,
      stored_bytes = t.stored_bytes, stored_reserved = t.stored_reserved, memory_bytes = t.memory_bytes,
      journal_seq = t.journal_seq, journal_head = t.journal_head, durable_seq = t.durable_seq,
      rewound_seq = t.rewound_seq, acknowledged_seq = t.acknowledged_seq, last_clock = t.last_clock
    where tenant_id = t.tenant_id and environment = t.environment;
  return t.durable_seq;
end $$;

-- Journals what was counted beyond the first five of a minute that is over.
create function bulkhead.ledger_close_flood(t bulkhead.ledgers, p_now timestamptz, f bulkhead.refusal_floods)
returns bulkhead.ledgers language plpgsql as $$
begin
  if f.refusals > 5 then
    t := bulkhead.ledger_append(t, p_now, null, json_build_object('kind', 'refusals', 'at', bulkhead.iso(p_now), 'rule', f.rule,
      'policyVersion', f.policy_version, 'action', f.action, 'reason', f.reason, 'first', bulkhead.iso(f.first_uncounted_at),
      'last', bulkhead.iso(f.last_at), 'count', f.refusals - 5), '{}');
  end if;
  return t;
end $$;

-- Keeps a refusal: the first five of a minute alike one by one, the rest as an exact count (promise P9).
create function bulkhead.ledger_refuse(t bulkhead.ledgers, p_now timestamptz, x bulkhead.refused, p_run text, p_action text,
  p_facts jsonb, p_body text) returns bulkhead.ledgers language plpgsql as $$
declare
  f bulkhead.refusal_floods;
  this_minute timestamptz := date_trunc('minute', p_now, 'UTC');
begin
  select * into f from bulkhead.refusal_floods where tenant_id = t.tenant_id and environment = t.environment and rule = x.rule
    and policy_version = t.policy_version and action = p_action and reason = x.kind;
  if found and f.minute < this_minute then
    t := bulkhead.ledger_close_flood(t, p_now, f);
    f.refusals := 0;
  end if;
  insert into bulkhead.refusal_floods as g (tenant_id, environment, rule, policy_version, action, reason, minute, refusals, last_at)
    values (t.tenant_id, t.environment, x.rule, t.policy_version, p_action, x.kind, this_minute, 1, p_now)
    on conflict on constraint refusal_floods_pk do update set minute = this_minute, refusals = coalesce(f.refusals, 0) + 1,
      first_uncounted_at = case when f.refusals = 5 then p_now when f.refusals > 5 then g.first_uncounted_at end, last_at = p_now;
  t.last_clock := p_now;
  if coalesce(f.refusals, 0) < 5 then
    t := bulkhead.ledger_append(t, p_now, p_run, (jsonb_build_object('kind', 'refused', 'at', bulkhead.iso(p_now), 'run', p_run,
      'action', p_action, 'origin', x.origin, 'refusal', x.kind, 'rule', x.rule, 'rules', coalesce(x.rules, array[x.rule]),
      'policyVersion', t.policy_version, 'value', x.value, 'used', x.used) || p_facts)::json, p_body);
  end if;
  return t;
end $$;
