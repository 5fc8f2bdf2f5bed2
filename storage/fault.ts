import { types } from 'node:util';
import { StorageBusy } from '../contracts/storage-busy';

/**
 * A statement named another tenant than the one its transaction or handle is for. A defect or an attack; never
 * retried, and nothing was read or written.
 */
export class ScopeRefused extends Error {
  override readonly name = 'ScopeRefused';
}

/** What the database says when it is the database's trouble: asking again can help, and nothing may be assumed. */
const BUSY_STATES = new Set([
  '55P03', // lock_not_available
  '57014', // query_canceled: statement_timeout
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
  '25006', // read_only_sql_transaction: a name that still leads to a standby during a switchover
  '25P03', // idle_in_transaction_session_timeout
  '0A000', // feature_not_supported: a cached plan whose result type a migration has changed
  '3D000', // invalid_catalog_name: a database that is being restored
  '42883', // undefined_function: a schema of another version than this host's, until one of the two follows
  '42P01', // undefined_table: the same
  '40001', // serialization_failure
  '40P01', // deadlock_detected
]);
/** Of these, the trouble of one statement: its row is held, or it takes too long. Another may well be answered at once. */
const HELD_UP = new Set(['55P03', '57014', '40001', '40P01']);
/** Connection exceptions, refused authorization (a password that is being rotated), insufficient resources, system errors. */
const BUSY_CLASSES = new Set(['08', '28', '53', '58']);
const NETWORK = /^(ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)/;
/** The driver's own, which carry no code. */
const DRIVER =
  /timeout|connection (terminated|ended)|establishing an SSL|client (was closed|has encountered)|not queryable/i;

/** Whether it is one statement that waited in vain, and not the database that is away; of what {@link faultOf} answers. */
export function heldUp(fault: unknown): boolean {
  if (!(fault instanceof StorageBusy)) return false;
  const { code } = (fault.cause ?? {}) as { code?: unknown };
  return typeof code === 'string' && HELD_UP.has(code);
}

/** Tells apart: the database's trouble (`StorageBusy`), a foreign scope (`ScopeRefused`), and the rest, as it is. */
export function faultOf(error: unknown): Error {
  if (!(error instanceof Error || types.isNativeError(error))) return new Error(String(error));
  if (error instanceof StorageBusy || error instanceof ScopeRefused) return error;
  const { code } = error as { code?: unknown };
  if (code === 'BH001' || code === 'BH002') return new ScopeRefused(error.message, { cause: error });
  if (typeof code === 'string') {
    if (
      BUSY_STATES.has(code) ||
      (code.length === 5 && BUSY_CLASSES.has(code.slice(0, 2))) ||
      NETWORK.test(code)
    ) {
      return new StorageBusy(`the database is busy or away (${code})`, { cause: error });
    }
    return error;
  }
  // A connection refused on every address of a name comes as an AggregateError.
  if (error.name === 'AggregateError' || DRIVER.test(error.message)) {
    return new StorageBusy(`the database is busy or away: ${error.message}`, { cause: error });
  }
  return error;
}
