import type { GovernedHttp } from './action';

/** What one call may do outside: made by the gateway after policy has agreed, thrown away with the call. */
export interface HttpGrant {
  /** Pools are never shared: one per tenant, environment and system. */
  readonly poolKey: string;
  /**
   * The origin reachable: a connection, with the path that requests are joined to, or the address that arguments name;
   * `null` reaches nothing at all.
   */
  readonly baseUrl: URL | null;
  /** The tenant's own connection may lie in a private range; an address out of arguments may not. */
  readonly privateGranted: boolean;
  /**
   * Set where redirects of reads are followed: asked of each hop that leaves the origin of the one before, whether policy
   * lets this call go there. Without it none is followed. Such a hop gets no credential, and public addresses alone.
   */
  readonly mayGo?: (url: URL) => boolean;
  /** Read at the moment of sending, so that a revoked lease stops the next request. */
  readonly authorization: (() => string) | null;
  readonly idempotencyKey: string | null;
  readonly signal: AbortSignal;
  /** Set where nothing may change: a look-up after a lost answer, a read-back. */
  readonly readOnly?: boolean;
  /**
   * Called synchronously when a request is asked for, and again when its first byte is about to be written: between the
   * two it may have waited for a connection. Throws where it may not leave any more (fence, deadline).
   */
  readonly beforeSend: () => void;
  /** Called around each request and awaited; see `contracts/checkpoint.ts`. */
  readonly checkpoint?: (point: 'before_send' | 'after_send' | 'after_reply') => Promise<void>;
  /** Milliseconds that are left for the call, asked before each request. */
  readonly remainingMs: () => number;
}

/** A governed client that knows what it may have changed: this decides how a failure of the action is read. */
export interface GrantedHttp extends GovernedHttp {
  /** Requests that may have been applied: not those that only read, never left, or were refused. */
  readonly mayHaveApplied: () => number;
  /** `fetch` for libraries that bring their own protocol (model SDKs), behind the same grant. */
  readonly fetch: typeof globalThis.fetch;
}

/** Opens the way out for one call. */
export type OpenHttp = (grant: HttpGrant) => GrantedHttp;
