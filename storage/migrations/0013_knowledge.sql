-- Documents of tenants, searched within the tenant alone (promise M1). Three walls, each enough by itself: a partition
-- per tenant and environment, forced row security, and the key in every statement.

create table knowledge (
  tenant_id text not null,
  environment text not null,
  document_id text not null check (document_id <> '' and length(document_id) <= 200),
  title text not null check (length(title) <= 1000),
  body text not null,
  words tsvector not null generated always as (
    setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', body), 'B')) stored,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, environment, document_id)
) partition by list (tenant_id);
create index knowledge_words on knowledge using gin (words);
select protect('knowledge');
alter policy tenant_scope on knowledge to bulkhead_owner, bulkhead_app;
grant select on knowledge to bulkhead_app;

-- Behind row security no index is used for an operator that is not leakproof, and @@ is not: 20,000 documents were
-- read one by one. As part of the policy itself the match may use its index, so the search has a role of its own whose
-- policy is: this tenant's, and matching.
create policy search_matches on knowledge for select to bulkhead_search
  using (tenant_id = nullif(current_setting('bulkhead.tenant_id', true), '')
     and environment = nullif(current_setting('bulkhead.environment', true), '')
     and words @@ nullif(current_setting('bulkhead.search', true), '')::tsquery);
grant select on knowledge to bulkhead_search;
grant execute on function bind_scope(text, text) to bulkhead_search;

-- Documents that share a word with the query, the best first. All of the scope comes before any of the ranking. Each names
-- whose it is, which whoever puts it into a prompt checks again.
create function search_knowledge(p_tenant text, p_environment text, p_query text, p_limit integer)
returns table (document_id text, title text, body text, score real, tenant_id text, environment text)
language plpgsql volatile security definer
set search_path = bulkhead, pg_temp set plan_cache_mode = force_custom_plan as $$
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
end $$;

-- What a document counts for in its tenant's `memory_bytes`.
create function memory_of(p_title text, p_body text) returns bigint language sql immutable as $$
  select octet_length(p_title)::bigint + octet_length(p_body)
$$;

-- Keeps a document, in the place of the one of its name if there is one. Answers null, or the refusal where it does not fit: one
-- that takes no more than what it replaces always does. Counted under the tenant's lock, so no two fit in the same place.
create function put_knowledge(p_tenant text, p_environment text, p_document text, p_title text, p_body text) returns json
language plpgsql volatile security definer set search_path = bulkhead, pg_temp set plan_cache_mode = force_custom_plan as $$
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
end $$;

-- Forgets a document and frees its bytes. Answers whether there was one.
create function remove_knowledge(p_tenant text, p_environment text, p_document text) returns boolean
language plpgsql volatile security definer set search_path = bulkhead, pg_temp set plan_cache_mode = force_custom_plan as $$
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
end $$;

-- Attached rather than created in place: that locks nobody's searches out. Nobody is granted a partition, and each is
-- under row security too, for what reaches it by name.
create function make_knowledge_partition(p_tenant text, p_environment text) returns void
language plpgsql volatile set search_path = bulkhead, pg_temp as $$
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
end $$;

create function close_partition(p_name text) returns void
language plpgsql volatile set search_path = bulkhead, pg_temp as $$
begin
  execute format('alter table bulkhead.%I enable row level security, force row level security', p_name);
  execute format(
    'create policy tenant_scope on bulkhead.%I using (tenant_id = nullif(current_setting(''bulkhead.tenant_id'', true), '''')
       and environment = nullif(current_setting(''bulkhead.environment'', true), ''''))', p_name);
end $$;

grant execute on function search_knowledge(text, text, text, integer), put_knowledge(text, text, text, text, text),
  remove_knowledge(text, text, text) to bulkhead_app;
-- Granted first: after this the owner has no say in it.
alter function search_knowledge(text, text, text, integer) owner to bulkhead_search;
