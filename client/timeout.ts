import { BulkheadError } from './errors';

/**
 * When a wait of so many milliseconds ends, on this process's clock; never, where none is said. A part of a millisecond counts as a
 * whole one: timers take no fractions. Throws `invalid` for what is no number, which would never come to an end.
 */
export function deadlineIn(timeoutMs: number | undefined): number {
  if (timeoutMs === undefined) return Number.POSITIVE_INFINITY;
  if (typeof timeoutMs !== 'number' || Number.isNaN(timeoutMs))
    throw new BulkheadError(
      'invalid',
      'timeoutMs is no number: give milliseconds, or leave it out to wait to the end',
    );
  return Date.now() + Math.ceil(timeoutMs);
}
