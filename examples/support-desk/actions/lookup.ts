import type { ActionContext, Reconciled } from '../../../contracts/action';
import { HttpRefused } from '../../../contracts/http-errors';

/**
 * Asks a system of this desk what became of the request under a key. Each of them answers by the log that it writes before it
 * says anything, so that "none" means: not arrived so far. How long "so far" may last is `VISIBLE_WITHIN`.
 */
export async function requestUnder<Result>(ctx: ActionContext, key: string): Promise<Reconciled<Result>> {
  try {
    const { body } = await ctx.http.get(`/requests/${encodeURIComponent(key)}`);
    return { happened: true, result: body as Result };
  } catch (error) {
    if (error instanceof HttpRefused && error.status === 404) return 'absent';
    throw error;
  }
}

/** A request that has left us is in the log of its system by then, or will not be: none of them queues. */
export const VISIBLE_WITHIN = '2s';
