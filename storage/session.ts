import { createHash } from 'node:crypto';
import type { PoolClient } from 'pg';
import type { Environment } from '../contracts/ids';
import type { TenantScope } from '../contracts/scope';
import { ScopeRefused } from './fault';
import type { ClientPool } from './pool';
import type { Turnstile } from './turnstile';

/**
 * How the small files of this folder reach the database for one tenant in one environment. Rows come as the driver
 * gives them: `int8` as text, times as `Date`. Every method throws `StorageBusy` when the database is away, blocked or
 * too slow, and `ScopeRefused` when a statement names another tenant.
 */
export interface TenantSession {
  readonly scope: TenantScope;
  /**
   * One statement, one round trip, committed with it: for functions of ours that take tenant and environment as their
   * first two parameters and set the context themselves.
   */
  call<T extends object>(sql: string, params: readonly unknown[]): Promise<T[]>;
  /** One statement in a read-only transaction whose context is this tenant, under row security. */
  read<T extends object>(sql: string, params: readonly unknown[]): Promise<T[]>;
  /** The same, and it may write where the role is granted to. */
  write<T extends object>(sql: string, params: readonly unknown[]): Promise<T[]>;
}

/** The platform's own view of one environment, through functions that take it as their first parameter. */
export interface PlatformSession {
  readonly environment: Environment;
  call<T extends object>(sql: string, params: readonly unknown[]): Promise<T[]>;
}

/** A call of one of our functions with parameters: its first two have to be the handle's own tenant and environment. */
const OUR_FUNCTION = /\bbulkhead\.\w+\s*\(\s*\$1\b/;

/**
 * A session over a pool. A turnstile keeps one tenant from taking more than its share of it; control work has a pool
 * of its own and none.
 */
export function tenantSession(pool: ClientPool, scope: TenantScope, turnstile?: Turnstile): TenantSession {
  const { tenantId, environment } = scope;
  const key = `${tenantId}/${environment}`;
  const turn = <T>(work: () => Promise<T>): Promise<T> => (turnstile ? turnstile.pass(key, work) : work());
  const within = <T extends object>(mode: string, sql: string, params: readonly unknown[]): Promise<T[]> =>
    turn(() =>
      pool.use(async (client) => {
        await client.query(`begin ${mode}`);
        await run(client, 'select bulkhead.bind_scope($1, $2)', [tenantId, environment]);
        const rows = await run<T>(client, sql, params);
        await client.query('commit');
        return rows;
      }),
    );
  return {
    scope,
    async call(sql, params) {
      if (OUR_FUNCTION.test(sql) && (params[0] !== tenantId || params[1] !== environment)) {
        throw new ScopeRefused(`a statement of ${key} names another tenant or environment`);
      }
      return turn(() => pool.use((client) => run(client, sql, params)));
    },
    read: (sql, params) => within('read only', sql, params),
    write: (sql, params) => within('read write', sql, params),
  };
}

/** A session for functions across tenants; those that act on one tenant take it as their first parameter. */
export function platformSession(pool: ClientPool, environment: Environment): PlatformSession {
  return {
    environment,
    async call(sql, params) {
      if (OUR_FUNCTION.test(sql) && params[0] !== environment && params[1] !== environment) {
        throw new ScopeRefused(`a statement of ${environment} names another environment`);
      }
      return pool.use((client) => run(client, sql, params));
    },
  };
}

/** Parsed and planned once a connection: our statements are few and repeat. */
async function run<T extends object>(
  client: PoolClient,
  sql: string,
  params: readonly unknown[],
): Promise<T[]> {
  const result = await client.query<T>({ name: nameOf(sql), text: sql, values: [...params] });
  return result.rows;
}

const names = new Map<string, string>();
function nameOf(sql: string): string {
  let name = names.get(sql);
  if (name === undefined) {
    name = `b${createHash('sha256').update(sql).digest('hex').slice(0, 24)}`;
    names.set(sql, name);
  }
  return name;
}
