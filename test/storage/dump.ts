import type { Client } from 'pg';

/**
 * The schema as the catalog has it, as SQL text in a fixed order: what the migrations add up to, on one page, with
 * owners, row security and grants. Reads the server's own words, so it needs no pg_dump of the server's version.
 */
export async function dumpSchema(admin: Client): Promise<string> {
  const parts = [
    await roles(admin),
    await domains(admin),
    await types(admin),
    await tables(admin),
    await views(admin),
    await functions(admin),
  ];
  const header =
    '-- What the migrations add up to. Written by a test, never by hand: UPDATE_SCHEMA=1 npx jest test/storage/schema\n';
  return [header, ...parts.flat()].join('\n') + '\n';
}

async function lines(admin: Client, sql: string): Promise<string[]> {
  // Names as they are written without any search path.
  await admin.query(`select set_config('search_path', 'pg_catalog', false)`);
  const { rows } = await admin.query<{ line: string }>(sql);
  return rows.map((row) => row.line);
}

const roles = (admin: Client): Promise<string[]> =>
  lines(
    admin,
    `select format('create role %s %s %s;', rolname, case when rolcanlogin then 'login' else 'nologin' end,
              concat_ws(' ', case when rolsuper then 'SUPERUSER' end, case when rolbypassrls then 'BYPASSRLS' end,
                case when rolcreaterole then 'CREATEROLE' end)) as line
       from pg_roles where rolname like 'bulkhead\\_%' order by rolname`,
  );

const domains = (admin: Client): Promise<string[]> =>
  lines(
    admin,
    `select format(E'\\ncreate domain %s as %s %s;', t.oid::regtype, format_type(t.typbasetype, t.typtypmod),
              (select string_agg(format('constraint %I %s', conname, pg_get_constraintdef(k.oid)), ' ' order by conname)
                 from pg_constraint k where k.contypid = t.oid)) as line
       from pg_type t where t.typnamespace = 'bulkhead'::regnamespace and t.typtype = 'd' order by t.typname`,
  );

const types = (admin: Client): Promise<string[]> =>
  lines(
    admin,
    `select format(E'\\ncreate type %s as (%s);', c.oid::regclass,
              (select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum)
                 from pg_attribute a where a.attrelid = c.oid and attnum > 0 and not attisdropped)) as line
       from pg_class c where c.relnamespace = 'bulkhead'::regnamespace and c.relkind = 'c' order by c.relname`,
  );

const tables = (admin: Client): Promise<string[]> =>
  lines(
    admin,
    `select concat_ws(E'\\n',
       format(E'\\ncreate table %s (', c.oid::regclass),
       (select string_agg(format('  %I %s%s%s', attname, format_type(atttypid, atttypmod),
                 case when attnotnull then ' not null' else '' end,
                 case when attidentity <> '' then ' generated always as identity'
                      when attgenerated <> '' then format(' generated always as (%s) stored', pg_get_expr(adbin, adrelid))
                      when adbin is not null then ' default ' || pg_get_expr(adbin, adrelid) else '' end), E',\\n' order by attnum)
          from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attrelid = c.oid and attnum > 0 and not attisdropped),
       format(')%s%s;', coalesce(' partition by ' || pg_get_partkeydef(c.oid), ''),
         coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '')),
       format('alter table %s owner to %s;', c.oid::regclass, c.relowner::regrole),
       (select string_agg(format('alter table %s add constraint %I %s;', c.oid::regclass, conname, pg_get_constraintdef(k.oid)), E'\\n' order by conname)
          from pg_constraint k where k.conrelid = c.oid and k.contype <> 'n'),
       (select string_agg(pg_get_indexdef(i.indexrelid) || ';', E'\\n' order by i.indexrelid::regclass::text)
          from pg_index i where i.indrelid = c.oid and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.conrelid = c.oid)),
       (select string_agg(pg_get_triggerdef(t.oid) || ';', E'\\n' order by t.tgname) from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal),
       case when c.relrowsecurity then format('alter table %s enable row level security;', c.oid::regclass) end,
       case when c.relforcerowsecurity then format('alter table %s force row level security;', c.oid::regclass) end,
       (select string_agg(format('create policy %I on %s as %s for %s to %s%s%s;', polname, c.oid::regclass,
                 case when polpermissive then 'permissive' else 'restrictive' end,
                 case polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
                 (select string_agg(case when r = 0 then 'public' else r::regrole::text end, ', ') from unnest(polroles) r),
                 coalesce(' using (' || pg_get_expr(polqual, polrelid) || ')', ''),
                 coalesce(' with check (' || pg_get_expr(polwithcheck, polrelid) || ')', '')), E'\\n' order by polname)
          from pg_policy p where p.polrelid = c.oid),
       ${grants('c.relacl', 'c.relowner', 'c.oid::regclass', 'r')}) as line
       from pg_class c where c.relnamespace = 'bulkhead'::regnamespace and c.relkind in ('r', 'p') order by c.relname`,
  );

const views = (admin: Client): Promise<string[]> =>
  lines(
    admin,
    `select concat_ws(E'\\n',
       format(E'\\ncreate view %s%s as\\n%s', c.oid::regclass, coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', ''), pg_get_viewdef(c.oid)),
       format('alter view %s owner to %s;', c.oid::regclass, c.relowner::regrole),
       ${grants('c.relacl', 'c.relowner', 'c.oid::regclass', 'r')}) as line
       from pg_class c where c.relnamespace = 'bulkhead'::regnamespace and c.relkind = 'v' order by c.relname`,
  );

const functions = (admin: Client): Promise<string[]> =>
  lines(
    admin,
    `select concat_ws(E'\\n',
       E'\\n' || pg_get_functiondef(p.oid) || ';',
       format('alter function %s owner to %s;', p.oid::regprocedure, p.proowner::regrole),
       ${grants('p.proacl', 'p.proowner', "'function ' || p.oid::regprocedure", 'f')}) as line
       from pg_proc p where p.pronamespace = 'bulkhead'::regnamespace and p.prokind = 'f' order by p.proname, p.oid::regprocedure::text`,
  );

/** What others than the owner hold; a missing list means the built-in defaults, which give functions to everybody. */
function grants(acl: string, owner: string, what: string, kind: 'r' | 'f'): string {
  return `(select string_agg(format('grant %s on %s to %s;', privileges, ${what}, grantee), E'\\n' order by grantee)
             from (select case when grantee = 0 then 'public' else grantee::regrole::text end as grantee,
                          string_agg(lower(privilege_type), ', ' order by privilege_type) as privileges
                     from aclexplode(coalesce(${acl}, acldefault('${kind}', ${owner}))) where grantee <> ${owner} group by 1) g)`;
}
