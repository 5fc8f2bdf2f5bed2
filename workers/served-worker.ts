import { Worker, type WorkerOptions } from '@temporalio/worker';
import { createEnvelopeInterceptor } from '../activities/envelope-interceptor';
import { ZONES } from '../activities/registry';
import type { ServedLane } from '../activities/call-context';
import type { Running, WorkerParts } from './parts';

/** A worker that runs by itself and says when it ended. */
export interface ServedWorker extends Running {
  /** Resolves with the error it ended by, or with nothing after a stop. */
  readonly ended: Promise<unknown>;
}

/**
 * Starts a worker whose every activity stands behind the envelope interceptor of its lane: there is no other way in
 * this code base to make one. Short heartbeats, so that a dead host and a cancel are noticed within seconds.
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
  const worker = await Worker.create({
    connection: parts.connection,
    namespace: parts.namespace,
    identity: `${parts.hostId}@${options.taskQueue}`,
    maxHeartbeatThrottleInterval: '1s',
    defaultHeartbeatThrottleInterval: '1s',
    shutdownGraceTime: parts.timing.shutdownGraceMs,
    // Past the grace an activity that ignores its cancellation is abandoned; its lease sees to the rest.
    shutdownForceTime: parts.timing.shutdownGraceMs + 2_000,
    dataConverter: { payloadConverterPath: require.resolve('../workflows/payload-converter') },
    ...options,
    // The envelope's first, so that nothing of anybody else's runs before it.
    interceptors: { activity: [() => ({ inbound }), ...(parts.activityInterceptors ?? [])] },
  });
  const ended = worker.run().then(
    () => undefined,
    (error: unknown) => error ?? new Error('the worker ended without a reason'),
  );
  return {
    ended,
    async stop() {
      if (worker.getState() === 'RUNNING') worker.shutdown();
      await ended;
    },
  };
}
