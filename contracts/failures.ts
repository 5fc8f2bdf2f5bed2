/**
 * Types of `ApplicationFailure`, the only way that code branches on a failure: `instanceof` does not survive the
 * workflow sandbox. Whether a retry can mend it is said here and nowhere else. A run that ends otherwise than
 * completed or cancelled fails with its stop reason as the type (`STOP_REASONS`), never retryable.
 */
export const FAILURES = {
  /** The envelope is missing, malformed, altered, of an unknown or expired key, or of another workflow (E2). */
  EnvelopeInvalid: { nonRetryable: true },
  /** A worker got a task of a tenant or environment that is not its own (E3). */
  WrongLane: { nonRetryable: true },
  /** Ours or the database's trouble; the effect did not happen. Retried with backoff. */
  PlatformBusy: { nonRetryable: false },
  /** A refusal that frees within seconds, waited for in place. Its message shows in Temporal's UI. */
  Waiting: { nonRetryable: false },
  /** The system outside failed in a way that another attempt may mend. */
  ProviderUnavailable: { nonRetryable: false },
  /** The outcome of a write is not known to this attempt; the next one recovers it. */
  OutcomePending: { nonRetryable: false },
  /** A defect of ours: arguments of an activity or workflow out of their schema. */
  ContractBroken: { nonRetryable: true },
  /** The workflow that asks is not the one that has entered the follow-up: it ends Failed, and the sweep begins it again. */
  NotEntered: { nonRetryable: true },
} as const;
export type FailureType = keyof typeof FAILURES;

/** For `retry.nonRetryableErrorTypes`, so that also a failure thrown without the flag ends the retries. */
export const NON_RETRYABLE: string[] = Object.entries(FAILURES).flatMap(([type, { nonRetryable }]) =>
  nonRetryable ? [type] : [],
);
