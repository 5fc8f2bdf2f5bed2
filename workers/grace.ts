/**
 * How long each may take that has a part in the stop of a worker process. Who waits for somebody has to wait longer than that one
 * may take: a SIGKILL at the moment in which the grace ends would come before the activities were told to give up.
 */
export interface Grace {
  /** After a stop, what is under way may go on for so long; then it is cancelled. */
  readonly cancelAfterMs: number;
  /** What ignores its cancellation is abandoned then; its lease sees to the rest. */
  readonly abandonAfterMs: number;
  /** A worker of the SDK that has not ended by then never does. */
  readonly workerEndsWithinMs: number;
  /** Who started the process ends it then, and the process itself where nobody is left to do that. */
  readonly processEndsWithinMs: number;
}

/** @param shutdownGraceMs BULKHEAD_SHUTDOWN_GRACE */
export function graceOf(shutdownGraceMs: number): Grace {
  return {
    cancelAfterMs: shutdownGraceMs,
    abandonAfterMs: shutdownGraceMs + 2_000,
    workerEndsWithinMs: shutdownGraceMs + 3_000,
    processEndsWithinMs: shutdownGraceMs + 5_000,
  };
}
