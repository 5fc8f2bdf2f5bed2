import type { EntryPage } from '../contracts/lists';
import type { TenantSession } from './session';

/** A table or view whose rows have `tenant_id`, `environment` and `workspace_id`. */
export interface NewestOf {
  readonly from: string;
  readonly columns: string;
  /** What makes a row newer than another; no two rows are alike in it. */
  readonly order: string;
}

/** A condition with `?` where its value goes; without a value, as it stands. */
export type Condition = readonly [sql: string, value?: string | number];

/**
 * The newest rows of a tenant, or of some of its workspaces. Each workspace is walked down its own index, by as many rows as are
 * asked for: one walk over all of them would pass by every row that may not be seen.
 */
export async function newest<Row extends object>(
  session: TenantSession,
  { from, columns, order }: NewestOf,
  { limit, workspaces }: Pick<EntryPage, 'limit' | 'workspaces'>,
  conditions: readonly Condition[],
): Promise<Row[]> {
  const { tenantId, environment } = session.scope;
  const params: unknown[] = [tenantId, environment, limit];
  const param = (value: unknown): string => `$${params.push(value)}`;
  const where = [
    'tenant_id = $1 and environment = $2',
    ...conditions.map(([sql, value]) => (value === undefined ? sql : sql.replace('?', () => param(value)))),
  ].join(' and ');
  const newestFirst = `order by ${order} limit $3`;
  const sql =
    workspaces === undefined
      ? `select ${columns} from ${from} where ${where} ${newestFirst}`
      : `select ${columns} from (select distinct unnest(${param(workspaces)}::text[]) as seen) w cross join lateral
           (select * from ${from} where ${where} and workspace_id = w.seen ${newestFirst}) v ${newestFirst}`;
  return session.read<Row>(sql, params);
}

/** The conditions of a page of numbered rows; `number` is their column, `isOpen` what makes one open. */
export const entryConditions = (
  { open, runId, before }: EntryPage,
  number: string,
  isOpen: string,
): Condition[] => [
  ...(open ? [[isOpen] as const] : []),
  ...(runId === undefined ? [] : [['run_id = ?', runId] as const]),
  ...(before === undefined ? [] : [[`${number} < ?`, before] as const]),
];
