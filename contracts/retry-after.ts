/** No longer than a day is believed: whatever a system says, its runs look again by then. */
const MOST_MS = 86_400_000;

/**
 * Milliseconds after which a system wants to be asked again, out of its `Retry-After`: seconds, or an HTTP date (RFC 9110).
 * `undefined` where it says nothing that can be read.
 */
export function retryAfterMs(header: string | undefined, now = Date.now()): number | undefined {
  const text = header?.trim() ?? '';
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1_000, MOST_MS);
  const at = /^[A-Za-z]{3,9},? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? undefined : Math.min(Math.max(0, at - now), MOST_MS);
}
