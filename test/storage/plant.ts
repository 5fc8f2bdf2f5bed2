import { randomUUID } from 'node:crypto';
import type { Client } from 'pg';

/** A relation of the schema that holds tenants' rows. */
export interface TenantRelation {
  readonly name: string;
  readonly kind: 'table' | 'partition' | 'view';
  readonly columns: readonly { readonly name: string; readonly type: string }[];
}

/** Every relation with a tenant's rows, from the catalog: a new one is attacked without anybody remembering it. */
export async function tenantRelations(admin: Client): Promise<TenantRelation[]> {
  const { rows } = await admin.query<{
    name: string;
    kind: TenantRelation['kind'];
    columns: TenantRelation['columns'];
  }>(
    `select c.relname as name,
            case when c.relkind in ('v', 'm') then 'view' when c.relispartition then 'partition' else 'table' end as kind,
            (select json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
               from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = '') as columns
       from pg_class c
      where c.relnamespace = 'bulkhead'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
        and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
      order by 1`,
  );
  return rows;
}

/** Where a column's form is checked, a value that passes. Everything else is a canary by its type. */
const FORMS: Record<string, unknown> = {
  'calls.class': 'read',
  'calls.state': 'claimed',
  'calls.admitted_as': 'admitted',
  'calls.reversible': 'final',
  'calls.charged_tool_calls': null,
  'calls.charged_micro_usd': null,
  'reviews.class': 'write',
  'reviews.kind': 'outcome_unknown',
  'reviews.resolution': 'abandon',
  'dead_letters.class': 'write',
  'dead_letters.state': 'dead',
  'breakers.state': 'half_open',
  'breakers.failed_at': '{}',
  'follow_ups.kind': 'retry',
  'follow_ups.reason': 'retry',
  'follow_ups.state': 'wanted',
  'approvals.class': 'write',
  'approvals.kind': 'rule',
  'approvals.state': 'pending',
  'approvals.decided_at': null,
  'approvals.approver': null,
  'approvals.approver_roles': null,
  'approvals.used_at': null,
  'suggestions.class': 'write',
  'decisions.effect': 'allow',
  'runs.state': 'running',
  'runs.stop_reason': null,
  'calls.charged': null,
  'runs.closed_at': null,
  'runs.queued_at': null,
  'ledgers.mode': 'normal',
  'tenants.lane': 'own',
  'tenants.scope': '["canary"]',
  'tenants.workspaces': '["canary"]',
  'credentials.capability': 'canary:read',
};

/**
 * Puts at least one row of the tenant into every table that has none of it. Throws, naming the table, where it cannot:
 * give its columns a form above.
 */
export async function plantCanaries(
  admin: Client,
  relations: TenantRelation[],
  tenant: string,
  environment: string,
): Promise<void> {
  await admin.query('set session_replication_role = replica');
  try {
    for (const relation of relations.filter(({ kind }) => kind === 'table')) {
      const here = await admin.query(
        `select from bulkhead."${relation.name}" where tenant_id = $1 and environment = $2 limit 1`,
        [tenant, environment],
      );
      if (here.rowCount) continue;
      const values = relation.columns.map(({ name, type }) => {
        if (name === 'tenant_id') return tenant;
        if (name === 'environment') return environment;
        // Alike in all tables, so that views that join them have rows.
        if (name === 'run_id') return 'canary-run';
        const form = FORMS[`${relation.name}.${name}`];
        return form !== undefined ? form : canary(type, `canary-${tenant}-${environment}-${relation.name}`);
      });
      const names = relation.columns.map(({ name }) => `"${name}"`).join(', ');
      const slots = values.map((_, index) => `$${index + 1}`).join(', ');
      await admin
        .query(`insert into bulkhead."${relation.name}" (${names}) values (${slots})`, values)
        .catch((cause: unknown) => {
          throw new Error(
            `no canary could be planted in ${relation.name}: give its columns a form in test/storage/plant.ts`,
            { cause },
          );
        });
    }
  } finally {
    await admin.query('reset session_replication_role');
  }
}

const AMOUNTS = '(0,0,0,0,0,0)';
const BUCKET = '(0,1970-01-01 00:00:00+00)';
/** Values of the ledger's own types; what they hold is counted, and told of nobody. */
const COMPOSITES: Record<string, string> = {
  amounts: AMOUNTS,
  bucket: BUCKET,
  layers: `("${AMOUNTS}",,,)`,
  meter: `(1,"${AMOUNTS}","${BUCKET}","${BUCKET}",0,0)`,
};

function canary(type: string, text: string): unknown {
  if (type === 'text') return text;
  if (type === 'text[]') return [text];
  if (type === 'numeric[]') return [1];
  if (type === 'json' || type === 'jsonb') return JSON.stringify({ canary: text });
  if (type === 'bytea') return Buffer.from(text);
  if (type === 'uuid') return randomUUID();
  if (type === 'boolean') return false;
  if (['smallint', 'integer', 'bigint'].includes(type)) return 1;
  if (type.startsWith('timestamp')) return new Date(0);
  const composite = COMPOSITES[type.replace('bulkhead.', '')];
  if (composite !== undefined) return composite;
  throw new Error(`no canary for a column of type ${type}: teach test/storage/plant.ts`);
}
