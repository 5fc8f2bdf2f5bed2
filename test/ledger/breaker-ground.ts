import type { RunId } from '../../contracts/ids';
import type { AdmitRequest, SettleRequest } from '../../contracts/ledger';
import type { Refusal } from '../../contracts/refusal';
import { TERMS } from './breaker-model';
import { LedgerWorld, refusal, type LedgerLimits, type LedgerTenant } from './harness';

const START = Date.UTC(2025, 2, 10, 12);
const CONNECTIONS = 8;

export const because = (change: Partial<Refusal>): Refusal =>
  refusal({ ...change, rules: [change.rule ?? 'no-mail'] });
export const down = because({
  kind: 'provider_degraded',
  origin: 'provider',
  rule: 'unavailable',
  message: 'it answered 503',
});
export const OPEN = { kind: 'provider_degraded', origin: 'provider', rule: 'breaker_open' };

/** A ledger whose clock the tests of a file move, an hour on before each of them, and calls that end as a system's breaker has it. */
export function breakerGround() {
  let world: LedgerWorld;
  let now = START;
  let paths = 0;
  beforeAll(async () => {
    world = await LedgerWorld.open(CONNECTIONS);
  });
  afterAll(() => world.close());
  const pass = async (ms: number): Promise<void> => {
    now += ms;
    await world.setClock(new Date(now));
  };
  beforeEach(() => pass(3_600_000));

  const fresh = (tenant: LedgerTenant, runId: RunId, change: Partial<AdmitRequest> = {}): AdmitRequest =>
    tenant.admission(runId, `${(paths += 1)}.1`, change);
  /** One call that is let in and ends so. */
  const ends = async (
    tenant: LedgerTenant,
    runId: RunId,
    how: Partial<SettleRequest> = { result: 'open', refusal: down },
    change: Partial<AdmitRequest> = {},
  ): Promise<void> => {
    const asked = fresh(tenant, runId, change);
    expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
    await tenant.store.settle(tenant.settlement(asked, how));
  };
  const trip = async (tenant: LedgerTenant, runId: RunId): Promise<void> => {
    for (let failure = 0; failure < TERMS.failures; failure += 1) await ends(tenant, runId);
  };
  /** Tripped, and its first wait over. */
  const halfOpen = async (tenant: LedgerTenant, runId: RunId): Promise<void> => {
    await trip(tenant, runId);
    await pass(TERMS.first);
  };
  const facts = async (tenant: LedgerTenant): Promise<Record<string, unknown>[]> =>
    (await tenant.journal())
      .map((entry) => JSON.parse(entry.facts) as Record<string, unknown>)
      .filter(({ kind }) => String(kind).startsWith('breaker'));
  const opened = async (limits: Partial<LedgerLimits> = {}) => {
    const tenant = await world.tenant(limits);
    return { tenant, runId: await tenant.run() };
  };
  return { pass, fresh, ends, trip, halfOpen, facts, opened, now: () => now };
}
