import type { Refusal } from '../contracts/refusal';
import { isStorageBusy } from '../contracts/storage-busy';

/**
 * What a caller can do about an error:
 * `unauthenticated`: bring another token · `refused`: policy, a limit, scope or an operator said no, see `refusal` ·
 * `invalid`: the request is malformed · `not_found`: there is no such thing in your tenant · `conflict`: it contradicts
 * what is recorded (an idempotency key used with another body, a review that is resolved, a run that is open) · `timeout`: it goes on, ask again · `unavailable`: a part is down, try again.
 */
export type ErrorCode =
  'unauthenticated' | 'refused' | 'invalid' | 'not_found' | 'conflict' | 'timeout' | 'unavailable';

/** The one error of the client. `message` ends with what to do; it holds no secret and no payload. */
export class BulkheadError extends Error {
  override readonly name = 'BulkheadError';
  /** For machines, finer than the code: `expired`, `unknown_agent`, `scope_ambiguous`. */
  readonly reason: string;
  readonly refusal: Refusal | undefined;

  constructor(
    readonly code: ErrorCode,
    message: string,
    more: { reason?: string; refusal?: Refusal; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.reason = more.reason ?? more.refusal?.kind ?? code;
    this.refusal = more.refusal;
  }
}

/** The error that carries a refusal. */
export const refusedBy = (refusal: Refusal): BulkheadError =>
  new BulkheadError('refused', refusal.message, { refusal });

/** Scope that is missing, doubled or contradicts itself stops the work (promise E4). */
export function scopeAmbiguous(message: string): BulkheadError {
  return refusedBy({ kind: 'scope_ambiguous', origin: 'policy', rule: 'scope', rules: ['scope'], message });
}

/** Codes of sockets and of PostgreSQL (classes 08, 53, 57) that say: the database cannot answer now. */
const DATABASE_DOWN = /^(ECONN\w+|ENOTFOUND|EPIPE|ETIMEDOUT|EAI_AGAIN|ENOENT|08\w{3}|53\w{3}|57\w{3})$/;

/**
 * Runs a step against the database and turns its being away into `unavailable`; every other error passes as it is.
 */
export async function reachDatabase<T>(step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    for (let at = linkOf(error); at; at = linkOf(at.cause)) {
      if (isStorageBusy(at) || (typeof at.code === 'string' && DATABASE_DOWN.test(at.code))) {
        throw new BulkheadError(
          'unavailable',
          'the database does not answer, so it is not known to be done: see `bulkhead doctor`, and ask again with the same idempotency key',
          { reason: 'database', cause: error },
        );
      }
    }
    throw error;
  }
}

/** One error of a chain of causes, by its form: errors of Node's own are of another realm in some hosts. */
const linkOf = (error: unknown): { readonly code?: unknown; readonly cause?: unknown } | undefined =>
  typeof error === 'object' && error !== null ? error : undefined;
