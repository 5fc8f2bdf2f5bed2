import type { PoolMember, PoolView } from '../contracts/pools';

/**
 * Divides a pool. Whoever wants calls has its guarantee first; the rest is weighted-fair: who wants more than its part by weight has at
 * least that part, and what others do not use is divided among those who want more, by weight again. What nobody wants now is given to
 * those whose guarantee it is, then to anybody by weight; nobody gets more than its ceiling. Whole calls: what is left of a part is carried to the next division as
 * credit, so that over time a part smaller than one call comes to its due. Keeps that credit by tenant, and nothing else.
 */
export class PoolDivision {
  readonly #credit = new Map<string, number>();

  divide({
    callsInFlight: capacity,
    members: all,
  }: Pick<PoolView, 'callsInFlight' | 'members'>): Map<string, number> {
    const members = all.filter(({ weight }) => weight > 0);
    const parts = new Map(members.map(({ tenantId }) => [tenantId, 0]));
    for (const upTo of LEVELS) fill(parts, capacity, members, upTo);
    return this.#whole(capacity, parts, new Map(members.map(({ tenantId, ceiling }) => [tenantId, ceiling])));
  }

  #whole(
    capacity: number,
    parts: ReadonlyMap<string, number>,
    ceilings: ReadonlyMap<string, number>,
  ): Map<string, number> {
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
      const more = (given.get(tenantId) ?? 0) < (ceilings.get(tenantId) ?? 0);
      const one = left > 0 && more && owed > EPSILON ? 1 : 0;
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
const needOf = ({ short, wants, inFlight, ceiling }: PoolMember): number =>
  Math.min(ceiling, short ? Infinity : wants ? 2 * inFlight + 1 : 0);

/** What everybody is given up to, one after the other, until nothing is left. */
const LEVELS: readonly ((member: PoolMember) => number)[] = [
  (member) => Math.min(needOf(member), member.guaranteed),
  needOf,
  // What nobody wants now is kept for whom it is promised to, who then waits for nobody; and is anybody's who comes next.
  ({ guaranteed, ceiling }) => Math.min(guaranteed, ceiling),
  ({ ceiling }) => ceiling,
];

/** Raises each one's part up to what it is given there, or by its part of what is left by weight, whichever is less. */
function fill(
  parts: Map<string, number>,
  capacity: number,
  members: readonly PoolMember[],
  upTo: (member: PoolMember) => number,
): void {
  let rest = capacity - sum(parts.values());
  let open = members.flatMap((member) => {
    const { tenantId, weight } = member;
    const before = parts.get(tenantId) ?? 0;
    const more = upTo(member) - before;
    return more > EPSILON ? [{ tenantId, weight, before, more }] : [];
  });
  while (open.length > 0 && rest > EPSILON) {
    const level = rest / sum(open.map(({ weight }) => weight));
    const small = open.filter(({ weight, more }) => more <= level * weight);
    if (small.length === 0) {
      for (const { tenantId, weight, before } of open) parts.set(tenantId, before + level * weight);
      return;
    }
    for (const { tenantId, before, more } of small) {
      parts.set(tenantId, before + more);
      rest -= more;
    }
    open = open.filter((each) => !small.includes(each));
  }
}
