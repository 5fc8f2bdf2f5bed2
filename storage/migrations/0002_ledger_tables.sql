-- The ledger's rows, one lock above them all: whoever changes any of these holds the tenant's row of `ledgers` first.
-- See docs/ledger.md.

create function bulkhead.now() returns timestamptz language sql volatile as 'select pg_catalog.clock_timestamp()';
comment on function bulkhead.now() is 'The only clock of the ledger. Tests replace it as superuser; no role of production can.';

-- Domains: see 0001. What is left as a check concerns several columns, or is a counter.
create domain bulkhead.tenant_mode as text constraint ledgers_mode_known check (value in ('normal', 'killed'));
create domain bulkhead.run_state as text constraint runs_state_known check (value in ('accepted', 'queued', 'running', 'throttled',
  'approval_required', 'review_required', 'provider_degraded', 'frozen', 'compensating', 'closed'));
create domain bulkhead.stop_reason as text constraint runs_stop_reason_known check (value in ('completed', 'failed', 'budget_exceeded',
  'policy_denied', 'approval_denied', 'approval_expired', 'review_abandoned', 'killed', 'cancelled', 'scope_ambiguous',
  'provider_degraded', 'credential_unavailable', 'idempotency_conflict', 'outcome_unknown', 'model_misbehaved',
  'terminated', 'timed_out'));
create domain bulkhead.call_class as text constraint calls_class_known check (value in ('read', 'model', 'write', 'high_risk_write'));
create domain bulkhead.call_state as text constraint calls_state_known check (value in ('claimed', 'succeeded', 'failed', 'open', 'unknown',
  'suggested'));
-- How an attempt was let in.
create domain bulkhead.admitted_as as text
  constraint calls_admitted_as_known check (value in ('admitted', 'recover', 'recover_lookup'));
create domain bulkhead.reversibility as text constraint reversibility_known check (value in ('reversible', 'compensable', 'final'));

-- A refusal on its way to the caller and the journal; contracts/refusal.ts is its outer form.
create type bulkhead.refused as (
  kind text,
  origin text,
  rule text,
  message text,
  value bigint,
  used bigint,
  retry_after_ms bigint,
  rules text[]
);

-- What a call may use up of what is counted per day and per run: reserved before it acts, settled after (promise Q2).
create type bulkhead.amounts as (tool_calls bigint, steps bigint, active_ms bigint, micro_usd bigint, model_tokens bigint,
  high_risk_writes bigint);
-- A token bucket that holds one minute of its limit: 60,000ths of a unit still in it at a moment, so that draining loses nothing.
create type bulkhead.bucket as (level bigint, at timestamptz);
-- What somebody has used: a tenant, one of its agents or actions, or its part of a provider's pool. `day` counts local days since 1970.
-- `tokens_gone`: all that ever left the bucket of model tokens, in its 60,000ths. With what is in it, that is all that ever came in, so a
-- reservation finds out how much of it has not drained. Numeric, for it only grows.
create type bulkhead.meter as (day integer, used bulkhead.amounts, calls bulkhead.bucket, model_tokens bulkhead.bucket, inflight integer,
  tokens_gone numeric);
-- Limits of a meter; null is none.
create type bulkhead.layers as (per_day bulkhead.amounts, calls_per_minute bigint, model_tokens_per_minute bigint, calls_in_flight integer);

create function bulkhead.counted(a bulkhead.amounts) returns boolean language sql immutable as $$
  select coalesce(least((a).tool_calls, (a).steps, (a).active_ms, (a).micro_usd, (a).model_tokens, (a).high_risk_writes) >= 0
    and num_nulls((a).tool_calls, (a).steps, (a).active_ms, (a).micro_usd, (a).model_tokens, (a).high_risk_writes) = 0, false)
$$;
create function bulkhead.counted(m bulkhead.meter) returns boolean language sql immutable as $$
  select coalesce(bulkhead.counted((m).used) and (m).inflight >= 0 and ((m).calls).level >= 0 and ((m).model_tokens).level >= 0
    and (m).tokens_gone >= 0, false)
$$;

