import type { Job } from './load-app';

/** How the victims and their neighbour are placed in an arm. */
export const ARMS = {
  alone: 'own lanes, no neighbour',
  unprotected: 'raw Temporal activities: one queue, one worker, no Bulkhead',
  own: 'a lane each, in one host',
  shared: 'all on the shared lane, of equal weight',
  dedicated: 'a process for each victim, the neighbour on a lane of its own',
} as const;
export type Arm = keyof typeof ARMS;

/** The lanes that tenants of these arms are placed on; a victim's, then the neighbour's. */
export const LANES = {
  own: ['own', 'own'],
  shared: ['shared', 'shared'],
  dedicated: ['dedicated', 'own'],
} as const;

/** What the neighbour does. */
export const KINDS = {
  flood: 'a flood of calls like the victims’ own',
  slow: 'calls that take ten times as long',
  retries: 'a system that fails: every request is answered with 503, and tried again',
  payloads: 'answers of 256 KiB',
  refused: 'calls that policy refuses',
} as const;
export type Kind = keyof typeof KINDS;

/** What a call of the victims does: `waitMs` of waiting outside, and a small answer. */
export const victimJob = (waitMs: number): Job => ({
  takesMs: waitMs,
  bytes: 100,
  fails: false,
  allowed: true,
});

const SLOWER = 10;
/** Calls that take so many times as long still end well before their time is over. */
export const LONGEST_WAIT_MS = 400;

/** What a call of the neighbour does. */
export function neighbourJob(kind: Kind, waitMs: number): Job {
  const job = victimJob(waitMs);
  switch (kind) {
    case 'flood':
      return job;
    case 'slow':
      return { ...job, takesMs: waitMs * SLOWER };
    case 'retries':
      return { ...job, takesMs: Math.round(waitMs / 10), fails: true };
    case 'payloads':
      return { ...job, bytes: 262_144 };
    case 'refused':
      return { ...job, allowed: false };
  }
}
