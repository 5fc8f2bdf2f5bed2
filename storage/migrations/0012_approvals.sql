-- What a person is asked before a call is made, what was kept instead of being made, and the question that policy was asked about
-- each call. See docs/ledger.md. All of it changes under the tenant's lock alone; admit_call (0005) is who asks.

create domain bulkhead.approval_state as text
  constraint approvals_state_known check (value in ('pending', 'approved', 'denied', 'expired', 'superseded'));
create domain bulkhead.approval_kind as text constraint approvals_kind_known check (value in ('rule', 'suggestion'));
create domain bulkhead.policy_effect as text constraint decisions_effect_known check (value in ('allow', 'approve', 'suggest', 'deny'));

create table bulkhead.approvals (
  tenant_id text not null,
  environment text not null,
  -- Journal sequence of the entry that made it.
  approval_no bigint not null,
  run_id text not null,
  workspace_id text not null,
  path text not null,
  digest text not null,
  action text not null,
  class bulkhead.call_class not null,
  system text,
  destination text,
  -- Canonical JSON of what will be sent, as text: shown as it is, and never read here.
  args text not null,
  schema_digest text not null,
  -- Asked for by a rule, or a suggestion that a person turned into a call.
  kind bulkhead.approval_kind not null,
  -- What the rules asked for when it was made. It is used under what they ask for then.
  terms json not null,
  requester text not null,
  policy_version bigint not null,
  state bulkhead.approval_state not null,
  requested_at timestamptz not null,
  expires_at timestamptz not null,
  decided_at timestamptz,
  approver text,
  -- As the approver's token said then.
  approver_roles text[],
  note text,
  -- By the first attempt that was let in with it; later attempts of the same key go on with it.
  used_at timestamptz,
  used_by uuid,
  constraint approvals_pk primary key (tenant_id, environment, approval_no),
  constraint approvals_decided_whole check ((decided_at is null) = (approver is null) and (decided_at is null) = (approver_roles is null)),
  constraint approvals_decided_by_someone check (state not in ('approved', 'denied') or decided_at is not null),
  constraint approvals_used_if_approved check (used_at is null or state = 'approved' and used_by is not null)
);
-- One at a time that may still let its call in, or wait to.
create unique index approvals_one_open on bulkhead.approvals (tenant_id, environment, run_id, path)
  where state = 'pending' or state = 'approved' and used_at is null;
create index approvals_by_call on bulkhead.approvals (tenant_id, environment, run_id, path, approval_no);
-- With the time of each: one that nobody decided stays pending, and is passed by without a look at it.
create index approvals_pending on bulkhead.approvals (tenant_id, environment, approval_no, expires_at) where state = 'pending';
create index approvals_by_workspace on bulkhead.approvals (tenant_id, environment, workspace_id, approval_no);
create index approvals_pending_by_workspace on bulkhead.approvals (tenant_id, environment, workspace_id, approval_no, expires_at)
  where state = 'pending';

create table bulkhead.suggestions (
  tenant_id text not null,
  environment text not null,
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
  suggested_at timestamptz not null,
  -- The approval that turned it into a call, if one did.
  approval_no bigint,
  constraint suggestions_pk primary key (tenant_id, environment, run_id, path)
);

-- The last decision about each call, refused ones too. The arguments are not in it: they stay with the model's step.
create table bulkhead.decisions (
  tenant_id text not null,
  environment text not null,
  run_id text not null,
  path text not null,
  at timestamptz not null,
  effect bulkhead.policy_effect not null,
  rules text[] not null,
  policy_version bigint not null,
  input json not null,
  input_digest text not null,
  constraint decisions_pk primary key (tenant_id, environment, run_id, path)
);
create index decisions_by_time on bulkhead.decisions (tenant_id, environment, at, run_id, path);

do $$
declare
  relation text;
begin
  foreach relation in array array['approvals', 'suggestions', 'decisions'] loop
    perform bulkhead.protect(format('bulkhead.%I', relation));
  end loop;
end $$;

-- ---------------------------------------------------------------- steps, for functions that hold the tenant's row

-- Why this person may not decide under these terms, in words; null where they may. Terms without roles entitle nobody.
create function bulkhead.not_entitled(p_terms json, p_principal text, p_roles text[], p_requester text) returns text
language sql immutable as $$
  select case
    when coalesce(json_array_length(p_terms -> 'roles'), 0) = 0 then 'nobody may decide this: its rules name no roles'
    when exists (select from json_array_elements(p_terms -> 'roles') asked (list)
        where not exists (select from json_array_elements_text(asked.list) role where role = any (p_roles)))
      then 'whoever decides this needs ' || (select string_agg((select string_agg(role, ' or ') from json_array_elements_text(asked.list) role), ', and ')
        from json_array_elements(p_terms -> 'roles') asked (list))
    when coalesce((p_terms ->> 'notRequester')::boolean, true) and p_principal is not distinct from p_requester
      then 'who asked for the run may not decide this'
  end
