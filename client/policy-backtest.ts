import type { DecisionRow } from '../contracts/approvals';
import { positionPath } from '../contracts/calls';
import { MODEL_ACTION } from '../contracts/names';
import type { CompiledPolicy } from '../contracts/policy-decision';
import type { TenantStore } from '../contracts/ports';
import { type BacktestReport, startBacktest } from '../policy/backtest';
import type { Registry } from '../policy/vocabulary';

/** What was replayed of a tenant, and whether that was all there is. */
export interface TenantBacktest extends BacktestReport {
  readonly tenant: string;
  /** Where there were more decisions than `most`: the time of the last one replayed. Everything after it was left out. */
  readonly cutAt: string | null;
}

const PAGE = 500;
/** Steps read at once: as many as a pool of storage has connections to spare. */
const AT_ONCE = 4;

/**
 * Makes a tenant's recorded decisions again by a candidate policy: the oldest first, from `since` (ISO) on, `most` of them.
 * Reads alone. Rejects where the database does not answer.
 */
export async function backtestTenant(request: {
  readonly store: TenantStore;
  readonly policy: CompiledPolicy;
  readonly registry: Registry;
  readonly since: string;
  readonly most: number;
  /** Told after every page. */
  readonly progress: (done: number) => void;
}): Promise<TenantBacktest> {
  const { store, policy, registry, since, most, progress } = request;
  const backtest = startBacktest(policy, registry);
  let [done, last]: [number, DecisionRow | undefined] = [0, undefined];
  for (;;) {
    // One more than may be replayed tells whether that was all.
    const limit = Math.min(PAGE, most - done + 1);
    const after = last && { at: last.at, runId: last.runId, path: last.path };
    const page = await store.decisions.since({ since, limit, ...(after && { after }) });
    const rows = page.slice(0, most - done);
    const asked = await argumentsOf(store, rows);
    for (const row of rows) backtest.take(row, asked.get(row));
    done += rows.length;
    progress(done);
    const cut = page.length > rows.length;
    last = rows.at(-1) ?? last;
    if (cut || page.length < limit) {
      const { tenantId: tenant } = store.scope;
      return { ...backtest.report(), tenant, cutAt: cut ? (last?.at ?? since) : null };
    }
  }
}

/** What models asked for, of each decision that is about a tool and whose step is still stored. */
async function argumentsOf(
  store: TenantStore,
  rows: readonly DecisionRow[],
): Promise<ReadonlyMap<DecisionRow, unknown>> {
  const byStep = new Map<string, { row: DecisionRow; ref: string; index: number }[]>();
  for (const row of rows) {
    const place = row.input.action === MODEL_ACTION ? undefined : askedAt(row.path);
    if (!place) continue;
    const step = `${row.runId} ${place.ref}`;
    byStep.set(step, [...(byStep.get(step) ?? []), { row, ...place }]);
  }
  const found = new Map<DecisionRow, unknown>();
  const steps = [...byStep.values()];
  const read = async (): Promise<void> => {
    for (let calls = steps.pop(); calls; calls = steps.pop()) {
      const [first] = calls;
      const payload = first && (await store.payload(first.row.runId, first.ref));
      if (payload?.kind !== 'model' || payload.lost) continue;
      for (const { row, index } of calls) {
        const asked = payload.toolCalls[index];
        if (asked) found.set(row, asked.args);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, read));
  return found;
}

/** Where the arguments of the call at a path are stored: those of an undo with the write that it undoes. */
export function askedAt(path: string): { ref: string; index: number } | undefined {
  const match = /^((?:child\/\d{1,6}\/)*)(\d{1,9})\.(\d{1,9})(?:\/undo)?$/.exec(path);
  const [step, ordinal] = [Number(match?.[2]), Number(match?.[3])];
  if (!match || ordinal < 1) return undefined;
  return { ref: `${match[1]}${positionPath({ step, ordinal: 0 })}`, index: ordinal - 1 };
}
