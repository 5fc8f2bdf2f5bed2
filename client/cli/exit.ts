import { CommanderError } from 'commander';
import type { StopReason } from '../../contracts/states';
import { BulkheadError } from '../errors';

/** Exit codes, a promise to scripts. */
export const EXIT = { done: 0, failed: 1, usage: 2, refused: 3, notFound: 4, interrupted: 130 } as const;

/** The command line itself is wrong: message and remedy, exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Ends a command with a code of its own, after it has printed what there is to say. */
export class Exit extends Error {
  constructor(readonly code: number) {
    super(`exit ${code}`);
  }
}

const CODES: Record<BulkheadError['code'], number> = {
  unauthenticated: EXIT.refused,
  refused: EXIT.refused,
  conflict: EXIT.refused,
  invalid: EXIT.usage,
  not_found: EXIT.notFound,
  timeout: EXIT.failed,
  unavailable: EXIT.failed,
};

/** Settings that are missing or wrong: `ConfigError` of `workers/config.ts`, known by its name, for it is not ours to import. */
const isConfigError = (error: unknown): error is Error =>
  error instanceof Error && error.name === 'ConfigError';

/** The exit code for an error, and what to print of it: `undefined` where it was printed already. */
export function exitOf(error: unknown, interrupted: boolean): { code: number; message: string | undefined } {
  if (error instanceof Exit) return { code: error.code, message: undefined };
  if (error instanceof CommanderError)
    return { code: error.exitCode === 0 ? EXIT.done : EXIT.usage, message: undefined };
  if (interrupted) return { code: EXIT.interrupted, message: 'interrupted' };
  if (error instanceof UsageError || isConfigError(error))
    return { code: EXIT.usage, message: error.message };
  if (error instanceof BulkheadError) return { code: CODES[error.code], message: error.message };
  return { code: EXIT.failed, message: error instanceof Error ? error.message : String(error) };
}

const REFUSED: ReadonlySet<StopReason> = new Set([
  'policy_denied',
  'budget_exceeded',
  'scope_ambiguous',
  'approval_denied',
  'approval_expired',
  'killed',
]);

/** The exit code for how a run ended. */
export function exitOfStop(stopReason: StopReason): number {
  if (stopReason === 'completed') return EXIT.done;
  return REFUSED.has(stopReason) ? EXIT.refused : EXIT.failed;
}
