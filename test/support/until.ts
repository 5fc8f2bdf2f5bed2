import { setTimeout as delay } from 'node:timers/promises';

const OFTEN = 40;

/**
 * Looks again and again until there is something to see; fails with what did not happen, by default before jest's own limit
 * would end the test without these words. A look may cost a query of a workflow, so what takes long is looked at less often.
 */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false | null>,
  timeoutMs = 45_000,
): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (let looks = 1; ; looks += 1) {
    const found = await look();
    if (found !== undefined && found !== false && found !== null) return found;
    if (Date.now() > end) throw new Error(`${what} did not happen within ${timeoutMs} ms`);
    await delay(looks < OFTEN ? 25 : 100);
  }
}
