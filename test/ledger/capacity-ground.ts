import type { RunId } from '../../contracts/ids';
import type { AdmitRequest, Admission, DecidedBy } from '../../contracts/ledger';
import { poolsOf } from '../../storage/pools';
import { PoolDivision } from '../../workers/pool-shares';
import { ENVIRONMENT, WIDE, type LedgerLimits, type LedgerTenant, type LedgerWorld } from './harness';

/** A tenant in a shared capacity, with a run to make calls of. */
export interface CapacityMember {
  readonly tenant: LedgerTenant;
  readonly runId: RunId;
  readonly decidedBy: DecidedBy;
}
export interface MemberTerms {
  readonly guaranteed?: number;
  readonly weight?: number;
  readonly callsInFlight?: number;
  /** What its name begins with: in the order of names, all else alike, shares are given. */
  readonly named?: string;
}
export interface CapacityShare {
  readonly calls: number;
  readonly inFlight: number;
  readonly guaranteed: number;
}

let capacities = 0;
let paths = 0;

/** A shared capacity with tenants in it, and whoever divides it. */
export async function openCapacity(world: LedgerWorld, calls: number, terms: readonly MemberTerms[]) {
  const name = `capacity_${(capacities += 1)}`;
  const put = (callsNow: number) =>
    world.admin.query('select bulkhead.put_call_capacity($1, $2, $3)', [name, callsNow, 'test']);
  await put(calls);
  const members: CapacityMember[] = [];
  for (const { weight = 1, named, ...limits } of terms) {
    const tenant = await world.tenant(limits, named && `${named}-${capacities}`);
    await world.admin.query('update bulkhead.tenants set weight = $2 where tenant_id = $1', [
      tenant.tenantId,
      weight,
    ]);
    await belongs(tenant, name);
    // Another weight is another version of its record.
    const decidedBy = { policyVersion: 1, recordVersion: weight === 1 ? 0 : 1, factsVersion: 0 };
    members.push({ tenant, runId: await tenant.run(), decidedBy });
  }
  const division = new PoolDivision();
  const store = poolsOf(world.pool, ENVIRONMENT);
  const divide = () =>
    store.dividePools((view) =>
      view.provider === null && view.pool === name
        ? division.divide(view)
        : new Map(view.members.map((one) => [one.tenantId, one.calls])),
    );
  return { name, members, put, divide, shares: () => sharesOf(world, name) };
}

/** Puts the tenant into the capacity, or out of all. */
export const belongs = (tenant: LedgerTenant, capacity: string | null) =>
  tenant.world.admin.query('select bulkhead.set_pools($1, $2, $3)', [
    tenant.tenantId,
    ENVIRONMENT,
    JSON.stringify(capacity === null ? {} : { '': capacity }),
  ]);

export const limitsOf = (terms: Partial<LedgerLimits>): LedgerLimits => ({ ...WIDE, ...terms });

async function sharesOf(world: LedgerWorld, name: string): Promise<Map<string, CapacityShare>> {
  const { rows } = await world.admin.query<CapacityShare & { tenant: string }>(
    `select s.tenant_id as tenant, s.calls_in_flight as calls, (t.meter).inflight as "inFlight", s.guaranteed
       from bulkhead.pool_shares s join bulkhead.ledgers t using (tenant_id, environment)
      where s.provider = '' and s.pool = $1 and s.left_at is null`,
    [name],
  );
  return new Map(rows.map(({ tenant, ...share }) => [tenant, share]));
}

/** A call that takes a slot: the first attempt of a write, at a position of its own. */
export const call = (
  { tenant, runId, decidedBy }: CapacityMember,
  change: Partial<AdmitRequest> = {},
): AdmitRequest => tenant.admission(runId, `${(paths += 1)}.1`, { decidedBy, ...change });

/** Asks once more than is let in; answers the calls that were. */
export async function press(member: CapacityMember): Promise<AdmitRequest[]> {
  const held: AdmitRequest[] = [];
  for (;;) {
    const asked = call(member);
    const { answer } = await member.tenant.store.admit(asked);
    if (answer !== 'admitted') return held;
    held.push(asked);
  }
}
export const ask = (member: CapacityMember): Promise<Admission> => member.tenant.store.admit(call(member));
export const end = async ({ tenant }: CapacityMember, calls: readonly AdmitRequest[]): Promise<void> => {
  for (const each of calls) await tenant.store.settle(tenant.settlement(each));
};
