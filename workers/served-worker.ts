import { setTimeout as sleep } from 'node:timers/promises';
import { Worker, type NativeConnection, type WorkerOptions } from '@temporalio/worker';
import { createEnvelopeInterceptor } from '../activities/envelope-interceptor';
import { ZONES } from '../activities/registry';
import type { ServedLane } from '../activities/call-context';
import { graceOf } from './grace';
import type { Running, WorkerParts } from './parts';

/** A worker that runs by itself and says when it cannot any more. */
export interface ServedWorker extends Running {
  /** Resolves once it has ended although nobody stopped it. It is not to be had back: its process has to be replaced. */
  readonly broken: Promise<Error>;
}

/** How often a worker is asked whether it has failed. */
const LOOK_MS = 1_000;
const ANSWER_WITHIN_MS = 5_000;
/** A host opens many lanes at once: one question is enough for all of them. */
const ANSWER_HOLDS_MS = 1_000;

/**
 * Starts a worker whose every activity stands behind the envelope interceptor of its lane: there is no other way in
 * this code base to make one. Short heartbeats, so that a dead host and a cancel are noticed within seconds.
 *
 * Rejects where Temporal does not answer, and may be tried again, unless {@link isLeftBehind} says otherwise.
 */
export async function serve(
  parts: WorkerParts,
  serves: Omit<ServedLane, 'namespace'>,
  options: Omit<WorkerOptions, 'connection' | 'namespace' | 'interceptors'>,
): Promise<ServedWorker> {
  const inbound = createEnvelopeInterceptor({
    verifier: parts.verifier,
    zones: ZONES,
    lane: { ...serves, namespace: parts.namespace },
  });
  const grace = graceOf(parts.timing.shutdownGraceMs);
  await temporalAnswers(parts);
  const worker = await Worker.create({
    connection: parts.connection,
    namespace: parts.namespace,
    identity: `${parts.hostId}@${options.taskQueue}`,
    maxHeartbeatThrottleInterval: '1s',
    defaultHeartbeatThrottleInterval: '1s',
    shutdownGraceTime: grace.cancelAfterMs,
    shutdownForceTime: grace.abandonAfterMs,
    dataConverter: { payloadConverterPath: require.resolve('../workflows/payload-converter') },
    ...options,
    // The envelope's first, so that nothing of anybody else's runs before it.
    interceptors: { activity: [() => ({ inbound }), ...(parts.activityInterceptors ?? [])] },
  });
  const ended = worker.run().then(
    () => undefined,
    (error: unknown) => error,
  );
  let stopping = false;
  let look: NodeJS.Timeout | undefined;
  const broken = new Promise<Error>((resolve) => {
    const failed = (error: unknown): void => {
      clearInterval(look);
      if (!stopping) resolve(failure(options.taskQueue, error));
    };
    void ended.then(failed);
    // A poll that Temporal has answered for good ends the worker, but not its `run`: that waits for polls which nobody makes any more.
    look = setInterval(() => worker.getState() === 'FAILED' && failed(undefined), LOOK_MS).unref();
  });
  return {
    broken,
    async stop() {
      stopping = true;
      if (worker.getState() === 'RUNNING') worker.shutdown();
      const over = new AbortController();
      const tooLong = sleep(grace.workerEndsWithinMs, 'too long' as const, { signal: over.signal });
      tooLong.catch(() => undefined);
      const how = await Promise.race([ended, tooLong]);
      over.abort();
      clearInterval(look);
      if (how === 'too long')
        parts.logger.warn(
          { queue: options.taskQueue, state: worker.getState() },
          'a worker did not end; it is left to the end of its process',
        );
    },
  };
}

/**
 * Whether a worker could not be made because an earlier try left its registration with the connection: the SDK registers first, then
 * asks Temporal, and lets go of what it registered only with its memory. No further try helps; a fresh connection does.
 */
export const isLeftBehind = (error: unknown): boolean =>
  error instanceof Error && error.message.includes('overlapping worker task types');

const asked = new WeakMap<NativeConnection, { readonly at: number; readonly answer: Promise<unknown> }>();

/** Rejects where Temporal does not answer for the namespace now: a worker made then would be left behind, see {@link isLeftBehind}. */
async function temporalAnswers({ connection, namespace }: WorkerParts): Promise<void> {
  const before = asked.get(connection);
  if (before && performance.now() - before.at < ANSWER_HOLDS_MS) {
    await before.answer;
    return;
  }
  const answer = connection.withDeadline(Date.now() + ANSWER_WITHIN_MS, () =>
    connection.workflowService.describeNamespace({ namespace }),
  );
  asked.set(connection, { at: performance.now(), answer });
  await answer;
}

function failure(taskQueue: string, error: unknown): Error {
  const words = error instanceof Error ? `: ${error.message}` : '';
  return new Error(`the worker of ${taskQueue} ended${words}; "Worker failed" in the log before says why`, {
    cause: error,
  });
}
