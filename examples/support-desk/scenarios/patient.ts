import { setTimeout as sleep } from 'node:timers/promises';
import type { ExampleContext } from '../../../tools/example';

/** Longer than any process of the stack is away: then something is wrong, and the error is told. */
const PATIENCE_MS = 90_000;
const AGAIN_MS = 250;

/**
 * The same context for a time in which the database comes and goes: what cannot be answered now is asked again. Each of
 * these questions may be asked twice; a run is started under the same key, and is the same run. A refusal is an answer.
 */
export function patient(context: ExampleContext): ExampleContext {
  return {
    ...context,
    startRun: (request) => patiently(() => context.startRun(request)),
    waitRun: (tenant, runId) => patiently(() => context.waitRun(tenant, runId)),
    refusals: (tenant, runId) => patiently(() => context.refusals(tenant, runId)),
    writes: (tenant) => patiently(() => context.writes(tenant)),
    openReviews: (tenant) => patiently(() => context.openReviews(tenant)),
    suggestions: (tenant, runId) => patiently(() => context.suggestions(tenant, runId)),
    followUps: (tenant, runId) => patiently(() => context.followUps(tenant, runId)),
  };
}

async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (Date.now() > deadline || isRefusal(error)) throw error;
      await sleep(AGAIN_MS);
    }
  }
}

const isRefusal = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'refused';
