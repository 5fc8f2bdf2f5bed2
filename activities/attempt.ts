import { performance } from 'node:perf_hooks';
import type { CheckpointName } from '../contracts/checkpoint';
import type { Envelope } from '../contracts/envelope';
import type { TenantStore } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import type { Cost, GovernedCall } from './governed-call';

/** The lease outlives the deadline by this: the abort is done before anybody may take the call over. */
export const LEASE_MARGIN_MS = 2_000;

/** What frees this soon is waited for in place; what frees later is a value that the workflow waits for. */
export const SHORT_WAIT_MS = 10_000;

/** Everything one attempt of one call knows of itself. */
export interface Attempt {
  readonly call: GovernedCall;
  readonly envelope: Envelope;
  readonly store: TenantStore;
  readonly path: string;
  /** Fresh: names the attempt to the ledger. */
  readonly token: string;
  readonly temporalRunId: string;
  /** Monotonic; taken before admission, so it ends before the lease does. */
  readonly deadline: number;
  /** Highest journal sequence that the run, the attempt before this one, or this host was told. */
  readonly seenSeq: number;
  /** Whether the run waits for a person's review of this call, as policy has it. */
  readonly waitsForReview: boolean;
  /** Reserved of what only its provider can say afterwards: nothing before the call is decided. */
  readonly bound: Cost;
  /** Something else may answer in its place: trouble of its system is a value at once. */
  readonly another: boolean;
  readonly checkpoint: (point: CheckpointName) => Promise<void>;
  /** Takes note of what the ledger has answered. */
  readonly heard: (seq: number) => void;
}

/** Milliseconds until the deadline, negative after it. */
export const remaining = (attempt: Attempt): number => attempt.deadline - performance.now();

export const refusalOf = (
  kind: Refusal['kind'],
  origin: Refusal['origin'],
  rule: string,
  message: string,
): Refusal => ({ kind, origin, rule, rules: [rule], message });
