-- What the migrations add up to. Written by a test, never by hand: UPDATE_SCHEMA=1 npx jest test/storage/schema

create role bulkhead_app login ;
create role bulkhead_operator login ;
create role bulkhead_owner nologin ;
create role bulkhead_search nologin ;
create role bulkhead_sweep nologin ;

create domain bulkhead.admitted_as as text constraint calls_admitted_as_known CHECK ((VALUE = ANY (ARRAY['admitted'::text, 'recover'::text, 'recover_lookup'::text])));

create domain bulkhead.approval_kind as text constraint approvals_kind_known CHECK ((VALUE = ANY (ARRAY['rule'::text, 'suggestion'::text])));

create domain bulkhead.approval_state as text constraint approvals_state_known CHECK ((VALUE = ANY (ARRAY['pending'::text, 'approved'::text, 'denied'::text, 'expired'::text, 'superseded'::text])));

create domain bulkhead.call_class as text constraint calls_class_known CHECK ((VALUE = ANY (ARRAY['read'::text, 'model'::text, 'write'::text, 'high_risk_write'::text])));

create domain bulkhead.call_state as text constraint calls_state_known CHECK ((VALUE = ANY (ARRAY['claimed'::text, 'succeeded'::text, 'failed'::text, 'open'::text, 'unknown'::text, 'suggested'::text])));

create domain bulkhead.environment_name as text constraint environment_form CHECK ((VALUE ~ '^[a-z0-9][a-z0-9-]{1,15}$'::text));

create domain bulkhead.policy_effect as text constraint decisions_effect_known CHECK ((VALUE = ANY (ARRAY['allow'::text, 'approve'::text, 'suggest'::text, 'deny'::text])));

create domain bulkhead.reversibility as text constraint reversibility_known CHECK ((VALUE = ANY (ARRAY['reversible'::text, 'compensable'::text, 'final'::text])));

create domain bulkhead.review_kind as text constraint reviews_kind_known CHECK ((VALUE = ANY (ARRAY['outcome_unknown'::text, 'read_back_mismatch'::text, 'undo_failed'::text, 'scope_ambiguous'::text])));

create domain bulkhead.review_resolution as text constraint reviews_resolution_known CHECK ((VALUE = ANY (ARRAY['happened'::text, 'did_not_happen'::text, 'abandon'::text])));

create domain bulkhead.run_state as text constraint runs_state_known CHECK ((VALUE = ANY (ARRAY['accepted'::text, 'queued'::text, 'running'::text, 'throttled'::text, 'approval_required'::text, 'review_required'::text, 'provider_degraded'::text, 'frozen'::text, 'compensating'::text, 'closed'::text])));

create domain bulkhead.stop_reason as text constraint runs_stop_reason_known CHECK ((VALUE = ANY (ARRAY['completed'::text, 'failed'::text, 'budget_exceeded'::text, 'policy_denied'::text, 'approval_denied'::text, 'approval_expired'::text, 'review_abandoned'::text, 'killed'::text, 'cancelled'::text, 'scope_ambiguous'::text, 'provider_degraded'::text, 'credential_unavailable'::text, 'idempotency_conflict'::text, 'outcome_unknown'::text, 'model_misbehaved'::text, 'terminated'::text, 'timed_out'::text])));

create domain bulkhead.tenant_mode as text constraint ledgers_mode_known CHECK ((VALUE = ANY (ARRAY['normal'::text, 'killed'::text])));

create domain bulkhead.tenant_name as text constraint tenant_id_form CHECK ((VALUE ~ '^[a-z0-9][a-z0-9-]{0,39}$'::text));

create type bulkhead.admission as (answer text, epoch bigint, attempt integer, lookup_only boolean, quiet_ms bigint, lease_id uuid, retry_after_ms bigint, policy_version bigint, refusal json, outcome json, approval_no bigint, expires_in_ms bigint, seq bigint);

create type bulkhead.amounts as (tool_calls bigint, steps bigint, active_ms bigint, micro_usd bigint, model_tokens bigint, high_risk_writes bigint);

create type bulkhead.approval_answer as (kind text, message text);

create type bulkhead.approval_standing as (answer text, approval_no bigint, expires_at timestamp with time zone);

create type bulkhead.asked_call as (run_id text, path text, digest text, action text, class text, system text, token uuid, host_id text, reversible text, destination text, args text, schema_digest text, requester text, terms json, rules text[], refusal json, input_digest text);

create type bulkhead.breaker_terms as (failures integer, within interval, first_open interval, longest_open interval, look interval);

create type bulkhead.bucket as (level bigint, at timestamp with time zone);

create type bulkhead.follow_up_entry as (kind text, follow_up_no bigint, path text, items json, refusal json, seq bigint);

create type bulkhead.handed_over as (t bulkhead.ledgers, workflows text[]);

create type bulkhead.layers as (per_day bulkhead.amounts, calls_per_minute bigint, model_tokens_per_minute bigint, calls_in_flight integer);

create type bulkhead.letter_answer as (kind text, follow_up_no bigint, message text);

create type bulkhead.meter as (day integer, used bulkhead.amounts, calls bulkhead.bucket, model_tokens bulkhead.bucket, inflight integer, tokens_gone numeric);

create type bulkhead.named_meter as (name text, layers bulkhead.layers, meter bulkhead.meter);

create type bulkhead.promotion as (kind text, approval_no bigint, follow_up_no bigint, message text);

create type bulkhead.refused as (kind text, origin text, rule text, message text, value bigint, used bigint, retry_after_ms bigint, rules text[]);

create type bulkhead.reservation as (t bulkhead.ledgers, token_marks numeric[]);

create type bulkhead.restored_call as (action text, class text, system text, reversible text, "undoOf" text, "firstClaimedAt" timestamp with time zone, "leaseMs" bigint, "toolCalls" integer, steps integer, "microUsd" bigint, "modelTokens" bigint, refusal json, value json, payload json, "payloadDigest" text, review text, "dataClasses" text[]);

create type bulkhead.run_acceptance as (kind text, run_id text, refusal json, seq bigint);

create type bulkhead.run_end as (stop_reason text, follow_up_no bigint, handed text[]);

create type bulkhead.run_entry as (kind text, lane text, max_steps integer, first_step integer, refusal json, stop_reason text, seq bigint, "position" integer, waiting integer, expires_in_ms bigint, handed text[]);

create type bulkhead.settlement as (answer text, review_no bigint, seq bigint);

create type bulkhead.shown_approval as (approval_no bigint, run_id text, path text, action text, class text, system text, destination text, args text, kind text, terms json, requester text, policy_version bigint, state text, requested text, expires text, decided text, approver text, note text, used text);

create type bulkhead.undo_order as (kind text, follow_up_no bigint);

create table bulkhead.agents (
  environment text not null,
  agent_id text not null,
  version text not null,
  definition jsonb not null,
  published_at timestamp with time zone not null default clock_timestamp()
);
alter table bulkhead.agents owner to bulkhead_owner;
alter table bulkhead.agents add constraint agents_agent_id_check CHECK ((agent_id ~ '^[a-z][a-z0-9_]{0,63}$'::text));
alter table bulkhead.agents add constraint agents_environment_check CHECK ((environment ~ '^[a-z0-9][a-z0-9-]{1,15}$'::text));
alter table bulkhead.agents add constraint agents_pkey PRIMARY KEY (environment, agent_id, version);
alter table bulkhead.agents add constraint agents_version_check CHECK ((version ~ '^[0-9a-f]{12}$'::text));
grant select on bulkhead.agents to bulkhead_app;

create table bulkhead.approvals (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  approval_no bigint not null,
  run_id text not null,
  workspace_id text not null,
  path text not null,
  digest text not null,
  action text not null,
  class bulkhead.call_class not null,
  system text,
  destination text,
  args text not null,
  schema_digest text not null,
  kind bulkhead.approval_kind not null,
  terms json not null,
  requester text not null,
  policy_version bigint not null,
  state bulkhead.approval_state not null,
  requested_at timestamp with time zone not null,
  expires_at timestamp with time zone not null,
  decided_at timestamp with time zone,
  approver text,
  approver_roles text[],
  note text,
  used_at timestamp with time zone,
  used_by uuid
);
alter table bulkhead.approvals owner to bulkhead_owner;
alter table bulkhead.approvals add constraint approvals_decided_by_someone CHECK ((((state)::text <> ALL (ARRAY['approved'::text, 'denied'::text])) OR (decided_at IS NOT NULL)));
alter table bulkhead.approvals add constraint approvals_decided_whole CHECK ((((decided_at IS NULL) = (approver IS NULL)) AND ((decided_at IS NULL) = (approver_roles IS NULL))));
alter table bulkhead.approvals add constraint approvals_pk PRIMARY KEY (tenant_id, environment, approval_no);
alter table bulkhead.approvals add constraint approvals_used_if_approved CHECK (((used_at IS NULL) OR (((state)::text = 'approved'::text) AND (used_by IS NOT NULL))));
CREATE INDEX approvals_by_call ON bulkhead.approvals USING btree (tenant_id, environment, run_id, path, approval_no);
CREATE INDEX approvals_by_workspace ON bulkhead.approvals USING btree (tenant_id, environment, workspace_id, approval_no);
CREATE UNIQUE INDEX approvals_one_open ON bulkhead.approvals USING btree (tenant_id, environment, run_id, path) WHERE (((state)::text = 'pending'::text) OR (((state)::text = 'approved'::text) AND (used_at IS NULL)));
CREATE INDEX approvals_pending ON bulkhead.approvals USING btree (tenant_id, environment, approval_no, expires_at) WHERE ((state)::text = 'pending'::text);
CREATE INDEX approvals_pending_by_workspace ON bulkhead.approvals USING btree (tenant_id, environment, workspace_id, approval_no, expires_at) WHERE ((state)::text = 'pending'::text);
alter table bulkhead.approvals enable row level security;
alter table bulkhead.approvals force row level security;
create policy tenant_scope on bulkhead.approvals as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.breakers (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  system text not null,
  state text not null,
  failures integer not null,
  failed_at timestamp with time zone[] not null,
  cause text not null,
  counts_from timestamp with time zone not null default '-infinity'::timestamp with time zone,
  openings integer not null default 0,
  opened_at timestamp with time zone,
  open_until timestamp with time zone,
  probe_token uuid,
  probe_until timestamp with time zone
) with (fillfactor=50);
alter table bulkhead.breakers owner to bulkhead_owner;
alter table bulkhead.breakers add constraint breakers_failures_counted CHECK ((failures >= 0));
alter table bulkhead.breakers add constraint breakers_opened_whole CHECK ((((state = 'closed'::text) = (opened_at IS NULL)) AND ((state = 'closed'::text) = (open_until IS NULL))));
alter table bulkhead.breakers add constraint breakers_openings_counted CHECK ((openings >= 0));
alter table bulkhead.breakers add constraint breakers_pk PRIMARY KEY (tenant_id, environment, system);
alter table bulkhead.breakers add constraint breakers_probe_whole CHECK ((((probe_token IS NULL) = (probe_until IS NULL)) AND ((probe_token IS NULL) OR (state = 'half_open'::text))));
alter table bulkhead.breakers add constraint breakers_state_known CHECK ((state = ANY (ARRAY['closed'::text, 'open'::text, 'half_open'::text])));
alter table bulkhead.breakers enable row level security;
alter table bulkhead.breakers force row level security;
create policy tenant_scope on bulkhead.breakers as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.breakers to bulkhead_app;

create table bulkhead.call_capacities (
  name text not null,
  calls_in_flight integer not null,
  updated_at timestamp with time zone not null default clock_timestamp(),
  updated_by text not null
);
alter table bulkhead.call_capacities owner to bulkhead_owner;
alter table bulkhead.call_capacities add constraint call_capacities_calls_in_flight_check CHECK ((calls_in_flight >= 0));
alter table bulkhead.call_capacities add constraint call_capacities_name_check CHECK ((name ~ '^[a-z][a-z0-9_-]{0,63}$'::text));
alter table bulkhead.call_capacities add constraint call_capacities_pkey PRIMARY KEY (name);
grant select on bulkhead.call_capacities to bulkhead_sweep;

create table bulkhead.calls (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  run_id text not null,
  path text not null,
  digest text not null,
  action text not null,
  class bulkhead.call_class not null,
  system text,
  state bulkhead.call_state not null,
  token uuid not null,
  admitted_as bulkhead.admitted_as not null,
  epoch bigint not null,
  policy_version bigint not null,
  host_id text not null,
  attempts integer not null default 1,
  looks integer not null default 0,
  first_claimed_at timestamp with time zone not null,
  lease_until timestamp with time zone not null,
  sent_until timestamp with time zone not null,
  quiet_ms bigint default 0,
  account text,
  claimed_seq bigint not null,
  reversible bulkhead.reversibility,
  undo_of text,
  review_no bigint,
  approval_no bigint,
  admitted_at timestamp with time zone not null default bulkhead.now(),
  day integer not null,
  metered text[] not null default '{}'::text[],
  reserved bulkhead.amounts not null,
  token_marks numeric[] not null default '{}'::numeric[],
  stored_reserved bigint not null default 0,
  charged bulkhead.amounts,
  lost boolean not null default false,
  refusal json,
  value json,
  payload_ref text,
  payload_digest text
) with (fillfactor=70);
alter table bulkhead.calls owner to bulkhead_owner;
alter table bulkhead.calls add constraint calls_charged_counted CHECK (((charged IS NULL) OR bulkhead.counted(charged)));
alter table bulkhead.calls add constraint calls_charged_when_settled CHECK ((((state)::text = 'claimed'::text) = (charged IS NULL)));
alter table bulkhead.calls add constraint calls_path_named CHECK ((path <> ''::text));
alter table bulkhead.calls add constraint calls_pk PRIMARY KEY (tenant_id, environment, run_id, path);
alter table bulkhead.calls add constraint calls_reserved_counted CHECK (bulkhead.counted(reserved));
alter table bulkhead.calls add constraint calls_stored_reserved_counted CHECK ((stored_reserved >= 0));
CREATE INDEX calls_claimed ON bulkhead.calls USING btree (environment, lease_until) WHERE ((state)::text = 'claimed'::text);
CREATE INDEX calls_claimed_by_tenant ON bulkhead.calls USING btree (tenant_id, environment, epoch) WHERE ((state)::text = 'claimed'::text);
alter table bulkhead.calls enable row level security;
alter table bulkhead.calls force row level security;
create policy sweep_reads on bulkhead.calls as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.calls as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.calls to bulkhead_sweep;

create table bulkhead.closed_days (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  name text not null,
  day integer not null,
  used bulkhead.amounts not null
);
alter table bulkhead.closed_days owner to bulkhead_owner;
alter table bulkhead.closed_days add constraint closed_days_counted CHECK (bulkhead.counted(used));
alter table bulkhead.closed_days add constraint closed_days_pk PRIMARY KEY (tenant_id, environment, name, day);
alter table bulkhead.closed_days enable row level security;
alter table bulkhead.closed_days force row level security;
create policy tenant_scope on bulkhead.closed_days as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.credentials (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  capability text not null,
  version integer not null,
  ciphertext bytea not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  created_by text not null,
  revoked_at timestamp with time zone
);
alter table bulkhead.credentials owner to bulkhead_owner;
alter table bulkhead.credentials add constraint credentials_capability_check CHECK ((capability ~ '^[a-z][a-z0-9_-]{0,39}:[a-z][a-z0-9_-]{0,39}$'::text));
alter table bulkhead.credentials add constraint credentials_created_by_check CHECK ((created_by <> ''::text));
alter table bulkhead.credentials add constraint credentials_pkey PRIMARY KEY (tenant_id, environment, capability, version);
alter table bulkhead.credentials add constraint credentials_tenant_id_environment_fkey FOREIGN KEY (tenant_id, environment) REFERENCES bulkhead.tenants(tenant_id, environment);
alter table bulkhead.credentials add constraint credentials_version_check CHECK ((version > 0));
CREATE TRIGGER credential_changes AFTER INSERT OR DELETE OR UPDATE ON bulkhead.credentials FOR EACH ROW EXECUTE FUNCTION bulkhead.raise_record_version();
alter table bulkhead.credentials enable row level security;
alter table bulkhead.credentials force row level security;
create policy tenant_scope on bulkhead.credentials as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.credentials to bulkhead_app;

create table bulkhead.dead_letters (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  letter_no bigint not null,
  run_id text not null,
  workspace_id text not null,
  path text not null,
  action text not null,
  class bulkhead.call_class not null,
  system text,
  attempts integer not null,
  refusal json not null,
  died_at timestamp with time zone not null,
  state text not null,
  actor text,
  note text,
  decided_at timestamp with time zone
);
alter table bulkhead.dead_letters owner to bulkhead_owner;
alter table bulkhead.dead_letters add constraint dead_letters_pk PRIMARY KEY (tenant_id, environment, letter_no);
alter table bulkhead.dead_letters add constraint dead_letters_state_known CHECK ((state = ANY (ARRAY['dead'::text, 'retried'::text, 'discarded'::text])));
CREATE INDEX dead_letters_by_run ON bulkhead.dead_letters USING btree (tenant_id, environment, run_id, letter_no);
CREATE INDEX dead_letters_by_workspace ON bulkhead.dead_letters USING btree (tenant_id, environment, workspace_id, letter_no);
CREATE INDEX dead_letters_dead ON bulkhead.dead_letters USING btree (tenant_id, environment, letter_no) WHERE (state = 'dead'::text);
CREATE INDEX dead_letters_dead_by_workspace ON bulkhead.dead_letters USING btree (tenant_id, environment, workspace_id, letter_no) WHERE (state = 'dead'::text);
alter table bulkhead.dead_letters enable row level security;
alter table bulkhead.dead_letters force row level security;
create policy tenant_scope on bulkhead.dead_letters as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.dead_letters to bulkhead_app;

create table bulkhead.decisions (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  run_id text not null,
  path text not null,
  at timestamp with time zone not null,
  effect bulkhead.policy_effect not null,
  rules text[] not null,
  policy_version bigint not null,
  input json not null,
  input_digest text not null
);
alter table bulkhead.decisions owner to bulkhead_owner;
alter table bulkhead.decisions add constraint decisions_pk PRIMARY KEY (tenant_id, environment, run_id, path);
CREATE INDEX decisions_by_time ON bulkhead.decisions USING btree (tenant_id, environment, at, run_id, path);
alter table bulkhead.decisions enable row level security;
alter table bulkhead.decisions force row level security;
create policy tenant_scope on bulkhead.decisions as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.fencings (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  fence_epoch bigint not null,
  fenced_at timestamp with time zone,
  contained_at timestamp with time zone,
  drained_at timestamp with time zone,
  reason text,
  actor text
);
alter table bulkhead.fencings owner to bulkhead_owner;
alter table bulkhead.fencings add constraint fencings_pk PRIMARY KEY (tenant_id, environment);
alter table bulkhead.fencings enable row level security;
alter table bulkhead.fencings force row level security;
create policy tenant_scope on bulkhead.fencings as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.follow_ups (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  follow_up_no bigint not null,
  run_id text not null,
  kind text not null,
  path text,
  letter_no bigint,
  reason text not null,
  state text not null,
  epoch bigint not null,
  temporal_run_id text,
  actor text not null,
  note text not null,
  wanted_at timestamp with time zone not null,
  touched_at timestamp with time zone not null,
  ended_at timestamp with time zone,
  outcome json
);
alter table bulkhead.follow_ups owner to bulkhead_owner;
alter table bulkhead.follow_ups add constraint follow_ups_kind_known CHECK ((kind = ANY (ARRAY['undo'::text, 'retry'::text])));
alter table bulkhead.follow_ups add constraint follow_ups_path_of_retry CHECK (((kind = 'retry'::text) = (path IS NOT NULL)));
alter table bulkhead.follow_ups add constraint follow_ups_pk PRIMARY KEY (tenant_id, environment, follow_up_no);
alter table bulkhead.follow_ups add constraint follow_ups_reason_known CHECK ((reason = ANY (ARRAY['failed'::text, 'killed'::text, 'rollback'::text, 'retry'::text])));
alter table bulkhead.follow_ups add constraint follow_ups_state_known CHECK ((state = ANY (ARRAY['wanted'::text, 'entered'::text, 'done'::text])));
CREATE INDEX follow_ups_at_work ON bulkhead.follow_ups USING btree (tenant_id, environment, run_id) WHERE (state <> 'done'::text);
CREATE INDEX follow_ups_by_run ON bulkhead.follow_ups USING btree (tenant_id, environment, run_id, kind);
CREATE UNIQUE INDEX follow_ups_one_undo ON bulkhead.follow_ups USING btree (tenant_id, environment, run_id) WHERE ((kind = 'undo'::text) AND (state <> 'done'::text));
alter table bulkhead.follow_ups enable row level security;
alter table bulkhead.follow_ups force row level security;
create policy sweep_reads on bulkhead.follow_ups as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.follow_ups as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.follow_ups to bulkhead_app;
grant select on bulkhead.follow_ups to bulkhead_sweep;

create table bulkhead.hosts (
  environment text not null,
  host_id text not null,
  pid integer not null,
  roles text[] not null,
  seen_at timestamp with time zone not null
);
alter table bulkhead.hosts owner to bulkhead_owner;
alter table bulkhead.hosts add constraint hosts_pk PRIMARY KEY (environment, host_id);
alter table bulkhead.hosts enable row level security;
alter table bulkhead.hosts force row level security;
create policy ledger_reads on bulkhead.hosts as permissive for select to bulkhead_owner using ((environment = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text)));
create policy sweep_keeps on bulkhead.hosts as permissive for all to bulkhead_sweep using (true) with check (true);
grant insert, select, update on bulkhead.hosts to bulkhead_sweep;

create table bulkhead.journal (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  seq bigint not null,
  run_id text,
  facts text not null,
  body text not null,
  prev bytea not null,
  hash bytea not null
);
alter table bulkhead.journal owner to bulkhead_owner;
alter table bulkhead.journal add constraint journal_pk PRIMARY KEY (tenant_id, environment, seq);
CREATE INDEX journal_by_run ON bulkhead.journal USING btree (tenant_id, environment, run_id, seq) WHERE (run_id IS NOT NULL);
CREATE TRIGGER journal_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON bulkhead.journal FOR EACH STATEMENT EXECUTE FUNCTION bulkhead.refuse_rewrite();
alter table bulkhead.journal enable row level security;
alter table bulkhead.journal force row level security;
create policy sweep_reads on bulkhead.journal as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.journal as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.journal to bulkhead_app;

