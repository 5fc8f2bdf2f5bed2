/**
 * How the governed HTTP client fails. The difference matters for writes: what was surely not sent may be tried
 * again, what may have been applied may not. Messages hold status and host, never a body, a path or a credential.
 */
export class HttpNotSent extends Error {
  override readonly name = 'HttpNotSent';
  constructor(
    message: string,
    /** Milliseconds, where the system said when to come back. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }
}

/** Bulkhead refused to send: another destination than the granted one, or an address that is not public. Final. */
export class HttpForbidden extends Error {
  override readonly name = 'HttpForbidden';
}

/** The system answered with 4xx: final, and it applied nothing. */
export class HttpRefused extends Error {
  override readonly name = 'HttpRefused';
  constructor(
    message: string,
    readonly status: number,
    /** The parsed answer, for an action that reads more out of a refusal than its status. */
    readonly body: unknown,
  ) {
    super(message);
  }
}

/** No usable answer came: it may have been applied. */
export class HttpUnavailable extends Error {
  override readonly name = 'HttpUnavailable';
  constructor(
    message: string,
    /** Milliseconds, where the system said when to come back. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }
}
