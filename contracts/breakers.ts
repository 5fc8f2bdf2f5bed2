import type { Refusal } from './refusal';

/** The rule of a refusal by an open breaker. It has a `retryAfterMs`, and takes no attempt away from the call. */
export const BREAKER_OPEN = 'breaker_open';

/**
 * How one system outside does for one tenant (promise N5). `closed`: calls pass. `open`: none does, until `openUntil`.
 * `half_open`: one at a time does, the probe, and its end decides.
 */
export interface Breaker {
  readonly system: string;
  readonly state: 'closed' | 'open' | 'half_open';
  /** Since the system last answered. */
  readonly failures: number;
  /** The last of them, in words that hold no payload and no secret. */
  readonly cause: string;
  /** How often it was opened without closing between; each time for twice as long. */
  readonly openings: number;
  /** ISO, of the ledger's clock; `null` while it is closed. */
  readonly openedAt: string | null;
  readonly openUntil: string | null;
}

/** Tells of trouble of the system outside, by the attempt that still holds the call. */
export interface Trouble {
  readonly runId: string;
  readonly path: string;
  readonly token: string;
  /** Of origin `provider`; any other moves nothing. */
  readonly refusal: Refusal;
}
