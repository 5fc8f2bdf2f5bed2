import { setTimeout as delay } from 'node:timers/promises';

/**
 * Looks again and again until there is something to see; fails with what did not happen, by default before jest's own limit
 * would end the test without these words.
 */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false | null>,
  timeoutMs = 45_000,
): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false && found !== null) return found;
    if (Date.now() > end) throw new Error(`${what} did not happen within ${timeoutMs} ms`);
    await delay(25);
  }
}
