-- What the migrations add up to. Written by a test, never by hand: UPDATE_SCHEMA=1 npx jest test/storage/schema

create role bulkhead_app login ;
create role bulkhead_operator login ;
create role bulkhead_owner nologin ;
create role bulkhead_search nologin ;
create role bulkhead_sweep nologin ;

create domain bulkhead.admitted_as as text constraint calls_admitted_as_known CHECK ((VALUE = ANY (ARRAY['admitted'::text, 'recover'::text, 'recover_lookup'::text])));

create domain bulkhead.call_class as text constraint calls_class_known CHECK ((VALUE = ANY (ARRAY['read'::text, 'model'::text, 'write'::text, 'high_risk_write'::text])));

create domain bulkhead.call_state as text constraint calls_state_known CHECK ((VALUE = ANY (ARRAY['claimed'::text, 'succeeded'::text, 'failed'::text, 'open'::text, 'unknown'::text])));

create domain bulkhead.environment_name as text constraint environment_form CHECK ((VALUE ~ '^[a-z0-9][a-z0-9-]{1,15}$'::text));

create domain bulkhead.run_state as text constraint runs_state_known CHECK ((VALUE = ANY (ARRAY['accepted'::text, 'queued'::text, 'running'::text, 'throttled'::text, 'approval_required'::text, 'review_required'::text, 'provider_degraded'::text, 'frozen'::text, 'compensating'::text, 'closed'::text])));

create domain bulkhead.stop_reason as text constraint runs_stop_reason_known CHECK ((VALUE = ANY (ARRAY['completed'::text, 'failed'::text, 'budget_exceeded'::text, 'policy_denied'::text, 'approval_denied'::text, 'approval_expired'::text, 'review_abandoned'::text, 'killed'::text, 'cancelled'::text, 'scope_ambiguous'::text, 'provider_degraded'::text, 'credential_unavailable'::text, 'idempotency_conflict'::text, 'outcome_unknown'::text, 'model_misbehaved'::text, 'terminated'::text, 'timed_out'::text])));

create domain bulkhead.tenant_mode as text constraint ledgers_mode_known CHECK ((VALUE = ANY (ARRAY['normal'::text, 'killed'::text])));

create domain bulkhead.tenant_name as text constraint tenant_id_form CHECK ((VALUE ~ '^[a-z0-9][a-z0-9-]{0,39}$'::text));

create type bulkhead.admission as (answer text, epoch bigint, attempt integer, lookup_only boolean, lease_id uuid, retry_after_ms bigint, policy_version bigint, refusal json, outcome json, seq bigint);

create type bulkhead.refused as (kind text, origin text, rule text, message text, value bigint, used bigint, retry_after_ms bigint, rules text[]);

create type bulkhead.run_acceptance as (kind text, run_id text, refusal json, seq bigint);

create type bulkhead.run_entry as (kind text, lane text, max_steps integer, refusal json, stop_reason text, seq bigint);

create type bulkhead.settlement as (answer text, seq bigint);

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
  first_claimed_at timestamp with time zone not null,
  lease_until timestamp with time zone not null,
  tool_day integer not null,
  tool_calls integer not null,
  steps integer not null,
  micro_usd bigint not null,
  charged_tool_calls integer,
  charged_micro_usd bigint,
  lost boolean not null default false,
  refusal json,
  value json,
  payload_ref text,
  payload_digest text
) with (fillfactor=70);
alter table bulkhead.calls owner to bulkhead_owner;
alter table bulkhead.calls add constraint calls_charged_counted CHECK (((charged_tool_calls >= 0) AND (charged_micro_usd >= 0)));
alter table bulkhead.calls add constraint calls_charged_when_settled CHECK ((((state)::text = 'claimed'::text) = (charged_micro_usd IS NULL)));
alter table bulkhead.calls add constraint calls_path_named CHECK ((path <> ''::text));
alter table bulkhead.calls add constraint calls_pk PRIMARY KEY (tenant_id, environment, run_id, path);
alter table bulkhead.calls add constraint calls_reserved_counted CHECK (((tool_calls >= 0) AND (steps >= 0) AND (micro_usd >= 0)));
CREATE INDEX calls_claimed ON bulkhead.calls USING btree (environment, lease_until) WHERE ((state)::text = 'claimed'::text);
CREATE INDEX calls_claimed_by_tenant ON bulkhead.calls USING btree (tenant_id, environment, epoch) WHERE ((state)::text = 'claimed'::text);
alter table bulkhead.calls enable row level security;
alter table bulkhead.calls force row level security;
create policy sweep_reads on bulkhead.calls as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.calls as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.calls to bulkhead_sweep;

create table bulkhead.closed_windows (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  layer text not null,
  window_no integer not null,
  used bigint not null
);
alter table bulkhead.closed_windows owner to bulkhead_owner;
alter table bulkhead.closed_windows add constraint closed_windows_counted CHECK ((used >= 0));
alter table bulkhead.closed_windows add constraint closed_windows_layer_known CHECK ((layer = 'tool_calls_per_day'::text));
alter table bulkhead.closed_windows add constraint closed_windows_pk PRIMARY KEY (tenant_id, environment, layer, window_no);
alter table bulkhead.closed_windows enable row level security;
alter table bulkhead.closed_windows force row level security;
create policy tenant_scope on bulkhead.closed_windows as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

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
  inflight integer not null default 0,
  tool_day integer not null,
  tool_day_used bigint not null default 0,
  journal_seq bigint not null,
  journal_head bytea not null,
  durable_seq bigint not null,
  rewound_seq bigint not null default 0,
  acknowledged_seq bigint not null default 0,
  last_clock timestamp with time zone not null
) with (fillfactor=20, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=200);
alter table bulkhead.ledgers owner to bulkhead_owner;
alter table bulkhead.ledgers add constraint ledgers_inflight_counted CHECK ((inflight >= 0));
alter table bulkhead.ledgers add constraint ledgers_pk PRIMARY KEY (tenant_id, environment);
alter table bulkhead.ledgers add constraint ledgers_tool_day_counted CHECK ((tool_day_used >= 0));
alter table bulkhead.ledgers enable row level security;
alter table bulkhead.ledgers force row level security;
create policy sweep_reads on bulkhead.ledgers as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.ledgers as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.ledgers to bulkhead_sweep;

