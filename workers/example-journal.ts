import { z } from 'zod';
import { outsideKey } from '../contracts/digest';
import { journalEntries } from '../client/journal';
import type { TenantStore } from '../contracts/ports';
import type { JournaledWrite } from '../tools/example';

/** What entries say of the calls that they concern; docs/ledger.md has every kind. */
const Facts = z.looseObject({
  kind: z.string(),
  run: z.string().nullish(),
  path: z.string().nullish(),
  action: z.string().nullish(),
  class: z.string().nullish(),
  result: z.string().nullish(),
  resolution: z.string().nullish(),
});

/** With these a call is there: let in, or brought back from a history after a rewind. */
const BEGINS = ['admitted', 'restored'];
const WRITES = ['write', 'high_risk_write'];
const RESULTS = ['succeeded', 'failed', 'open', 'unknown'] as const;
const RESOLVED: Readonly<Record<string, JournaledWrite['state']>> = {
  happened: 'succeeded',
  did_not_happen: 'open',
  abandon: 'failed',
};

/** Every write that the tenant's journal let in, with where the journal leaves it; the oldest first. */
export async function journaledWrites(store: TenantStore): Promise<JournaledWrite[]> {
  const { tenantId, environment } = store.scope;
  const writes = new Map<string, JournaledWrite>();
  for await (const { facts, at } of journalEntries(store)) {
    const entry = Facts.parse(JSON.parse(facts));
    if (!entry.run || !entry.path) continue;
    const position = JSON.stringify([entry.run, entry.path]);
    const known = writes.get(position);
    if (!known) {
      if (BEGINS.includes(entry.kind) && WRITES.includes(entry.class ?? ''))
        writes.set(position, {
          runId: entry.run,
          path: entry.path,
          action: entry.action ?? '',
          key: outsideKey(tenantId, environment, entry.run, entry.path),
          admittedAt: at,
          attempts: 1,
          state: stateAfter(entry) ?? 'claimed',
        });
      continue;
    }
    const state = stateAfter(entry);
    const attempts = known.attempts + (state === 'claimed' ? 1 : 0);
    if (state) writes.set(position, { ...known, attempts, state });
  }
  return [...writes.values()];
}

/** Where an entry leaves its call; `undefined` where it changes nothing. */
function stateAfter({
  kind,
  result,
  resolution,
}: z.infer<typeof Facts>): JournaledWrite['state'] | undefined {
  switch (kind) {
    case 'admitted':
    case 'recovering':
      return 'claimed';
    case 'settled':
    case 'reconciled':
    case 'reaped':
    case 'restored':
      return RESULTS.find((one) => one === result);
    case 'exhausted':
    case 'undo_denied':
      return 'failed';
    case 'reviewed':
      return RESOLVED[resolution ?? ''];
    default:
      return undefined;
  }
}
