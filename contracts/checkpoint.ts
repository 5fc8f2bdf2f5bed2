import type { TenantId } from './ids';

/**
 * The places of a governed call where a process may die and leave something to find out. A port, so that a harness can
 * kill a worker exactly there; production injects nothing, and no product code asks why.
 */
export const CHECKPOINTS = {
  decided: 'policy has decided; nothing is claimed',
  claimed: 'the ledger has claimed the call; its answer was not yet looked at',
  admitted: 'the attempt knows that it was let in',
  leased: 'the credential is lent',
  before_send: 'a request is about to leave',
  after_send: 'the request has left, nothing came back yet',
  after_reply: 'the system outside has answered',
  before_settle: 'the outcome is known to this process alone',
  after_settle: 'the ledger has the outcome, the workflow has not',
  before_undo: 'an undo was let in and has not sent',
  after_undo: 'an undo was answered and is not settled',
  before_continue: 'a run is about to enter its next history',
  after_continue: 'a run has entered its next history',
} as const;
export type CheckpointName = keyof typeof CHECKPOINTS;

/** Which call of which run has come to the place. */
export interface CheckpointCall {
  readonly tenantId: TenantId;
  readonly runId: string;
  /** Position path; empty where a run, and no call, is meant. */
  readonly path: string;
  readonly action: string;
  /** Attempts of the activity, from 1. */
  readonly attempt: number;
}

/** Called at each place, and awaited. */
export type Checkpoint = (point: CheckpointName, call: CheckpointCall) => Promise<void>;

/** Production's. */
export const passCheckpoint: Checkpoint = () => Promise.resolve();