-- Narrow and rewritten by every admission: integers, no foreign keys, room on the page for hot updates.
create table bulkhead.ledgers (
  tenant_id text not null,
  environment text not null,
  mode bulkhead.tenant_mode not null default 'normal',
  fence_epoch bigint not null default 0,
  control_version bigint not null default 0,
  policy_version bigint not null default 0,
  -- Raised by whatever changes the tenant's record or credentials: what was decided before that is stale.
  record_version bigint not null default 0,
  meter bulkhead.meter not null constraint ledgers_meter_counted check (bulkhead.counted(meter)),
  -- Runs that hold a slot, and runs that stand in line for one.
  slots integer not null default 0 constraint ledgers_slots_counted check (slots >= 0),
  queued integer not null default 0 constraint ledgers_queued_counted check (queued >= 0),
  run_starts bulkhead.bucket not null,
  retries bulkhead.bucket not null,
  -- Stocks, not flows. What payloads take, and what calls in flight may still store, see `bytes_of`; and what documents that agents
  -- search take, see 0013.
  stored_bytes bigint not null default 0 constraint ledgers_stored_counted check (stored_bytes >= 0),
  stored_reserved bigint not null default 0 constraint ledgers_stored_reserved_counted check (stored_reserved >= 0),
  memory_bytes bigint not null default 0 constraint ledgers_memory_counted check (memory_bytes >= 0),
  journal_seq bigint not null,
  journal_head bytea not null,
  -- Highest sequence known to be on disk: what answers name, so that no crash makes an honest run look ahead of us.
  durable_seq bigint not null,
  -- 0, or the highest sequence that a run had seen of a ledger since lost; and up to where an operator accepted that.
  rewound_seq bigint not null default 0,
  acknowledged_seq bigint not null default 0,
  last_clock timestamptz not null,
  constraint ledgers_pk primary key (tenant_id, environment)
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- In force for the next admission; written under the lock of the ledger. `quota` is what they were made from, as documents say it.
create table bulkhead.limits (
  tenant_id text not null,
  environment text not null,
  layers bulkhead.layers not null,
  per_run bulkhead.amounts not null,
  run_starts_per_minute bigint not null,
  retries_per_minute bigint not null,
  best_priority integer not null,
  queued_runs bigint not null,
  queued_seconds bigint not null,
  concurrent_runs integer not null,
  storage_bytes bigint,
  memory_bytes bigint,
  time_zone text not null,
  -- Names of `named_limits`, so that a call that none concerns looks no further: `agent:…` and `action:…`.
  named text[] not null,
  -- The shared capacity that its calls are made from; see 0018. Null: only its own limits bind.
  capacity text,
  quota jsonb not null,
  constraint limits_pk primary key (tenant_id, environment)
);

-- Of one agent or action.
create table bulkhead.named_limits (
  tenant_id text not null,
  environment text not null,
  name text not null,
  layers bulkhead.layers not null,
  constraint named_limits_pk primary key (tenant_id, environment, name)
);

-- Meters beside the tenant's own: `agent:…`, `action:…`, `pool:…`.
create table bulkhead.meters (
  tenant_id text not null,
  environment text not null,
  name text not null,
  meter bulkhead.meter not null constraint meters_counted check (bulkhead.counted(meter)),
  constraint meters_pk primary key (tenant_id, environment, name)
) with (fillfactor = 50);

-- Use of days that are over: calls that reserved in them are trued up there. The tenant's own has the name ''.
create table bulkhead.closed_days (
  tenant_id text not null,
  environment text not null,
  name text not null,
  day integer not null,
  used bulkhead.amounts not null constraint closed_days_counted check (bulkhead.counted(used)),
  constraint closed_days_pk primary key (tenant_id, environment, name, day)
);

-- Where the last fence stands; the words of it, kept out of the hot row.
create table bulkhead.fencings (
  tenant_id text not null,
  environment text not null,
  fence_epoch bigint not null,
  fenced_at timestamptz,
  contained_at timestamptz,
  drained_at timestamptz,
  reason text,
  actor text,
  constraint fencings_pk primary key (tenant_id, environment)
);

-- What was accepted, as it was accepted; never updated.
create table bulkhead.run_acceptances (
  tenant_id text not null,
  environment text not null,
  run_id text not null constraint run_acceptances_run_named check (run_id <> ''),
  root_run_id text not null,
  workflow_id text not null,
  agent_id text not null,
  agent_version text not null,
  workspace_id text not null,
  target_system text,
  target_record_id text,
  idempotency_key text,
  body_digest text not null,
  signed json not null,
  constraint run_acceptances_pk primary key (tenant_id, environment, run_id),
  constraint run_acceptances_key_once unique (tenant_id, environment, idempotency_key)
);

create table bulkhead.runs (
  tenant_id text not null,
  environment text not null,
  run_id text not null,
  -- As it was accepted. It is here too, and with all that is listed by workspace, so that such a list has an index.
  workspace_id text not null,
  -- Fence epoch at acceptance: what a later kill has to drain.
  epoch bigint not null,
  state bulkhead.run_state not null,
  stop_reason bulkhead.stop_reason,
  temporal_run_id text,
  generation integer not null default 0,
  -- Of a fork: the steps before it are copies of another run's.
  first_step integer not null default 0 constraint runs_first_step_counted check (first_step >= 0),
  -- An undo of it was entered: what it has not begun by then is never begun.
  undone boolean not null default false,
  -- Raised by each settlement that sets facts, or brings in data of another class.
  facts_version integer not null default 0,
  -- Classes of all that it has read so far; sorted, each once, never fewer.
  data_classes text[] not null default '{}',
  accepted_at timestamptz not null,
  entered_at timestamptz,
  closed_at timestamptz,
  touched_at timestamptz not null,
  -- When `state` last changed; kept by a trigger.
  state_since timestamptz not null default bulkhead.now(),
  -- 1 goes first. Then arrival, which is acceptance: who gave its slot up for a person goes before those that came later.
  priority smallint not null default 3 constraint runs_priority_known check (priority between 1 and 5),
  -- Since when it holds a slot, or stands in line for one: one of the two, or, where a person is waited for, neither. See 0007.
  slot_at timestamptz,
  queued_at timestamptz,
  -- The last that was refused to it: {at, action, refusal}.
  last_refusal json,
  steps integer not null default 0 constraint runs_steps_counted check (steps >= 0),
  tool_calls integer not null default 0 constraint runs_tool_calls_counted check (tool_calls >= 0),
  refusals integer not null default 0,
  spent_micro_usd bigint not null default 0 constraint runs_spend_counted check (spent_micro_usd >= 0),
  active_ms bigint not null default 0 constraint runs_active_counted check (active_ms >= 0),
  model_tokens bigint not null default 0 constraint runs_model_tokens_counted check (model_tokens >= 0),
  output_ref text,
  -- Closed and beyond the horizon of keys: when all of it was forgotten, or else when it is looked at again, for something of it waits for a
  -- person or a follow-up. Neither: nobody has looked yet. See 0009.
  purged_at timestamptz,
  purge_again_at timestamptz,
  constraint runs_pk primary key (tenant_id, environment, run_id),
  constraint runs_one_place check (slot_at is null or queued_at is null),
  constraint runs_closed_hold_nothing check (state <> 'closed' or slot_at is null and queued_at is null),
  constraint runs_one_stop_reason check ((state = 'closed') = (stop_reason is not null) and (state = 'closed') = (closed_at is not null))
) with (fillfactor = 50);
create index runs_by_acceptance on bulkhead.runs (tenant_id, environment, accepted_at desc, run_id desc);
create index runs_by_workspace on bulkhead.runs (tenant_id, environment, workspace_id, accepted_at desc, run_id desc);
create index runs_open on bulkhead.runs (environment, tenant_id) where state <> 'closed';
create index runs_draining on bulkhead.runs (tenant_id, environment, accepted_at, run_id) where state <> 'closed';
create index runs_holding on bulkhead.runs (environment, tenant_id) where slot_at is not null;
-- In the order in which slots are handed over. Of an epoch before the fence none gets one any more.
create index runs_in_line on bulkhead.runs (tenant_id, environment, epoch, priority, accepted_at, run_id) where queued_at is not null;

create function bulkhead.workspace_of(p_tenant text, p_environment text, p_run text) returns text language sql stable as $$
  select r.workspace_id from bulkhead.runs r where r.tenant_id = p_tenant and r.environment = p_environment and r.run_id = p_run
$$;
create index runs_to_purge on bulkhead.runs (environment, accepted_at) where state = 'closed' and purged_at is null and purge_again_at is null;
create index runs_to_purge_again on bulkhead.runs (environment, purge_again_at) where purge_again_at is not null;

create function bulkhead.mark_state_change() returns trigger language plpgsql as $$
begin
  new.state_since := new.touched_at;
  return new;
end $$;
create trigger state_changes before update on bulkhead.runs
  for each row when (old.state is distinct from new.state) execute function bulkhead.mark_state_change();

create table bulkhead.run_facts (
  tenant_id text not null,
  environment text not null,
  run_id text not null,
  name text not null,
  value json not null,
  path text not null,
  constraint run_facts_pk primary key (tenant_id, environment, run_id, name)
);

-- Records outside that are known to be the tenant's.
create table bulkhead.resources (
  tenant_id text not null,
  environment text not null,
  system text not null,
  record_id text not null,
  account text,
  known_at timestamptz not null,
  constraint resources_pk primary key (tenant_id, environment, system, record_id)
);

-- One row per key (tenant, environment, root run, path), whatever its attempts. `claimed` means: may have been sent.
create table bulkhead.calls (
  tenant_id text not null,
  environment text not null,
  run_id text not null,
  path text not null constraint calls_path_named check (path <> ''),
  digest text not null,
  action text not null,
  class bulkhead.call_class not null,
  system text,
  state bulkhead.call_state not null,
  token uuid not null,
  -- How the current attempt was let in, for the attempt that did not hear it.
  admitted_as bulkhead.admitted_as not null,
  epoch bigint not null,
  policy_version bigint not null,
  host_id text not null,
  -- Times it was let in to send. Take-overs that could only look are counted apart, since the call was last let in anew.
  attempts integer not null default 1,
  looks integer not null default 0,
  -- A system outside honours a key for so long after it was first used; infinite while it never was.
  first_claimed_at timestamptz not null,
  lease_until timestamptz not null,
  -- End of the lease of the last attempt that could send: what a look-up's `absent` is believed by. One that only looks leaves it.
  sent_until timestamptz not null,
  -- How long that was over when the current attempt took over, for the attempt that did not hear it; null: `absent` is never believed.
  quiet_ms bigint default 0,
  -- Digest of where the last attempt that could send would send, and as whom; null where that is not known.
  account text,
  -- Journal sequence of the first claim: what is undone goes through them backwards.
  claimed_seq bigint not null,
  -- Of a write, as its action declares it.
  reversible bulkhead.reversibility,
  -- Path of the write that this call undoes.
  undo_of text,
  -- Its open review; see 0010.
  review_no bigint,
  -- The approval that it was let in with, for its own retries alone; see 0012.
  approval_no bigint,
  -- Reserved by the current attempt, when, in which day, on which meters beside the tenant's own; and what was charged in the end.
  admitted_at timestamptz not null default bulkhead.now(),
  day integer not null,
  metered text[] not null default '{}',
  reserved bulkhead.amounts not null constraint calls_reserved_counted check (bulkhead.counted(reserved)),
  -- Of an attempt that reserved model tokens: what will have left the bucket of each meter, the tenant's own first and then as in `metered`,
  -- once all of its reservation has; null where no limit per minute was in force.
  token_marks numeric[] not null default '{}',
  -- Bytes that its result may take in storage; held while it is claimed.
  stored_reserved bigint not null default 0 constraint calls_stored_reserved_counted check (stored_reserved >= 0),
  charged bulkhead.amounts constraint calls_charged_counted check (charged is null or bulkhead.counted(charged)),
  -- Reaped without an outcome: a call without effect, so asking again is a new attempt.
  lost boolean not null default false,
  refusal json,
  value json,
  payload_ref text,
  payload_digest text,
  constraint calls_pk primary key (tenant_id, environment, run_id, path),
  constraint calls_charged_when_settled check ((state = 'claimed') = (charged is null))
) with (fillfactor = 70);
create index calls_claimed on bulkhead.calls (environment, lease_until) where state = 'claimed';
create index calls_claimed_by_tenant on bulkhead.calls (tenant_id, environment, epoch) where state = 'claimed';

-- Attempts that were replaced or reaped while they might still cost: charged in full, trued up once if they report.
create table bulkhead.lost_attempts (
  tenant_id text not null,
  environment text not null,
  run_id text not null,
  path text not null,
  token uuid not null,
  admitted_at timestamptz not null,
  day integer not null,
  metered text[] not null,
  reserved bulkhead.amounts not null constraint lost_attempts_counted check (bulkhead.counted(reserved)),
  token_marks numeric[] not null default '{}',
  trued_up boolean not null default false,
  constraint lost_attempts_pk primary key (tenant_id, environment, run_id, path, token)
);

create table bulkhead.payloads (
  tenant_id text not null,
  environment text not null,
  run_id text not null,
  ref text not null,
  payload json not null,
  stored_at timestamptz not null,
  constraint payloads_pk primary key (tenant_id, environment, run_id, ref)
);
comment on column bulkhead.payloads.payload is 'Counts for the bytes of its text in UTF-8: json keeps that as it was sent, whatever the disk makes of it.';

-- Refusals of the current minute, per reason: the first few are in the journal, the rest are counted here.
create table bulkhead.refusal_floods (
  tenant_id text not null,
  environment text not null,
  rule text not null,
  policy_version bigint not null,
  action text not null,
  reason text not null,
  minute timestamptz not null,
  refusals bigint not null,
  first_uncounted_at timestamptz,
  last_at timestamptz not null,
  constraint refusal_floods_pk primary key (tenant_id, environment, rule, policy_version, action, reason)
) with (fillfactor = 50);

create table bulkhead.journal (
  tenant_id text not null,
  environment text not null,
  seq bigint not null,
  run_id text,
  facts text not null,
  body text not null,
  prev bytea not null,
  hash bytea not null,
  constraint journal_pk primary key (tenant_id, environment, seq)
);
create index journal_by_run on bulkhead.journal (tenant_id, environment, run_id, seq) where run_id is not null;

create function bulkhead.refuse_rewrite() returns trigger language plpgsql as $$
begin
  raise exception 'the journal is append-only: % is refused', tg_op using errcode = 'integrity_constraint_violation';
end $$;
create trigger journal_is_append_only before update or delete or truncate on bulkhead.journal
  for each statement execute function bulkhead.refuse_rewrite();

-- Hosts serve an environment, not a tenant.
create table bulkhead.hosts (
  environment text not null,
  host_id text not null,
  pid integer not null,
  roles text[] not null,
  seen_at timestamptz not null,
  constraint hosts_pk primary key (environment, host_id)
);

-- By triggers, so that no path to these tables can forget it. Whoever changes them locks the tenant first, its ledger second.
create function bulkhead.raise_record_version() returns trigger language plpgsql as $$
begin
  update bulkhead.ledgers set record_version = record_version + 1
    where tenant_id = coalesce(new.tenant_id, old.tenant_id) and environment = coalesce(new.environment, old.environment);
  return null;
end $$;
create trigger record_changes after update on bulkhead.tenants
  for each row when (bulkhead.record_of(old) is distinct from bulkhead.record_of(new)) execute function bulkhead.raise_record_version();
create trigger credential_changes after insert or update or delete on bulkhead.credentials
  for each row execute function bulkhead.raise_record_version();
create trigger key_changes after insert or update or delete on bulkhead.tenant_keys
  for each row execute function bulkhead.raise_record_version();

do $$
declare
  relation text;
begin
  foreach relation in array array['ledgers', 'limits', 'named_limits', 'meters', 'closed_days', 'fencings', 'run_acceptances', 'runs', 'run_facts',
    'resources', 'calls', 'lost_attempts', 'payloads', 'refusal_floods', 'journal']
  loop
    perform bulkhead.protect(format('bulkhead.%I', relation));
  end loop;
  -- What the sweep may see across tenants: states and times, and the envelope it starts lost runs with.
  foreach relation in array array['ledgers', 'runs', 'run_acceptances', 'calls', 'refusal_floods'] loop
    execute format('create policy sweep_reads on bulkhead.%I for select to bulkhead_sweep using (true)', relation);
    execute format('grant select on bulkhead.%I to bulkhead_sweep', relation);
  end loop;
end $$;

alter table bulkhead.hosts enable row level security;
alter table bulkhead.hosts force row level security;
create policy sweep_keeps on bulkhead.hosts to bulkhead_sweep using (true) with check (true);
grant select, insert, update on bulkhead.hosts to bulkhead_sweep;

revoke all on bulkhead.journal from bulkhead_owner;
grant select, insert on bulkhead.journal to bulkhead_owner;
-- Read in pages by people; everything else goes through functions.
grant select on bulkhead.journal, bulkhead.runs, bulkhead.run_acceptances to bulkhead_app;
