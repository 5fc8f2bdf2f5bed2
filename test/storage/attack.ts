import type { Client } from 'pg';
import type { TenantRelation } from './plant';

/** `undefined`: the settings were never touched in this session. */
export type Context = readonly [tenant: string, environment: string] | undefined;

export interface Attempt {
  readonly relation: string;
  readonly verb: string;
  readonly sql: string;
}

/** Runs attempts inside the server: each in a subtransaction that is undone, whatever it did. */
export const ATTEMPT_SQL = `
create or replace function public.attempts(p_role text, p_tenant text, p_environment text, p_sql text[])
returns table (foreign_rows integer, own_rows integer, refused text)
language plpgsql as $$
declare
  v_sql text;
  v_rows jsonb;
begin
  perform set_config('role', p_role, true);
  if p_tenant is not null then
    perform set_config('bulkhead.tenant_id', p_tenant, true), set_config('bulkhead.environment', p_environment, true);
  end if;
  foreach v_sql in array p_sql loop
    v_rows := '[]'; refused := null;
    begin
      if v_sql like 'truncate%' then
        execute v_sql;
        v_rows := '[{"tenant_id": "truncated"}]';
      else
        execute format('with x as (%s) select coalesce(jsonb_agg(row), ''[]'') from x', v_sql) into v_rows;
      end if;
      raise exception 'undo' using errcode = 'ZZ000';
    exception when sqlstate 'ZZ000' then null;
      when others then refused := sqlstate; v_rows := '[]';
    end;
    select count(*) filter (where not own), count(*) filter (where own) into foreign_rows, own_rows
      from (select r ->> 'tenant_id' = p_tenant and r ->> 'environment' = p_environment and p_tenant <> '' and p_tenant is not null as own
              from jsonb_array_elements(v_rows) r) judged;
    foreign_rows := coalesce(foreign_rows, 0) + (select count(*) from jsonb_array_elements(v_rows) r where p_tenant is null);
    return next;
  end loop;
end $$`;

const quote = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** Every verb on every relation, aimed at the rows of `victim`. */
export function attemptsOn(
  relations: readonly TenantRelation[],
  victim: readonly [string, string],
): Attempt[] {
  const [tenant, environment] = victim;
  return relations.flatMap(({ name, kind, columns }) => {
    const table = `bulkhead."${name}"`;
    const theirs = `x.tenant_id = ${quote(tenant)} and x.environment = ${quote(environment)}`;
    const listed = columns.map((column) => `"${column.name}"`).join(', ');
    // A victim's row under a key that is free, so that only a wall can refuse it.
    const free = columns.find(
      (column) => column.type === 'text' && !['tenant_id', 'environment'].includes(column.name),
    );
    const forged = `{"tenant_id": ${JSON.stringify(tenant)}, "environment": ${JSON.stringify(environment)}}`;
    const reads: [string, string][] = [
      ['select', `select to_jsonb(x) as row from ${table} x`],
      ['select theirs', `select to_jsonb(x) as row from ${table} x where ${theirs}`],
      ['select or true', `select to_jsonb(x) as row from ${table} x where ${theirs} or true`],
      [
        'select by join',
        `select to_jsonb(x) as row from ${table} x right join ${table} y on x.tenant_id = y.tenant_id`,
      ],
      [
        'select by subquery',
        `select to_jsonb(x) as row from (select * from ${table} order by tenant_id desc) x`,
      ],
    ];
    if (kind === 'view') return reads.map(([verb, sql]) => ({ relation: name, verb, sql }));
    const writes: [string, string][] = [
      ['lock', `select to_jsonb(x) as row from ${table} x for update`],
      ['update', `update ${table} x set environment = x.environment returning to_jsonb(x) as row`],
      [
        'update theirs',
        `update ${table} x set environment = x.environment where ${theirs} returning to_jsonb(x) as row`,
      ],
      [
        'give away',
        `update ${table} x set tenant_id = ${quote(tenant)}, environment = ${quote(environment)} returning to_jsonb(x) as row`,
      ],
      ['delete', `delete from ${table} x returning to_jsonb(x) as row`],
      ['delete theirs', `delete from ${table} x where ${theirs} returning to_jsonb(x) as row`],
      [
        'insert',
        `insert into ${table} as x (${listed}) select ${listed} from jsonb_populate_record(
           (select t from ${table} t limit 1), '${forged}'${free ? ` || jsonb_build_object('${free.name}', 'forged')` : ''}) returning to_jsonb(x) as row`,
      ],
      [
        'merge',
        `merge into ${table} x using (select 1) s on ${theirs} when matched then delete returning to_jsonb(x) as row`,
      ],
      ['truncate', `truncate ${table} cascade`],
    ];
    return [...reads, ...writes].map(([verb, sql]) => ({ relation: name, verb, sql }));
  });
}

export interface Found {
  readonly attempts: number;
  /** Attempts that reached rows of the context's own tenant: without any, nothing was tested. */
  readonly reachedOwn: number;
  /** `relation verb` of every attempt that reached a foreign row. */
  readonly escapes: string[];
}

/** Carries out attempts as a role in a context. */
export async function attack(
  client: Client,
  role: string,
  context: Context,
  attempts: readonly Attempt[],
): Promise<Found> {
  const { rows } = await client.query<{ foreign_rows: number; own_rows: number; refused: string | null }>(
    'select * from public.attempts($1, $2, $3, $4)',
    [role, context?.[0] ?? null, context?.[1] ?? null, attempts.map(({ sql }) => sql)],
  );
  return {
    attempts: rows.length,
    reachedOwn: rows.filter((row) => row.own_rows > 0).length,
    escapes: rows.flatMap((row, index) =>
      row.foreign_rows > 0 ? [`${attempts[index]?.relation} ${attempts[index]?.verb}`] : [],
    ),
  };
}
