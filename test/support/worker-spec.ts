import type { CheckpointName } from '../../contracts/checkpoint';
import type { WorkerParts } from '../../workers/parts';

/** What a worker in a process of its own is made of: {@link WorkerParts} as JSON, handed over in its environment. */
export interface WorkerSpec {
  readonly temporalAddress: string;
  readonly bundlePath: string;
  readonly databaseUrl: string;
  readonly environment: string;
  readonly jwks: unknown;
  /** 32 bytes, base64. */
  readonly masterSecret: string;
  readonly bounds: WorkerParts['bounds'];
  readonly timing: WorkerParts['timing'];
  readonly lanes?: WorkerParts['lanes'];
}

/** Where a worker kills itself, once in the life of all workers that share the plan. */
export interface PlannedKill {
  /** Names it, in the plan's record of what was done. */
  readonly id: number;
  readonly point: CheckpointName;
  /** Position path; empty for a place of a run. Left out: any. */
  readonly path?: string;
  /** Left out: any. */
  readonly runId?: string;
  /** Dies at the n-th passing, counted in each process; 1 by default. */
  readonly passing?: number;
}

/** Everything that a worker process is told. */
export interface WorkerOrder {
  readonly spec: WorkerSpec;
  readonly hostId: string;
  /** Absolute path of a module (TypeScript too) that exports `app`. */
  readonly appModule: string;
  readonly roles: readonly ('host' | 'control')[];
  /** Absolute path of a module that exports `compose(parts): parts`: what a harness breaks on purpose. */
  readonly composeModule?: string;
  /** A JSON file with `PlannedKill[]`, read at the start. */
  readonly planFile?: string;
  /** Where each kill that was done leaves a file of its id: whoever makes it first is the one that dies. */
  readonly doneDir?: string;
}

export const ORDER_VARIABLE = 'BULKHEAD_TEST_WORKER';