create table bulkhead.limits (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  calls_in_flight integer not null,
  tool_calls_per_day bigint not null,
  per_run_steps integer not null
);
alter table bulkhead.limits owner to bulkhead_owner;
alter table bulkhead.limits add constraint limits_calls_in_flight_counted CHECK ((calls_in_flight >= 0));
alter table bulkhead.limits add constraint limits_per_run_steps_counted CHECK ((per_run_steps >= 0));
alter table bulkhead.limits add constraint limits_pk PRIMARY KEY (tenant_id, environment);
alter table bulkhead.limits add constraint limits_tool_calls_per_day_counted CHECK ((tool_calls_per_day >= 0));
alter table bulkhead.limits enable row level security;
alter table bulkhead.limits force row level security;
create policy tenant_scope on bulkhead.limits as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

create table bulkhead.lost_attempts (
  tenant_id bulkhead.tenant_name not null,
  environment bulkhead.environment_name not null,
  run_id text not null,
  path text not null,
  token uuid not null,
  tool_day integer not null,
  tool_calls integer not null,
  micro_usd bigint not null,
  trued_up boolean not null default false
);
alter table bulkhead.lost_attempts owner to bulkhead_owner;
alter table bulkhead.lost_attempts add constraint lost_attempts_pk PRIMARY KEY (tenant_id, environment, run_id, path, token);
alter table bulkhead.lost_attempts enable row level security;
alter table bulkhead.lost_attempts force row level security;
create policy tenant_scope on bulkhead.lost_attempts as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));

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
  signed json not null
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
  epoch bigint not null,
  state bulkhead.run_state not null,
  stop_reason bulkhead.stop_reason,
  temporal_run_id text,
  generation integer not null default 0,
  facts_version integer not null default 0,
  accepted_at timestamp with time zone not null,
  entered_at timestamp with time zone,
  closed_at timestamp with time zone,
  touched_at timestamp with time zone not null,
  steps integer not null default 0,
  tool_calls integer not null default 0,
  refusals integer not null default 0,
  spent_micro_usd bigint not null default 0,
  output_ref text
) with (fillfactor=50);
alter table bulkhead.runs owner to bulkhead_owner;
alter table bulkhead.runs add constraint runs_one_stop_reason CHECK (((((state)::text = 'closed'::text) = (stop_reason IS NOT NULL)) AND (((state)::text = 'closed'::text) = (closed_at IS NOT NULL))));
alter table bulkhead.runs add constraint runs_pk PRIMARY KEY (tenant_id, environment, run_id);
alter table bulkhead.runs add constraint runs_spend_counted CHECK ((spent_micro_usd >= 0));
alter table bulkhead.runs add constraint runs_steps_counted CHECK ((steps >= 0));
alter table bulkhead.runs add constraint runs_tool_calls_counted CHECK ((tool_calls >= 0));
CREATE INDEX runs_by_acceptance ON bulkhead.runs USING btree (tenant_id, environment, accepted_at DESC, run_id DESC);
CREATE INDEX runs_open ON bulkhead.runs USING btree (environment, tenant_id) WHERE ((state)::text <> 'closed'::text);
alter table bulkhead.runs enable row level security;
alter table bulkhead.runs force row level security;
create policy sweep_reads on bulkhead.runs as permissive for select to bulkhead_sweep using (true);
create policy tenant_scope on bulkhead.runs as permissive for all to public using ((((tenant_id)::text = NULLIF(current_setting('bulkhead.tenant_id'::text, true), ''::text)) AND ((environment)::text = NULLIF(current_setting('bulkhead.environment'::text, true), ''::text))));
grant select on bulkhead.runs to bulkhead_app;
grant select on bulkhead.runs to bulkhead_sweep;

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
  worker_ceiling integer not null,
  limits jsonb not null,
  per_run jsonb not null,
  workspaces jsonb not null,
  connections jsonb not null,
  scope jsonb not null,
  models jsonb not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  updated_by text not null
);
alter table bulkhead.tenants owner to bulkhead_owner;
alter table bulkhead.tenants add constraint tenants_connections_check CHECK ((jsonb_typeof(connections) = 'object'::text));
alter table bulkhead.tenants add constraint tenants_lane_check CHECK ((lane = ANY (ARRAY['own'::text, 'dedicated'::text])));
alter table bulkhead.tenants add constraint tenants_models_check CHECK ((jsonb_typeof(models) = 'object'::text));
alter table bulkhead.tenants add constraint tenants_pkey PRIMARY KEY (tenant_id, environment);
alter table bulkhead.tenants add constraint tenants_policy_version_check CHECK ((policy_version >= 0));
alter table bulkhead.tenants add constraint tenants_quota_class_fkey FOREIGN KEY (quota_class) REFERENCES bulkhead.quota_classes(name);
alter table bulkhead.tenants add constraint tenants_scope_check CHECK ((jsonb_typeof(scope) = 'array'::text));
alter table bulkhead.tenants add constraint tenants_updated_by_check CHECK ((updated_by <> ''::text));
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
    a.workspace_id,
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
    a.signed
   FROM (bulkhead.runs r
     JOIN bulkhead.run_acceptances a USING (tenant_id, environment, run_id));
alter view bulkhead.run_rows owner to bulkhead_owner;
grant select on bulkhead.run_rows to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.accept_run(p_tenant text, p_environment text, p_signed json, p_idempotency_key text, p_body_digest text, p_input json, p_body text)
 RETURNS bulkhead.run_acceptance
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  e json := p_signed -> 'envelope';
  t ledgers;
  known run_acceptances;
  x refused;
  s run_acceptance;
  n timestamptz;
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
    s := row(case when known.body_digest = p_body_digest then 'existing' else 'conflict' end, known.run_id, null, t.durable_seq);
    return s;
  end if;
  if t.rewound_seq > 0 then
    x := row('failed', 'platform', 'ledger_rewound',
      'the ledger lost entries that its runs have seen; an operator has to reconcile and release the tenant', null, null, null, null);
  elsif t.mode <> 'normal' then
    x := row('killed', 'control', 'tenant_killed', 'an operator has stopped this tenant', null, null, null, null);
  end if;
  t := ledger_roll(t, n);
  if x.kind is not null then
    t := ledger_refuse(t, n, x, null, 'run.accept', '{}', p_body);
    s := row('refused', null, refusal_json(x, t.policy_version), ledger_save(t, false));
    return s;
  end if;
  insert into run_acceptances (tenant_id, environment, run_id, root_run_id, workflow_id, agent_id, agent_version, workspace_id,
      target_system, target_record_id, idempotency_key, body_digest, signed)
    values (p_tenant, p_environment, e ->> 'runId', e ->> 'rootRunId', e ->> 'workflowId', e ->> 'agentId', e ->> 'agentVersion',
      e ->> 'workspaceId', e -> 'target' ->> 'system', e -> 'target' ->> 'recordId', p_idempotency_key, p_body_digest, p_signed);
  insert into runs (tenant_id, environment, run_id, epoch, state, accepted_at, touched_at)
    values (p_tenant, p_environment, e ->> 'runId', t.fence_epoch, 'accepted', n, n);
  insert into payloads (tenant_id, environment, run_id, ref, payload, stored_at)
    values (p_tenant, p_environment, e ->> 'runId', 'input', p_input, n);
  t := ledger_append(t, n, e ->> 'runId', json_build_object('kind', 'accepted', 'at', iso(n), 'run', e ->> 'runId',
    'agent', e ->> 'agentId', 'agentVersion', e ->> 'agentVersion', 'workspace', e ->> 'workspaceId',
    'inputDigest', e ->> 'inputDigest', 'epoch', t.fence_epoch, 'policyVersion', t.policy_version), p_body);
  s := row('accepted', e ->> 'runId', null, ledger_save(t, true));
  return s;
