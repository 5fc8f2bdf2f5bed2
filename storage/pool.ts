import { Pool, type PoolClient } from 'pg';
import { faultOf } from './fault';

export interface PoolOptions {
  readonly databaseUrl: string;
  /** What the connections are called in pg_stat_activity. */
  readonly name: string;
  readonly size: number;
  /** Of one statement, milliseconds, ended by the server. */
  readonly statementTimeoutMs?: number;
  /** How long work waits for a connection, milliseconds. */
  readonly connectTimeoutMs?: number;
}

/** A client on which exactly one piece of work runs. */
export type Work<T> = (client: PoolClient) => Promise<T>;

/**
 * Connections that never carry anything from one borrower to the next. A client goes back only after work that ended
 * well and left it idle; after any error, a timeout, or with a transaction still open, it is destroyed: given back, it
 * would show the next borrower the last one's tenant.
 */
export class ClientPool {
  readonly #pool: Pool;
  readonly #size: number;

  constructor(options: PoolOptions) {
    const statementTimeoutMs = options.statementTimeoutMs ?? 5_000;
    this.#size = options.size;
    this.#pool = new Pool({
      connectionString: options.databaseUrl,
      application_name: options.name,
      max: options.size,
      min: options.size,
      connectionTimeoutMillis: options.connectTimeoutMs ?? 3_000,
      statement_timeout: statementTimeoutMs,
      // For a server that no longer answers at all: ours ends a little later than its own.
      query_timeout: statementTimeoutMs + 1_000,
      idle_in_transaction_session_timeout: 10_000,
      keepAlive: true,
      // The server notices within 100 ms that we are gone, and lets go of what our statement had locked.
      options: '-c client_connection_check_interval=100ms -c default_transaction_isolation=read\\ committed',
    });
    // An idle connection that breaks is dropped by the pool; without a listener it would end the process.
    this.#pool.on('error', () => undefined);
    // And between: for a moment after it is lent, and before it is destroyed, a client has no listener of the pool's.
    this.#pool.on('connect', (client) => client.on('error', () => undefined));
  }

  /** Lends a client to the work. Throws `StorageBusy` when the database is away or does not answer in time. */
  async use<T>(work: Work<T>): Promise<T> {
    const client = await this.#pool.connect().catch((error: unknown) => {
      throw faultOf(error);
    });
    let idle = false;
    try {
      const result = await work(client);
      idle = client.getTransactionStatus() === 'I';
      if (!idle) throw new Error('the work left a transaction open; its connection was destroyed');
      return result;
    } catch (error) {
      idle = false;
      throw faultOf(error);
    } finally {
      client.release(!idle);
    }
  }

  /** Opens all connections, so that the first call of a tenant does not wait for one. Never throws: a warm-up is no promise. */
  async warm(statement: string): Promise<void> {
    const one = (): Promise<unknown> => this.use((client) => client.query(statement));
    await Promise.allSettled(Array.from({ length: this.#size }, one));
  }

  /** Connections that exist now, and work that waits for one. */
  get load(): { readonly total: number; readonly idle: number; readonly waiting: number } {
    return { total: this.#pool.totalCount, idle: this.#pool.idleCount, waiting: this.#pool.waitingCount };
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }
}
