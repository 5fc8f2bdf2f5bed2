import { ApplicationFailure, ApplicationFailureCategory } from '@temporalio/common';
import { FAILURES, type FailureType } from '../contracts/failures';

/** An `ApplicationFailure` of the catalogue; whether it is retried is the catalogue's to say. */
export function failure(type: FailureType, message: string, retryAfterMs?: number): ApplicationFailure {
  return ApplicationFailure.create({
    type,
    message,
    nonRetryable: FAILURES[type].nonRetryable,
    ...(retryAfterMs === undefined ? {} : { nextRetryDelay: Math.max(retryAfterMs, 50) }),
    // Waiting in place is no error: no warning in logs, no failure metric. Its message still shows in Temporal's UI.
    ...(type === 'Waiting' ? { category: ApplicationFailureCategory.BENIGN } : {}),
  });
}
