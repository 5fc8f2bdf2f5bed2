import { setTimeout as delay } from 'node:timers/promises';
import { mayPass } from './acting';
import { remaining, type Attempt } from './attempt';
import type { Acted, ActIo } from './governed-call';

/** What reading a write back showed. `later`: nobody could be asked now, and asking later may help. */
export type ReadBack = 'matches' | 'differs' | 'unreadable' | 'later';

const TURNS = 3;

/**
 * Reads a write back (promise T4), and again while the call's time lasts where only the way to it was closed: the write has
 * happened, so a second look costs nothing, and a person need not be asked for a moment's outage.
 *
 * @param looking gives a way out that can change nothing.
 */
export async function readBack(
  attempt: Attempt,
  acted: Acted,
  verify: (io: ActIo, acted: Acted) => Promise<boolean>,
  looking: <T>(look: (io: ActIo) => Promise<T>) => Promise<T>,
): Promise<ReadBack> {
  for (let turn = 1; ; turn += 1) {
    let signal: AbortSignal | undefined;
    try {
      const matches = await looking((io) => {
        ({ signal } = io);
        return verify(io, acted);
      });
      return matches ? 'matches' : 'differs';
    } catch (error) {
      if (signal?.aborted) return 'later';
      if (!mayPass(error)) return 'unreadable';
      const pause = 200 * 2 ** turn;
      if (turn >= TURNS || remaining(attempt) <= pause * 2) return 'later';
      await delay(pause);
    }
  }
}
