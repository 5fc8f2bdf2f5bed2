import type { PoolMember, PoolView } from '../contracts/pools';

/**
 * Divides a pool, weighted-fair: whoever wants more than its part by weight has at least that part; what others do not use is
 * divided among those who want more, by weight again. Whole calls: what is left of a part is carried to the next division as
 * credit, so that over time a part smaller than one call comes to its due. Keeps that credit by tenant, and nothing else.
 */
export class PoolDivision {
  readonly #credit = new Map<string, number>();

  divide({
    callsInFlight: capacity,
    members: all,
  }: Pick<PoolView, 'callsInFlight' | 'members'>): Map<string, number> {
    const members = all.filter(({ weight }) => weight > 0);
    const asking = members.some(({ wants }) => wants) ? members.filter(({ wants }) => wants) : members;
    const parts = filled(capacity, asking);
    const left = capacity - sum(parts.values());
    // What nobody wants now is anybody's who comes next.
    const weights = sum(members.map(({ weight }) => weight));
    for (const { tenantId, weight } of members)
      parts.set(tenantId, (parts.get(tenantId) ?? 0) + (left * weight) / weights);
    return this.#whole(capacity, parts);
  }

  #whole(capacity: number, parts: ReadonlyMap<string, number>): Map<string, number> {
    for (const tenantId of this.#credit.keys()) if (!parts.has(tenantId)) this.#credit.delete(tenantId);
    const given = new Map([...parts].map(([tenantId, part]) => [tenantId, Math.floor(part + EPSILON)]));
    const due = [...parts]
      .map(([tenantId, part]) => ({
        tenantId,
        owed: (this.#credit.get(tenantId) ?? 0) + part - (given.get(tenantId) ?? 0),
      }))
      .sort((a, b) => b.owed - a.owed);
    let left = capacity - sum(given.values());
    for (const { tenantId, owed } of due) {
      const one = left > 0 && owed > EPSILON ? 1 : 0;
      left -= one;
      given.set(tenantId, (given.get(tenantId) ?? 0) + one);
      this.#credit.set(tenantId, Math.max(-1, Math.min(1, owed - one)));
    }
    return given;
  }
}

const EPSILON = 1e-9;
const sum = (of: Iterable<number>): number => [...of].reduce((total, one) => total + one, 0);

/** What a tenant could use before it is looked at again; who was refused could use anything. */
const needOf = ({ short, wants, inFlight }: PoolMember): number =>
  short ? Infinity : wants ? 2 * inFlight + 1 : 0;

/** Each its need or its part of what is left by weight, whichever is less, until nothing is left or nobody needs more. */
function filled(capacity: number, members: readonly PoolMember[]): Map<string, number> {
  const parts = new Map(members.map(({ tenantId }) => [tenantId, 0]));
  let rest = capacity;
  let open = members.filter((member) => needOf(member) > 0);
  while (open.length > 0 && rest > EPSILON) {
    const weights = sum(open.map(({ weight }) => weight));
    const level = rest / weights;
    const small = open.filter((member) => needOf(member) <= level * member.weight);
    if (small.length === 0) {
      for (const { tenantId, weight } of open) parts.set(tenantId, level * weight);
      return parts;
    }
    for (const member of small) {
      parts.set(member.tenantId, needOf(member));
      rest -= needOf(member);
    }
    open = open.filter((member) => !small.includes(member));
  }
  return parts;
}
