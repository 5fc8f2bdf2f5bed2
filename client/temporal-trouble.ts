import {
  ServiceError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  isGrpcServiceError,
} from '@temporalio/client';
import { NamespaceNotFoundError } from '@temporalio/common';

/** Whether Temporal, or the way to it, is the trouble: nothing that the request itself could mend. */
export function isTemporalTrouble(error: unknown): error is Error {
  if (
    error instanceof ServiceError ||
    error instanceof WorkflowUpdateRPCTimeoutOrCancelledError ||
    // Of the settings, or of a namespace that is not made yet: a host that serves the environment has the right one.
    error instanceof NamespaceNotFoundError ||
    isGrpcServiceError(error)
  )
    return true;
  return error instanceof Error && error.name === 'TransportError';
}

/** The trouble in a few words, before what follows from it. */
export const temporalTroubleIn = (error: Error): string =>
  error instanceof NamespaceNotFoundError
    ? `Temporal has no namespace ${error.namespace} (see TEMPORAL_NAMESPACE)`
    : 'Temporal does not answer now';