create table bulkhead.knowledge (
  tenant_id text not null,
  environment text not null,
  document_id text not null,
  title text not null,
  body text not null,
  words tsvector not null generated always as ((setweight(to_tsvector('english'::regconfig, title), 'A'::"char") || setweight(to_tsvector('english'::regconfig, body), 'B'::"char"))) stored,
  updated_at timestamp with time zone not null default clock_timestamp()
) partition by LIST (tenant_id);
alter table bulkhead.knowledge owner to bulkhead_owner;
alter table bulkhead.knowledge add constraint environment_form CHECK ((environment ~ '^[a-z0-9][a-z0-9-]{1,15}$'::text));
alter table bulkhead.knowledge add constraint knowledge_document_id_check CHECK (((document_id <> ''::text) AND (length(document_id) <= 200)));
alter table bulkhead.knowledge add constraint knowledge_pkey PRIMARY KEY (tenant_id, environment, document_id);
alter table bulkhead.knowledge add constraint knowledge_title_check CHECK ((length(title) <= 1000));
alter table bulkhead.knowledge add constraint tenant_id_form CHECK ((tenant_id ~ '^[a-z0-9][a-z0-9-]{0,39}$'::text));
CREATE INDEX knowledge_words ON ONLY bulkhead.knowledge USING gin (words);
alter table bulkhead.knowledge enable row level security;
alter table bulkhead.knowledge force row level security;
create policy search_matches on bulkhead.knowledge as permissive for select to bulkhead_search using (((tenant_id = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND (environment = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text)) AND (words @@ (NULLIF(current_setting('bulkhead.search'::text, true), ''::text))::tsquery)));
create policy tenant_scope on bulkhead.knowledge as permissive for all to bulkhead_owner, bulkhead_app using (((tenant_id = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND (environment = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.knowledge to bulkhead_app;
grant select on bulkhead.knowledge to bulkhead_search;

create table bulkhead.leases (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  lease_id uuid not null,
  capability text not null,
  run_id text not null,
  path text not null,
  epoch bigint not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  expires_at timestamp with time zone not null,
  revoked_at timestamp with time zone
);
alter table bulkhead.leases owner to bulkhead_owner;
alter table bulkhead.leases add constraint leases_pkey PRIMARY KEY (tenant_id, environment, lease_id);
CREATE INDEX leases_by_call ON bulkhead.leases USING btree (tenant_id, environment, run_id, path);
CREATE INDEX leases_out ON bulkhead.leases USING btree (tenant_id, environment, expires_at) WHERE (revoked_at IS NULL);
alter table bulkhead.leases enable row level security;
alter table bulkhead.leases force row level security;
create policy tenant_scope on bulkhead.leases as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.leases to bulkhead_app;

create table bulkhead.ledgers (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  mode bulkhead.tenant_mode not null default 'normal'::text,
  fence_epoch bigint not null default 0,
  control_version bigint not null default 0,
  policy_version bigint not null default 0,
  record_version bigint not null default 0,
  meter bulkhead.meter not null,
  slots integer not null default 0,
  queued integer not null default 0,
  run_starts bulkhead.bucket not null,
  retries bulkhead.bucket not null,
  stored_bytes bigint not null default 0,
  stored_reserved bigint not null default 0,
  memory_bytes bigint not null default 0,
  journal_seq bigint not null,
  journal_head bytea not null,
  durable_seq bigint not null,
  rewound_seq bigint not null default 0,
  acknowledged_seq bigint not null default 0,
  last_clock timestamp with time zone not null
) with (fillfactor=20, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=200);
alter table bulkhead.ledgers owner to bulkhead_owner;
alter table bulkhead.ledgers add constraint ledgers_memory_counted CHECK ((memory_bytes >= 0));
alter table bulkhead.ledgers add constraint ledgers_meter_counted CHECK (bulkhead.counted(meter));
alter table bulkhead.ledgers add constraint ledgers_pk PRIMARY KEY (tenant_id, environment);
alter table bulkhead.ledgers add constraint ledgers_queued_counted CHECK ((queued >= 0));
alter table bulkhead.ledgers add constraint ledgers_slots_counted CHECK ((slots >= 0));
alter table bulkhead.ledgers add constraint ledgers_stored_counted CHECK ((stored_bytes >= 0));
alter table bulkhead.ledgers add constraint ledgers_stored_reserved_counted CHECK ((stored_reserved >= 0));
alter table bulkhead.ledgers enable row level security;
alter table bulkhead.ledgers force row level security;
create policy sweep_reads on bulkhead.ledgers as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.ledgers as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.ledgers to bulkhead_sweep;

create table bulkhead.limits (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
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
  named text[] not null,
  capacity text,
  quota jsonb not null
);
alter table bulkhead.limits owner to bulkhead_owner;
alter table bulkhead.limits add constraint limits_pk PRIMARY KEY (tenant_id, environment);
alter table bulkhead.limits enable row level security;
alter table bulkhead.limits force row level security;
create policy sweep_reads on bulkhead.limits as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.limits as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.lost_attempts (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  run_id text not null,
  path text not null,
  token uuid not null,
  admitted_at timestamp with time zone not null,
  day integer not null,
  metered text[] not null,
  reserved bulkhead.amounts not null,
  token_marks numeric[] not null default '{}'::numeric[],
  trued_up boolean not null default false
);
alter table bulkhead.lost_attempts owner to bulkhead_owner;
alter table bulkhead.lost_attempts add constraint lost_attempts_counted CHECK (bulkhead.counted(reserved));
alter table bulkhead.lost_attempts add constraint lost_attempts_pk PRIMARY KEY (tenant_id, environment, run_id, path, token);
alter table bulkhead.lost_attempts enable row level security;
alter table bulkhead.lost_attempts force row level security;
create policy tenant_scope on bulkhead.lost_attempts as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.meters (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  name text not null,
  meter bulkhead.meter not null
) with (fillfactor=50);
alter table bulkhead.meters owner to bulkhead_owner;
alter table bulkhead.meters add constraint meters_counted CHECK (bulkhead.counted(meter));
alter table bulkhead.meters add constraint meters_pk PRIMARY KEY (tenant_id, environment, name);
alter table bulkhead.meters enable row level security;
alter table bulkhead.meters force row level security;
create policy sweep_reads on bulkhead.meters as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.meters as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.meters to bulkhead_sweep;

create table bulkhead.migrations (
  number integer not null,
  name text not null,
  checksum text not null,
  applied_at timestamp with time zone not null default clock_timestamp()
);
alter table bulkhead.migrations owner to bulkhead_owner;
alter table bulkhead.migrations add constraint migrations_pkey PRIMARY KEY (number);
grant select on bulkhead.migrations to bulkhead_app;
grant select on bulkhead.migrations to bulkhead_operator;

create table bulkhead.named_limits (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  name text not null,
  layers bulkhead.layers not null
);
alter table bulkhead.named_limits owner to bulkhead_owner;
alter table bulkhead.named_limits add constraint named_limits_pk PRIMARY KEY (tenant_id, environment, name);
alter table bulkhead.named_limits enable row level security;
alter table bulkhead.named_limits force row level security;
create policy tenant_scope on bulkhead.named_limits as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.operator_acts (
  id bigint not null generated always as identity,
  at timestamp with time zone not null default clock_timestamp(),
  actor text not null,
  act text not null,
  subject text not null,
  detail jsonb not null default '{}'::jsonb
);
alter table bulkhead.operator_acts owner to bulkhead_owner;
alter table bulkhead.operator_acts add constraint operator_acts_actor_check CHECK ((actor <> ''::text));
alter table bulkhead.operator_acts add constraint operator_acts_pkey PRIMARY KEY (id);

create table bulkhead.payloads (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  run_id text not null,
  ref text not null,
  payload json not null,
  stored_at timestamp with time zone not null
);
alter table bulkhead.payloads owner to bulkhead_owner;
alter table bulkhead.payloads add constraint payloads_pk PRIMARY KEY (tenant_id, environment, run_id, ref);
alter table bulkhead.payloads enable row level security;
alter table bulkhead.payloads force row level security;
create policy tenant_scope on bulkhead.payloads as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.policies (
  version integer not null,
  profile text not null,
  environments text[] not null,
  text text not null,
  published_at timestamp with time zone not null default clock_timestamp(),
  actor text not null,
  reason text not null
);
alter table bulkhead.policies owner to bulkhead_owner;
alter table bulkhead.policies add constraint policies_environments_check CHECK ((cardinality(environments) > 0));
alter table bulkhead.policies add constraint policies_pkey PRIMARY KEY (version);
alter table bulkhead.policies add constraint policies_profile_check CHECK ((profile ~ '^[a-z][a-z0-9_-]{0,63}$'::text));
alter table bulkhead.policies add constraint policies_version_check CHECK ((version > 0));
CREATE INDEX policies_by_profile ON bulkhead.policies USING btree (profile, version DESC);
grant select on bulkhead.policies to bulkhead_sweep;

create table bulkhead.pool_shares (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  provider text not null,
  pool text not null,
  left_at timestamp with time zone,
  calls_in_flight integer not null default 0,
  model_tokens_per_minute bigint,
  guaranteed integer not null default 0,
  wanted_at timestamp with time zone not null default '-infinity'::timestamp with time zone,
  refused_at timestamp with time zone not null default '-infinity'::timestamp with time zone
) with (fillfactor=50);
alter table bulkhead.pool_shares owner to bulkhead_owner;
alter table bulkhead.pool_shares add constraint pool_shares_calls_counted CHECK ((calls_in_flight >= 0));
alter table bulkhead.pool_shares add constraint pool_shares_guaranteed_counted CHECK ((guaranteed >= 0));
alter table bulkhead.pool_shares add constraint pool_shares_pk PRIMARY KEY (tenant_id, environment, provider, pool);
alter table bulkhead.pool_shares add constraint pool_shares_tokens_counted CHECK ((model_tokens_per_minute >= 0));
CREATE UNIQUE INDEX pool_shares_one ON bulkhead.pool_shares USING btree (tenant_id, environment, provider) WHERE (left_at IS NULL);
alter table bulkhead.pool_shares enable row level security;
alter table bulkhead.pool_shares force row level security;
create policy sweep_reads on bulkhead.pool_shares as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.pool_shares as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.pool_shares to bulkhead_app;
grant select on bulkhead.pool_shares to bulkhead_sweep;

create table bulkhead.provider_pools (
  name text not null,
  provider text not null,
  calls_in_flight integer not null,
  model_tokens_per_minute bigint,
  updated_at timestamp with time zone not null default clock_timestamp(),
  updated_by text not null
);
alter table bulkhead.provider_pools owner to bulkhead_owner;
alter table bulkhead.provider_pools add constraint provider_pools_calls_in_flight_check CHECK ((calls_in_flight >= 0));
alter table bulkhead.provider_pools add constraint provider_pools_model_tokens_per_minute_check CHECK ((model_tokens_per_minute >= 0));
alter table bulkhead.provider_pools add constraint provider_pools_name_check CHECK ((name ~ '^[a-z][a-z0-9_-]{0,63}$'::text));
alter table bulkhead.provider_pools add constraint provider_pools_pkey PRIMARY KEY (name);
alter table bulkhead.provider_pools add constraint provider_pools_provider_check CHECK ((provider <> ''::text));
grant select on bulkhead.provider_pools to bulkhead_sweep;

create table bulkhead.quota_classes (
  name text not null,
  document jsonb not null,
  updated_at timestamp with time zone not null default clock_timestamp(),
  updated_by text not null
);
alter table bulkhead.quota_classes owner to bulkhead_owner;
alter table bulkhead.quota_classes add constraint quota_classes_name_check CHECK ((name ~ '^[a-z][a-z0-9_-]{0,63}$'::text));
alter table bulkhead.quota_classes add constraint quota_classes_pkey PRIMARY KEY (name);

create table bulkhead.refusal_floods (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  rule text not null,
  policy_version bigint not null,
  action text not null,
  reason text not null,
  minute timestamp with time zone not null,
  refusals bigint not null,
  first_uncounted_at timestamp with time zone,
  last_at timestamp with time zone not null
) with (fillfactor=50);
alter table bulkhead.refusal_floods owner to bulkhead_owner;
alter table bulkhead.refusal_floods add constraint refusal_floods_pk PRIMARY KEY (tenant_id, environment, rule, policy_version, action, reason);
alter table bulkhead.refusal_floods enable row level security;
alter table bulkhead.refusal_floods force row level security;
create policy sweep_reads on bulkhead.refusal_floods as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.refusal_floods as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.refusal_floods to bulkhead_sweep;

create table bulkhead.resources (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  system text not null,
  record_id text not null,
  account text,
  known_at timestamp with time zone not null
);
alter table bulkhead.resources owner to bulkhead_owner;
alter table bulkhead.resources add constraint resources_pk PRIMARY KEY (tenant_id, environment, system, record_id);
alter table bulkhead.resources enable row level security;
alter table bulkhead.resources force row level security;
create policy tenant_scope on bulkhead.resources as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.reviews (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  review_no bigint not null,
  run_id text not null,
  workspace_id text not null,
  path text not null,
  token uuid not null,
  action text not null,
  class bulkhead.call_class not null,
  system text,
  kind bulkhead.review_kind not null,
  refusal json not null,
  opened_at timestamp with time zone not null,
  resolved_at timestamp with time zone,
  resolution bulkhead.review_resolution,
  actor text,
  note text
);
alter table bulkhead.reviews owner to bulkhead_owner;
alter table bulkhead.reviews add constraint reviews_pk PRIMARY KEY (tenant_id, environment, review_no);
alter table bulkhead.reviews add constraint reviews_resolved_whole CHECK ((((resolved_at IS NULL) = (resolution IS NULL)) AND ((resolved_at IS NULL) = (actor IS NULL))));
CREATE INDEX reviews_by_run ON bulkhead.reviews USING btree (tenant_id, environment, run_id, review_no);
CREATE INDEX reviews_by_workspace ON bulkhead.reviews USING btree (tenant_id, environment, workspace_id, review_no);
CREATE UNIQUE INDEX reviews_one_open ON bulkhead.reviews USING btree (tenant_id, environment, run_id, path) WHERE (resolved_at IS NULL);
CREATE INDEX reviews_open_by_workspace ON bulkhead.reviews USING btree (tenant_id, environment, workspace_id, review_no) WHERE (resolved_at IS NULL);
alter table bulkhead.reviews enable row level security;
alter table bulkhead.reviews force row level security;
create policy tenant_scope on bulkhead.reviews as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.reviews to bulkhead_app;

create table bulkhead.run_acceptances (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  run_id text not null,
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
  restored boolean not null default false
);
alter table bulkhead.run_acceptances owner to bulkhead_owner;
alter table bulkhead.run_acceptances add constraint run_acceptances_key_once UNIQUE (tenant_id, environment, idempotency_key);
alter table bulkhead.run_acceptances add constraint run_acceptances_pk PRIMARY KEY (tenant_id, environment, run_id);
alter table bulkhead.run_acceptances add constraint run_acceptances_run_named CHECK ((run_id <> ''::text));
alter table bulkhead.run_acceptances enable row level security;
alter table bulkhead.run_acceptances force row level security;
create policy sweep_reads on bulkhead.run_acceptances as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.run_acceptances as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.run_acceptances to bulkhead_app;
grant select on bulkhead.run_acceptances to bulkhead_sweep;

create table bulkhead.run_facts (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  run_id text not null,
  name text not null,
  value json not null,
  path text not null
);
alter table bulkhead.run_facts owner to bulkhead_owner;
alter table bulkhead.run_facts add constraint run_facts_pk PRIMARY KEY (tenant_id, environment, run_id, name);
alter table bulkhead.run_facts enable row level security;
alter table bulkhead.run_facts force row level security;
create policy tenant_scope on bulkhead.run_facts as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.runs (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  run_id text not null,
  workspace_id text not null,
  epoch bigint not null,
  state bulkhead.run_state not null,
  stop_reason bulkhead.stop_reason,
  temporal_run_id text,
  generation integer not null default 0,
  first_step integer not null default 0,
  undone boolean not null default false,
  facts_version integer not null default 0,
  data_classes text[] not null default '{}'::text[],
  accepted_at timestamp with time zone not null,
  entered_at timestamp with time zone,
  closed_at timestamp with time zone,
  touched_at timestamp with time zone not null,
  state_since timestamp with time zone not null default bulkhead.now(),
  priority smallint not null default 3,
  slot_at timestamp with time zone,
  queued_at timestamp with time zone,
  last_refusal json,
  steps integer not null default 0,
  tool_calls integer not null default 0,
  refusals integer not null default 0,
  spent_micro_usd bigint not null default 0,
  active_ms bigint not null default 0,
  model_tokens bigint not null default 0,
  output_ref text,
  purged_at timestamp with time zone,
  purge_again_at timestamp with time zone
) with (fillfactor=50);
alter table bulkhead.runs owner to bulkhead_owner;
alter table bulkhead.runs add constraint runs_active_counted CHECK ((active_ms >= 0));
alter table bulkhead.runs add constraint runs_closed_hold_nothing CHECK ((((state)::text <> 'closed'::text) OR ((slot_at IS NULL) AND (queued_at IS NULL))));
alter table bulkhead.runs add constraint runs_first_step_counted CHECK ((first_step >= 0));
alter table bulkhead.runs add constraint runs_model_tokens_counted CHECK ((model_tokens >= 0));
alter table bulkhead.runs add constraint runs_one_place CHECK (((slot_at IS NULL) OR (queued_at IS NULL)));
alter table bulkhead.runs add constraint runs_one_stop_reason CHECK (((((state)::text = 'closed'::text) = (stop_reason IS NOT NULL)) AND (((state)::text = 'closed'::text) = (closed_at IS NOT NULL))));
alter table bulkhead.runs add constraint runs_pk PRIMARY KEY (tenant_id, environment, run_id);
alter table bulkhead.runs add constraint runs_priority_known CHECK (((priority >= 1) AND (priority <= 5)));
alter table bulkhead.runs add constraint runs_spend_counted CHECK ((spent_micro_usd >= 0));
alter table bulkhead.runs add constraint runs_steps_counted CHECK ((steps >= 0));
alter table bulkhead.runs add constraint runs_tool_calls_counted CHECK ((tool_calls >= 0));
CREATE INDEX runs_by_acceptance ON bulkhead.runs USING btree (tenant_id, environment, accepted_at DESC, run_id DESC);
CREATE INDEX runs_by_workspace ON bulkhead.runs USING btree (tenant_id, environment, workspace_id, accepted_at DESC, run_id DESC);
CREATE INDEX runs_draining ON bulkhead.runs USING btree (tenant_id, environment, accepted_at, run_id) WHERE ((state)::text <> 'closed'::text);
CREATE INDEX runs_holding ON bulkhead.runs USING btree (environment, tenant_id) WHERE (slot_at IS NOT NULL);
CREATE INDEX runs_in_line ON bulkhead.runs USING btree (tenant_id, environment, epoch, priority, accepted_at, run_id) WHERE (queued_at IS NOT NULL);
CREATE INDEX runs_open ON bulkhead.runs USING btree (environment, tenant_id) WHERE ((state)::text <> 'closed'::text);
CREATE INDEX runs_to_purge ON bulkhead.runs USING btree (environment, accepted_at) WHERE (((state)::text = 'closed'::text) AND (purged_at IS NULL) AND (purge_again_at IS NULL));
CREATE INDEX runs_to_purge_again ON bulkhead.runs USING btree (environment, purge_again_at) WHERE (purge_again_at IS NOT NULL);
CREATE TRIGGER state_changes BEFORE UPDATE ON bulkhead.runs FOR EACH ROW WHEN (((old.state)::text IS DISTINCT FROM (new.state)::text)) EXECUTE FUNCTION bulkhead.mark_state_change();
alter table bulkhead.runs enable row level security;
alter table bulkhead.runs force row level security;
create policy sweep_reads on bulkhead.runs as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.runs as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.runs to bulkhead_app;
grant select on bulkhead.runs to bulkhead_sweep;

create table bulkhead.suggestions (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  run_id text not null,
  path text not null,
  digest text not null,
  action text not null,
  class bulkhead.call_class not null,
  system text,
  destination text,
  args text not null,
  schema_digest text not null,
  rules text[] not null,
  terms json not null,
  requester text not null,
  refusal json not null,
  policy_version bigint not null,
  suggested_at timestamp with time zone not null,
  approval_no bigint
);
alter table bulkhead.suggestions owner to bulkhead_owner;
alter table bulkhead.suggestions add constraint suggestions_pk PRIMARY KEY (tenant_id, environment, run_id, path);
alter table bulkhead.suggestions enable row level security;
alter table bulkhead.suggestions force row level security;
create policy tenant_scope on bulkhead.suggestions as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.tenant_keys (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  wrapped_key bytea not null,
  key_id text not null,
  created_at timestamp with time zone not null default clock_timestamp()
);
alter table bulkhead.tenant_keys owner to bulkhead_owner;
alter table bulkhead.tenant_keys add constraint tenant_keys_key_id_check CHECK ((key_id <> ''::text));
alter table bulkhead.tenant_keys add constraint tenant_keys_pkey PRIMARY KEY (tenant_id, environment);
alter table bulkhead.tenant_keys add constraint tenant_keys_tenant_id_environment_fkey FOREIGN KEY (tenant_id, environment) REFERENCES bulkhead.tenants(tenant_id, environment);
CREATE TRIGGER key_changes AFTER INSERT OR DELETE OR UPDATE ON bulkhead.tenant_keys FOR EACH ROW EXECUTE FUNCTION bulkhead.raise_record_version();
alter table bulkhead.tenant_keys enable row level security;
alter table bulkhead.tenant_keys force row level security;
create policy tenant_scope on bulkhead.tenant_keys as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.tenant_keys to bulkhead_app;

create table bulkhead.tenants (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  policy_profile text not null,
  policy_version integer not null default 0,
  quota_class text not null,
  lane text not null,
  weight integer not null,
  worker_ceiling integer not null,
  expensive_ceiling integer not null,
  quota jsonb not null,
  quota_overrides jsonb not null default '{}'::jsonb,
  time_zone text not null default 'UTC'::text,
  workspaces jsonb not null,
  connections jsonb not null,
  scope jsonb not null,
  models jsonb not null,
  prices jsonb not null default '{}'::jsonb,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  updated_by text not null
);
alter table bulkhead.tenants owner to bulkhead_owner;
alter table bulkhead.tenants add constraint tenants_connections_check CHECK ((jsonb_typeof(connections) = 'object'::text));
alter table bulkhead.tenants add constraint tenants_expensive_ceiling_check CHECK (((expensive_ceiling >= 1) AND (expensive_ceiling <= 1000)));
alter table bulkhead.tenants add constraint tenants_lane_check CHECK ((lane = ANY (ARRAY['own'::text, 'dedicated'::text, 'shared'::text])));
alter table bulkhead.tenants add constraint tenants_models_check CHECK ((jsonb_typeof(models) = 'object'::text));
alter table bulkhead.tenants add constraint tenants_pkey PRIMARY KEY (tenant_id, environment);
alter table bulkhead.tenants add constraint tenants_policy_version_check CHECK ((policy_version >= 0));
alter table bulkhead.tenants add constraint tenants_prices_check CHECK ((jsonb_typeof(prices) = 'object'::text));
alter table bulkhead.tenants add constraint tenants_quota_class_fkey FOREIGN KEY (quota_class) REFERENCES bulkhead.quota_classes(name);
alter table bulkhead.tenants add constraint tenants_quota_overrides_check CHECK ((jsonb_typeof(quota_overrides) = 'object'::text));
alter table bulkhead.tenants add constraint tenants_scope_check CHECK ((jsonb_typeof(scope) = 'array'::text));
alter table bulkhead.tenants add constraint tenants_updated_by_check CHECK ((updated_by <> ''::text));
alter table bulkhead.tenants add constraint tenants_weight_check CHECK (((weight >= 1) AND (weight <= 1000)));
alter table bulkhead.tenants add constraint tenants_worker_ceiling_check CHECK (((worker_ceiling >= 1) AND (worker_ceiling <= 1000)));
alter table bulkhead.tenants add constraint tenants_workspaces_check CHECK ((jsonb_typeof(workspaces) = 'array'::text));
CREATE TRIGGER record_changes AFTER UPDATE ON bulkhead.tenants FOR EACH ROW WHEN ((bulkhead.record_of(old.*) IS DISTINCT FROM bulkhead.record_of(new.*))) EXECUTE FUNCTION bulkhead.raise_record_version();
alter table bulkhead.tenants enable row level security;
alter table bulkhead.tenants force row level security;
create policy sweep_lists on bulkhead.tenants as permissive for select to bulkhead_sweep using (((NULLIF(current_setting('bulkhead.environment'::text, true), ''::text) = (environment)::text) OR (NULLIF(current_setting('bulkhead.environment'::text, true), ''::text) = '*'::text)));
create policy tenant_scope on bulkhead.tenants as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.tenants to bulkhead_app;
grant select on bulkhead.tenants to bulkhead_sweep;

create view bulkhead.run_rows with (security_invoker=true) as
 SELECT r.tenant_id,
    r.environment,
    r.run_id,
    a.workflow_id,
    r.temporal_run_id,
    a.agent_id,
    a.agent_version,
    r.workspace_id,
    a.target_system,
    a.target_record_id,
    r.state,
    r.stop_reason,
    r.accepted_at,
    bulkhead.iso(r.accepted_at) AS accepted_iso,
    bulkhead.iso(r.entered_at) AS entered_iso,
    bulkhead.iso(r.closed_at) AS closed_iso,
    r.steps,
    r.tool_calls,
    r.refusals,
    r.spent_micro_usd,
    r.output_ref,
    r.epoch,
    a.idempotency_key,
    a.signed,
    r.priority,
    bulkhead.iso(r.state_since) AS since_iso,
    bulkhead.iso(r.slot_at) AS slot_iso,
    bulkhead.iso(r.queued_at) AS queued_iso,
    r.last_refusal
   FROM (bulkhead.runs r
     JOIN bulkhead.run_acceptances a USING (tenant_id, environment, run_id));
alter view bulkhead.run_rows owner to bulkhead_owner;
grant select on bulkhead.run_rows to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.accept_run(p_tenant text, p_environment text, p_signed json, p_idempotency_key text, p_body_digest text, p_input json, p_fork_of text, p_fork_step integer, p_priority integer, p_body text)
 RETURNS bulkhead.run_acceptance
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.accept_run(text,text,json,text,text,json,text,integer,integer,text) owner to bulkhead_owner;
grant execute on function bulkhead.accept_run(text,text,json,text,text,json,text,integer,integer,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.acceptance_gate(t bulkhead.ledgers, l bulkhead.limits, p_priority integer, p_waits boolean, p_bytes bigint, p_now timestamp with time zone)
 RETURNS bulkhead.refused
 LANGUAGE plpgsql
 STABLE
AS $function$
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
end $function$
;
alter function bulkhead.acceptance_gate(bulkhead.ledgers,bulkhead.limits,integer,boolean,bigint,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.accepted_not_started(p_environment text, p_older_than_ms bigint, p_limit integer)
 RETURNS TABLE(tenant_id text, run_id text, workflow_id text, temporal_run_id text, signed json)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select r.tenant_id, r.run_id, a.workflow_id, r.temporal_run_id, a.signed
    from bulkhead.runs r join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
    where r.environment = p_environment and r.state <> 'closed' and r.temporal_run_id is null
      and r.accepted_at <= bulkhead.now() - p_older_than_ms * interval '1 millisecond'
    order by random() limit p_limit
$function$
;
alter function bulkhead.accepted_not_started(text,bigint,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.accepted_not_started(text,bigint,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.admit_call(p_tenant text, p_environment text, p_run text, p_path text, p_digest text, p_action text, p_class text, p_system text, p_token uuid, p_temporal_run text, p_host text, p_policy_version bigint, p_record_version bigint, p_facts_version integer, p_effect text, p_rules text[], p_refusal json, p_refusal_kind text, p_refusal_origin text, p_refusal_rule text, p_terms json, p_args text, p_schema_digest text, p_requester text, p_destination text, p_input json, p_input_digest text, p_lease_ms integer, p_key_valid_ms bigint, p_seen_seq bigint, p_tool_calls integer, p_steps integer, p_micro_usd bigint, p_model_tokens bigint, p_stored_bytes bigint, p_capability text, p_reversible text, p_undo_of text, p_past_fence boolean, p_account text, p_body text)
 RETURNS bulkhead.admission
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.admit_call(text,text,text,text,text,text,text,text,uuid,text,text,bigint,bigint,integer,text,text[],json,text,text,text,json,text,text,text,text,json,text,integer,bigint,bigint,integer,integer,bigint,bigint,bigint,text,text,text,boolean,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.admit_call(text,text,text,text,text,text,text,text,uuid,text,text,bigint,bigint,integer,text,text[],json,text,text,text,json,text,text,text,text,json,text,integer,bigint,bigint,integer,integer,bigint,bigint,bigint,text,text,text,boolean,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.agent_definition(p_environment text, p_agent text, p_version text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select definition from agents
   where environment = p_environment and agent_id = p_agent and (p_version is null or version = p_version)
   order by published_at desc, version limit 1
$function$
;
alter function bulkhead.agent_definition(text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.agent_definition(text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.amounts_json(a bulkhead.amounts)
 RETURNS json
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select json_build_object('toolCalls', a.tool_calls, 'steps', a.steps, 'activeMs', a.active_ms, 'microUsd', a.micro_usd,
    'modelTokens', a.model_tokens, 'highRiskWrites', a.high_risk_writes)
$function$
;
alter function bulkhead.amounts_json(bulkhead.amounts) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.amounts_of(p_tool_calls bigint, p_steps bigint, p_active_ms bigint, p_micro_usd bigint, p_model_tokens bigint, p_high_risk_writes bigint)
 RETURNS bulkhead.amounts
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select row(p_tool_calls, p_steps, p_active_ms, p_micro_usd, p_model_tokens, p_high_risk_writes)::bulkhead.amounts
$function$
;
alter function bulkhead.amounts_of(bigint,bigint,bigint,bigint,bigint,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.apply_tenant(p_tenant text, p_environment text, p_actor text, p_body text)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  v_tenant tenants;
  v_class jsonb;
  v_quota jsonb;
  v_version integer;
begin
  perform bind_scope(p_tenant, p_environment);
  select * into v_tenant from tenants t where t.tenant_id = p_tenant and t.environment = p_environment for no key update;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
  select document into strict v_class from quota_classes where name = v_tenant.quota_class;
  select coalesce(max(version), 0) into v_version from policies
   where profile = v_tenant.policy_profile and p_environment = any (environments);
  v_quota := quota_of(v_class, v_tenant.quota_overrides, v_tenant.time_zone);
  if v_quota <> v_tenant.quota then
    perform set_limits(p_tenant, p_environment, v_quota, p_actor, p_body);
  end if;
  if v_version <> v_tenant.policy_version then
    perform set_policy_version(p_tenant, p_environment, v_version, p_actor, p_body);
  end if;
  update tenants t
     set lane = v_class ->> 'lane', weight = coalesce((v_class ->> 'weight')::integer, 1),
         worker_ceiling = (v_class ->> 'workerCeiling')::integer,
         expensive_ceiling = coalesce((v_class ->> 'expensiveCeiling')::integer, 2), quota = v_quota, policy_version = v_version
   where t.tenant_id = p_tenant and t.environment = p_environment;
  return v_version;
end $function$
;
alter function bulkhead.apply_tenant(text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.apply_tenant(text,text,text,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.approval_row(p_tenant text, p_environment text, p_approval bigint)
 RETURNS SETOF bulkhead.shown_approval
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select s.* from approvals v join ledgers t using (tenant_id, environment)
      cross join lateral approval_shown(v, greatest(bulkhead.now(), t.last_clock)) s
    where v.tenant_id = p_tenant and v.environment = p_environment and v.approval_no = p_approval;
end $function$
;
alter function bulkhead.approval_row(text,text,bigint) owner to bulkhead_owner;
grant execute on function bulkhead.approval_row(text,text,bigint) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.approval_rows(p_tenant text, p_environment text, p_run text, p_workspaces text[], p_open boolean, p_before bigint, p_limit integer)
 RETURNS SETOF bulkhead.shown_approval
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  n timestamptz;
  below constant bigint := coalesce(p_before, 9223372036854775807);
begin
  perform bind_scope(p_tenant, p_environment);
  select greatest(bulkhead.now(), t.last_clock) into n from ledgers t where t.tenant_id = p_tenant and t.environment = p_environment;
  if p_run is not null then
    return query select s.* from approvals v cross join lateral approval_shown(v, n) s
      where v.tenant_id = p_tenant and v.environment = p_environment and v.run_id = p_run and v.approval_no < below
        and (p_workspaces is null or v.workspace_id = any (p_workspaces))
        and (not p_open or v.state = 'pending' and v.expires_at > n and still_asked(v))
      order by s.approval_no desc limit p_limit;
  elsif p_workspaces is not null and p_open then
    return query select s.* from (select distinct unnest(p_workspaces) as workspace) w
        cross join lateral (select a from approvals a
          where a.tenant_id = p_tenant and a.environment = p_environment and a.workspace_id = w.workspace and a.approval_no < below
            and a.state = 'pending' and a.expires_at > n and still_asked(a)
          order by a.approval_no desc limit p_limit) v cross join lateral approval_shown(v.a, n) s
      order by s.approval_no desc limit p_limit;
  elsif p_workspaces is not null then
    return query select s.* from (select distinct unnest(p_workspaces) as workspace) w
        cross join lateral (select a from approvals a
          where a.tenant_id = p_tenant and a.environment = p_environment and a.workspace_id = w.workspace and a.approval_no < below
          order by a.approval_no desc limit p_limit) v cross join lateral approval_shown(v.a, n) s
      order by s.approval_no desc limit p_limit;
  elsif p_open then
    return query select s.* from approvals v cross join lateral approval_shown(v, n) s
      where v.tenant_id = p_tenant and v.environment = p_environment and v.approval_no < below and v.state = 'pending' and v.expires_at > n
        and still_asked(v)
      order by v.approval_no desc limit p_limit;
  else
    return query select s.* from approvals v cross join lateral approval_shown(v, n) s
      where v.tenant_id = p_tenant and v.environment = p_environment and v.approval_no < below
      order by v.approval_no desc limit p_limit;
  end if;
end $function$
;
alter function bulkhead.approval_rows(text,text,text,text[],boolean,bigint,integer) owner to bulkhead_owner;
grant execute on function bulkhead.approval_rows(text,text,text,text[],boolean,bigint,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.approval_shown(v bulkhead.approvals, p_now timestamp with time zone)
 RETURNS bulkhead.shown_approval
 LANGUAGE sql
 STABLE
AS $function$
  select v.approval_no, v.run_id, v.path, v.action, v.class::text, v.system, v.destination, v.args, v.kind::text, v.terms, v.requester,
    v.policy_version,
    case when (v.state = 'pending' or v.state = 'approved' and v.used_at is null) and v.expires_at <= p_now then 'expired' else v.state::text end,
    bulkhead.iso(v.requested_at), bulkhead.iso(v.expires_at), bulkhead.iso(v.decided_at), v.approver, v.note, bulkhead.iso(v.used_at)
$function$
;
alter function bulkhead.approval_shown(bulkhead.approvals,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.begin_quota(p_tenant text, p_environment text)
 RETURNS TABLE(quota_class text, document jsonb, overrides jsonb)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  perform from tenants t where t.tenant_id = p_tenant and t.environment = p_environment for no key update;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
  return query select t.quota_class, c.document, t.quota_overrides from tenants t join quota_classes c on c.name = t.quota_class
    where t.tenant_id = p_tenant and t.environment = p_environment;
end $function$
;
alter function bulkhead.begin_quota(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.begin_quota(text,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.begin_recovery(p_tenant text, p_environment text, p_highest bigint, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
begin
  perform enter_scope(p_tenant, p_environment);
  t := ledger_in_recovery(p_tenant, p_environment);
  t.rewound_seq := greatest(t.rewound_seq, p_highest);
  t := ledger_renumber(t, greatest(bulkhead.now(), t.last_clock), p_actor);
  perform ledger_save(t, true);
end $function$
;
alter function bulkhead.begin_recovery(text,text,bigint,text) owner to bulkhead_owner;
grant execute on function bulkhead.begin_recovery(text,text,bigint,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.begin_undo(p_tenant text, p_environment text, p_run text, p_temporal_run text)
 RETURNS bulkhead.follow_up_entry
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.begin_undo(text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.begin_undo(text,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.bind_environment(p_environment text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog'
AS $function$
declare
  v_environment text := nullif(current_setting('bulkhead.environment', true), '');
begin
  if p_environment is null or p_environment !~ '^[a-z0-9][a-z0-9-]{1,15}$' then
    raise exception 'this work names no environment' using errcode = 'BH002';
  end if;
  if v_environment is not null and v_environment <> p_environment then
    raise exception 'the context is of another environment' using errcode = 'BH001';
  end if;
  perform set_config('bulkhead.environment', p_environment, true);
end $function$
;
alter function bulkhead.bind_environment(text) owner to bulkhead_owner;
grant execute on function bulkhead.bind_environment(text) to bulkhead_app;
grant execute on function bulkhead.bind_environment(text) to bulkhead_operator;
grant execute on function bulkhead.bind_environment(text) to bulkhead_sweep;

CREATE OR REPLACE FUNCTION bulkhead.bind_scope(p_tenant text, p_environment text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_tenant text := nullif(pg_catalog.current_setting('bulkhead.tenant_id', true), '');
  v_environment text := nullif(pg_catalog.current_setting('bulkhead.environment', true), '');
begin
  if p_tenant is null or p_tenant !~ '^[a-z0-9][a-z0-9-]{0,39}$'
     or p_environment is null or p_environment !~ '^[a-z0-9][a-z0-9-]{1,15}$' then
    raise exception 'this work names no tenant and environment' using errcode = 'BH002';
  end if;
  if v_tenant is distinct from p_tenant or v_environment is distinct from p_environment then
    if v_tenant is not null or (v_environment is not null and v_environment <> p_environment) then
      raise exception 'the context is of another tenant or environment' using errcode = 'BH001';
    end if;
    perform pg_catalog.set_config('bulkhead.tenant_id', p_tenant, true);
    perform pg_catalog.set_config('bulkhead.environment', p_environment, true);
  end if;
end $function$
;
alter function bulkhead.bind_scope(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.bind_scope(text,text) to bulkhead_app;
grant execute on function bulkhead.bind_scope(text,text) to bulkhead_operator;
grant execute on function bulkhead.bind_scope(text,text) to bulkhead_search;
grant execute on function bulkhead.bind_scope(text,text) to bulkhead_sweep;

CREATE OR REPLACE FUNCTION bulkhead.breaker_terms()
 RETURNS bulkhead.breaker_terms
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select row(10, interval '60 seconds', interval '5 seconds', interval '5 minutes', interval '2 seconds')::bulkhead.breaker_terms
$function$
;
alter function bulkhead.breaker_terms() owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.breaker_verdict(p_result text, p_refusal json)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case
    when p_result = 'succeeded' then 'well'
    when p_refusal ->> 'origin' is distinct from 'provider' then null
    when p_refusal ->> 'kind' = 'provider_degraded' and p_refusal ->> 'rule' <> 'proven_absent' then 'ill'
    when p_result = 'failed' and (p_refusal ->> 'rule' = 'result_schema'
      or p_refusal ->> 'rule' like 'http\_%' and p_refusal ->> 'rule' not in ('http_408', 'http_425')) then 'well'
  end
$function$
;
alter function bulkhead.breaker_verdict(text,json) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.bytes_of(p_payload json)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select coalesce(octet_length(p_payload::text), 0)::bigint
$function$
;
alter function bulkhead.bytes_of(json) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.call_context(p_tenant text, p_environment text, p_run text, p_systems text[], p_ids text[], p_capability text)
 RETURNS TABLE(policy_version bigint, record_version bigint, facts_version integer, facts json, data_classes text[], record jsonb, known json, credential_version integer, ciphertext bytea, wrapped_key bytea, key_id text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.call_context(text,text,text,text[],text[],text) owner to bulkhead_owner;
grant execute on function bulkhead.call_context(text,text,text,text[],text[],text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.call_row(p_tenant text, p_environment text, p_run text, p_path text)
 RETURNS TABLE(path text, action text, digest text, class text, state text, reversible text, undo_of text, attempts integer, review_no bigint, refusal json)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select c.path, c.action, c.digest, c.class::text, c.state::text, c.reversible::text, c.undo_of, c.attempts, c.review_no, c.refusal
    from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run and c.path = p_path;
end $function$
;
alter function bulkhead.call_row(text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.call_row(text,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.call_trouble(p_tenant text, p_environment text, p_run text, p_path text, p_token uuid, p_refusal json)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.call_trouble(text,text,text,text,uuid,json) owner to bulkhead_owner;
grant execute on function bulkhead.call_trouble(text,text,text,text,uuid,json) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.calls_due(p_environment text, p_limit integer)
 RETURNS TABLE(tenant_id text, run_id text, path text, token uuid)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select c.tenant_id, c.run_id, c.path, c.token
    from bulkhead.calls c left join bulkhead.runs r using (tenant_id, environment, run_id)
    where c.environment = p_environment and c.state = 'claimed' and c.lease_until <= bulkhead.now()
      and (c.class in ('read', 'model') or (r.state = 'closed' or r.run_id is null) and not exists (select from bulkhead.follow_ups f
        where f.tenant_id = c.tenant_id and f.environment = c.environment and f.run_id = c.run_id and f.state <> 'done'))
    order by random() limit p_limit
$function$
;
alter function bulkhead.calls_due(text,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.calls_due(text,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.calls_of_dead_hosts(p_environment text, p_silent_ms bigint, p_limit integer)
 RETURNS TABLE(tenant_id text, run_id text, path text, token uuid, host_id text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_environment(p_environment);
  -- A host stops sending one second after the last word that the fence is open, and aborts for good what was in flight by then.
  if p_silent_ms is null or p_silent_ms < 5000 then
    raise exception 'a host is not dead after % ms of silence: at least 5000', p_silent_ms using errcode = 'invalid_parameter_value';
  end if;
  if pg_postmaster_start_time() > clock_timestamp() - p_silent_ms * interval '1 millisecond' then
    return;
  end if;
  return query select c.tenant_id::text, c.run_id, c.path, c.token, c.host_id
    from bulkhead.hosts h join bulkhead.calls c on c.environment = h.environment and c.host_id = h.host_id
    where h.environment = p_environment and h.seen_at <= bulkhead.now() - p_silent_ms * interval '1 millisecond'
      and c.state = 'claimed' and c.lease_until > bulkhead.now()
    order by random() limit p_limit;
end $function$
;
alter function bulkhead.calls_of_dead_hosts(text,bigint,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.calls_of_dead_hosts(text,bigint,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.capacity_state(p_tenant text, p_environment text)
 RETURNS TABLE(name text, calls integer, share integer, inflight integer, promised integer, guaranteed integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select c.name, c.calls_in_flight, coalesce(s.calls_in_flight, 0), (t.meter).inflight,
      least((l.layers).calls_in_flight, coalesce((l.quota #>> '{guaranteed,callsInFlight}')::integer, 0)), coalesce(s.guaranteed, 0)
    from limits l join ledgers t using (tenant_id, environment) join call_capacities c on c.name = l.capacity
      left join pool_shares s on s.tenant_id = p_tenant and s.environment = p_environment and s.provider = '' and s.pool = l.capacity and s.left_at is null
    where l.tenant_id = p_tenant and l.environment = p_environment;
end $function$
;
alter function bulkhead.capacity_state(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.capacity_state(text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.claimed_calls(p_tenant text, p_environment text, p_run text, p_before_epoch bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return (select count(*) from calls c join ledgers t using (tenant_id, environment)
    where c.tenant_id = p_tenant and c.environment = p_environment and c.state = 'claimed'
      and c.lease_until > greatest(bulkhead.now(), t.last_clock)
      and (p_run is null or c.run_id = p_run) and (p_before_epoch is null or c.epoch < p_before_epoch));
end $function$
;
alter function bulkhead.claimed_calls(text,text,text,bigint) owner to bulkhead_owner;
grant execute on function bulkhead.claimed_calls(text,text,text,bigint) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.close_floods(p_tenant text, p_environment text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  f refusal_floods;
  n timestamptz;
  closed bigint := 0;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  for f in delete from refusal_floods where tenant_id = p_tenant and environment = p_environment and minute < date_trunc('minute', n, 'UTC')
    returning * loop
    t := ledger_close_flood(t, n, f);
    closed := closed + 1;
  end loop;
  if closed > 0 then
    t.last_clock := n;
    perform ledger_save(t, true);
  end if;
  return closed;
end $function$
;
alter function bulkhead.close_floods(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.close_floods(text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.close_partition(p_name text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  execute format('alter table bulkhead.%I enable row level security, force row level security', p_name);
  execute format(
    'create policy tenant_scope on bulkhead.%I using (tenant_id = nullif(current_setting(''bulkhead.tenant_id'', true), '''')
       and environment = nullif(current_setting(''bulkhead.environment'', true), ''''))', p_name);
end $function$
;
alter function bulkhead.close_partition(text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.control_state(p_tenant text, p_environment text)
 RETURNS TABLE(mode text, fence_epoch bigint, fenced_at text, contained_at text, drained_at text, reason text, actor text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select t.mode::text, t.fence_epoch, iso(f.fenced_at), iso(f.contained_at), iso(f.drained_at), f.reason, f.actor
    from ledgers t join fencings f using (tenant_id, environment)
    where t.tenant_id = p_tenant and t.environment = p_environment;
end $function$
;
alter function bulkhead.control_state(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.control_state(text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.control_versions(p_environment text)
 RETURNS TABLE(tenant_id text, fence_epoch bigint, control_version bigint, mode text)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select t.tenant_id, t.fence_epoch, t.control_version, t.mode from bulkhead.ledgers t where t.environment = p_environment
$function$
;
alter function bulkhead.control_versions(text) owner to bulkhead_sweep;
grant execute on function bulkhead.control_versions(text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.count_refusals(p_tenant text, p_environment text, p_refusals jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  x refused;
  n timestamptz;
  e record;
  version bigint;
  still bigint;
  counted bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  version := t.policy_version;
  for e in select * from jsonb_to_recordset(p_refusals) as r (rule text, rules text[], kind text, origin text, message text, value bigint,
      used bigint, "retryAfterMs" bigint, "policyVersion" bigint, action text, run text, count bigint) where r.count > 0 loop
    x := row(e.kind, e.origin, e.rule, e.message, e.value, e.used, e."retryAfterMs", e.rules);
    still := e.count;
    -- Under the version that refused, which may be over by now.
    t.policy_version := coalesce(e."policyVersion", version);
    loop
      t := ledger_refuse(t, n, x, e.run, e.action, '{"remembered": true}', '{}');
      still := still - 1;
      select f.refusals into counted from refusal_floods f where f.tenant_id = p_tenant and f.environment = p_environment and f.rule = e.rule
        and f.policy_version = t.policy_version and f.action = e.action and f.reason = e.kind;
      exit when still = 0 or counted > 5;
    end loop;
    update refusal_floods f set refusals = f.refusals + still where f.tenant_id = p_tenant and f.environment = p_environment and f.rule = e.rule
      and f.policy_version = t.policy_version and f.action = e.action and f.reason = e.kind and still > 0;
    update runs r set refusals = r.refusals + e.count::integer,
        last_refusal = json_build_object('at', iso(n), 'action', e.action, 'refusal', refusal_json(x, t.policy_version))
      where r.tenant_id = p_tenant and r.environment = p_environment and r.run_id = e.run;
  end loop;
  t.policy_version := version;
  perform ledger_save(t, false);
end $function$
;
alter function bulkhead.count_refusals(text,text,jsonb) owner to bulkhead_owner;
grant execute on function bulkhead.count_refusals(text,text,jsonb) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.counted(a bulkhead.amounts)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select coalesce(least((a).tool_calls, (a).steps, (a).active_ms, (a).micro_usd, (a).model_tokens, (a).high_risk_writes) >= 0
    and num_nulls((a).tool_calls, (a).steps, (a).active_ms, (a).micro_usd, (a).model_tokens, (a).high_risk_writes) = 0, false)
$function$
;
alter function bulkhead.counted(bulkhead.amounts) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.counted(m bulkhead.meter)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select coalesce(bulkhead.counted((m).used) and (m).inflight >= 0 and ((m).calls).level >= 0 and ((m).model_tokens).level >= 0
    and (m).tokens_gone >= 0, false)
$function$
;
alter function bulkhead.counted(bulkhead.meter) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.day_of(p_at timestamp with time zone, p_zone text)
 RETURNS integer
 LANGUAGE sql
 STABLE
AS $function$
  select (p_at at time zone p_zone)::date - date '1970-01-01'
$function$
;
alter function bulkhead.day_of(timestamp with time zone,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.day_refused(p_layer text, p_prefix text, p_of_whom text, p_cap bulkhead.amounts, p_used bulkhead.amounts, p_ask bulkhead.amounts, p_frees_ms bigint)
 RETURNS bulkhead.refused
 LANGUAGE sql
 STABLE
AS $function$
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
$function$
;
alter function bulkhead.day_refused(text,text,text,bulkhead.amounts,bulkhead.amounts,bulkhead.amounts,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.decide_approval(p_tenant text, p_environment text, p_approval bigint, p_decision text, p_approver text, p_roles text[], p_note text, p_body text)
 RETURNS bulkhead.approval_answer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  v approvals;
  s approval_answer;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  if p_decision not in ('approve', 'deny') or nullif(p_approver, '') is null then
    raise exception 'somebody approves or denies' using errcode = 'invalid_parameter_value';
  end if;
  select * into v from approvals where tenant_id = p_tenant and environment = p_environment and approval_no = p_approval;
  if not found then
    s.kind := 'absent';
    return s;
  end if;
  if v.state in ('approved', 'denied') then
    s.kind := 'already';
    return s;
  end if;
  s.kind := 'refused';
  if v.state = 'pending' and v.expires_at <= n then
    t := ledger_expire_approval(ledger_roll(t, n), n, p_approval);
    perform ledger_save(t, true);
    s.message := 'nobody decided this in time';
    return s;
  end if;
  s.message := case
    when v.state = 'expired' then 'nobody decided this in time'
    when v.state = 'superseded' then 'the call, or what its policy asks for it, has changed: another request took its place'
    when t.rewound_seq > 0 then 'the ledger has to be reconciled first: bulkhead recover'
    when not still_asked(v) then 'this call, or its run, is over: nobody waits for it'
    else not_entitled(v.terms, p_approver, p_roles, v.requester)
  end;
  if s.message is not null then
    return s;
  end if;
  update approvals set state = case p_decision when 'approve' then 'approved' else 'denied' end, decided_at = n, approver = p_approver,
      approver_roles = p_roles, note = p_note
    where tenant_id = p_tenant and environment = p_environment and approval_no = p_approval;
  t := ledger_append(ledger_roll(t, n), n, v.run_id, json_build_object('kind', 'approval_decided', 'at', iso(n), 'run', v.run_id,
    'path', v.path, 'action', v.action, 'approval', p_approval, 'digest', v.digest, 'decision', p_decision, 'actor', p_approver,
    'roles', p_roles), p_body);
  perform ledger_save(t, true);
  s.kind := 'decided';
  return s;
end $function$
;
alter function bulkhead.decide_approval(text,text,bigint,text,text,text[],text,text) owner to bulkhead_owner;
grant execute on function bulkhead.decide_approval(text,text,bigint,text,text,text[],text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.decision_rows(p_tenant text, p_environment text, p_since timestamp with time zone, p_after_at timestamp with time zone, p_after_run text, p_after_path text, p_limit integer)
 RETURNS TABLE(run_id text, path text, at text, effect text, rules text[], policy_version bigint, input json, micro_usd bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select d.run_id, d.path, iso(d.at), d.effect::text, d.rules, d.policy_version, d.input,
      coalesce((c.charged).micro_usd, (c.reserved).micro_usd, 0)
    from decisions d left join calls c on c.tenant_id = d.tenant_id and c.environment = d.environment and c.run_id = d.run_id and c.path = d.path
    where d.tenant_id = p_tenant and d.environment = p_environment and d.at >= greatest(p_since, p_after_at)
      and (p_after_at is null or (d.at, d.run_id, d.path) > (p_after_at, p_after_run, p_after_path))
    order by d.at, d.run_id, d.path limit p_limit;
end $function$
;
alter function bulkhead.decision_rows(text,text,timestamp with time zone,timestamp with time zone,text,text,integer) owner to bulkhead_owner;
grant execute on function bulkhead.decision_rows(text,text,timestamp with time zone,timestamp with time zone,text,text,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.discard_dead_letter(p_tenant text, p_environment text, p_letter bigint, p_actor text, p_note text, p_body text)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.discard_dead_letter(text,text,bigint,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.discard_dead_letter(text,text,bigint,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.drained(b bulkhead.bucket, p_limit bigint, p_now timestamp with time zone)
 RETURNS bulkhead.bucket
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case when p_limit is null then row(0, p_now)::bulkhead.bucket else (
    select row(greatest(0, b.level - least(ms, 864000000) * p_limit), b.at + ms * interval '1 millisecond')::bulkhead.bucket
      from (select greatest(0, floor(extract(epoch from p_now - b.at) * 1000)::bigint) as ms) passed) end
$function$
;
alter function bulkhead.drained(bulkhead.bucket,bigint,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.end_lease(p_tenant text, p_environment text, p_run text, p_path text, p_token uuid, p_host text, p_silent_ms bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  c calls;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  -- The host may have spoken since the list was made.
  if c.state is distinct from 'claimed' or c.token <> p_token or c.host_id <> p_host or c.lease_until <= n
      or p_silent_ms is null or p_silent_ms < 5000 or not exists (select from hosts where environment = p_environment
        and host_id = p_host and seen_at <= bulkhead.now() - p_silent_ms * interval '1 millisecond') then
    return false;
  end if;
  update calls set lease_until = n where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'lease_ended', 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
    'host', p_host), '{}');
  perform ledger_save(t, true);
  return true;
end $function$
;
alter function bulkhead.end_lease(text,text,text,text,uuid,text,bigint) owner to bulkhead_owner;
grant execute on function bulkhead.end_lease(text,text,text,text,uuid,text,bigint) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.enter_follow_up(p_tenant text, p_environment text, p_run text, p_follow_up bigint, p_temporal_run text)
 RETURNS bulkhead.follow_up_entry
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.enter_follow_up(text,text,text,bigint,text) owner to bulkhead_owner;
grant execute on function bulkhead.enter_follow_up(text,text,text,bigint,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.enter_run(p_tenant text, p_environment text, p_run text, p_temporal_run text, p_previous text, p_generation integer, p_approval bigint, p_review bigint)
 RETURNS bulkhead.run_entry
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.enter_run(text,text,text,text,text,integer,bigint,bigint) owner to bulkhead_owner;
grant execute on function bulkhead.enter_run(text,text,text,text,text,integer,bigint,bigint) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.enter_scope(p_tenant text, p_environment text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
begin
  perform bulkhead.bind_scope(p_tenant, p_environment);
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the ledger works in read committed alone: an older snapshot would not see what the lock waited for'
      using errcode = 'invalid_transaction_state';
  end if;
  perform set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '2s', true);
end $function$
;
alter function bulkhead.enter_scope(text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.filled(b bulkhead.bucket, p_units bigint)
 RETURNS bulkhead.bucket
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select row(b.level + p_units * 60000, b.at)::bulkhead.bucket
$function$
;
alter function bulkhead.filled(bulkhead.bucket,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.finish_recovery(p_tenant text, p_environment text, p_actor text, p_counts json, p_body text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.finish_recovery(text,text,text,json,text) owner to bulkhead_owner;
grant execute on function bulkhead.finish_recovery(text,text,text,json,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.floods_due(p_environment text, p_limit integer)
 RETURNS TABLE(tenant_id text)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select distinct f.tenant_id from bulkhead.refusal_floods f
    where f.environment = p_environment and f.minute < date_trunc('minute', bulkhead.now(), 'UTC') limit p_limit
$function$
;
alter function bulkhead.floods_due(text,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.floods_due(text,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.follow_ups_waiting(p_environment text, p_older_than_ms bigint, p_limit integer)
 RETURNS TABLE(tenant_id text, run_id text, follow_up_no bigint, kind text, signed json)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select f.tenant_id, f.run_id, f.follow_up_no, f.kind, a.signed
    from bulkhead.follow_ups f join bulkhead.runs r using (tenant_id, environment, run_id)
      join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
    where f.environment = p_environment and f.state <> 'done' and (f.kind = 'retry' or r.state = 'closed')
      and f.touched_at <= bulkhead.now() - p_older_than_ms * interval '1 millisecond'
    order by random() limit p_limit
$function$
;
alter function bulkhead.follow_ups_waiting(text,bigint,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.follow_ups_waiting(text,bigint,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.fork_payloads(t bulkhead.ledgers, p_from text, p_step integer)
 RETURNS SETOF bulkhead.payloads
 LANGUAGE sql
 STABLE
AS $function$
  select k from bulkhead.payloads k where k.tenant_id = t.tenant_id and k.environment = t.environment and k.run_id = p_from
    and case when k.ref ~ '^[0-9]{1,9}[.][0-9]{1,9}$' then split_part(k.ref, '.', 1)::integer < p_step else k.ref = 'input' end
$function$
;
alter function bulkhead.fork_payloads(bulkhead.ledgers,text,integer) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.has_undo(p_tenant text, p_environment text, p_run text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select exists (select from bulkhead.undo_items(p_tenant, p_environment, p_run) i where i.reversible <> 'final'
    and (i.undo is null or i.undo in ('claimed', 'open', 'unknown') or i.undo = 'failed' and i.undo_review is not null))
$function$
;
alter function bulkhead.has_undo(text,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.heartbeat_host(p_environment text, p_host text, p_pid integer, p_roles text[])
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  insert into bulkhead.hosts (environment, host_id, pid, roles, seen_at) values (p_environment, p_host, p_pid, p_roles, bulkhead.now())
    on conflict on constraint hosts_pk do update set pid = excluded.pid, roles = excluded.roles, seen_at = excluded.seen_at
$function$
;
alter function bulkhead.heartbeat_host(text,text,integer,text[]) owner to bulkhead_sweep;
grant execute on function bulkhead.heartbeat_host(text,text,integer,text[]) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.iso(p_at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE
AS $function$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$function$
;
alter function bulkhead.iso(timestamp with time zone) owner to bulkhead_owner;
grant execute on function bulkhead.iso(timestamp with time zone) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.journal_genesis(p_tenant text, p_environment text)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select sha256(int4send(octet_length('bulkhead/journal/1')) || convert_to('bulkhead/journal/1', 'UTF8')
    || int4send(octet_length(p_tenant)) || convert_to(p_tenant, 'UTF8')
    || int4send(octet_length(p_environment)) || convert_to(p_environment, 'UTF8'))
$function$
;
alter function bulkhead.journal_genesis(text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.journal_heads(p_environment text)
 RETURNS TABLE(tenant_id text, seq bigint, hash text, acknowledged bigint)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select t.tenant_id, t.durable_seq, left(encode(j.hash, 'hex'), 16), t.acknowledged_seq
    from bulkhead.ledgers t join bulkhead.journal j on j.tenant_id = t.tenant_id and j.environment = t.environment and j.seq = t.durable_seq
    where t.environment = p_environment order by 1
$function$
;
alter function bulkhead.journal_heads(text) owner to bulkhead_sweep;
grant execute on function bulkhead.journal_heads(text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.key_horizon()
 RETURNS interval
 LANGUAGE sql
 IMMUTABLE
AS $function$ select interval '90 days' $function$
;
alter function bulkhead.key_horizon() owner to bulkhead_owner;
grant execute on function bulkhead.key_horizon() to bulkhead_sweep;

CREATE OR REPLACE FUNCTION bulkhead.kill_tenant(p_tenant text, p_environment text, p_reason text, p_actor text, p_body text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if t.mode = 'killed' then
    return;
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  t.mode := 'killed';
  t.fence_epoch := t.fence_epoch + 1;
  t.control_version := t.control_version + 1;
  update fencings set fence_epoch = t.fence_epoch, fenced_at = n, contained_at = null, drained_at = null, reason = p_reason, actor = p_actor
    where tenant_id = p_tenant and environment = p_environment;
  t := ledger_append(t, n, null, json_build_object('kind', 'killed', 'at', iso(n), 'actor', p_actor, 'epoch', t.fence_epoch), p_body);
  perform ledger_save(t, true);
end $function$
;
alter function bulkhead.kill_tenant(text,text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.kill_tenant(text,text,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.layers_of(l jsonb)
 RETURNS bulkhead.layers
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select row(bulkhead.amounts_of((l ->> 'toolCallsPerDay')::bigint, (l ->> 'stepsPerDay')::bigint, (l ->> 'activeSecondsPerDay')::bigint * 1000,
      (l ->> 'spendMicroUsdPerDay')::bigint, (l ->> 'modelTokensPerDay')::bigint, (l ->> 'highRiskWritesPerDay')::bigint),
    (l ->> 'callsPerMinute')::bigint, (l ->> 'modelTokensPerMinute')::bigint, (l ->> 'callsInFlight')::integer)::bulkhead.layers
$function$
;
alter function bulkhead.layers_of(jsonb) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.leave_follow_up(p_tenant text, p_environment text, p_run text, p_follow_up bigint, p_temporal_run text, p_outcome json)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.leave_follow_up(text,text,text,bigint,text,json) owner to bulkhead_owner;
grant execute on function bulkhead.leave_follow_up(text,text,text,bigint,text,json) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.leave_run(p_tenant text, p_environment text, p_run text, p_temporal_run text, p_stop_reason text, p_output_ref text, p_undo_failed boolean, p_undo_killed boolean)
 RETURNS bulkhead.run_end
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.leave_run(text,text,text,text,text,text,boolean,boolean) owner to bulkhead_owner;
grant execute on function bulkhead.leave_run(text,text,text,text,text,text,boolean,boolean) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.ledger_adopt(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_envelope json, p_idempotency_key text, p_body_digest text, p_input json)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_adopt(bulkhead.ledgers,timestamp with time zone,text,json,text,text,json) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_append(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_facts json, p_body text)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_append(bulkhead.ledgers,timestamp with time zone,text,json,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_approval(t bulkhead.ledgers, p_now timestamp with time zone, q bulkhead.asked_call, p_effect text, p_used bigint)
 RETURNS bulkhead.approval_standing
 LANGUAGE plpgsql
AS $function$
declare
  asked_kind constant text := case p_effect when 'approve' then 'rule' when 'suggest' then 'suggestion' end;
  rules constant text[] := bulkhead.rules_of(q.terms);
  v bulkhead.approvals;
  s bulkhead.approval_standing;
begin
  -- A person's no comes first, and stays: of these very arguments nobody is asked again.
  for v in select * from bulkhead.approvals k where k.tenant_id = t.tenant_id and k.environment = t.environment and k.run_id = q.run_id
      and k.path = q.path and k.state <> 'superseded' order by k.state = 'denied' desc, k.approval_no desc loop
    s := row(null, v.approval_no, v.expires_at);
    if v.state = 'denied' then
      if v.digest = q.digest then
        s.answer := 'denied';
        return s;
      end if;
      continue;
    end if;
    continue when not coalesce(v.kind = asked_kind and v.digest = q.digest and v.action = q.action and v.schema_digest = q.schema_digest
      and v.requester = q.requester and bulkhead.rules_of(v.terms) = rules, false);
    s.answer := case
      when v.used_at is null and v.expires_at <= p_now then 'expired'
      -- One that asks other people than the rules do now is asked anew.
      when v.state = 'pending' then case when (v.terms -> 'roles')::jsonb = (q.terms -> 'roles')::jsonb
        and v.terms ->> 'notRequester' = q.terms ->> 'notRequester' then 'pending' end
      when v.used_at is not null and v.approval_no is distinct from p_used then null
      when bulkhead.not_entitled(q.terms, v.approver, v.approver_roles, q.requester) is null then 'usable'
    end;
    if s.answer is not null then
      return s;
    end if;
  end loop;
  s := row('none', null, null);
  return s;
end $function$
;
alter function bulkhead.ledger_approval(bulkhead.ledgers,timestamp with time zone,bulkhead.asked_call,text,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_breaker_enter(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_path text, p_system text, p_token uuid, p_until timestamp with time zone)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
begin
  update bulkhead.breakers set state = 'half_open', probe_token = p_token, probe_until = p_until
    where tenant_id = t.tenant_id and environment = t.environment and system = p_system;
  return bulkhead.ledger_append(t, p_now, p_run, json_build_object('kind', 'breaker_half_open', 'at', bulkhead.iso(p_now), 'run', p_run,
    'path', p_path, 'token', p_token, 'system', p_system, 'probeUntil', bulkhead.iso(p_until)), '{}');
end $function$
;
alter function bulkhead.ledger_breaker_enter(bulkhead.ledgers,timestamp with time zone,text,text,text,uuid,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_breaker_gate(t bulkhead.ledgers, p_now timestamp with time zone, p_system text)
 RETURNS bulkhead.refused
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_breaker_gate(bulkhead.ledgers,timestamp with time zone,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_breaker_settle(t bulkhead.ledgers, p_now timestamp with time zone, c bulkhead.calls, p_result text, p_refusal json)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_breaker_settle(bulkhead.ledgers,timestamp with time zone,bulkhead.calls,text,json) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_charge(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_metered text[], p_day integer, p_delta bulkhead.amounts, p_reserved bigint DEFAULT 0, p_marks numeric[] DEFAULT '{}'::numeric[])
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_charge(bulkhead.ledgers,timestamp with time zone,text,text[],integer,bulkhead.amounts,bigint,numeric[]) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_close_flood(t bulkhead.ledgers, p_now timestamp with time zone, f bulkhead.refusal_floods)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
begin
  if f.refusals > 5 then
    t := bulkhead.ledger_append(t, p_now, null, json_build_object('kind', 'refusals', 'at', bulkhead.iso(p_now), 'rule', f.rule,
      'policyVersion', f.policy_version, 'action', f.action, 'reason', f.reason, 'first', bulkhead.iso(f.first_uncounted_at),
      'last', bulkhead.iso(f.last_at), 'count', f.refusals - 5), '{}');
  end if;
  return t;
end $function$
;
alter function bulkhead.ledger_close_flood(bulkhead.ledgers,timestamp with time zone,bulkhead.refusal_floods) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_close_review(t bulkhead.ledgers, p_now timestamp with time zone, p_review bigint, p_resolution text, p_actor text, p_note text, p_moved jsonb, p_body text DEFAULT '{}'::text)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_close_review(bulkhead.ledgers,timestamp with time zone,bigint,text,text,text,jsonb,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_day(t bulkhead.ledgers, p_now timestamp with time zone, p_zone text)
 RETURNS integer
 LANGUAGE sql
 STABLE
AS $function$
  select greatest(bulkhead.day_of(p_now, p_zone), (t.meter).day)
$function$
;
alter function bulkhead.ledger_day(bulkhead.ledgers,timestamp with time zone,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_dead_letter(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_path text)
 RETURNS void
 LANGUAGE sql
AS $function$
  insert into bulkhead.dead_letters (tenant_id, environment, letter_no, run_id, workspace_id, path, action, class, system, attempts, refusal,
      died_at, state)
    select tenant_id, environment, t.journal_seq, run_id, bulkhead.workspace_of(tenant_id, environment, run_id), path, action, class, system, attempts,
        coalesce(refusal, bulkhead.refusal_json(row('failed', 'platform', 'not_recorded', 'nobody could say why', null, null, null, null)::bulkhead.refused,
          policy_version)), p_now, 'dead' from bulkhead.calls
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run and path = p_path
$function$
;
alter function bulkhead.ledger_dead_letter(bulkhead.ledgers,timestamp with time zone,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_decided(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_path text, p_effect text, p_rules text[], p_policy_version bigint, p_input json, p_input_digest text)
 RETURNS void
 LANGUAGE sql
AS $function$
  insert into bulkhead.decisions (tenant_id, environment, run_id, path, at, effect, rules, policy_version, input, input_digest)
    values (t.tenant_id, t.environment, p_run, p_path, p_now, p_effect, coalesce(p_rules, '{}'), p_policy_version, p_input, p_input_digest)
    on conflict on constraint decisions_pk do update set at = excluded.at, effect = excluded.effect, rules = excluded.rules,
      policy_version = excluded.policy_version, input = excluded.input, input_digest = excluded.input_digest
$function$
;
alter function bulkhead.ledger_decided(bulkhead.ledgers,timestamp with time zone,text,text,text,text[],bigint,json,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_enter_follow_up(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_follow_up bigint, p_temporal_run text)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_enter_follow_up(bulkhead.ledgers,timestamp with time zone,text,bigint,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_expire_approval(t bulkhead.ledgers, p_now timestamp with time zone, p_approval bigint)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
declare
  v bulkhead.approvals;
begin
  update bulkhead.approvals set state = 'expired' where tenant_id = t.tenant_id and environment = t.environment and approval_no = p_approval
    and (state = 'pending' or state = 'approved' and used_at is null) returning * into v;
  if found then
    t := bulkhead.ledger_append(t, p_now, v.run_id, json_build_object('kind', 'approval_expired', 'at', bulkhead.iso(p_now), 'run', v.run_id,
      'path', v.path, 'action', v.action, 'approval', p_approval), '{}');
  end if;
  return t;
end $function$
;
alter function bulkhead.ledger_expire_approval(bulkhead.ledgers,timestamp with time zone,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_fork(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_from text, p_step integer)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_fork(bulkhead.ledgers,timestamp with time zone,text,text,integer) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_hand_over(t bulkhead.ledgers, p_now timestamp with time zone)
 RETURNS bulkhead.handed_over
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_hand_over(bulkhead.ledgers,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_in_recovery(p_tenant text, p_environment text)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
declare
  t bulkhead.ledgers;
begin
  select * into t from bulkhead.ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if t.tenant_id is null or t.rewound_seq = 0 then
    raise exception 'the tenant is at work: nothing to recover' using errcode = 'BH003';
  end if;
  return t;
end $function$
;
alter function bulkhead.ledger_in_recovery(text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_keep(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_path text, p_payload json, p_facts json, p_records json, p_data_classes text[])
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_keep(bulkhead.ledgers,timestamp with time zone,text,text,json,json,json,text[]) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_limit(p_tenant text, p_environment text, p_quota jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  l constant jsonb := p_quota -> 'limits';
  r constant jsonb := p_quota -> 'perRun';
begin
  delete from bulkhead.named_limits where tenant_id = p_tenant and environment = p_environment;
  insert into bulkhead.named_limits (tenant_id, environment, name, layers)
    select p_tenant, p_environment, 'action:' || key, bulkhead.layers_of(value) from jsonb_each(coalesce(p_quota -> 'perAction', '{}'))
    union all select p_tenant, p_environment, 'agent:' || key, bulkhead.layers_of(value) from jsonb_each(coalesce(p_quota -> 'perAgent', '{}'));
  insert into bulkhead.limits (tenant_id, environment, layers, per_run, run_starts_per_minute, retries_per_minute, best_priority, queued_runs,
      queued_seconds, concurrent_runs, storage_bytes, memory_bytes, time_zone, named, quota)
    values (p_tenant, p_environment, bulkhead.layers_of(l),
      bulkhead.amounts_of(null, (r ->> 'steps')::bigint, (r ->> 'seconds')::bigint * 1000, (r ->> 'spendMicroUsd')::bigint, null, null),
      (l ->> 'runStartsPerMinute')::bigint, (l ->> 'retriesPerMinute')::bigint, (l ->> 'bestPriority')::integer,
      (l ->> 'queuedRuns')::bigint, (l ->> 'queuedSeconds')::bigint, (l ->> 'concurrentRuns')::integer,
      (l ->> 'storageBytes')::bigint, (l ->> 'memoryBytes')::bigint, p_quota ->> 'timeZone',
      array(select name from bulkhead.named_limits where tenant_id = p_tenant and environment = p_environment order by name), p_quota)
    on conflict on constraint limits_pk do update set layers = excluded.layers, per_run = excluded.per_run,
      run_starts_per_minute = excluded.run_starts_per_minute, retries_per_minute = excluded.retries_per_minute,
      best_priority = excluded.best_priority, queued_runs = excluded.queued_runs, queued_seconds = excluded.queued_seconds,
      concurrent_runs = excluded.concurrent_runs, storage_bytes = excluded.storage_bytes, memory_bytes = excluded.memory_bytes,
      time_zone = excluded.time_zone, named = excluded.named, quota = excluded.quota;
end $function$
;
alter function bulkhead.ledger_limit(text,text,jsonb) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_lose(t bulkhead.ledgers, c bulkhead.calls)
 RETURNS void
 LANGUAGE sql
AS $function$
  insert into bulkhead.lost_attempts (tenant_id, environment, run_id, path, token, admitted_at, day, metered, reserved,
      token_marks)
    values (t.tenant_id, t.environment, c.run_id, c.path, c.token, c.admitted_at, c.day, c.metered, c.reserved, c.token_marks) on conflict do nothing
$function$
;
alter function bulkhead.ledger_lose(bulkhead.ledgers,bulkhead.calls) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_mark_rewound(t bulkhead.ledgers, p_seen bigint, p_by text)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_mark_rewound(bulkhead.ledgers,bigint,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_open_review(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_path text, p_kind text)
 RETURNS bulkhead.calls
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_open_review(bulkhead.ledgers,timestamp with time zone,text,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_order(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_kind text, p_path text, p_letter bigint, p_reason text, p_actor text, p_note text, p_body text)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
begin
  t := bulkhead.ledger_append(t, p_now, p_run, json_build_object('kind', 'ordered', 'at', bulkhead.iso(p_now), 'run', p_run,
    'followUp', p_kind, 'path', p_path, 'letter', p_letter, 'reason', p_reason, 'actor', p_actor, 'epoch', t.fence_epoch), p_body);
  insert into bulkhead.follow_ups (tenant_id, environment, follow_up_no, run_id, kind, path, letter_no, reason, state, epoch, actor, note,
      wanted_at, touched_at)
    values (t.tenant_id, t.environment, t.journal_seq, p_run, p_kind, p_path, p_letter, p_reason, 'wanted', t.fence_epoch, p_actor, p_note,
      p_now, p_now);
  return t;
end $function$
;
alter function bulkhead.ledger_order(bulkhead.ledgers,timestamp with time zone,text,text,text,bigint,text,text,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_reap(t bulkhead.ledgers, p_now timestamp with time zone, c bulkhead.calls, p_result text, x bulkhead.refused)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_reap(bulkhead.ledgers,timestamp with time zone,bulkhead.calls,text,bulkhead.refused) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_refuse(t bulkhead.ledgers, p_now timestamp with time zone, x bulkhead.refused, p_run text, p_action text, p_facts jsonb, p_body text)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_refuse(bulkhead.ledgers,timestamp with time zone,bulkhead.refused,text,text,jsonb,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_renumber(t bulkhead.ledgers, p_now timestamp with time zone, p_actor text)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
declare
  first_lost bigint := t.journal_seq + 1;
begin
  if t.rewound_seq > t.journal_seq then
    t.journal_seq := t.rewound_seq;
    t := bulkhead.ledger_append(t, p_now, null, json_build_object('kind', 'renumbered', 'at', bulkhead.iso(p_now), 'actor', p_actor,
      'firstLost', first_lost, 'lastLost', t.rewound_seq), '{}');
  end if;
  return t;
end $function$
;
alter function bulkhead.ledger_renumber(bulkhead.ledgers,timestamp with time zone,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_request_approval(t bulkhead.ledgers, p_now timestamp with time zone, q bulkhead.asked_call, p_body text)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
declare
  expires constant timestamptz := p_now + (q.terms ->> 'expiresAfterMs')::bigint * interval '1 millisecond';
  ended constant bigint[] := bulkhead.ledger_supersede(t, q.run_id, q.path);
begin
  t := bulkhead.ledger_append(t, p_now, q.run_id, json_build_object('kind', 'approval_requested', 'at', bulkhead.iso(p_now), 'run', q.run_id,
    'path', q.path, 'token', q.token, 'digest', q.digest, 'action', q.action, 'class', q.class, 'schemaDigest', q.schema_digest,
    'requester', q.requester, 'terms', q.terms, 'expires', bulkhead.iso(expires), 'superseded', ended, 'policyVersion', t.policy_version,
    'inputs', q.input_digest), p_body);
  insert into bulkhead.approvals (tenant_id, environment, approval_no, run_id, workspace_id, path, digest, action, class, system, destination,
      args, schema_digest, kind, terms, requester, policy_version, state, requested_at, expires_at)
    values (t.tenant_id, t.environment, t.journal_seq, q.run_id, bulkhead.workspace_of(t.tenant_id, t.environment, q.run_id), q.path, q.digest,
      q.action, q.class, q.system, q.destination, q.args, q.schema_digest, 'rule', q.terms, q.requester, t.policy_version, 'pending', p_now, expires);
  return t;
end $function$
;
alter function bulkhead.ledger_request_approval(bulkhead.ledgers,timestamp with time zone,bulkhead.asked_call,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_reserve(t bulkhead.ledgers, l bulkhead.limits, p_named bulkhead.named_meter[], p_ask bulkhead.amounts, p_slots integer, p_now timestamp with time zone)
 RETURNS bulkhead.reservation
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_reserve(bulkhead.ledgers,bulkhead.limits,bulkhead.named_meter[],bulkhead.amounts,integer,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_rewound()
 RETURNS bulkhead.refused
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select row('frozen', 'platform', 'ledger_rewound',
    'the ledger lost entries that its runs have seen: `bulkhead recover` brings them back', null, null, 30000, null)::bulkhead.refused
$function$
;
alter function bulkhead.ledger_rewound() owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_roll(t bulkhead.ledgers, p_now timestamp with time zone)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
begin
  t.meter := bulkhead.meter_roll(t, '', t.meter, bulkhead.ledger_day(t, p_now,
    (select l.time_zone from bulkhead.limits l where l.tenant_id = t.tenant_id and l.environment = t.environment)));
  return t;
end $function$
;
alter function bulkhead.ledger_roll(bulkhead.ledgers,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_save(t bulkhead.ledgers, p_durable boolean)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_save(bulkhead.ledgers,boolean) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_store(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_ref text, p_payload json)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.ledger_store(bulkhead.ledgers,timestamp with time zone,text,text,json) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_suggest(t bulkhead.ledgers, p_now timestamp with time zone, q bulkhead.asked_call, p_lost bulkhead.calls, p_body text)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
declare
  ended constant bigint[] := bulkhead.ledger_supersede(t, q.run_id, q.path);
begin
  if p_lost.token is not null then
    t := bulkhead.ledger_vacate(t, p_lost);
    perform bulkhead.ledger_lose(t, p_lost);
  end if;
  -- It was never claimed: its key is as good as new, and its place in the order of writes is that of the claim to come.
  insert into bulkhead.calls as k (tenant_id, environment, run_id, path, digest, action, class, system, state, token, admitted_as, epoch,
      policy_version, host_id, attempts, first_claimed_at, lease_until, sent_until, claimed_seq, reversible, admitted_at, day, reserved, charged,
      refusal)
    values (t.tenant_id, t.environment, q.run_id, q.path, q.digest, q.action, q.class, q.system, 'suggested', q.token, 'admitted',
      t.fence_epoch, t.policy_version, q.host_id, 0, 'infinity', p_now, p_now, 9223372036854775807, q.reversible, p_now, (t.meter).day, bulkhead.nothing(),
      bulkhead.nothing(), q.refusal)
    on conflict on constraint calls_pk do update set digest = excluded.digest, action = excluded.action, class = excluded.class,
      system = excluded.system, state = 'suggested', lost = false, refusal = excluded.refusal, reversible = excluded.reversible,
      charged = coalesce(k.charged, k.reserved),
      value = null, payload_ref = null, payload_digest = null;
  insert into bulkhead.suggestions (tenant_id, environment, run_id, path, digest, action, class, system, destination, args, schema_digest,
      rules, terms, requester, refusal, policy_version, suggested_at)
    values (t.tenant_id, t.environment, q.run_id, q.path, q.digest, q.action, q.class, q.system, q.destination, q.args, q.schema_digest,
      q.rules, q.terms, q.requester, q.refusal, t.policy_version, p_now)
    on conflict on constraint suggestions_pk do update set digest = excluded.digest, action = excluded.action, class = excluded.class,
      system = excluded.system, destination = excluded.destination, args = excluded.args, schema_digest = excluded.schema_digest,
      rules = excluded.rules, terms = excluded.terms, requester = excluded.requester, refusal = excluded.refusal,
      policy_version = excluded.policy_version, suggested_at = excluded.suggested_at, approval_no = null;
  return bulkhead.ledger_append(t, p_now, q.run_id, json_build_object('kind', 'suggested', 'at', bulkhead.iso(p_now), 'run', q.run_id,
    'path', q.path, 'token', q.token, 'digest', q.digest, 'action', q.action, 'class', q.class, 'system', q.system, 'rules', q.rules,
    'slot', p_lost.token is not null, 'superseded', ended, 'inflight', (t.meter).inflight, 'policyVersion', t.policy_version,
    'inputs', q.input_digest), p_body);
end $function$
;
alter function bulkhead.ledger_suggest(bulkhead.ledgers,timestamp with time zone,bulkhead.asked_call,bulkhead.calls,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_suggest_again(t bulkhead.ledgers, p_run text, p_path text)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
begin
  update bulkhead.calls c set state = 'suggested', refusal = s.refusal from bulkhead.suggestions s
    where c.tenant_id = t.tenant_id and c.environment = t.environment and c.run_id = p_run and c.path = p_path and c.state = 'open'
      and s.tenant_id = c.tenant_id and s.environment = c.environment and s.run_id = c.run_id and s.path = c.path and s.digest = c.digest;
  if not found then
    return false;
  end if;
  perform bulkhead.ledger_supersede(t, p_run, p_path);
  update bulkhead.suggestions set approval_no = null
    where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run and path = p_path;
  return true;
end $function$
;
alter function bulkhead.ledger_suggest_again(bulkhead.ledgers,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_supersede(t bulkhead.ledgers, p_run text, p_path text)
 RETURNS bigint[]
 LANGUAGE sql
AS $function$
  with ended as (
    update bulkhead.approvals set state = 'superseded'
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run and path = p_path
        and (state = 'pending' or state = 'approved' and used_at is null) returning approval_no
  ) select coalesce(array_agg(approval_no order by approval_no), '{}') from ended
$function$
;
alter function bulkhead.ledger_supersede(bulkhead.ledgers,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_vacate(t bulkhead.ledgers, c bulkhead.calls)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
begin
  t.meter.inflight := (t.meter).inflight - 1;
  t.stored_reserved := t.stored_reserved - c.stored_reserved;
  if cardinality(c.metered) > 0 then
    update bulkhead.meters set meter.inflight = (meter).inflight - 1
      where tenant_id = t.tenant_id and environment = t.environment and name = any (c.metered);
  end if;
  return t;
end $function$
;
alter function bulkhead.ledger_vacate(bulkhead.ledgers,bulkhead.calls) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.line_before(t bulkhead.ledgers, r bulkhead.runs, p_most bigint)
 RETURNS integer
 LANGUAGE sql
 STABLE
AS $function$
  select count(*)::integer from (select from bulkhead.runs o where o.tenant_id = t.tenant_id and o.environment = t.environment
    and o.epoch = t.fence_epoch and o.queued_at is not null
    and (o.priority, o.accepted_at, o.run_id) < (r.priority, r.accepted_at, r.run_id) limit p_most) ahead
$function$
;
alter function bulkhead.line_before(bulkhead.ledgers,bulkhead.runs,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.lines_to_tend(p_environment text)
 RETURNS TABLE(tenant_id text, differs boolean)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select t.tenant_id, counted.differs from bulkhead.ledgers t
    left join (select r.tenant_id, count(*) as n from bulkhead.runs r where r.environment = p_environment and r.slot_at is not null
      group by 1) held on held.tenant_id = t.tenant_id
    left join (select r.tenant_id, count(*) as n from bulkhead.runs r where r.environment = p_environment and r.queued_at is not null
      group by 1) line on line.tenant_id = t.tenant_id,
    lateral (select t.slots <> coalesce(held.n, 0) or t.queued <> coalesce(line.n, 0) as differs) counted
    where t.environment = p_environment and (t.queued > 0 or counted.differs)
    order by random()
$function$
;
alter function bulkhead.lines_to_tend(text) owner to bulkhead_sweep;
grant execute on function bulkhead.lines_to_tend(text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.lost_heads(p_environment text, p_tenants text[], p_seqs bigint[], p_hashes text[], p_acknowledged bigint[])
 RETURNS TABLE(tenant_id text, seq bigint, hash text, acknowledged bigint)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select w.tenant_id, w.seq, w.hash, w.acknowledged
    from unnest(p_tenants, p_seqs, p_hashes, p_acknowledged) as w (tenant_id, seq, hash, acknowledged)
    join bulkhead.ledgers t on t.tenant_id = w.tenant_id and t.environment = p_environment
    left join bulkhead.journal j on j.tenant_id = w.tenant_id and j.environment = p_environment and j.seq = w.seq
    where t.rewound_seq = 0 and (t.acknowledged_seq < w.acknowledged
      or t.acknowledged_seq = w.acknowledged and left(encode(j.hash, 'hex'), length(w.hash)) is distinct from w.hash)
$function$
;
alter function bulkhead.lost_heads(text,text[],bigint[],text[],bigint[]) owner to bulkhead_sweep;
grant execute on function bulkhead.lost_heads(text,text[],bigint[],text[],bigint[]) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.make_knowledge_partition(p_tenant text, p_environment text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  v_tenant text := 'kb/' || p_tenant;
  v_leaf text := 'kb/' || p_tenant || '/' || p_environment;
begin
  if to_regclass(format('bulkhead.%I', v_tenant)) is null then
    execute format('create table bulkhead.%I (like bulkhead.knowledge including all) partition by list (environment)', v_tenant);
    perform close_partition(v_tenant);
    execute format('alter table bulkhead.knowledge attach partition bulkhead.%I for values in (%L)', v_tenant, p_tenant);
  end if;
  if to_regclass(format('bulkhead.%I', v_leaf)) is null then
    execute format('create table bulkhead.%I (like bulkhead.knowledge including all)', v_leaf);
    perform close_partition(v_leaf);
    execute format('alter table bulkhead.%I attach partition bulkhead.%I for values in (%L)', v_tenant, v_leaf, p_environment);
  end if;
end $function$
;
alter function bulkhead.make_knowledge_partition(text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.mark_contained(p_tenant text, p_environment text, p_fence_epoch bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  if exists (select from calls where tenant_id = p_tenant and environment = p_environment and state = 'claimed' and epoch < p_fence_epoch
      and lease_until > n) then
    return;
  end if;
  update fencings set contained_at = n where tenant_id = p_tenant and environment = p_environment and fence_epoch = p_fence_epoch
    and fenced_at is not null and contained_at is null;
  if found then
    t := ledger_append(t, n, null, json_build_object('kind', 'contained', 'at', iso(n), 'epoch', p_fence_epoch), '{}');
    perform ledger_save(t, true);
  end if;
end $function$
;
alter function bulkhead.mark_contained(text,text,bigint) owner to bulkhead_owner;
grant execute on function bulkhead.mark_contained(text,text,bigint) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.mark_drained(p_tenant text, p_environment text, p_fence_epoch bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  if exists (select from runs where tenant_id = p_tenant and environment = p_environment and state <> 'closed' and epoch < p_fence_epoch) then
    return;
  end if;
  update fencings set drained_at = n where tenant_id = p_tenant and environment = p_environment and fence_epoch = p_fence_epoch
    and contained_at is not null and drained_at is null;
  if found then
    t := ledger_append(t, n, null, json_build_object('kind', 'drained', 'at', iso(n), 'epoch', p_fence_epoch), '{}');
    perform ledger_save(t, true);
  end if;
end $function$
;
alter function bulkhead.mark_drained(text,text,bigint) owner to bulkhead_owner;
grant execute on function bulkhead.mark_drained(text,text,bigint) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.mark_lost_call(p_tenant text, p_environment text, p_run text, p_path text, p_seen bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.mark_lost_call(text,text,text,text,bigint) owner to bulkhead_owner;
grant execute on function bulkhead.mark_lost_call(text,text,text,text,bigint) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.mark_rewound(p_tenant text, p_environment text, p_seq bigint, p_hash text, p_acknowledged bigint, p_by text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.mark_rewound(text,text,bigint,text,bigint,text) owner to bulkhead_owner;
grant execute on function bulkhead.mark_rewound(text,text,bigint,text,bigint,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.mark_state_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  new.state_since := new.touched_at;
  return new;
end $function$
;
alter function bulkhead.mark_state_change() owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.memory_of(p_title text, p_body text)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select octet_length(p_title)::bigint + octet_length(p_body)
$function$
;
alter function bulkhead.memory_of(text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.meter_gate(m bulkhead.meter, l bulkhead.layers, p_ask bulkhead.amounts, p_takes_slot boolean, p_today integer, p_now timestamp with time zone, p_zone text, p_name text)
 RETURNS bulkhead.refused
 LANGUAGE plpgsql
 STABLE
AS $function$
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
end $function$
;
alter function bulkhead.meter_gate(bulkhead.meter,bulkhead.layers,bulkhead.amounts,boolean,integer,timestamp with time zone,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.meter_roll(t bulkhead.ledgers, p_name text, m bulkhead.meter, p_today integer)
 RETURNS bulkhead.meter
 LANGUAGE plpgsql
AS $function$
begin
  if p_today > (m).day then
    insert into bulkhead.closed_days (tenant_id, environment, name, day, used) values (t.tenant_id, t.environment, p_name, (m).day, (m).used);
    m.day := p_today;
    m.used := bulkhead.nothing();
  end if;
  return m;
end $function$
;
alter function bulkhead.meter_roll(bulkhead.ledgers,text,bulkhead.meter,integer) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.meter_spend(m bulkhead.meter, l bulkhead.layers, p_ask bulkhead.amounts, p_slots integer, p_now timestamp with time zone)
 RETURNS bulkhead.meter
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
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
end $function$
;
alter function bulkhead.meter_spend(bulkhead.meter,bulkhead.layers,bulkhead.amounts,integer,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.meter_true_up(t bulkhead.ledgers, p_now timestamp with time zone, p_name text, m bulkhead.meter, p_day integer, p_delta bulkhead.amounts, p_reserved bigint, p_mark numeric)
 RETURNS bulkhead.meter
 LANGUAGE plpgsql
AS $function$
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
end $function$
;
alter function bulkhead.meter_true_up(bulkhead.ledgers,timestamp with time zone,text,bulkhead.meter,integer,bulkhead.amounts,bigint,numeric) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.minus(a bulkhead.amounts, b bulkhead.amounts)
 RETURNS bulkhead.amounts
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select bulkhead.amounts_of(a.tool_calls - b.tool_calls, a.steps - b.steps, a.active_ms - b.active_ms, a.micro_usd - b.micro_usd,
    a.model_tokens - b.model_tokens, a.high_risk_writes - b.high_risk_writes)
$function$
;
alter function bulkhead.minus(bulkhead.amounts,bulkhead.amounts) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.minute_gate(p_bucket bulkhead.bucket, p_limit bigint, p_units bigint, p_now timestamp with time zone, p_rule text, p_message text)
 RETURNS bulkhead.refused
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
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
end $function$
;
alter function bulkhead.minute_gate(bulkhead.bucket,bigint,bigint,timestamp with time zone,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ms_to_end_of(p_day integer, p_at timestamp with time zone, p_zone text)
 RETURNS bigint
 LANGUAGE sql
 STABLE
AS $function$
  select ceil(extract(epoch from case when e.first < e.second and bulkhead.day_of(e.first, p_zone) > p_day then e.first else e.second end
      - p_at) * 1000)::bigint
    from (select (d.noon at time zone p_zone) + interval '12 hours' as first, (d.noon + interval '12 hours') at time zone p_zone as second
      from (select (date '1970-01-01' + p_day)::timestamp + interval '12 hours' as noon) d) e
$function$
;
alter function bulkhead.ms_to_end_of(integer,timestamp with time zone,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ms_to_fit(b bulkhead.bucket, p_limit bigint, p_units bigint)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case when p_units > p_limit or p_limit = 0 then null
    else greatest(0, ceil((b.level + (p_units - p_limit) * 60000)::numeric / p_limit))::bigint end
$function$
;
alter function bulkhead.ms_to_fit(bulkhead.bucket,bigint,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.must_know(p_quota_classes text[], p_pools jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  unknown text;
begin
  select n.name into unknown from unnest(p_quota_classes) as n (name)
    where not exists (select from quota_classes q where q.name = n.name) order by 1 limit 1;
  if found then
    raise exception 'there is no quota class %: apply its document first', unknown using errcode = 'BH010';
  end if;
  perform must_know_pools(p_pools);
end $function$
;
alter function bulkhead.must_know(text[],jsonb) owner to bulkhead_owner;
grant execute on function bulkhead.must_know(text[],jsonb) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.must_know_pools(p_pools jsonb)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
AS $function$
declare
  named record;
begin
  for named in select e.key as provider, e.value as pool from jsonb_each_text(p_pools) e order by e.key loop
    if named.provider = '' and not exists (select from bulkhead.call_capacities c where c.name = named.pool) then
      raise exception 'there is no shared capacity %: apply its document first', named.pool using errcode = 'BH010';
    elsif named.provider <> '' and not exists (select from bulkhead.provider_pools p where p.name = named.pool and p.provider = named.provider) then
      raise exception 'there is no provider pool % of %: apply its document first', named.pool, named.provider using errcode = 'BH010';
    end if;
  end loop;
end $function$
;
alter function bulkhead.must_know_pools(jsonb) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.must_queue(t bulkhead.ledgers, l bulkhead.limits)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select l.concurrent_runs is not null and (t.slots >= l.concurrent_runs or t.queued > 0 and exists (select from bulkhead.runs o
    where o.tenant_id = t.tenant_id and o.environment = t.environment and o.epoch = t.fence_epoch and o.queued_at is not null))
$function$
;
alter function bulkhead.must_queue(bulkhead.ledgers,bulkhead.limits) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.named_meters(t bulkhead.ledgers, l bulkhead.limits, p_run text, p_action text, p_now timestamp with time zone)
 RETURNS SETOF bulkhead.named_meter
 LANGUAGE sql
 STABLE
AS $function$
  select n.name, n.layers, coalesce(m.meter, bulkhead.new_meter(bulkhead.ledger_day(t, p_now, l.time_zone), p_now))
    from bulkhead.named_limits n left join bulkhead.meters m using (tenant_id, environment, name)
    where n.tenant_id = t.tenant_id and n.environment = t.environment and n.name in ('action:' || p_action, 'agent:' || (
      select a.agent_id from bulkhead.run_acceptances a where a.tenant_id = t.tenant_id and a.environment = t.environment and a.run_id = p_run))
    order by n.name
$function$
;
alter function bulkhead.named_meters(bulkhead.ledgers,bulkhead.limits,text,text,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.named_quotas(p_class jsonb, p_overrides jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select coalesce(jsonb_object_agg(n.name, coalesce(p_class -> n.name, '{}') || coalesce(p_overrides -> n.name, '{}')), '{}')
    from (select jsonb_object_keys(p_class) union select jsonb_object_keys(p_overrides)) as n (name)
$function$
;
alter function bulkhead.named_quotas(jsonb,jsonb) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.new_meter(p_day integer, p_now timestamp with time zone)
 RETURNS bulkhead.meter
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select row(p_day, bulkhead.nothing(), row(0, p_now), row(0, p_now), 0, 0)::bulkhead.meter
$function$
;
alter function bulkhead.new_meter(integer,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.next_credential(p_tenant text, p_environment text, p_capability text)
 RETURNS TABLE(version integer, wrapped_key bytea, key_id text, newest bytea)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  perform from tenants t where t.tenant_id = p_tenant and t.environment = p_environment for no key update;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
  return query
    select coalesce((select max(c.version) from credentials c
                      where c.tenant_id = p_tenant and c.environment = p_environment and c.capability = p_capability), 0) + 1,
           k.wrapped_key, k.key_id,
           -- Of the version before it, where that is in use.
           (select n.ciphertext from (select c.ciphertext, c.revoked_at from credentials c
              where c.tenant_id = p_tenant and c.environment = p_environment and c.capability = p_capability
              order by c.version desc limit 1) n where n.revoked_at is null)
      from (select) one left join tenant_keys k on k.tenant_id = p_tenant and k.environment = p_environment;
end $function$
;
alter function bulkhead.next_credential(text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.next_credential(text,text,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.not_entitled(p_terms json, p_principal text, p_roles text[], p_requester text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case
    when coalesce(json_array_length(p_terms -> 'roles'), 0) = 0 then 'nobody may decide this: its rules name no roles'
    when exists (select from json_array_elements(p_terms -> 'roles') asked (list)
        where not exists (select from json_array_elements_text(asked.list) role where role = any (p_roles)))
      then 'whoever decides this needs ' || (select string_agg((select string_agg(role, ' or ') from json_array_elements_text(asked.list) role), ', and ')
        from json_array_elements(p_terms -> 'roles') asked (list))
    when coalesce((p_terms ->> 'notRequester')::boolean, true) and p_principal is not distinct from p_requester
      then 'who asked for the run may not decide this'
  end
$function$
;
alter function bulkhead.not_entitled(json,text,text[],text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.nothing()
 RETURNS bulkhead.amounts
 LANGUAGE sql
 IMMUTABLE
AS $function$select bulkhead.amounts_of(0, 0, 0, 0, 0, 0)$function$
;
alter function bulkhead.nothing() owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.now()
 RETURNS timestamp with time zone
 LANGUAGE sql
AS $function$select pg_catalog.clock_timestamp()$function$
;
alter function bulkhead.now() owner to bulkhead_owner;
grant execute on function bulkhead.now() to bulkhead_sweep;

CREATE OR REPLACE FUNCTION bulkhead.open_ledger(p_tenant text, p_environment text, p_quota jsonb, p_policy_version bigint, p_actor text, p_body text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  bound text := coalesce(current_setting('bulkhead.tenant_id', true), '');
  n timestamptz := bulkhead.now();
  t ledgers;
begin
  perform enter_scope(p_tenant, p_environment);
  -- The journal hangs on what nobody can move: a link before the first that only this tenant and environment have.
  insert into ledgers (tenant_id, environment, policy_version, meter, run_starts, retries, journal_seq, journal_head, durable_seq, last_clock)
    values (p_tenant, p_environment, p_policy_version, new_meter(day_of(n, p_quota ->> 'timeZone'), n), row(0, n), row(0, n), 0, journal_genesis(p_tenant, p_environment), 0, n)
    on conflict do nothing returning * into t;
  if t.tenant_id is not null then
    perform ledger_limit(p_tenant, p_environment, p_quota);
    insert into fencings (tenant_id, environment, fence_epoch) values (p_tenant, p_environment, 0);
    t := ledger_append(t, n, null, json_build_object('kind', 'opened', 'at', iso(n), 'tenant', p_tenant, 'environment', p_environment,
      'actor', p_actor, 'policyVersion', p_policy_version, 'quota', p_quota), p_body);
    perform ledger_save(t, true);
  end if;
  perform set_config('bulkhead.tenant_id', bound, true);
  return t.tenant_id is not null;
end $function$
;
alter function bulkhead.open_ledger(text,text,jsonb,bigint,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.open_runs_idle(p_environment text, p_older_than_ms bigint, p_limit integer)
 RETURNS TABLE(tenant_id text, run_id text, workflow_id text, temporal_run_id text, signed json)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  since timestamptz := bulkhead.now() - p_older_than_ms * interval '1 millisecond';
begin
  return query with holding as (
      select r.tenant_id, r.run_id, r.temporal_run_id from bulkhead.runs r
        where r.environment = p_environment and r.slot_at is not null and r.temporal_run_id is not null and r.touched_at <= since
        order by random() limit (p_limit + 1) / 2
    ), others as (
      select r.tenant_id, r.run_id, r.temporal_run_id from bulkhead.runs r
        where r.environment = p_environment and r.state <> 'closed' and r.temporal_run_id is not null and r.touched_at <= since
          and not exists (select from holding h where h.tenant_id = r.tenant_id and h.run_id = r.run_id)
        order by random() limit p_limit - (select count(*) from holding)
    )
    select due.tenant_id::text, due.run_id, a.workflow_id, due.temporal_run_id, a.signed
      from (select * from holding union all select * from others) due
        join bulkhead.run_acceptances a on a.tenant_id = due.tenant_id and a.environment = p_environment and a.run_id = due.run_id;
end $function$
;
alter function bulkhead.open_runs_idle(text,bigint,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.open_runs_idle(text,bigint,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.order_undo(p_tenant text, p_environment text, p_run text, p_actor text, p_note text, p_body text)
 RETURNS bulkhead.undo_order
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.order_undo(text,text,text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.order_undo(text,text,text,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.outcome_of(c bulkhead.calls)
 RETURNS json
 LANGUAGE sql
 STABLE
AS $function$
  select json_build_object('state', c.state, 'ref', c.payload_ref, 'digest', c.payload_digest, 'refusal', c.refusal, 'value', c.value,
    'reviewNo', c.review_no)
$function$
;
alter function bulkhead.outcome_of(bulkhead.calls) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.overshoot_json(p_paid bulkhead.amounts, p_reserved bulkhead.amounts)
 RETURNS json
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case when p_paid.micro_usd > p_reserved.micro_usd or p_paid.model_tokens > p_reserved.model_tokens then
    json_build_object('microUsd', greatest(0, p_paid.micro_usd - p_reserved.micro_usd),
      'modelTokens', greatest(0, p_paid.model_tokens - p_reserved.model_tokens)) end
$function$
;
alter function bulkhead.overshoot_json(bulkhead.amounts,bulkhead.amounts) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.paid_of(p_reserved bulkhead.amounts, p_admitted_at timestamp with time zone, p_now timestamp with time zone, p_result text, p_tool_calls bigint, p_micro_usd bigint, p_model_tokens bigint)
 RETURNS bulkhead.amounts
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case p_result when 'open' then bulkhead.amounts_of(0, 0, 0, p_micro_usd, p_model_tokens, 0) when 'unknown' then p_reserved
    else bulkhead.amounts_of(p_tool_calls, p_reserved.steps,
      least(p_reserved.active_ms, greatest(0, ceil(extract(epoch from p_now - p_admitted_at) * 1000))::bigint),
      p_micro_usd, p_model_tokens, p_reserved.high_risk_writes) end
$function$
;
alter function bulkhead.paid_of(bulkhead.amounts,timestamp with time zone,timestamp with time zone,text,bigint,bigint,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.park_run(p_tenant text, p_environment text, p_run text, p_temporal_run text, p_state text)
 RETURNS text[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.park_run(text,text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.park_run(text,text,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.payloads_of(p_tenant text, p_environment text, p_run text, p_ref text, p_most bigint)
 RETURNS TABLE(ref text, payload json, tenant_id text, environment text, run_id text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.payloads_of(text,text,text,text,bigint) owner to bulkhead_owner;
grant execute on function bulkhead.payloads_of(text,text,text,text,bigint) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.place_of(r bulkhead.runs)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case when r.slot_at is not null then 'slot' when r.queued_at is not null then 'queue' end
$function$
;
alter function bulkhead.place_of(bulkhead.runs) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.placements(p_environment text)
 RETURNS TABLE(tenant_id text, lane text, worker_ceiling integer, expensive_ceiling integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_environment(p_environment);
  return query select t.tenant_id::text, t.lane, t.worker_ceiling, t.expensive_ceiling from tenants t where t.environment = p_environment order by 1;
end $function$
;
alter function bulkhead.placements(text) owner to bulkhead_sweep;
grant execute on function bulkhead.placements(text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.plus(a bulkhead.amounts, b bulkhead.amounts)
 RETURNS bulkhead.amounts
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select bulkhead.amounts_of(a.tool_calls + b.tool_calls, a.steps + b.steps, a.active_ms + b.active_ms, a.micro_usd + b.micro_usd,
    a.model_tokens + b.model_tokens, a.high_risk_writes + b.high_risk_writes)
$function$
;
alter function bulkhead.plus(bulkhead.amounts,bulkhead.amounts) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.policy_history(p_profile text)
 RETURNS TABLE(version integer, published_at timestamp with time zone, actor text, reason text, environments text[], tenants bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  v_environment text := coalesce(current_setting('bulkhead.environment', true), '');
begin
  perform set_config('bulkhead.environment', '*', true);
  return query select p.version, p.published_at, p.actor, p.reason, p.environments,
      (select count(*) from tenants t where t.policy_version = p.version)
    from policies p where p.profile = p_profile order by p.version desc;
  perform set_config('bulkhead.environment', v_environment, true);
end $function$
;
alter function bulkhead.policy_history(text) owner to bulkhead_sweep;
grant execute on function bulkhead.policy_history(text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.policy_published(p_profile text, p_version integer)
 RETURNS TABLE(environments text[], text text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select environments, text from policies where profile = p_profile and version = p_version
$function$
;
alter function bulkhead.policy_published(text,integer) owner to bulkhead_owner;
grant execute on function bulkhead.policy_published(text,integer) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.policy_text(p_tenant text, p_environment text, p_version integer)
 RETURNS TABLE(version integer, profile text, text text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query
    select p.version, p.profile, p.text
      from tenants t join policies p on p.profile = t.policy_profile and p.version = coalesce(p_version, t.policy_version)
     where t.tenant_id = p_tenant and t.environment = p_environment and t.environment = any (p.environments);
end $function$
;
alter function bulkhead.policy_text(text,text,integer) owner to bulkhead_owner;
grant execute on function bulkhead.policy_text(text,text,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.pool_gate(k bulkhead.named_meter, p_ask bulkhead.amounts, p_takes_slot boolean, p_now timestamp with time zone)
 RETURNS bulkhead.refused
 LANGUAGE plpgsql
 STABLE
AS $function$
declare
  look constant bigint := 500;
  calls constant integer := (k.layers).calls_in_flight;
  tokens constant bigint := (k.layers).model_tokens_per_minute;
  pool constant text := substr(k.name, 6);
  b bulkhead.bucket;
begin
  if p_takes_slot and (k.meter).inflight >= calls then
    return row('provider_degraded', 'provider', 'provider_pool/' || pool || '/calls_in_flight',
      format('what this tenant has of provider pool %s at this time is in use', pool), calls, (k.meter).inflight, look, null)::bulkhead.refused;
  end if;
  if tokens is not null and p_ask.model_tokens > 0 then
    b := bulkhead.drained((k.meter).model_tokens, tokens, p_now);
    if tokens = 0 or b.level > 0 and b.level + (p_ask.model_tokens - tokens) * 60000 > 0 then
      return row('provider_degraded', 'provider', 'provider_pool/' || pool || '/model_tokens_per_minute',
        format('what this tenant has of the model tokens per minute of provider pool %s is used up', pool), tokens, ceil(b.level / 60000.0),
        case when tokens = 0 then look else greatest(look,
          least(b.level, b.level + (p_ask.model_tokens - tokens) * 60000) / tokens) end, null)::bulkhead.refused;
    end if;
  end if;
  return null;
end $function$
;
alter function bulkhead.pool_gate(bulkhead.named_meter,bulkhead.amounts,boolean,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.pool_members(p_environment text)
 RETURNS TABLE(provider text, pool text, capacity_calls integer, capacity_tokens bigint, tenant_id text, weight integer, calls integer, tokens bigint, inflight integer, wants boolean, short boolean, ceiling integer, promised integer, guaranteed integer, kept integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_environment(p_environment);
  return query
    with pools as (
      select p.provider, p.name, p.calls_in_flight, p.model_tokens_per_minute from provider_pools p
      union all select '', c.name, c.calls_in_flight, null from call_capacities c
    ), members as (
      select p.provider, p.name, coalesce(s.tenant_id, n.tenant_id) as tenant_id, s.pool is null as gone, s.calls_in_flight, s.model_tokens_per_minute,
          s.wanted_at, s.refused_at, s.guaranteed, (n.meter).inflight, null::integer as ceiling, 0 as promised
        from (select * from pool_shares e where e.environment = p_environment and e.provider <> '') s
          -- Who was taken out of the pool still uses it until its calls have ended.
          full join (select * from meters m where m.environment = p_environment and m.name like 'pool:%') n
            on n.tenant_id = s.tenant_id and n.name = 'pool:' || s.pool
          join provider_pools p on p.name = coalesce(s.pool, substr(n.name, 6))
        where s.pool is not null or (n.meter).inflight > 0
      union all
      select s.provider, s.pool, s.tenant_id, s.left_at is not null, s.calls_in_flight, null, s.wanted_at, s.refused_at, s.guaranteed,
          case when s.left_at is null then (t.meter).inflight else (select count(*)::integer from calls c where c.tenant_id = s.tenant_id
            and c.environment = p_environment and c.state = 'claimed' and c.admitted_at <= s.left_at) end,
          (l.layers).calls_in_flight, least((l.layers).calls_in_flight, coalesce((l.quota #>> '{guaranteed,callsInFlight}')::integer, 0))
        from pool_shares s join ledgers t using (tenant_id, environment) join limits l using (tenant_id, environment)
        where s.environment = p_environment and s.provider = ''
    ), promises as (
      select m.*, w.weight, p.calls_in_flight as capacity, p.model_tokens_per_minute as capacity_tokens,
          sum(case when m.gone then 0 else m.promised end) over (partition by m.provider, m.name) as promised_in_all
        from members m join pools p on p.provider = m.provider and p.name = m.name
          join tenants w on w.tenant_id = m.tenant_id and w.environment = p_environment
    )
    select m.provider, m.name, m.capacity, m.capacity_tokens, m.tenant_id::text, case when m.gone then 0 else m.weight end,
        coalesce(m.calls_in_flight, 0), m.model_tokens_per_minute, coalesce(m.inflight, 0),
        coalesce(m.inflight > 0, false) or coalesce(m.wanted_at between bulkhead.now() - interval '2 seconds' and bulkhead.now(), false),
        coalesce(m.refused_at between bulkhead.now() - interval '2 seconds' and bulkhead.now(), false), m.ceiling, m.promised,
        (m.promised * least(m.promised_in_all, m.capacity) / greatest(m.promised_in_all, 1))::integer,
        coalesce(m.guaranteed, 0)
      from promises m order by 1, 2, 5;
end $function$
;
alter function bulkhead.pool_members(text) owner to bulkhead_sweep;
grant execute on function bulkhead.pool_members(text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.pool_meters(t bulkhead.ledgers, l bulkhead.limits, p_provider text, p_now timestamp with time zone)
 RETURNS SETOF bulkhead.named_meter
 LANGUAGE sql
 STABLE
AS $function$
  select 'pool:' || s.pool, row(null, null, s.model_tokens_per_minute, s.calls_in_flight)::bulkhead.layers,
      coalesce(m.meter, bulkhead.new_meter(bulkhead.ledger_day(t, p_now, l.time_zone), p_now))
    from bulkhead.pool_shares s left join bulkhead.meters m
      on m.tenant_id = s.tenant_id and m.environment = s.environment and m.name = 'pool:' || s.pool
    where s.tenant_id = t.tenant_id and s.environment = t.environment and s.provider = p_provider
$function$
;
alter function bulkhead.pool_meters(bulkhead.ledgers,bulkhead.limits,text,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.pool_wanted(t bulkhead.ledgers, p_provider text, p_refused boolean)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  often constant interval := '200 milliseconds';
  n constant timestamptz := bulkhead.now();
begin
  update bulkhead.pool_shares set wanted_at = n, refused_at = case when p_refused then n else refused_at end
    where tenant_id = t.tenant_id and environment = t.environment and provider = p_provider and left_at is null
      and (wanted_at not between n - often and n or p_refused and refused_at not between n - often and n);
end $function$
;
alter function bulkhead.pool_wanted(bulkhead.ledgers,text,boolean) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.promote_suggestion(p_tenant text, p_environment text, p_run text, p_path text, p_approver text, p_roles text[], p_note text, p_body text)
 RETURNS bulkhead.promotion
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  g suggestions;
  c calls;
  r runs;
  s promotion;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  if nullif(p_approver, '') is null then
    raise exception 'somebody approves' using errcode = 'invalid_parameter_value';
  end if;
  select * into g from suggestions where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  if not found then
    s.kind := 'absent';
    return s;
  end if;
  if g.approval_no is not null then
    s.kind := 'already';
    s.approval_no := g.approval_no;
    select min(f.follow_up_no) into s.follow_up_no from follow_ups f where f.tenant_id = p_tenant and f.environment = p_environment
      and f.run_id = p_run and f.path = p_path and f.follow_up_no > g.approval_no;
    return s;
  end if;
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  s.message := case
    when t.rewound_seq > 0 then 'the ledger has to be reconciled first: bulkhead recover'
    when t.mode <> 'normal' then 'an operator has stopped this tenant: release it first'
    when r.epoch < t.fence_epoch then 'an operator has stopped what the run of this call was accepted under'
    when r.accepted_at <= n - key_horizon() then 'the run of this call is older than its keys are kept'
    when r.undone then 'the run of this call was undone, or is being undone: nothing new is done in it'
    when (c.state, c.digest) is distinct from ('suggested', g.digest) then 'this call has moved on since'
    when exists (select from approvals v where v.tenant_id = p_tenant and v.environment = p_environment and v.run_id = p_run
      and v.path = p_path and v.state = 'denied' and v.digest = g.digest) then 'a person has refused this very call'
    else not_entitled(g.terms, p_approver, p_roles, g.requester)
  end;
  if s.message is not null then
    s.kind := 'refused';
    return s;
  end if;
  t := ledger_append(ledger_roll(t, n), n, p_run, json_build_object('kind', 'promoted', 'at', iso(n), 'run', p_run, 'path', p_path,
    'action', g.action, 'digest', g.digest, 'schemaDigest', g.schema_digest, 'terms', g.terms, 'requester', g.requester, 'actor', p_approver,
    'roles', p_roles, 'expires', iso(n + (g.terms ->> 'expiresAfterMs')::bigint * interval '1 millisecond'),
    'policyVersion', g.policy_version), p_body);
  s.approval_no := t.journal_seq;
  insert into approvals (tenant_id, environment, approval_no, run_id, workspace_id, path, digest, action, class, system, destination, args,
      schema_digest, kind, terms, requester, policy_version, state, requested_at, expires_at, decided_at, approver, approver_roles, note)
    values (p_tenant, p_environment, s.approval_no, p_run, workspace_of(p_tenant, p_environment, p_run), p_path, g.digest, g.action, g.class, g.system, g.destination,
      g.args, g.schema_digest, 'suggestion', g.terms, g.requester, g.policy_version, 'approved', n,
      n + (g.terms ->> 'expiresAfterMs')::bigint * interval '1 millisecond', n, p_approver, p_roles, p_note);
  update suggestions set approval_no = s.approval_no where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  update calls set state = 'open', attempts = 0 where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  t := ledger_order(t, n, p_run, 'retry', p_path, null, 'retry', p_approver, p_note, p_body);
  s.kind := 'ordered';
  s.follow_up_no := t.journal_seq;
  perform ledger_save(t, true);
  return s;
end $function$
;
alter function bulkhead.promote_suggestion(text,text,text,text,text,text[],text,text) owner to bulkhead_owner;
grant execute on function bulkhead.promote_suggestion(text,text,text,text,text,text[],text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.protect(p_table regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog'
AS $function$
begin
  if not exists (
    select from pg_index i
     where i.indrelid = p_table and i.indisprimary
       and (select array_agg(a.attname::text order by k.n)
              from unnest(i.indkey[0:1]) with ordinality k(attnum, n)
              join pg_attribute a on a.attrelid = p_table and a.attnum = k.attnum) = array['tenant_id', 'environment']
  ) then
    raise exception 'the key of % does not lead with tenant_id, environment', p_table;
  end if;
  if (select relkind from pg_class where oid = p_table) = 'r' then
    execute format('alter table %s alter tenant_id type bulkhead.tenant_name, alter environment type bulkhead.environment_name', p_table);
  else
    -- The columns that a table is partitioned by keep their type.
    execute format('alter table %s add constraint tenant_id_form check (tenant_id ~ ''^[a-z0-9][a-z0-9-]{0,39}$''),
      add constraint environment_form check (environment ~ ''^[a-z0-9][a-z0-9-]{1,15}$'')', p_table);
  end if;
  execute format('alter table %s enable row level security, force row level security', p_table);
  execute format(
    'create policy tenant_scope on %s using (tenant_id = nullif(current_setting(''bulkhead.tenant_id'', true), '''')
       and environment = nullif(current_setting(''bulkhead.environment'', true), ''''))', p_table);
end $function$
;
alter function bulkhead.protect(regclass) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.publish_agent(p_environment text, p_definition jsonb)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  insert into agents as a (environment, agent_id, version, definition)
  values (p_environment, p_definition ->> 'id', p_definition ->> 'version', p_definition)
  on conflict (environment, agent_id, version) do update set published_at = clock_timestamp()
  where exists (select from agents n where n.environment = a.environment and n.agent_id = a.agent_id and n.published_at > a.published_at)
$function$
;
alter function bulkhead.publish_agent(text,jsonb) owner to bulkhead_owner;
grant execute on function bulkhead.publish_agent(text,jsonb) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.publish_policy(p_profile text, p_environments text[], p_text text, p_actor text, p_reason text)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  v_last policies;
begin
  -- Numbers are given in the order in which they become visible.
  perform pg_advisory_xact_lock(7240032);
  select * into v_last from policies where profile = p_profile order by version desc limit 1;
  if found and v_last.text = p_text and v_last.environments = p_environments then
    return v_last.version;
  end if;
  insert into policies (version, profile, environments, text, actor, reason)
  select coalesce(max(version), 0) + 1, p_profile, p_environments, p_text, p_actor, p_reason from policies
  returning version into v_last.version;
  return v_last.version;
end $function$
;
alter function bulkhead.publish_policy(text,text[],text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.publish_policy(text,text[],text,text,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.purge_run(p_tenant text, p_environment text, p_run text, p_limit integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  n timestamptz;
  gone text[] := '{}';
  calls_gone bigint;
  followed boolean;
  waits boolean;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  if not exists (select from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run and state = 'closed'
      and accepted_at <= n - key_horizon()) then
    return 0;
  end if;
  -- A follow-up at work needs its keys.
  followed := exists (select from follow_ups where tenant_id = p_tenant and environment = p_environment and run_id = p_run and state <> 'done');
  if not followed then
    select coalesce(array_agg(doomed.path), '{}') into gone from (
      select position.path from (
        select c.path, c.undo_of from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run
          and c.state <> 'claimed' and c.review_no is null
        union all
        select refused.path, null from (
          select d.path from decisions d where d.tenant_id = p_tenant and d.environment = p_environment and d.run_id = p_run
          union select v.path from approvals v where v.tenant_id = p_tenant and v.environment = p_environment and v.run_id = p_run
          union select g.path from suggestions g where g.tenant_id = p_tenant and g.environment = p_environment and g.run_id = p_run) refused
        where not exists (select from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run
          and c.path = refused.path)
      ) position order by position.undo_of nulls first, position.path limit p_limit) doomed;
    delete from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    get diagnostics calls_gone = row_count;
    delete from lost_attempts where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    delete from leases where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    delete from approvals where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    delete from suggestions where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
    delete from decisions where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = any (gone);
  end if;
  if cardinality(gone) < p_limit then
    waits := followed or exists (select from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run);
    update runs set purged_at = case when not waits then n end, purge_again_at = case when waits then n + interval '1 day' end
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  end if;
  if cardinality(gone) = 0 then
    return 0;
  end if;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'purged', 'at', iso(n), 'run', p_run, 'calls', calls_gone,
    'refused', cardinality(gone) - calls_gone), '{}');
  perform ledger_save(t, true);
  return cardinality(gone);
end $function$
;
alter function bulkhead.purge_run(text,text,text,integer) owner to bulkhead_owner;
grant execute on function bulkhead.purge_run(text,text,text,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.put_call_capacity(p_name text, p_calls integer, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  insert into call_capacities as c (name, calls_in_flight, updated_by) values (p_name, p_calls, p_actor)
  on conflict (name) do update set calls_in_flight = excluded.calls_in_flight, updated_at = clock_timestamp(), updated_by = excluded.updated_by
  where c.calls_in_flight <> excluded.calls_in_flight;
  if found then
    insert into operator_acts (actor, act, subject, detail) values (p_actor, 'put_call_capacity', p_name, jsonb_build_object('callsInFlight', p_calls));
  end if;
end $function$
;
alter function bulkhead.put_call_capacity(text,integer,text) owner to bulkhead_owner;
grant execute on function bulkhead.put_call_capacity(text,integer,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.put_credential(p_tenant text, p_environment text, p_capability text, p_version integer, p_ciphertext bytea, p_wrapped_key bytea, p_key_id text, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  insert into tenant_keys (tenant_id, environment, wrapped_key, key_id)
  values (p_tenant, p_environment, p_wrapped_key, p_key_id) on conflict (tenant_id, environment) do nothing;
  insert into credentials (tenant_id, environment, capability, version, ciphertext, created_by)
  values (p_tenant, p_environment, p_capability, p_version, p_ciphertext, p_actor);
  insert into operator_acts (actor, act, subject, detail)
  values (p_actor, 'put_credential', p_tenant || '/' || p_environment,
          jsonb_build_object('capability', p_capability, 'version', p_version));
end $function$
;
alter function bulkhead.put_credential(text,text,text,integer,bytea,bytea,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.put_credential(text,text,text,integer,bytea,bytea,text,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.put_knowledge(p_tenant text, p_environment text, p_document text, p_title text, p_body text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
declare
  t ledgers;
  x refused;
  n timestamptz;
  cap bigint;
  more constant bigint := memory_of(p_title, p_body);
  added bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  added := more - coalesce((select memory_of(k.title, k.body) from knowledge k
    where k.tenant_id = p_tenant and k.environment = p_environment and k.document_id = p_document), 0);
  select l.memory_bytes into cap from limits l where l.tenant_id = p_tenant and l.environment = p_environment;
  if added > 0 and t.memory_bytes + added > cap then
    x := row('throttled', 'tenant_cap', 'memory_bytes',
      format(case when more > cap then 'this document has %s bytes, more than all that the memory of this tenant may have'
        else 'this document needs %s bytes more than the memory of this tenant has left' end,
        case when more > cap then more else t.memory_bytes + added - cap end), cap, t.memory_bytes, null, null);
    t := ledger_refuse(ledger_roll(t, n), n, x, null, 'memory.put', jsonb_build_object('bytes', added), '{}');
    perform ledger_save(t, false);
    return refusal_json(x, t.policy_version);
  end if;
  insert into knowledge as k (tenant_id, environment, document_id, title, body)
  values (p_tenant, p_environment, p_document, p_title, p_body)
  on conflict (tenant_id, environment, document_id)
  do update set title = excluded.title, body = excluded.body, updated_at = clock_timestamp()
  where (k.title, k.body) is distinct from (excluded.title, excluded.body);
  t.memory_bytes := t.memory_bytes + added;
  t.last_clock := n;
  perform ledger_save(t, true);
  return null;
end $function$
;
alter function bulkhead.put_knowledge(text,text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.put_knowledge(text,text,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.put_payload(p_tenant text, p_environment text, p_run text, p_ref text, p_payload json)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.put_payload(text,text,text,text,json) owner to bulkhead_owner;
grant execute on function bulkhead.put_payload(text,text,text,text,json) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.put_provider_pool(p_name text, p_provider text, p_calls integer, p_tokens bigint, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  if exists (select from provider_pools where name = p_name and provider <> p_provider) then
    raise exception 'provider pool % is one of another provider: make a pool of another name', p_name using errcode = 'BH010';
  end if;
  insert into provider_pools as p (name, provider, calls_in_flight, model_tokens_per_minute, updated_by)
  values (p_name, p_provider, p_calls, p_tokens, p_actor)
  on conflict (name) do update set calls_in_flight = excluded.calls_in_flight, model_tokens_per_minute = excluded.model_tokens_per_minute,
    updated_at = clock_timestamp(), updated_by = excluded.updated_by
  where (p.calls_in_flight, p.model_tokens_per_minute) is distinct from (excluded.calls_in_flight, excluded.model_tokens_per_minute);
  if found then
    insert into operator_acts (actor, act, subject, detail) values (p_actor, 'put_provider_pool', p_name,
      jsonb_build_object('provider', p_provider, 'callsInFlight', p_calls, 'modelTokensPerMinute', p_tokens));
  end if;
end $function$
;
alter function bulkhead.put_provider_pool(text,text,integer,bigint,text) owner to bulkhead_owner;
grant execute on function bulkhead.put_provider_pool(text,text,integer,bigint,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.put_quota_class(p_name text, p_document jsonb, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  insert into quota_classes as q (name, document, updated_by) values (p_name, p_document, p_actor)
  on conflict (name) do update set document = p_document, updated_at = clock_timestamp(), updated_by = p_actor
  where q.document <> p_document;
  if found then
    insert into operator_acts (actor, act, subject, detail) values (p_actor, 'put_quota_class', p_name, p_document);
  end if;
end $function$
;
alter function bulkhead.put_quota_class(text,jsonb,text) owner to bulkhead_owner;
grant execute on function bulkhead.put_quota_class(text,jsonb,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.put_tenant(p_tenant text, p_environment text, p_profile text, p_quota_class text, p_document jsonb, p_actor text, p_body text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  v_class jsonb;
  v_created boolean;
begin
  perform bind_scope(p_tenant, p_environment);
  select document into v_class from quota_classes where name = p_quota_class;
  if not found then
    raise exception 'there is no quota class %: apply its document first', p_quota_class using errcode = 'BH010';
  end if;
  insert into tenants as t (tenant_id, environment, policy_profile, quota_class, lane, weight, worker_ceiling, expensive_ceiling, quota, time_zone,
    workspaces, connections, scope, models, prices, updated_by)
  values (p_tenant, p_environment, p_profile, p_quota_class, v_class ->> 'lane', coalesce((v_class ->> 'weight')::integer, 1),
    (v_class ->> 'workerCeiling')::integer, coalesce((v_class ->> 'expensiveCeiling')::integer, 2),
    quota_of(v_class, '{}', p_document ->> 'timeZone'), coalesce(p_document ->> 'timeZone', 'UTC'), p_document -> 'workspaces', p_document -> 'connections',
    p_document -> 'scope', p_document -> 'models', coalesce(p_document -> 'prices', '{}'), p_actor)
  on conflict (tenant_id, environment) do update set
    policy_profile = excluded.policy_profile, quota_class = excluded.quota_class, time_zone = excluded.time_zone, workspaces = excluded.workspaces,
    connections = excluded.connections, scope = excluded.scope, models = excluded.models, prices = excluded.prices,
    updated_at = clock_timestamp(), updated_by = excluded.updated_by
  returning xmax = 0 into v_created;
  if v_created then
    perform make_knowledge_partition(p_tenant, p_environment);
    perform open_ledger(p_tenant, p_environment, quota_of(v_class, '{}', p_document ->> 'timeZone'), 0, p_actor, p_body);
  end if;
  return v_created;
end $function$
;
alter function bulkhead.put_tenant(text,text,text,text,jsonb,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.put_tenant(text,text,text,text,jsonb,text,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.put_tenant_document(p_tenant text, p_environment text, p_profile text, p_quota_class text, p_document jsonb, p_pools jsonb, p_actor text, p_body text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  created constant boolean := put_tenant(p_tenant, p_environment, p_profile, p_quota_class, p_document, p_actor, p_body);
begin
  perform set_pools(p_tenant, p_environment, p_pools);
  perform apply_tenant(p_tenant, p_environment, p_actor, p_body);
  return created;
end $function$
;
alter function bulkhead.put_tenant_document(text,text,text,text,jsonb,jsonb,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.put_tenant_document(text,text,text,text,jsonb,jsonb,text,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.queue_age_gate(l bulkhead.limits, r bulkhead.runs, p_now timestamp with time zone)
 RETURNS bulkhead.refused
 LANGUAGE sql
 STABLE
AS $function$
  select row('budget_exceeded', 'tenant_cap', 'queued_seconds', 'this run has waited for a slot for as long as one may', l.queued_seconds,
      floor(extract(epoch from p_now - r.accepted_at)), null, null)::bulkhead.refused
    where r.entered_at is null and p_now >= r.accepted_at + l.queued_seconds * interval '1 second'
$function$
;
alter function bulkhead.queue_age_gate(bulkhead.limits,bulkhead.runs,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.queued_too_long(p_environment text, p_limit integer)
 RETURNS TABLE(workflow_id text)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select a.workflow_id
    from (select r.tenant_id, r.environment, r.run_id
      from bulkhead.runs r join bulkhead.limits l using (tenant_id, environment),
        lateral (select extract(epoch from bulkhead.now() - r.accepted_at) - l.queued_seconds as seconds) over_by
      where r.environment = p_environment and r.queued_at is not null and r.entered_at is null and over_by.seconds >= 0
        and random() * over_by.seconds < 60
      order by random() limit p_limit) due
    join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
$function$
;
alter function bulkhead.queued_too_long(text,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.queued_too_long(text,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.quota_of(p_class jsonb, p_overrides jsonb, p_zone text)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select jsonb_build_object('timeZone', coalesce(p_zone, 'UTC'),
    'guaranteed', coalesce(p_class -> 'guaranteed', '{}'),
    'limits', coalesce(p_class -> 'limits', '{}') || coalesce(p_overrides -> 'limits', '{}'),
    'perRun', coalesce(p_class -> 'perRun', '{}') || coalesce(p_overrides -> 'perRun', '{}'),
    'perAction', named_quotas(p_class -> 'perAction', p_overrides -> 'perAction'),
    'perAgent', named_quotas(p_class -> 'perAgent', p_overrides -> 'perAgent'))
$function$
;
alter function bulkhead.quota_of(jsonb,jsonb,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.quota_state(p_tenant text, p_environment text)
 RETURNS TABLE(at text, time_zone text, quota_class text, overrides jsonb, subject text, layer text, cap bigint, used bigint, reserved bigint, frees_ms bigint, frees_at text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query
    with now_of as (
      select t, l, greatest(bulkhead.now(), t.last_clock) as n, k.quota_class, k.quota_overrides
        from ledgers t join limits l using (tenant_id, environment) join tenants k using (tenant_id, environment)
        where t.tenant_id = p_tenant and t.environment = p_environment
    ), metered as (
      select '' as of_whom, (o.l).layers as lay, (o.t).meter as met from now_of o
      union all
      select d.name, d.layers, coalesce(m.meter, new_meter(ledger_day(o.t, o.n, (o.l).time_zone), o.n))
        from now_of o join named_limits d on d.tenant_id = p_tenant and d.environment = p_environment
          left join meters m on m.tenant_id = p_tenant and m.environment = p_environment and m.name = d.name
    ), today as (
      select d.*, o.n, o.l, ledger_day(o.t, o.n, (o.l).time_zone) as day from metered d, now_of o
    ), counted as (
      select d.of_whom, d.lay, d.met, d.n, (d.lay).per_day as per_day, ms_to_end_of(d.day, d.n, (d.l).time_zone) as day_ms,
          case when d.day > (d.met).day then nothing() else (d.met).used end as day_used, h.held,
          drained((d.met).calls, (d.lay).calls_per_minute, d.n) as calls,
          drained((d.met).model_tokens, (d.lay).model_tokens_per_minute, d.n) as model_tokens
        from today d cross join lateral (
          select amounts_of(coalesce(sum((c.reserved).tool_calls), 0)::bigint, coalesce(sum((c.reserved).steps), 0)::bigint,
              coalesce(sum((c.reserved).active_ms), 0)::bigint, coalesce(sum((c.reserved).micro_usd), 0)::bigint,
              coalesce(sum((c.reserved).model_tokens), 0)::bigint, coalesce(sum((c.reserved).high_risk_writes), 0)::bigint) as held
            from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.state = 'claimed' and c.day = d.day
              and (d.of_whom = '' or d.of_whom = any (c.metered))) h
    ), layers as (
      select c.of_whom, case c.of_whom when '' then 0 else 1 end as part, v.*
        from counted c cross join lateral (values
          (1, 'callsInFlight', (c.lay).calls_in_flight::bigint, (c.met).inflight::bigint, (c.met).inflight::bigint, null::bigint),
          (2, 'callsPerMinute', (c.lay).calls_per_minute, ceil((c.calls).level / 60000.0)::bigint, null, ms_to_fit(c.calls, (c.lay).calls_per_minute,
            (c.lay).calls_per_minute)),
          (3, 'modelTokensPerMinute', (c.lay).model_tokens_per_minute, ceil((c.model_tokens).level / 60000.0)::bigint, null,
            ms_to_fit(c.model_tokens, (c.lay).model_tokens_per_minute, (c.lay).model_tokens_per_minute)),
          (4, 'modelTokensPerDay', (c.per_day).model_tokens, (c.day_used).model_tokens, (c.held).model_tokens, c.day_ms),
          (5, 'toolCallsPerDay', (c.per_day).tool_calls, (c.day_used).tool_calls, (c.held).tool_calls, c.day_ms),
          (6, 'stepsPerDay', (c.per_day).steps, (c.day_used).steps, (c.held).steps, c.day_ms),
          (7, 'activeSecondsPerDay', (c.per_day).active_ms / 1000, ceil((c.day_used).active_ms / 1000.0)::bigint,
            ceil((c.held).active_ms / 1000.0)::bigint, c.day_ms),
          (8, 'spendMicroUsdPerDay', (c.per_day).micro_usd, (c.day_used).micro_usd, (c.held).micro_usd, c.day_ms),
          (9, 'highRiskWritesPerDay', (c.per_day).high_risk_writes, (c.day_used).high_risk_writes, (c.held).high_risk_writes, c.day_ms)
        ) as v (place, layer, cap, used, reserved, frees_ms)
        where c.of_whom = '' or v.cap is not null
      union all
      select '', 0, v.* from now_of o cross join lateral (
          select drained((o.t).run_starts, (o.l).run_starts_per_minute, o.n) as starts, drained((o.t).retries, (o.l).retries_per_minute, o.n) as retries) s
        cross join lateral (values
          (10, 'runStartsPerMinute', (o.l).run_starts_per_minute, ceil((s.starts).level / 60000.0)::bigint, null::bigint,
            ms_to_fit(s.starts, (o.l).run_starts_per_minute, (o.l).run_starts_per_minute)),
          (11, 'retriesPerMinute', (o.l).retries_per_minute, ceil((s.retries).level / 60000.0)::bigint, null,
            ms_to_fit(s.retries, (o.l).retries_per_minute, (o.l).retries_per_minute)),
          (12, 'concurrentRuns', (o.l).concurrent_runs::bigint, (o.t).slots::bigint, null, null),
          (13, 'queuedRuns', (o.l).queued_runs, (o.t).queued::bigint, null, null),
          (14, 'queuedSeconds', (o.l).queued_seconds, null, null, null),
          (15, 'bestPriority', (o.l).best_priority::bigint, null, null, null),
          -- Of what is kept no time frees any.
          (16, 'storageBytes', (o.l).storage_bytes, (o.t).stored_bytes + (o.t).stored_reserved, (o.t).stored_reserved, null),
          (17, 'memoryBytes', (o.l).memory_bytes, (o.t).memory_bytes, null, null)
        ) as v (place, layer, cap, used, reserved, frees_ms)
      union all
      select 'run', 2, v.* from now_of o cross join lateral (values
          (1, 'steps', ((o.l).per_run).steps, null::bigint, null::bigint, null::bigint),
          (2, 'seconds', ((o.l).per_run).active_ms / 1000, null, null, null),
          (3, 'spendMicroUsd', ((o.l).per_run).micro_usd, null, null, null)
        ) as v (place, layer, cap, used, reserved, frees_ms)
    )
    -- What is not used has nothing to free, and what no limit counts is not shown to free.
    select iso(o.n), (o.l).time_zone, o.quota_class, o.quota_overrides, y.of_whom, y.layer, y.cap, y.used, y.reserved, f.ms,
        iso(o.n + f.ms * interval '1 millisecond')
      from now_of o cross join layers y
        cross join lateral (select case when y.cap is not null and y.used > 0 then y.frees_ms end as ms) f
      order by y.part, y.of_whom, y.place;
end $function$
;
alter function bulkhead.quota_state(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.quota_state(text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.raise_record_version()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  update bulkhead.ledgers set record_version = record_version + 1
    where tenant_id = coalesce(new.tenant_id, old.tenant_id) and environment = coalesce(new.environment, old.environment);
  return null;
end $function$
;
alter function bulkhead.raise_record_version() owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.reap_call(p_tenant text, p_environment text, p_run text, p_path text, p_token uuid)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.reap_call(text,text,text,text,uuid) owner to bulkhead_owner;
grant execute on function bulkhead.reap_call(text,text,text,text,uuid) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.record_of(t bulkhead.tenants)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
AS $function$
  select jsonb_build_object('tenantId', t.tenant_id, 'environment', t.environment, 'policyProfile', t.policy_profile,
    'quotaClass', t.quota_class, 'lane', t.lane, 'weight', t.weight, 'workerCeiling', t.worker_ceiling,
    'expensiveCeiling', t.expensive_ceiling, 'limits', t.quota -> 'limits', 'perRun', t.quota -> 'perRun',
    'perAction', t.quota -> 'perAction', 'perAgent', t.quota -> 'perAgent', 'timeZone', t.time_zone,
    'workspaces', t.workspaces, 'connections', t.connections, 'scope', t.scope, 'models', t.models,
    'prices', t.prices)
$function$
;
alter function bulkhead.record_of(bulkhead.tenants) owner to bulkhead_owner;
grant execute on function bulkhead.record_of(bulkhead.tenants) to bulkhead_sweep;

CREATE OR REPLACE FUNCTION bulkhead.recovery_calls(p_tenant text, p_environment text, p_run text)
 RETURNS TABLE(path text, state text, class text, action text, digest text, review_no bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select c.path, c.state::text, c.class::text, c.action, c.digest, c.review_no from calls c
    where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run;
end $function$
;
alter function bulkhead.recovery_calls(text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.recovery_calls(text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.recovery_state(p_tenant text, p_environment text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.recovery_state(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.recovery_state(text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.refusal_json(x bulkhead.refused, p_policy_version bigint)
 RETURNS json
 LANGUAGE sql
 STABLE
AS $function$
  select json_strip_nulls(json_build_object('kind', x.kind, 'origin', x.origin, 'rule', x.rule,
    'rules', coalesce(x.rules, array[x.rule]), 'message', x.message, 'policyVersion', p_policy_version,
    'value', x.value, 'used', x.used, 'retryAfterMs', x.retry_after_ms))
$function$
;
alter function bulkhead.refusal_json(bulkhead.refused,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.refuse_rewrite()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  raise exception 'the journal is append-only: % is refused', tg_op using errcode = 'integrity_constraint_violation';
end $function$
;
alter function bulkhead.refuse_rewrite() owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.release_tenant(p_tenant text, p_environment text, p_reason text, p_actor text, p_body text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if t.mode = 'normal' then
    return;
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  t.mode := 'normal';
  t.control_version := t.control_version + 1;
  update fencings set reason = p_reason, actor = p_actor where tenant_id = p_tenant and environment = p_environment;
  t := ledger_append(t, n, null, json_build_object('kind', 'released', 'at', iso(n), 'actor', p_actor, 'epoch', t.fence_epoch), p_body);
  perform ledger_save(t, true);
end $function$
;
alter function bulkhead.release_tenant(text,text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.release_tenant(text,text,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.remove_knowledge(p_tenant text, p_environment text, p_document text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
declare
  t ledgers;
  freed bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
  delete from knowledge k where k.tenant_id = p_tenant and k.environment = p_environment and k.document_id = p_document
    returning memory_of(k.title, k.body) into freed;
  if freed is null then
    return false;
  end if;
  t.memory_bytes := t.memory_bytes - freed;
  t.last_clock := greatest(bulkhead.now(), t.last_clock);
  perform ledger_save(t, true);
  return true;
end $function$
;
alter function bulkhead.remove_knowledge(text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.remove_knowledge(text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.resolve_review(p_tenant text, p_environment text, p_review bigint, p_resolution text, p_payload json, p_payload_digest text, p_facts json, p_records json, p_data_classes text[], p_actor text, p_note text, p_body text)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.resolve_review(text,text,bigint,text,json,text,json,json,text[],text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.resolve_review(text,text,bigint,text,json,text,json,json,text[],text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.restore_call(p_tenant text, p_environment text, p_run text, p_path text, p_from text, p_to text, p_call json)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.restore_call(text,text,text,text,text,text,json) owner to bulkhead_owner;
grant execute on function bulkhead.restore_call(text,text,text,text,text,text,json) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.restore_fence(p_tenant text, p_environment text, p_epoch bigint, p_mode text, p_fenced_at timestamp with time zone, p_contained_at timestamp with time zone, p_drained_at timestamp with time zone, p_reason text, p_actor text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.restore_fence(text,text,bigint,text,timestamp with time zone,timestamp with time zone,timestamp with time zone,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.restore_fence(text,text,bigint,text,timestamp with time zone,timestamp with time zone,timestamp with time zone,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.restore_follow_up(p_tenant text, p_environment text, p_run text, p_follow_up bigint, p_kind text, p_path text, p_reason text, p_state text, p_temporal_run text, p_wanted_at timestamp with time zone, p_outcome json)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.restore_follow_up(text,text,text,bigint,text,text,text,text,text,timestamp with time zone,json) owner to bulkhead_owner;
grant execute on function bulkhead.restore_follow_up(text,text,text,bigint,text,text,text,text,text,timestamp with time zone,json) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.restore_run(p_tenant text, p_environment text, p_signed json, p_input json, p_fenced boolean, p_temporal_run text, p_generation integer, p_entered_at timestamp with time zone, p_first_step integer, p_step json, p_data_classes text[])
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.restore_run(text,text,json,json,boolean,text,integer,timestamp with time zone,integer,json,text[]) owner to bulkhead_owner;
grant execute on function bulkhead.restore_run(text,text,json,json,boolean,text,integer,timestamp with time zone,integer,json,text[]) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.retry_dead_letter(p_tenant text, p_environment text, p_letter bigint, p_actor text, p_note text, p_body text)
 RETURNS bulkhead.letter_answer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.retry_dead_letter(text,text,bigint,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.retry_dead_letter(text,text,bigint,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.revoke_leases(p_tenant text, p_environment text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  n timestamptz;
  revoked bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  update leases set revoked_at = n where tenant_id = p_tenant and environment = p_environment and revoked_at is null
    and expires_at > n - interval '1 minute';
  get diagnostics revoked = row_count;
  perform set_config('synchronous_commit', 'on', true);
  return revoked;
end $function$
;
alter function bulkhead.revoke_leases(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.revoke_leases(text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.rules_of(p_terms json)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select array_agg(distinct rule order by rule) from json_array_elements_text(p_terms -> 'rules') rule
$function$
;
alter function bulkhead.rules_of(json) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.run_gate(r bulkhead.runs, p_cap bulkhead.amounts, p_ask bulkhead.amounts)
 RETURNS bulkhead.refused
 LANGUAGE sql
 STABLE
AS $function$
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
$function$
;
alter function bulkhead.run_gate(bulkhead.runs,bulkhead.amounts,bulkhead.amounts) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.runs_expired(p_environment text, p_limit integer, p_without text[])
 RETURNS TABLE(tenant_id text, run_id text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  n timestamptz := bulkhead.now();
begin
  return query (select r.tenant_id::text, r.run_id from bulkhead.runs r
      where r.environment = p_environment and r.state = 'closed' and r.purged_at is null and r.purge_again_at is null
        and r.accepted_at <= n - bulkhead.key_horizon() and r.tenant_id <> all (p_without)
      order by r.accepted_at limit p_limit)
    union all (select r.tenant_id::text, r.run_id from bulkhead.runs r
      where r.environment = p_environment and r.purge_again_at <= n and r.tenant_id <> all (p_without)
      order by r.purge_again_at limit p_limit);
end $function$
;
alter function bulkhead.runs_expired(text,integer,text[]) owner to bulkhead_sweep;
grant execute on function bulkhead.runs_expired(text,integer,text[]) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.search_knowledge(p_tenant text, p_environment text, p_query text, p_limit integer)
 RETURNS TABLE(document_id text, title text, body text, score real, tenant_id text, environment text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
declare
  v_query tsquery;
begin
  perform bind_scope(p_tenant, p_environment);
  -- Any of the words, not all: agents ask in sentences.
  v_query := replace(plainto_tsquery('english', left(p_query, 2000))::text, ' & ', ' | ')::tsquery;
  if numnode(v_query) = 0 then
    return;
  end if;
  perform set_config('bulkhead.search', v_query::text, true);
  return query
    select k.document_id, k.title, k.body, ts_rank_cd(k.words, v_query) as score, k.tenant_id::text, k.environment::text
      from knowledge k
     where k.tenant_id = p_tenant and k.environment = p_environment
     order by 4 desc, 1
     limit least(greatest(p_limit, 0), 50);
end $function$
;
alter function bulkhead.search_knowledge(text,text,text,integer) owner to bulkhead_search;
grant execute on function bulkhead.search_knowledge(text,text,text,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.set_limits(p_tenant text, p_environment text, p_quota jsonb, p_actor text, p_body text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  bound text := coalesce(current_setting('bulkhead.tenant_id', true), '');
  t ledgers;
  h handed_over;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  t := ledger_roll(t, n);
  perform ledger_limit(p_tenant, p_environment, p_quota);
  t.control_version := t.control_version + 1;
  t := ledger_append(t, n, null, json_build_object('kind', 'limits', 'at', iso(n), 'actor', p_actor, 'quota', p_quota), p_body);
  -- Who has a slot for it is told by the hosts that watch for slots nobody comes for.
  h := ledger_hand_over(t, n);
  t := h.t;
  perform ledger_save(t, true);
  perform set_config('bulkhead.tenant_id', bound, true);
end $function$
;
alter function bulkhead.set_limits(text,text,jsonb,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.set_policy_version(p_tenant text, p_environment text, p_version bigint, p_actor text, p_body text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  bound text := coalesce(current_setting('bulkhead.tenant_id', true), '');
  t ledgers;
  n timestamptz;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  t.policy_version := p_version;
  t.control_version := t.control_version + 1;
  t := ledger_append(t, n, null, json_build_object('kind', 'policy', 'at', iso(n), 'actor', p_actor, 'policyVersion', p_version), p_body);
  perform ledger_save(t, true);
  perform set_config('bulkhead.tenant_id', bound, true);
end $function$
;
alter function bulkhead.set_policy_version(text,text,bigint,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.set_pool_share(p_tenant text, p_environment text, p_provider text, p_pool text, p_calls integer, p_tokens bigint, p_guaranteed integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
begin
  perform enter_scope(p_tenant, p_environment);
  -- One tenant's row that is held must not hold up the division of all others: it keeps what it has until the next time.
  perform set_config('lock_timeout', '100ms', true);
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  update pool_shares set calls_in_flight = p_calls, model_tokens_per_minute = p_tokens, guaranteed = p_guaranteed
    where tenant_id = p_tenant and environment = p_environment and provider = p_provider and pool = p_pool and left_at is null;
  if p_provider = '' then
    delete from pool_shares s where s.tenant_id = p_tenant and s.environment = p_environment and s.provider = '' and s.pool = p_pool
      and not exists (select from calls c where c.tenant_id = p_tenant and c.environment = p_environment and c.state = 'claimed'
        and c.admitted_at <= s.left_at) and s.left_at is not null;
    return (t.meter).inflight;
  end if;
  return coalesce((select (meter).inflight from meters
    where tenant_id = p_tenant and environment = p_environment and name = 'pool:' || p_pool), 0);
end $function$
;
alter function bulkhead.set_pool_share(text,text,text,text,integer,bigint,integer) owner to bulkhead_owner;
grant execute on function bulkhead.set_pool_share(text,text,text,text,integer,bigint,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.set_pools(p_tenant text, p_environment text, p_pools jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  named record;
begin
  perform bind_scope(p_tenant, p_environment);
  perform must_know_pools(p_pools);
  if p_pools = (select coalesce(jsonb_object_agg(s.provider, s.pool), '{}') from pool_shares s
      where s.tenant_id = p_tenant and s.environment = p_environment and s.left_at is null)
    and exists (select from limits l where l.tenant_id = p_tenant and l.environment = p_environment
      and l.capacity is not distinct from p_pools ->> '') then
    return;
  end if;
  select * into strict t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  delete from pool_shares where tenant_id = p_tenant and environment = p_environment and pool is distinct from p_pools ->> provider
    and (provider <> '' or (t.meter).inflight = 0);
  update pool_shares set left_at = greatest(bulkhead.now(), t.last_clock), calls_in_flight = 0, guaranteed = 0
    where tenant_id = p_tenant and environment = p_environment and pool is distinct from p_pools ->> provider and left_at is null;
  for named in select e.key as provider, e.value as pool from jsonb_each_text(p_pools) e order by e.key loop
    insert into pool_shares as s (tenant_id, environment, provider, pool, model_tokens_per_minute)
      select p_tenant, p_environment, named.provider, named.pool,
          (select 0 from provider_pools p where p.name = named.pool and p.provider = named.provider and p.model_tokens_per_minute is not null)
      on conflict on constraint pool_shares_pk do update set left_at = null where s.left_at is not null;
  end loop;
  update limits l set capacity = p_pools ->> ''
    where l.tenant_id = p_tenant and l.environment = p_environment and l.capacity is distinct from p_pools ->> '';
end $function$
;
alter function bulkhead.set_pools(text,text,jsonb) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.set_quota(p_tenant text, p_environment text, p_overrides jsonb, p_actor text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  update tenants t set quota_overrides = p_overrides, updated_at = clock_timestamp(), updated_by = p_actor
    where t.tenant_id = p_tenant and t.environment = p_environment;
  if not found then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
end $function$
;
alter function bulkhead.set_quota(text,text,jsonb,text) owner to bulkhead_owner;
grant execute on function bulkhead.set_quota(text,text,jsonb,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.settle_call(p_tenant text, p_environment text, p_run text, p_path text, p_token uuid, p_result text, p_tool_calls integer, p_micro_usd bigint, p_model_tokens bigint, p_refusal json, p_value json, p_payload json, p_payload_digest text, p_facts json, p_records json, p_data_classes text[], p_body text)
 RETURNS bulkhead.settlement
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.settle_call(text,text,text,text,uuid,text,integer,bigint,bigint,json,json,json,text,json,json,text[],text) owner to bulkhead_owner;
grant execute on function bulkhead.settle_call(text,text,text,text,uuid,text,integer,bigint,bigint,json,json,json,text,json,json,text[],text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.share_gate(t bulkhead.ledgers, l bulkhead.limits)
 RETURNS bulkhead.refused
 LANGUAGE plpgsql
 STABLE
AS $function$
declare
  share constant integer := coalesce((select s.calls_in_flight from bulkhead.pool_shares s where s.tenant_id = t.tenant_id
    and s.environment = t.environment and s.provider = '' and s.pool = l.capacity and s.left_at is null), 0);
begin
  if (t.meter).inflight < share then
    return null;
  end if;
  return row('throttled', 'platform', 'shared_capacity/' || l.capacity || '/calls_in_flight',
    format('what this tenant has of the shared capacity %s at this time is in use', l.capacity), share, (t.meter).inflight, 500, null)::bulkhead.refused;
end $function$
;
alter function bulkhead.share_gate(bulkhead.ledgers,bulkhead.limits) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.slots_not_taken(p_environment text, p_older_than_ms bigint, p_limit integer)
 RETURNS TABLE(tenant_id text, run_id text, workflow_id text, temporal_run_id text, signed json, slot_at text)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select r.tenant_id, r.run_id, a.workflow_id, r.temporal_run_id, a.signed, r.slot_at::text from bulkhead.runs r join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
    where r.environment = p_environment and r.slot_at <= bulkhead.now() - p_older_than_ms * interval '1 millisecond'
      and r.state in ('accepted', 'queued')
      -- Ever more rarely: each time it is told is an event in its history.
      and random() * extract(epoch from bulkhead.now() - r.slot_at) < 60
    order by random() limit p_limit
$function$
;
alter function bulkhead.slots_not_taken(text,bigint,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.slots_not_taken(text,bigint,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.standing_in_line(p_tenant text, p_environment text, p_run text)
 RETURNS TABLE("position" integer, waiting integer, value integer, used integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select line_before(t, r, null) + 1, t.queued, l.concurrent_runs, t.slots
    from ledgers t join limits l using (tenant_id, environment) join runs r using (tenant_id, environment)
    where t.tenant_id = p_tenant and t.environment = p_environment and r.run_id = p_run and r.queued_at is not null;
end $function$
;
alter function bulkhead.standing_in_line(text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.standing_in_line(text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.still_asked(v bulkhead.approvals)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select (exists (select from bulkhead.runs r where r.tenant_id = v.tenant_id and r.environment = v.environment and r.run_id = v.run_id
      and r.state <> 'closed')
    or exists (select from bulkhead.follow_ups f where f.tenant_id = v.tenant_id and f.environment = v.environment and f.run_id = v.run_id
      and f.path = v.path and f.state <> 'done'))
    and not exists (select from bulkhead.calls c where c.tenant_id = v.tenant_id and c.environment = v.environment and c.run_id = v.run_id
      and c.path = v.path and c.digest = v.digest and c.state not in ('claimed', 'open') and not c.lost)
$function$
;
alter function bulkhead.still_asked(bulkhead.approvals) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.storage_gate(t bulkhead.ledgers, l bulkhead.limits, p_ask bigint, p_held bigint, p_who text)
 RETURNS bulkhead.refused
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select row('throttled', 'tenant_cap', 'storage_bytes',
      format(case when p_ask > l.storage_bytes then '%s may store more bytes than all that this tenant may have'
        else 'the storage that this tenant has left is less than what %s may store' end, p_who),
      l.storage_bytes, k.used, case when p_ask > l.storage_bytes then null when t.stored_bytes + p_ask <= l.storage_bytes then 1000
        else 60000 end, null)::bulkhead.refused
    from (select t.stored_bytes + t.stored_reserved - p_held as used) k
    where p_ask > 0 and k.used + p_ask > l.storage_bytes
$function$
;
alter function bulkhead.storage_gate(bulkhead.ledgers,bulkhead.limits,bigint,bigint,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.stored_overshoot(p_stored bigint, p_reserved bigint)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select nullif(greatest(0, p_stored - coalesce(p_reserved, 0)), 0)
$function$
;
alter function bulkhead.stored_overshoot(bigint,bigint) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.suggestion_rows(p_tenant text, p_environment text, p_run text)
 RETURNS TABLE(run_id text, path text, action text, class text, system text, destination text, args text, rules text[], policy_version bigint, suggested text, approval_no bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select g.run_id, g.path, g.action, g.class::text, g.system, g.destination, g.args, g.rules, g.policy_version, iso(g.suggested_at),
      g.approval_no
    from suggestions g where g.tenant_id = p_tenant and g.environment = p_environment and g.run_id = p_run
    order by case when g.path ~ '^[0-9]{1,9}[.][0-9]{1,9}$' then string_to_array(g.path, '.')::integer[] end, g.path;
end $function$
;
alter function bulkhead.suggestion_rows(text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.suggestion_rows(text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.tenant_lane(p_tenant text, p_environment text, p_within_ms bigint)
 RETURNS TABLE(lane text, weight integer, worker_ceiling integer, expensive_ceiling integer, hosts bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select t.lane, t.weight, t.worker_ceiling, t.expensive_ceiling,
      (select count(*) from hosts h where h.environment = p_environment
        and h.seen_at > bulkhead.now() - p_within_ms * interval '1 millisecond'
        and (t.lane <> 'dedicated' and 'host' = any (h.roles) or t.lane <> 'shared' and 'lane:' || p_tenant = any (h.roles)))
    from tenants t where t.tenant_id = p_tenant and t.environment = p_environment;
end $function$
;
alter function bulkhead.tenant_lane(text,text,bigint) owner to bulkhead_owner;
grant execute on function bulkhead.tenant_lane(text,text,bigint) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.tenant_record(p_tenant text, p_environment text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  v_record jsonb;
begin
  perform bind_scope(p_tenant, p_environment);
  select record_of(t) into v_record from tenants t where t.tenant_id = p_tenant and t.environment = p_environment;
  return v_record;
end $function$
;
alter function bulkhead.tenant_record(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.tenant_record(text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.tenant_records()
 RETURNS SETOF jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  v_environment text := coalesce(current_setting('bulkhead.environment', true), '');
begin
  perform set_config('bulkhead.environment', '*', true);
  return query select record_of(t) from tenants t order by t.tenant_id, t.environment;
  perform set_config('bulkhead.environment', v_environment, true);
end $function$
;
alter function bulkhead.tenant_records() owner to bulkhead_sweep;
grant execute on function bulkhead.tenant_records() to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.tenants_naming(p_quota_class text, p_profile text)
 RETURNS TABLE(tenant_id text, environment text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  v_environment text := coalesce(current_setting('bulkhead.environment', true), '');
begin
  perform set_config('bulkhead.environment', '*', true);
  return query select t.tenant_id::text, t.environment::text from tenants t
   where t.quota_class = p_quota_class or t.policy_profile = p_profile order by 1, 2;
  perform set_config('bulkhead.environment', v_environment, true);
end $function$
;
alter function bulkhead.tenants_naming(text,text) owner to bulkhead_sweep;
grant execute on function bulkhead.tenants_naming(text,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.tend_line(p_tenant text, p_environment text, p_recount boolean)
 RETURNS text[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
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
end $function$
;
alter function bulkhead.tend_line(text,text,boolean) owner to bulkhead_owner;
grant execute on function bulkhead.tend_line(text,text,boolean) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.token_mark(m bulkhead.meter, l bulkhead.layers)
 RETURNS numeric
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case when (l).model_tokens_per_minute is not null then (m).tokens_gone + ((m).model_tokens).level end
$function$
;
alter function bulkhead.token_mark(bulkhead.meter,bulkhead.layers) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.tokens_drained(m bulkhead.meter, p_limit bigint, p_now timestamp with time zone)
 RETURNS bulkhead.meter
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
declare
  b constant bulkhead.bucket := bulkhead.drained((m).model_tokens, p_limit, p_now);
begin
  m.tokens_gone := (m).tokens_gone + ((m).model_tokens).level - b.level;
  m.model_tokens := b;
  return m;
end $function$
;
alter function bulkhead.tokens_drained(bulkhead.meter,bigint,timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.tokens_returned(m bulkhead.meter, p_units bigint, p_reserved bigint, p_mark numeric)
 RETURNS bulkhead.meter
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
declare
  -- Without a mark it never was in the bucket.
  freed constant bigint := least(p_units * 60000, p_reserved * 60000, greatest(0, coalesce(p_mark, 0) - (m).tokens_gone));
begin
  m.tokens_gone := (m).tokens_gone + freed;
  m.model_tokens := row(((m).model_tokens).level - freed, ((m).model_tokens).at)::bulkhead.bucket;
  return m;
end $function$
;
alter function bulkhead.tokens_returned(bulkhead.meter,bigint,bigint,numeric) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.undo_items(p_tenant text, p_environment text, p_run text)
 RETURNS TABLE(path text, action text, state text, reversible text, undo text, undo_review bigint, claimed_seq bigint)
 LANGUAGE sql
 STABLE
AS $function$
  -- A result that was not believed (E4) says nothing of whether the write happened: its review does.
  select c.path, c.action, case c.state when 'failed' then 'unknown' else c.state end, coalesce(c.reversible, 'final'), u.state, u.review_no, c.claimed_seq
    from bulkhead.calls c left join bulkhead.calls u on u.tenant_id = c.tenant_id and u.environment = c.environment
      and u.run_id = c.run_id and u.path = c.path || '/undo'
    where c.tenant_id = p_tenant and c.environment = p_environment and c.run_id = p_run and c.undo_of is null
      and c.class in ('write', 'high_risk_write') and (c.state in ('claimed', 'succeeded', 'unknown') or c.state = 'failed' and c.review_no is not null)
$function$
;
alter function bulkhead.undo_items(text,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.undo_list(p_tenant text, p_environment text, p_run text)
 RETURNS json
 LANGUAGE sql
 STABLE
AS $function$
  select coalesce(json_agg(json_build_object('path', i.path, 'action', i.action, 'state', i.state, 'reversible', i.reversible,
    'undo', i.undo) order by i.claimed_seq desc), '[]') from bulkhead.undo_items(p_tenant, p_environment, p_run) i
$function$
;
alter function bulkhead.undo_list(text,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.workspace_of(p_tenant text, p_environment text, p_run text)
 RETURNS text
 LANGUAGE sql
 STABLE
AS $function$
  select r.workspace_id from bulkhead.runs r where r.tenant_id = p_tenant and r.environment = p_environment and r.run_id = p_run
$function$
;
alter function bulkhead.workspace_of(text,text,text) owner to bulkhead_owner;
