import type { Limits, NamedLimits, PerRun } from '../../contracts/documents';
import type { CallClass } from '../../contracts/ledger';
import type { Amounts } from './recount';

/** What the model of the quotas is asked, answers and keeps. Times are milliseconds since 1970. */

export interface Quota {
  readonly limits: NamedLimits & Pick<Limits, 'callsInFlight' | 'toolCallsPerDay'>;
  readonly perRun: PerRun;
  readonly perAction: Readonly<Record<string, NamedLimits>>;
  readonly perAgent: Readonly<Record<string, NamedLimits>>;
  readonly timeZone: string;
}

export interface Ask {
  readonly run: string;
  readonly path: string;
  readonly token: string;
  readonly digest: string;
  readonly action: string;
  readonly class: CallClass;
  readonly denied: boolean;
  readonly leaseMs: number;
  readonly toolCalls: number;
  readonly steps: number;
  readonly microUsd: number;
  readonly modelTokens: number;
}
export interface Said {
  readonly answer: 'admitted' | 'recover' | 'replayed' | 'in_flight' | 'refused';
  readonly attempt?: number;
  readonly lookupOnly?: boolean;
  readonly state?: string;
  readonly kind?: string;
  readonly rule?: string;
  readonly value?: number;
  readonly used?: number;
  readonly retryAfterMs?: number;
}
export type Result = 'succeeded' | 'failed' | 'open' | 'unknown';
export interface Charge {
  readonly toolCalls: 0 | 1;
  readonly microUsd: number;
  readonly modelTokens: number;
}

/** What an attempt holds until it is settled. */
export interface Reservation {
  /** The attempt that made it. */
  readonly by: string;
  readonly at: number;
  readonly day: number;
  /** Names of the meters beside the tenant's own. */
  readonly metered: readonly string[];
  readonly amounts: Amounts;
}
export interface Call {
  token: string;
  digest: string;
  class: CallClass;
  state: 'claimed' | Result;
  said: Said;
  attempts: number;
  looks: number;
  leaseUntil: number;
  reservation: Reservation;
  charged: Amounts;
  /** Nobody reported, and it had no effect: asking again is a new attempt. */
  lost: boolean;
}

export const isWrite = (of: CallClass): boolean => of === 'write' || of === 'high_risk_write';
export const MINUTE = 60_000;
