import {
  ServiceError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  isGrpcServiceError,
} from '@temporalio/client';

/** Whether Temporal, or the way to it, is the trouble: nothing that the request itself could mend. */
export function isTemporalTrouble(error: unknown): error is Error {
  if (
    error instanceof ServiceError ||
    error instanceof WorkflowUpdateRPCTimeoutOrCancelledError ||
    isGrpcServiceError(error)
  )
    return true;
  return error instanceof Error && error.name === 'TransportError';
}
