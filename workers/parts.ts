import type { Client } from '@temporalio/client';
import type { ActivityInterceptorsFactory, NativeConnection } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { Checkpoint } from '../contracts/checkpoint';
import type { Environment } from '../contracts/ids';
import type { EnvelopeVerifier } from '../contracts/secrets-ports';
import type { Broker } from '../secrets/broker';
import type { OpenStorage } from '../storage/open';
import type { App } from '../tools/app';
import type { Config } from './config';
import type { LaneSettings } from './lane-plan';

/** What every worker process is made of; how each part came to be is its composition's business. */
export interface WorkerParts {
  readonly connection: NativeConnection;
  readonly client: Client;
  readonly namespace: string;
  readonly environment: Environment;
  readonly storage: OpenStorage;
  readonly verifier: EnvelopeVerifier;
  readonly broker: Broker;
  readonly app: App;
  readonly hostId: string;
  readonly bounds: Config['run'];
  readonly timing: Config['timing'];
  /** Those left out are as `LANE_SETTINGS` has them. */
  readonly lanes?: Partial<LaneSettings> | undefined;
  readonly logger: Logger;
  /** Called at the named places of each call and run; a harness kills there, production passes. */
  readonly checkpoint?: Checkpoint | undefined;
  /** Around every activity, inside the envelope's check: what they let through has its zone. None where left out. */
  readonly activityInterceptors?: readonly ActivityInterceptorsFactory[] | undefined;
}

/** Something that runs until it is stopped. */
export interface Running {
  /** Resolves once everything it started has ended. */
  stop(): Promise<void>;
}

/** The workers of one process. */
export interface Host extends Running {
  /**
   * Resolves once one of its workers has ended although nobody stopped it. The host does not mend that: it is to be stopped, and
   * its process to end with a failure, so that whoever supervises it starts another with a fresh connection.
   */
  readonly broken: Promise<Error>;
}