end $function$
;
alter function bulkhead.accept_run(text,text,json,text,text,json,text) owner to bulkhead_owner;
grant execute on function bulkhead.accept_run(text,text,json,text,text,json,text) to bulkhead_app;

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

CREATE OR REPLACE FUNCTION bulkhead.admit_call(p_tenant text, p_environment text, p_run text, p_path text, p_digest text, p_action text, p_class text, p_system text, p_token uuid, p_temporal_run text, p_host text, p_policy_version bigint, p_record_version bigint, p_facts_version integer, p_rules text[], p_denial json, p_denial_kind text, p_denial_origin text, p_denial_rule text, p_lease_ms integer, p_key_valid_ms bigint, p_seen_seq bigint, p_tool_calls integer, p_steps integer, p_micro_usd bigint, p_capability text, p_body text)
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
  today integer;
  day_used bigint;
  rewound boolean;
  known boolean;
  moved boolean;
  takes_slot boolean := true;
  supersedes boolean := false;
  denied boolean := false;
  exhausted boolean := false;
  attempt_no integer := 1;
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
  today := greatest(day_of(n), t.tool_day);
  day_used := case when today > t.tool_day then 0 else t.tool_day_used end;
  rewound := t.rewound_seq > 0 or p_seen_seq > greatest(t.journal_seq, t.acknowledged_seq);
  a.seq := t.durable_seq;

  -- The key.
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  known := found;
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  moved := t.record_version <> p_record_version or coalesce(r.facts_version, 0) <> p_facts_version;
  <<decision>>
  begin
    if known then
      if c.state = 'claimed' and c.token = p_token then
        a.answer := case when c.admitted_as = 'admitted' then 'admitted' else 'recover' end;
        a.lookup_only := c.admitted_as = 'recover_lookup';
        a.epoch := c.epoch; a.attempt := c.attempts;
        select e.lease_id into a.lease_id from leases e where e.tenant_id = p_tenant and e.environment = p_environment
          and e.lease_id = p_token and e.capability = p_capability and e.revoked_at is null;
        return a;
      end if;
      if c.state = 'claimed' and n < c.lease_until then
        a.answer := 'in_flight';
        a.retry_after_ms := least(1000, greatest(1, ceil(extract(epoch from c.lease_until - n) * 1000)));
        return a;
      end if;
      if c.digest <> p_digest and c.class in ('write', 'high_risk_write') then
        x := row('idempotency_conflict', 'platform', 'idempotency_conflict',
          'this position of the run was used for another call; it is never run again', null, null, null, null);
        exit decision;
      end if;
      if c.state in ('succeeded', 'failed', 'unknown') and c.digest = p_digest and not (c.lost and c.token <> p_token) then
        a.answer := 'replayed'; a.outcome := outcome_of(c);
        return a;
      end if;
      if c.state = 'claimed' and c.class in ('write', 'high_risk_write') then
        if moved then
          a.answer := 'stale'; a.policy_version := t.policy_version;
          return a;
        end if;
        -- It may have been sent: whoever takes over recovers first, and only looks where it could not be let in anew.
        a.answer := 'recover'; a.epoch := t.fence_epoch; a.attempt := c.attempts + 1;
        a.lookup_only := rewound or t.mode <> 'normal' or t.policy_version <> p_policy_version or p_denial is not null
          or r.epoch < t.fence_epoch or c.attempts >= max_attempts
          or n > c.first_claimed_at + coalesce(p_key_valid_ms, 0) * interval '1 millisecond';
        exit decision;
      end if;
      -- A call without effect, one surely not sent, or a read that was reworded: a new attempt through every gate.
      supersedes := c.state = 'claimed';
      takes_slot := not supersedes;
      attempt_no := case when c.digest = p_digest then c.attempts + 1 else 1 end;
    end if;

    -- Gates: the first that refuses is the answer. Nothing is written yet.
    if rewound then
      x := row('failed', 'platform', 'ledger_rewound',
        'the ledger lost entries that this run has seen; an operator has to reconcile and release the tenant', null, null, null, null);
      exit decision;
    end if;
    if t.mode <> 'normal' then
      x := row('killed', 'control', 'tenant_killed', 'an operator has stopped this tenant', null, null, null, null);
      exit decision;
    end if;
    -- What a fence stopped stays stopped after a release: the run was accepted before it.
    if r.epoch < t.fence_epoch then
      x := row('killed', 'control', 'run_fenced', 'an operator has stopped what this run was accepted under', null, null, null, null);
      exit decision;
    end if;
    if t.policy_version <> p_policy_version or moved then
      a.answer := 'stale'; a.policy_version := t.policy_version;
      return a;
    end if;
    if p_denial is not null then
      x := row(p_denial_kind, p_denial_origin, p_denial_rule, null, null, null, null, p_rules);
      denied := true;
      exit decision;
    end if;
    if r.state = 'closed' then
      x := row(case r.stop_reason when 'killed' then 'killed' else 'denied' end, 'control', 'run_closed', 'this run is closed', null, null, null, null);
      exit decision;
    end if;
    if r.temporal_run_id is distinct from p_temporal_run then
      x := row('denied', 'control', 'run_not_entered', 'this run was not entered by the workflow that asks', null, null, null, null);
      exit decision;
    end if;
    if attempt_no > max_attempts then
      -- Whoever kept the last attempt from an outcome is whose trouble it is.
      x := row('failed', coalesce(c.refusal ->> 'origin', 'platform'), 'attempts_exhausted',
        'this call was tried too often without an outcome', max_attempts, c.attempts, null, null);
      exhausted := true;
      exit decision;
    end if;
    select * into strict l from limits where tenant_id = p_tenant and environment = p_environment;
    if takes_slot and t.inflight >= l.calls_in_flight then
      x := row('throttled', 'tenant_cap', 'calls_in_flight', 'all calls in flight that this tenant may have are taken',
        l.calls_in_flight, t.inflight, 500, null);
      exit decision;
    end if;
    if p_tool_calls > 0 and day_used + p_tool_calls > l.tool_calls_per_day then
      x := row('throttled', 'tenant_cap', 'tool_calls_per_day', 'the tool calls of this UTC day are used up',
        l.tool_calls_per_day, day_used, ceil((86400 * (today + 1) - extract(epoch from n)) * 1000), null);
      exit decision;
    end if;
    if p_steps > 0 and r.steps + p_steps > l.per_run_steps then
      x := row('budget_exceeded', 'tenant_cap', 'per_run_steps', 'the steps of this run are used up', l.per_run_steps, r.steps, null, null);
      exit decision;
    end if;
    a.answer := 'admitted'; a.epoch := t.fence_epoch; a.attempt := attempt_no;
  end;

  t := ledger_roll(t, n);
  if a.answer is null then
    a.answer := 'refused';
    a.refusal := case when denied then p_denial else refusal_json(x, t.policy_version) end;
    if exhausted then
      if supersedes then
        t.inflight := t.inflight - 1;
        insert into lost_attempts values (p_tenant, p_environment, p_run, p_path, c.token, c.tool_day, c.tool_calls, c.micro_usd)
          on conflict do nothing;
      end if;
      update calls set state = 'failed', lost = false, refusal = a.refusal, token = p_token,
          charged_tool_calls = coalesce(charged_tool_calls, tool_calls), charged_micro_usd = coalesce(charged_micro_usd, micro_usd)
        where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
    end if;
    -- Of a short wait nobody is told: the call asks again by itself.
    update runs set refusals = refusals + 1, touched_at = n,
        state = case when x.kind = 'throttled' and x.retry_after_ms > 10000 and state <> 'closed' then 'throttled' else state end
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
    if rewound and t.rewound_seq = 0 then
      t.control_version := t.control_version + 1;
    end if;
    if rewound then
      t.rewound_seq := greatest(t.rewound_seq, p_seen_seq);
    end if;
    if exhausted then
      -- Moves a call, and with it counters: never folded into a flood.
      t := ledger_append(t, n, p_run, json_build_object('kind', 'exhausted', 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
        'action', p_action, 'class', p_class, 'origin', x.origin, 'refusal', x.kind, 'rule', x.rule, 'value', x.value, 'used', x.used,
        'policyVersion', t.policy_version, 'slot', supersedes), p_body);
    else
      t := ledger_refuse(t, n, x, p_run, p_action, jsonb_build_object('path', p_path, 'token', p_token, 'class', p_class), p_body);
    end if;
    a.seq := ledger_save(t, exhausted);
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
        epoch = t.fence_epoch, policy_version = t.policy_version, host_id = p_host, attempts = a.attempt,
        lease_until = n + p_lease_ms * interval '1 millisecond'
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
    update runs set touched_at = n where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
    t := ledger_append(t, n, p_run, json_build_object('kind', 'recovering', 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
      'from', c.token, 'action', c.action, 'class', c.class, 'lookupOnly', a.lookup_only, 'rules', p_rules,
      'policyVersion', t.policy_version, 'epoch', t.fence_epoch, 'attempt', a.attempt), p_body);
    a.seq := ledger_save(t, true);
    return a;
  end if;

  if supersedes then
    insert into lost_attempts values (p_tenant, p_environment, p_run, p_path, c.token, c.tool_day, c.tool_calls, c.micro_usd)
      on conflict do nothing;
  end if;
  insert into calls as k (tenant_id, environment, run_id, path, digest, action, class, system, state, token, admitted_as, epoch,
      policy_version, host_id, attempts, first_claimed_at, lease_until, tool_day, tool_calls, steps, micro_usd)
    values (p_tenant, p_environment, p_run, p_path, p_digest, p_action, p_class, p_system, 'claimed', p_token, 'admitted', t.fence_epoch,
      t.policy_version, p_host, a.attempt, n, n + p_lease_ms * interval '1 millisecond', t.tool_day, p_tool_calls, p_steps, p_micro_usd)
    on conflict on constraint calls_pk do update set digest = excluded.digest, action = excluded.action, class = excluded.class,
      system = excluded.system, state = 'claimed', token = excluded.token, admitted_as = 'admitted', epoch = excluded.epoch,
      policy_version = excluded.policy_version, host_id = excluded.host_id, attempts = excluded.attempts,
      lease_until = excluded.lease_until, tool_day = excluded.tool_day, tool_calls = excluded.tool_calls, steps = excluded.steps,
      micro_usd = excluded.micro_usd, charged_tool_calls = null, charged_micro_usd = null, lost = false, refusal = null,
      value = null, payload_ref = null, payload_digest = null;
  update runs set steps = steps + p_steps, tool_calls = tool_calls + p_tool_calls, spent_micro_usd = spent_micro_usd + p_micro_usd,
      touched_at = n, state = case when state = 'throttled' then 'running' else state end
    where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  t.inflight := t.inflight + takes_slot::integer;
  t.tool_day_used := t.tool_day_used + p_tool_calls;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'admitted', 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
    'digest', p_digest, 'action', p_action, 'class', p_class, 'system', p_system, 'rules', p_rules, 'policyVersion', t.policy_version,
    'epoch', t.fence_epoch, 'attempt', a.attempt, 'slot', takes_slot, 'day', t.tool_day, 'toolCalls', p_tool_calls,
    'steps', p_steps, 'microUsd', p_micro_usd, 'inflight', t.inflight, 'dayUsed', t.tool_day_used), p_body);
  -- A free read that a crash forgets is read again; anything else is on disk before it may act.
  a.seq := ledger_save(t, p_class <> 'read' or p_micro_usd > 0);
  return a;