$$;

-- The rules of terms as a set. Null for terms without rules, which are like no others.
create function bulkhead.rules_of(p_terms json) returns text[] language sql immutable as $$
  select array_agg(distinct rule order by rule) from json_array_elements_text(p_terms -> 'rules') rule
$$;

-- How the call that is asked for stands: `usable` (an approval lets it in, now, under the terms that hold now), `pending`, `denied`,
-- `expired`, or `none`. `p_used`: the approval that the call was let in with before, which its own retries go on with.
create function bulkhead.ledger_approval(t bulkhead.ledgers, p_now timestamptz, q bulkhead.asked_call, p_effect text, p_used bigint)
returns bulkhead.approval_standing language plpgsql as $$
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
end $$;

-- Ends what may still let the call in, because another request takes its place. Answers their numbers.
create function bulkhead.ledger_supersede(t bulkhead.ledgers, p_run text, p_path text) returns bigint[] language sql as $$
  with ended as (
    update bulkhead.approvals set state = 'superseded'
      where tenant_id = t.tenant_id and environment = t.environment and run_id = p_run and path = p_path
        and (state = 'pending' or state = 'approved' and used_at is null) returning approval_no
  ) select coalesce(array_agg(approval_no order by approval_no), '{}') from ended
$$;

-- Asks a person. The request's number is the sequence of the entry that this appends. Nothing is claimed by it.
create function bulkhead.ledger_request_approval(t bulkhead.ledgers, p_now timestamptz, q bulkhead.asked_call, p_body text)
returns bulkhead.ledgers language plpgsql as $$
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
end $$;

-- Notes that a request, or an approval that nobody used, is over. Again changes nothing.
create function bulkhead.ledger_expire_approval(t bulkhead.ledgers, p_now timestamptz, p_approval bigint) returns bulkhead.ledgers
language plpgsql as $$
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
end $$;

-- Keeps the call instead of making it. It ends here and costs nothing; an attempt that it replaces stays charged, as `p_lost` says.
create function bulkhead.ledger_suggest(t bulkhead.ledgers, p_now timestamptz, q bulkhead.asked_call, p_lost bulkhead.calls, p_body text)
returns bulkhead.ledgers language plpgsql as $$
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
end $$;

-- A follow-up that made nothing of a promoted suggestion leaves it one again. Answers whether it did.
create function bulkhead.ledger_suggest_again(t bulkhead.ledgers, p_run text, p_path text) returns boolean language plpgsql as $$
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
end $$;

-- Keeps what policy was asked about a call, and what it said.
create function bulkhead.ledger_decided(t bulkhead.ledgers, p_now timestamptz, p_run text, p_path text, p_effect text, p_rules text[],
  p_policy_version bigint, p_input json, p_input_digest text) returns void language sql as $$
  insert into bulkhead.decisions (tenant_id, environment, run_id, path, at, effect, rules, policy_version, input, input_digest)
    values (t.tenant_id, t.environment, p_run, p_path, p_now, p_effect, coalesce(p_rules, '{}'), p_policy_version, p_input, p_input_digest)
    on conflict on constraint decisions_pk do update set at = excluded.at, effect = excluded.effect, rules = excluded.rules,
      policy_version = excluded.policy_version, input = excluded.input, input_digest = excluded.input_digest
$$;

-- Whether anybody would still make this call, the run itself or a follow-up for its path; not where it was let in otherwise and is over.
create function bulkhead.still_asked(v bulkhead.approvals) returns boolean language sql stable as $$
  select (exists (select from bulkhead.runs r where r.tenant_id = v.tenant_id and r.environment = v.environment and r.run_id = v.run_id
      and r.state <> 'closed')
    or exists (select from bulkhead.follow_ups f where f.tenant_id = v.tenant_id and f.environment = v.environment and f.run_id = v.run_id
      and f.path = v.path and f.state <> 'done'))
    and not exists (select from bulkhead.calls c where c.tenant_id = v.tenant_id and c.environment = v.environment and c.run_id = v.run_id
      and c.path = v.path and c.digest = v.digest and c.state not in ('claimed', 'open') and not c.lost)
$$;

-- ---------------------------------------------------------------- people

create type bulkhead.approval_answer as (kind text, message text);
create type bulkhead.promotion as (kind text, approval_no bigint, follow_up_no bigint, message text);

