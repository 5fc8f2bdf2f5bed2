import { z } from 'zod';

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `250ms`, `10s`, `5m`, `24h`, `30d`. */
export const Duration = z
  .string()
  .regex(/^\d{1,9}(ms|s|m|h|d)$/, 'a duration is a number and one of ms, s, m, h, d');
export type Duration = `${number}${keyof typeof UNITS}`;

/** Milliseconds of a {@link Duration}. Throws a TypeError on anything else. */
export function milliseconds(duration: string): number {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(duration);
  if (!match) throw new TypeError(`"${duration}" is no duration: write a number and one of ms, s, m, h, d`);
  return Number(match[1]) * UNITS[match[2] as keyof typeof UNITS];
}