end $function$
;
alter function bulkhead.admit_call(text,text,text,text,text,text,text,text,uuid,text,text,bigint,bigint,integer,text[],json,text,text,text,integer,bigint,bigint,integer,integer,bigint,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.admit_call(text,text,text,text,text,text,text,text,uuid,text,text,bigint,bigint,integer,text[],json,text,text,text,integer,bigint,bigint,integer,integer,bigint,text,text) to bulkhead_app;

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

CREATE OR REPLACE FUNCTION bulkhead.apply_tenant(p_tenant text, p_environment text, p_actor text, p_body text)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  v_tenant tenants;
  v_class jsonb;
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
  if v_class -> 'limits' <> v_tenant.limits or v_class -> 'perRun' <> v_tenant.per_run then
    perform set_limits(p_tenant, p_environment, (v_class #>> '{limits,callsInFlight}')::integer,
      (v_class #>> '{limits,toolCallsPerDay}')::bigint, (v_class #>> '{perRun,steps}')::integer, p_actor, p_body);
  end if;
  if v_version <> v_tenant.policy_version then
    perform set_policy_version(p_tenant, p_environment, v_version, p_actor, p_body);
  end if;
  update tenants t
     set lane = v_class ->> 'lane', worker_ceiling = (v_class ->> 'workerCeiling')::integer, limits = v_class -> 'limits',
         per_run = v_class -> 'perRun', policy_version = v_version
   where t.tenant_id = p_tenant and t.environment = p_environment;
  return v_version;
end $function$
;
alter function bulkhead.apply_tenant(text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.apply_tenant(text,text,text,text) to bulkhead_operator;

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

CREATE OR REPLACE FUNCTION bulkhead.call_context(p_tenant text, p_environment text, p_run text, p_systems text[], p_ids text[], p_capability text)
 RETURNS TABLE(policy_version bigint, record_version bigint, facts_version integer, facts json, record jsonb, known json, credential_version integer, ciphertext bytea, wrapped_key bytea, key_id text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select l.policy_version, l.record_version, coalesce(r.facts_version, 0),
      (select coalesce(json_object_agg(f.name, f.value), '{}') from run_facts f
        where f.tenant_id = p_tenant and f.environment = p_environment and f.run_id = p_run),
      record_of(t),
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

CREATE OR REPLACE FUNCTION bulkhead.calls_due(p_environment text, p_limit integer)
 RETURNS TABLE(tenant_id text, run_id text, path text, token uuid)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select c.tenant_id, c.run_id, c.path, c.token
    from bulkhead.calls c left join bulkhead.runs r using (tenant_id, environment, run_id)
    where c.environment = p_environment and c.state = 'claimed' and c.lease_until <= bulkhead.now()
      and (c.class in ('read', 'model') or r.state = 'closed' or r.run_id is null)
    order by random() limit p_limit
$function$
;
alter function bulkhead.calls_due(text,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.calls_due(text,integer) to bulkhead_app;

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

CREATE OR REPLACE FUNCTION bulkhead.day_of(p_at timestamp with time zone)
 RETURNS integer
 LANGUAGE sql
 STABLE
AS $function$
  select floor(extract(epoch from p_at) / 86400)::integer
$function$
;
alter function bulkhead.day_of(timestamp with time zone) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.enter_run(p_tenant text, p_environment text, p_run text, p_temporal_run text, p_previous text, p_generation integer)
 RETURNS bulkhead.run_entry
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  r runs;
  x refused;
  s run_entry;
  n timestamptz;
  again boolean;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  again := r.temporal_run_id = p_temporal_run;
  if r.run_id is null then
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
  elsif t.rewound_seq > 0 then
    x := row('failed', 'platform', 'ledger_rewound',
      'the ledger lost entries that its runs have seen; an operator has to reconcile and release the tenant', null, null, null, null);
    s.stop_reason := 'failed';
  elsif not coalesce(again, false) and r.temporal_run_id is distinct from p_previous then
    x := row('denied', 'control', 'run_not_entered', 'another workflow works on this run: a reset run starts nothing', null, null, null, null);
    s.stop_reason := 'failed';
  end if;
  select l.per_run_steps into s.max_steps from limits l where l.tenant_id = p_tenant and l.environment = p_environment;
  select lane into s.lane from tenants where tenant_id = p_tenant and environment = p_environment;
  if x.kind is not null then
    s.kind := 'refused';
    s.refusal := refusal_json(x, t.policy_version);
    update runs set refusals = refusals + 1 where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
    t := ledger_refuse(ledger_roll(t, n), n, x, r.run_id, 'run.enter', jsonb_build_object('temporalRun', p_temporal_run), '{}');
    s.seq := ledger_save(t, false);
    return s;
  end if;
  s.kind := 'entered';
  s.seq := t.durable_seq;
  if again then
    return s;
  end if;
  update runs set state = 'running', temporal_run_id = p_temporal_run, generation = p_generation, entered_at = coalesce(entered_at, n), touched_at = n
    where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'entered', 'at', iso(n), 'run', p_run, 'temporalRun', p_temporal_run,
    'previous', p_previous, 'generation', p_generation), '{}');
  s.seq := ledger_save(t, true);
  return s;
end $function$
;
alter function bulkhead.enter_run(text,text,text,text,text,integer) owner to bulkhead_owner;
grant execute on function bulkhead.enter_run(text,text,text,text,text,integer) to bulkhead_app;

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

CREATE OR REPLACE FUNCTION bulkhead.leave_run(p_tenant text, p_environment text, p_run text, p_temporal_run text, p_stop_reason text, p_output_ref text)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  t ledgers;
  r runs;
  n timestamptz;
  reason text := p_stop_reason;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into r from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  if not found then
    raise exception 'there is no run % to leave', p_run using errcode = 'no_data_found';
  end if;
  if r.state = 'closed' then
    return r.stop_reason;
  end if;
  -- Calls that the fence cut off answer in many ways; why the run ended is the operator's act.
  if r.epoch < t.fence_epoch and reason not in ('completed', 'cancelled') then
    reason := 'killed';
  end if;
  update runs set state = 'closed', stop_reason = reason, output_ref = p_output_ref, closed_at = n, touched_at = n
    where tenant_id = p_tenant and environment = p_environment and run_id = p_run;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'left', 'at', iso(n), 'run', p_run, 'temporalRun', p_temporal_run,
    'stopReason', reason, 'outputRef', p_output_ref, 'steps', r.steps, 'toolCalls', r.tool_calls,
    'microUsd', r.spent_micro_usd, 'refusals', r.refusals), '{}');
  perform ledger_save(t, true);
  return reason;
end $function$
;
alter function bulkhead.leave_run(text,text,text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.leave_run(text,text,text,text,text,text) to bulkhead_app;

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

CREATE OR REPLACE FUNCTION bulkhead.ledger_charge(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_day integer, p_tool_calls integer, p_steps integer, p_micro_usd bigint)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
begin
  if (p_tool_calls, p_steps, p_micro_usd) <> (0, 0, 0) then
    t := bulkhead.ledger_true_up(t, p_day, p_tool_calls);
    update bulkhead.runs set steps = steps + p_steps, tool_calls = tool_calls + p_tool_calls,
        spent_micro_usd = spent_micro_usd + p_micro_usd, touched_at = p_now
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run;
  end if;
  return t;
end $function$
;
alter function bulkhead.ledger_charge(bulkhead.ledgers,timestamp with time zone,text,integer,integer,integer,bigint) owner to bulkhead_owner;

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

CREATE OR REPLACE FUNCTION bulkhead.ledger_keep(t bulkhead.ledgers, p_now timestamp with time zone, p_run text, p_path text, p_payload json, p_facts json, p_records json)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
begin
  if p_payload is not null then
    insert into bulkhead.payloads (tenant_id, environment, run_id, ref, payload, stored_at)
      values (t.tenant_id, t.environment, p_run, p_path, p_payload, p_now)
      on conflict on constraint payloads_pk do update set payload = excluded.payload, stored_at = excluded.stored_at;
  end if;
  if p_facts::text <> '{}' then
    insert into bulkhead.run_facts (tenant_id, environment, run_id, name, value, path)
      select t.tenant_id, t.environment, p_run, fact.key, fact.value, p_path from json_each(p_facts) fact
      on conflict on constraint run_facts_pk do update set value = excluded.value, path = excluded.path;
    update bulkhead.runs set facts_version = facts_version + 1
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run;
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
end $function$
;
alter function bulkhead.ledger_keep(bulkhead.ledgers,timestamp with time zone,text,text,json,json,json) owner to bulkhead_owner;

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

CREATE OR REPLACE FUNCTION bulkhead.ledger_roll(t bulkhead.ledgers, p_now timestamp with time zone)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
begin
  if bulkhead.day_of(p_now) > t.tool_day then
    insert into bulkhead.closed_windows (tenant_id, environment, layer, window_no, used)
      values (t.tenant_id, t.environment, 'tool_calls_per_day', t.tool_day, t.tool_day_used);
    t.tool_day := bulkhead.day_of(p_now);
    t.tool_day_used := 0;
  end if;
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
      policy_version = t.policy_version, inflight = t.inflight, tool_day = t.tool_day, tool_day_used = t.tool_day_used,
      journal_seq = t.journal_seq, journal_head = t.journal_head, durable_seq = t.durable_seq,
      rewound_seq = t.rewound_seq, acknowledged_seq = t.acknowledged_seq, last_clock = t.last_clock
    where tenant_id = t.tenant_id and environment = t.environment;
  return t.durable_seq;
end $function$
;
alter function bulkhead.ledger_save(bulkhead.ledgers,boolean) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.ledger_true_up(t bulkhead.ledgers, p_day integer, p_delta bigint)
 RETURNS bulkhead.ledgers
 LANGUAGE plpgsql
AS $function$
begin
  if p_day = t.tool_day then
    t.tool_day_used := t.tool_day_used + p_delta;
  elsif p_delta <> 0 then
    update bulkhead.closed_windows set used = used + p_delta
      where tenant_id = t.tenant_id and environment = t.environment and layer = 'tool_calls_per_day' and window_no = p_day;
    if not found then
      raise exception 'no window % to true up', p_day using errcode = 'data_corrupted';
    end if;
  end if;
  return t;
end $function$
;
alter function bulkhead.ledger_true_up(bulkhead.ledgers,integer,bigint) owner to bulkhead_owner;

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

CREATE OR REPLACE FUNCTION bulkhead.next_credential(p_tenant text, p_environment text, p_capability text)
 RETURNS TABLE(version integer, wrapped_key bytea, key_id text)
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
           k.wrapped_key, k.key_id
      from (select) one left join tenant_keys k on k.tenant_id = p_tenant and k.environment = p_environment;
end $function$
;
alter function bulkhead.next_credential(text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.next_credential(text,text,text) to bulkhead_operator;

CREATE OR REPLACE FUNCTION bulkhead.now()
 RETURNS timestamp with time zone
 LANGUAGE sql
AS $function$select pg_catalog.clock_timestamp()$function$
;
alter function bulkhead.now() owner to bulkhead_owner;
grant execute on function bulkhead.now() to bulkhead_sweep;

CREATE OR REPLACE FUNCTION bulkhead.open_ledger(p_tenant text, p_environment text, p_calls_in_flight integer, p_tool_calls_per_day bigint, p_per_run_steps integer, p_policy_version bigint, p_actor text, p_body text)
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
  insert into ledgers (tenant_id, environment, policy_version, tool_day, journal_seq, journal_head, durable_seq, last_clock)
    values (p_tenant, p_environment, p_policy_version, day_of(n), 0, journal_genesis(p_tenant, p_environment), 0, n)
    on conflict do nothing returning * into t;
  if t.tenant_id is not null then
    insert into limits values (p_tenant, p_environment, p_calls_in_flight, p_tool_calls_per_day, p_per_run_steps);
    insert into fencings (tenant_id, environment, fence_epoch) values (p_tenant, p_environment, 0);
    t := ledger_append(t, n, null, json_build_object('kind', 'opened', 'at', iso(n), 'tenant', p_tenant, 'environment', p_environment,
      'actor', p_actor, 'policyVersion', p_policy_version, 'callsInFlight', p_calls_in_flight,
      'toolCallsPerDay', p_tool_calls_per_day, 'perRunSteps', p_per_run_steps), p_body);
    perform ledger_save(t, true);
  end if;
  perform set_config('bulkhead.tenant_id', bound, true);
  return t.tenant_id is not null;
end $function$
;
alter function bulkhead.open_ledger(text,text,integer,bigint,integer,bigint,text,text) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.open_runs_idle(p_environment text, p_older_than_ms bigint, p_limit integer)
 RETURNS TABLE(tenant_id text, run_id text, workflow_id text, temporal_run_id text, signed json)
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select r.tenant_id, r.run_id, a.workflow_id, r.temporal_run_id, a.signed
    from bulkhead.runs r join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
    where r.environment = p_environment and r.state <> 'closed' and r.temporal_run_id is not null
      and r.touched_at <= bulkhead.now() - p_older_than_ms * interval '1 millisecond'
    order by random() limit p_limit
$function$
;
alter function bulkhead.open_runs_idle(text,bigint,integer) owner to bulkhead_sweep;
grant execute on function bulkhead.open_runs_idle(text,bigint,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.outcome_of(c bulkhead.calls)
 RETURNS json
 LANGUAGE sql
 STABLE
AS $function$
  select json_build_object('state', c.state, 'ref', c.payload_ref, 'digest', c.payload_digest, 'refusal', c.refusal, 'value', c.value)
$function$
;
alter function bulkhead.outcome_of(bulkhead.calls) owner to bulkhead_owner;

CREATE OR REPLACE FUNCTION bulkhead.payloads_of(p_tenant text, p_environment text, p_run text, p_ref text)
 RETURNS TABLE(ref text, payload json)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select k.ref, k.payload from payloads k
    where k.tenant_id = p_tenant and k.environment = p_environment and k.run_id = p_run and (p_ref is null or k.ref = p_ref);
end $function$
;
alter function bulkhead.payloads_of(text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.payloads_of(text,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.placements(p_environment text)
 RETURNS TABLE(tenant_id text, lane text, worker_ceiling integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
begin
  perform bind_environment(p_environment);
  return query select t.tenant_id::text, t.lane, t.worker_ceiling from tenants t where t.environment = p_environment order by 1;
end $function$
;
alter function bulkhead.placements(text) owner to bulkhead_sweep;
grant execute on function bulkhead.placements(text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.policy_history(p_profile text)
 RETURNS TABLE(version integer, published_at timestamp with time zone, actor text, reason text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
  select version, published_at, actor, reason from policies where profile = p_profile order by version desc
$function$
;
alter function bulkhead.policy_history(text) owner to bulkhead_owner;
grant execute on function bulkhead.policy_history(text) to bulkhead_operator;

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
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
 SET plan_cache_mode TO 'force_custom_plan'
AS $function$
begin
  perform bind_scope(p_tenant, p_environment);
  if not exists (select from tenants t where t.tenant_id = p_tenant and t.environment = p_environment) then
    raise exception 'there is no tenant % in %', p_tenant, p_environment using errcode = 'BH011';
  end if;
  insert into knowledge as k (tenant_id, environment, document_id, title, body)
  values (p_tenant, p_environment, p_document, p_title, p_body)
  on conflict (tenant_id, environment, document_id)
  do update set title = excluded.title, body = excluded.body, updated_at = clock_timestamp()
  where (k.title, k.body) is distinct from (excluded.title, excluded.body);
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
begin
  perform bind_scope(p_tenant, p_environment);
  insert into payloads (tenant_id, environment, run_id, ref, payload, stored_at)
    values (p_tenant, p_environment, p_run, p_ref, p_payload, bulkhead.now()) on conflict on constraint payloads_pk do nothing;
end $function$
;
alter function bulkhead.put_payload(text,text,text,text,json) owner to bulkhead_owner;
grant execute on function bulkhead.put_payload(text,text,text,text,json) to bulkhead_app;

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
  insert into tenants as t (tenant_id, environment, policy_profile, quota_class, lane, worker_ceiling, limits, per_run,
    workspaces, connections, scope, models, updated_by)
  values (p_tenant, p_environment, p_profile, p_quota_class, v_class ->> 'lane', (v_class ->> 'workerCeiling')::integer,
    v_class -> 'limits', v_class -> 'perRun', p_document -> 'workspaces', p_document -> 'connections',
    p_document -> 'scope', p_document -> 'models', p_actor)
  on conflict (tenant_id, environment) do update set
    policy_profile = excluded.policy_profile, quota_class = excluded.quota_class, workspaces = excluded.workspaces,
    connections = excluded.connections, scope = excluded.scope, models = excluded.models,
    updated_at = clock_timestamp(), updated_by = excluded.updated_by
  returning xmax = 0 into v_created;
  if v_created then
    perform make_knowledge_partition(p_tenant, p_environment);
    perform open_ledger(p_tenant, p_environment, (v_class #>> '{limits,callsInFlight}')::integer,
      (v_class #>> '{limits,toolCallsPerDay}')::bigint, (v_class #>> '{perRun,steps}')::integer, 0, p_actor, p_body);
  end if;
  return v_created;
end $function$
;
alter function bulkhead.put_tenant(text,text,text,text,jsonb,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.put_tenant(text,text,text,text,jsonb,text,text) to bulkhead_operator;

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
    insert into lost_attempts values (p_tenant, p_environment, p_run, p_path, c.token, c.tool_day, c.tool_calls, c.micro_usd)
      on conflict do nothing;
  elsif exists (select from runs where tenant_id = p_tenant and environment = p_environment and run_id = p_run and state <> 'closed') then
    return false;
  else
    result := 'unknown';
    x := row('outcome_unknown', 'platform', 'lost', 'the attempt ended without an outcome, and it may have happened', null, null, null, null);
  end if;
  update calls set state = result, lost = (result = 'failed'), charged_tool_calls = tool_calls, charged_micro_usd = micro_usd,
      refusal = refusal_json(x, c.policy_version)
    where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
  t.inflight := t.inflight - 1;
  t := ledger_append(t, n, p_run, json_build_object('kind', 'reaped', 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
    'action', c.action, 'class', c.class, 'result', result, 'slot', true, 'inflight', t.inflight), '{}');
  perform ledger_save(t, true);
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
    'quotaClass', t.quota_class, 'lane', t.lane, 'workerCeiling', t.worker_ceiling, 'limits', t.limits, 'perRun', t.per_run,
    'workspaces', t.workspaces, 'connections', t.connections, 'scope', t.scope, 'models', t.models)
$function$
;
alter function bulkhead.record_of(bulkhead.tenants) owner to bulkhead_owner;
grant execute on function bulkhead.record_of(bulkhead.tenants) to bulkhead_sweep;

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
  if t.mode = 'normal' and t.rewound_seq = 0 then
    return;
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  t.mode := 'normal';
  t.acknowledged_seq := greatest(t.acknowledged_seq, t.rewound_seq);
  t.rewound_seq := 0;
  t.control_version := t.control_version + 1;
  update fencings set reason = p_reason, actor = p_actor where tenant_id = p_tenant and environment = p_environment;
  t := ledger_append(t, n, null, json_build_object('kind', 'released', 'at', iso(n), 'actor', p_actor, 'epoch', t.fence_epoch,
    'acknowledgedSeq', t.acknowledged_seq), p_body);
  perform ledger_save(t, true);
end $function$
;
alter function bulkhead.release_tenant(text,text,text,text,text) owner to bulkhead_owner;
grant execute on function bulkhead.release_tenant(text,text,text,text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.revoke_leases(p_tenant text, p_environment text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'bulkhead', 'pg_temp'
AS $function$
declare
  revoked bigint;
begin
  perform enter_scope(p_tenant, p_environment);
  perform from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  update leases set revoked_at = bulkhead.now() where tenant_id = p_tenant and environment = p_environment and revoked_at is null;
  get diagnostics revoked = row_count;
  perform set_config('synchronous_commit', 'on', true);
  return revoked;
end $function$
;
alter function bulkhead.revoke_leases(text,text) owner to bulkhead_owner;
grant execute on function bulkhead.revoke_leases(text,text) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.search_knowledge(p_tenant text, p_environment text, p_query text, p_limit integer)
 RETURNS TABLE(document_id text, title text, body text, score real)
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
    select k.document_id, k.title, k.body, ts_rank_cd(k.words, v_query) as score
      from knowledge k
     where k.tenant_id = p_tenant and k.environment = p_environment
     order by 4 desc, 1
     limit least(greatest(p_limit, 0), 50);
end $function$
;
alter function bulkhead.search_knowledge(text,text,text,integer) owner to bulkhead_search;
grant execute on function bulkhead.search_knowledge(text,text,text,integer) to bulkhead_app;

CREATE OR REPLACE FUNCTION bulkhead.set_limits(p_tenant text, p_environment text, p_calls_in_flight integer, p_tool_calls_per_day bigint, p_per_run_steps integer, p_actor text, p_body text)
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
  update limits set calls_in_flight = p_calls_in_flight, tool_calls_per_day = p_tool_calls_per_day, per_run_steps = p_per_run_steps
    where tenant_id = p_tenant and environment = p_environment;
  t.control_version := t.control_version + 1;
  t := ledger_append(t, n, null, json_build_object('kind', 'limits', 'at', iso(n), 'actor', p_actor, 'callsInFlight', p_calls_in_flight,
    'toolCallsPerDay', p_tool_calls_per_day, 'perRunSteps', p_per_run_steps), p_body);
  perform ledger_save(t, true);
  perform set_config('bulkhead.tenant_id', bound, true);
end $function$
;
alter function bulkhead.set_limits(text,text,integer,bigint,integer,text,text) owner to bulkhead_owner;

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

CREATE OR REPLACE FUNCTION bulkhead.settle_call(p_tenant text, p_environment text, p_run text, p_path text, p_token uuid, p_result text, p_tool_calls integer, p_micro_usd bigint, p_refusal json, p_value json, p_payload json, p_payload_digest text, p_facts json, p_records json, p_body text)
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
  paid_tool_calls integer;
  paid_micro_usd bigint;
  d_tool_calls integer := 0;
  d_steps integer := 0;
  d_micro_usd bigint := 0;
  day integer;
begin
  perform enter_scope(p_tenant, p_environment);
  select * into t from ledgers where tenant_id = p_tenant and environment = p_environment for no key update;
  if not found then
    raise exception 'this tenant has no ledger in this environment: create the tenant' using errcode = 'no_data_found';
  end if;
  n := greatest(bulkhead.now(), t.last_clock);
  select * into c from calls where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;

  if c.token = p_token and c.state = 'claimed' then
    s.answer := 'settled';
    day := c.tool_day;
    -- Surely not sent: everything goes back. Not known: everything stays charged.
    paid_tool_calls := case p_result when 'open' then 0 when 'unknown' then c.tool_calls else p_tool_calls end;
    paid_micro_usd := case p_result when 'open' then 0 when 'unknown' then c.micro_usd else p_micro_usd end;
    d_tool_calls := paid_tool_calls - c.tool_calls;
    d_micro_usd := paid_micro_usd - c.micro_usd;
    d_steps := case p_result when 'open' then -c.steps else 0 end;
    t.inflight := t.inflight - 1;
  elsif c.token = p_token and c.state = 'unknown' and p_result = 'succeeded' then
    s.answer := 'reconciled';
    day := c.tool_day;
    paid_tool_calls := p_tool_calls;
    paid_micro_usd := p_micro_usd;
    d_tool_calls := paid_tool_calls - c.charged_tool_calls;
    d_micro_usd := paid_micro_usd - c.charged_micro_usd;
  else
    select * into g from lost_attempts
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path and token = p_token;
    if c.token = p_token and (g.token is null or g.trued_up) then
      s.answer := 'already';
      s.seq := t.durable_seq;
      return s;
    end if;
    s.answer := 'late';
    day := coalesce(g.tool_day, t.tool_day);
    if g.token is not null and not g.trued_up and p_result <> 'unknown' then
      d_tool_calls := case p_result when 'open' then 0 else p_tool_calls end - g.tool_calls;
      d_micro_usd := case p_result when 'open' then 0 else p_micro_usd end - g.micro_usd;
      update lost_attempts set trued_up = true
        where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path and token = p_token;
    end if;
  end if;

  if s.answer <> 'late' then
    update calls set state = p_result, refusal = p_refusal, value = p_value,
        charged_tool_calls = paid_tool_calls, charged_micro_usd = paid_micro_usd,
        payload_ref = case when p_payload is not null and p_result <> 'open' then p_path end,
        payload_digest = case when p_result <> 'open' then p_payload_digest end
      where tenant_id = p_tenant and environment = p_environment and run_id = p_run and path = p_path;
    if p_result <> 'open' then
      perform ledger_keep(t, n, p_run, p_path, p_payload,
        case when p_result = 'succeeded' then p_facts else '{}'::json end, case when p_result = 'succeeded' then p_records else '[]'::json end);
    end if;
  end if;
  t := ledger_charge(t, n, p_run, day, d_tool_calls, d_steps, d_micro_usd);
  t := ledger_append(t, n, p_run, json_build_object('kind', s.answer, 'at', iso(n), 'run', p_run, 'path', p_path, 'token', p_token,
    'action', c.action, 'class', c.class, 'result', p_result, 'slot', s.answer = 'settled', 'day', day, 'toolCalls', d_tool_calls,
    'steps', d_steps, 'microUsd', d_micro_usd, 'payloadDigest', p_payload_digest, 'inflight', t.inflight, 'dayUsed', t.tool_day_used), p_body);
  -- The workflow builds on this answer, so it is on disk first.
  s.seq := ledger_save(t, true);
  return s;
end $function$
;
alter function bulkhead.settle_call(text,text,text,text,uuid,text,integer,bigint,json,json,json,text,json,json,text) owner to bulkhead_owner;
grant execute on function bulkhead.settle_call(text,text,text,text,uuid,text,integer,bigint,json,json,json,text,json,json,text) to bulkhead_app;

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
