import { orAborted } from '../contracts/or-aborted';
import type { ActIo } from './governed-call';

/** How long an action may take to end by itself once its signal is aborted, milliseconds. */
const HEED_MS = 1_000;

/** What an action was doing when it was left behind: it awaits something that does not know of the call's signal. */
export class Unheeded extends Error {
  override readonly name = 'Unheeded';
}

/**
 * Lets an author's code work with its way out, and leaves it behind where it goes on after the signal: its way out is closed
 * by then, and a slot that it kept would be its tenant's, or on a shared lane its neighbours'. Throws {@link Unheeded} for that.
 */
export async function heeding<T>(io: ActIo, work: (io: ActIo) => Promise<T>): Promise<T> {
  const leftBehind = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const count = (): void => {
    const unheeded = new Unheeded('the action goes on though its signal was aborted');
    timer = setTimeout(() => leftBehind.abort(unheeded), HEED_MS);
  };
  if (io.signal.aborted) count();
  else io.signal.addEventListener('abort', count, { once: true });
  try {
    return await orAborted(work(io), leftBehind.signal);
  } finally {
    clearTimeout(timer);
    io.signal.removeEventListener('abort', count);
  }
}
