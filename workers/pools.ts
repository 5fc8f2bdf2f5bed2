import { setTimeout as sleep } from 'node:timers/promises';
import type { PlatformStore } from '../contracts/platform-ports';
import type { PoolView } from '../contracts/pools';
import type { Logger } from 'pino';
import type { Running } from './parts';
import { PoolDivision } from './pool-shares';

/** A tenant that comes back to a pool waits for its share about as long; what is above a share ends with its calls. */
const EVERY_MS = 500;

/**
 * Divides the provider pools and shared capacities of the environment, again and again (promise N7). Any number of hosts may: one at a time does. Where none
 * does, shares stay as they were last written.
 */
export function tendPools(parts: {
  readonly platform: Pick<PlatformStore, 'dividePools'>;
  readonly logger: Pick<Logger, 'warn'>;
  readonly everyMs?: number;
}): Running {
  const over = new AbortController();
  const divisions = new Map<string, PoolDivision>();
  const division = (pool: string): PoolDivision => {
    const known = divisions.get(pool) ?? new PoolDivision();
    divisions.set(pool, known);
    return known;
  };
  const overPromised = new Map<string, string>();
  const tellPromises = ({ provider, pool, callsInFlight, members }: PoolView): void => {
    const promised = members.reduce((sum, one) => sum + (one.weight > 0 ? one.promised : 0), 0);
    const told = provider === null && promised > callsInFlight ? `${promised} of ${callsInFlight}` : '';
    if (told !== '' && overPromised.get(pool) !== told)
      parts.logger.warn(
        { capacity: pool, promised, callsInFlight },
        'more calls are guaranteed than the shared capacity has: each guarantee is cut in proportion',
      );
    overPromised.set(pool, told);
  };
  const tending = (async () => {
    let trouble = '';
    while (!over.signal.aborted) {
      try {
        await parts.platform.dividePools((view) => {
          tellPromises(view);
          return division(`${view.provider ?? ''} ${view.pool}`).divide(view);
        });
        trouble = '';
      } catch (error) {
        const told = error instanceof Error ? error.message : String(error);
        if (told !== trouble)
          parts.logger.warn({ trouble: told }, 'provider pools and shared capacity could not be divided');
        trouble = told;
      }
      await sleep(parts.everyMs ?? EVERY_MS, undefined, { signal: over.signal }).catch(() => undefined);
    }
  })();
  return {
    async stop() {
      over.abort();
      await tending;
    },
  };
}