-- A person's word on a request: for good, by who may give it, in its time. Answers decided, already, refused (in words) or absent.
create function bulkhead.decide_approval(p_tenant text, p_environment text, p_approval bigint, p_decision text, p_approver text,
  p_roles text[], p_note text, p_body text) returns bulkhead.approval_answer
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
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
end $$;

-- Turns a suggestion into a call: approved by who may, opened, and ordered as a follow-up, through all of admission.
create function bulkhead.promote_suggestion(p_tenant text, p_environment text, p_run text, p_path text, p_approver text, p_roles text[],
  p_note text, p_body text) returns bulkhead.promotion
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
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
end $$;

-- ---------------------------------------------------------------- lists

create type bulkhead.shown_approval as (approval_no bigint, run_id text, path text, action text, class text, system text, destination text,
  args text, kind text, terms json, requester text, policy_version bigint, state text, requested text, expires text, decided text,
  approver text, note text, used text);

-- As it is by the ledger's clock: nobody has to have noted that its time is over.
create function bulkhead.approval_shown(v bulkhead.approvals, p_now timestamptz) returns bulkhead.shown_approval language sql stable as $$
  select v.approval_no, v.run_id, v.path, v.action, v.class::text, v.system, v.destination, v.args, v.kind::text, v.terms, v.requester,
    v.policy_version,
    case when (v.state = 'pending' or v.state = 'approved' and v.used_at is null) and v.expires_at <= p_now then 'expired' else v.state::text end,
    bulkhead.iso(v.requested_at), bulkhead.iso(v.expires_at), bulkhead.iso(v.decided_at), v.approver, v.note, bulkhead.iso(v.used_at)
$$;

-- One request; none for a number that is not the tenant's.
create function bulkhead.approval_row(p_tenant text, p_environment text, p_approval bigint) returns setof bulkhead.shown_approval
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select s.* from approvals v join ledgers t using (tenant_id, environment)
      cross join lateral approval_shown(v, greatest(bulkhead.now(), t.last_clock)) s
    where v.tenant_id = p_tenant and v.environment = p_environment and v.approval_no = p_approval;
end $$;

-- The newest first; of these workspaces, or of all; beyond `p_before`, the number of the last that was seen. `p_open`: those that a
-- person can still decide. Each workspace is walked down on its own: one walk over all would pass by every request of the others.
create function bulkhead.approval_rows(p_tenant text, p_environment text, p_run text, p_workspaces text[], p_open boolean, p_before bigint,
  p_limit integer) returns setof bulkhead.shown_approval
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
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
end $$;

create function bulkhead.suggestion_rows(p_tenant text, p_environment text, p_run text)
returns table (run_id text, path text, action text, class text, system text, destination text, args text, rules text[], policy_version bigint,
  suggested text, approval_no bigint)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select g.run_id, g.path, g.action, g.class::text, g.system, g.destination, g.args, g.rules, g.policy_version, iso(g.suggested_at),
      g.approval_no
    from suggestions g where g.tenant_id = p_tenant and g.environment = p_environment and g.run_id = p_run
    order by case when g.path ~ '^[0-9]{1,9}[.][0-9]{1,9}$' then string_to_array(g.path, '.')::integer[] end, g.path;
end $$;

-- Decisions, the oldest first, each with what its call was charged or holds in reserve.
create function bulkhead.decision_rows(p_tenant text, p_environment text, p_since timestamptz, p_after_at timestamptz, p_after_run text,
  p_after_path text, p_limit integer)
returns table (run_id text, path text, at text, effect text, rules text[], policy_version bigint, input json, micro_usd bigint)
language plpgsql volatile security definer set search_path = bulkhead, pg_temp as $$
begin
  perform bind_scope(p_tenant, p_environment);
  return query select d.run_id, d.path, iso(d.at), d.effect::text, d.rules, d.policy_version, d.input,
      coalesce((c.charged).micro_usd, (c.reserved).micro_usd, 0)
    from decisions d left join calls c on c.tenant_id = d.tenant_id and c.environment = d.environment and c.run_id = d.run_id and c.path = d.path
    where d.tenant_id = p_tenant and d.environment = p_environment and d.at >= greatest(p_since, p_after_at)
      and (p_after_at is null or (d.at, d.run_id, d.path) > (p_after_at, p_after_run, p_after_path))
    order by d.at, d.run_id, d.path limit p_limit;
end $$;

grant execute on function bulkhead.decide_approval, bulkhead.promote_suggestion, bulkhead.approval_row, bulkhead.approval_rows, bulkhead.suggestion_rows,
  bulkhead.decision_rows to bulkhead_app;
