import type { Guard } from './guard-list';

const METERS = 'storage/migrations/0003_meters.sql';
const ADMIT = 'storage/migrations/0005_admit.sql';
const POOLS = 'storage/migrations/0017_pools.sql';
const CAPACITY = 'storage/migrations/0018_call_capacity.sql';
const capacity = ['test/ledger/capacity.test'];
const changes = ['test/ledger/capacity-changes'];
const division = ['test/ledger/capacity-division'];

/** What shared capacity, with its guarantees, is exact by (promise N7). */
export const CAPACITY_GUARDS: readonly Guard[] = [
  {
    name: 'shared capacity: the gate of admission',
    file: ADMIT,
    find: '      if x.kind is null and takes_slot and l.capacity is not null then',
    put: '      if false then',
    tests: capacity,
    titles: 'N7 Q4 a call that finds',
  },
  {
    name: 'shared capacity: use counted at the share',
    file: CAPACITY,
    find: '  if (t.meter).inflight < share then',
    put: '  if (t.meter).inflight <= share then',
    tests: capacity,
    titles: 'N7 Q4 a call that finds',
  },
  {
    name: 'shared capacity: nothing without a share on record',
    file: CAPACITY,
    find: 's.left_at is null), 0);',
    put: 's.left_at is null), 1000);',
    tests: capacity,
    titles: 'has no share of it on record',
  },
  {
    name: 'shared capacity: a refusal is noted for whoever divides',
    file: ADMIT,
    find: `    perform pool_wanted(t, '', shared);`,
    put: '    null;',
    tests: capacity,
    titles: 'N7 idle capacity is used',
  },
  {
    name: 'shared capacity: what is above a share is given to nobody',
    file: 'storage/pools.ts',
    find: 'callsInFlight - sum(now.map(({ calls, inFlight }) => Math.max(calls, inFlight)))',
    put: 'callsInFlight - sum(now.map(({ calls }) => calls))',
    tests: [...capacity, ...changes],
    titles: 'N7 idle capacity is used|through any sequence',
  },
  {
    name: 'shared capacity: a guarantee is served first',
    file: 'storage/pools.ts',
    find: 'below(a) - below(b) || ',
    put: '',
    tests: capacity,
    titles: 'N7 a guarantee is served',
  },
  {
    name: 'shared capacity: a guarantee before weights',
    file: 'workers/pool-shares.ts',
    find: '  (member) => Math.min(needOf(member), member.guaranteed),\n',
    put: '',
    tests: division,
    titles: 'N7 a shared capacity is divided first',
  },
  {
    name: 'shared capacity: an idle guarantee is kept where nobody wants it',
    file: 'workers/pool-shares.ts',
    find: '  ({ guaranteed, ceiling }) => Math.min(guaranteed, ceiling),\n',
    put: '',
    tests: division,
    titles: 'N7 a shared capacity is divided|N7 guarantees are met',
  },
  {
    name: 'shared capacity: nobody above its ceiling for a call that is owed',
    file: 'workers/pool-shares.ts',
    find: 'left > 0 && more && owed',
    put: 'left > 0 && owed',
    tests: division,
    titles: 'N7 guarantees are met',
  },
  {
    name: 'shared capacity: calls of a tenant that has left stay counted',
    file: POOLS,
    find: `(provider <> '' or (t.meter).inflight = 0);`,
    put: 'true;',
    tests: changes,
    titles: 'N7 what a tenant that leaves',
  },
  {
    name: 'shared capacity: and those that it began afterwards are not',
    file: POOLS,
    find: `            and c.environment = p_environment and c.state = 'claimed' and c.admitted_at <= s.left_at) end,`,
    put: `            and c.environment = p_environment and c.state = 'claimed') end,`,
    tests: changes,
    titles: 'N7 what a tenant that leaves',
  },
  {
    name: 'shared capacity: who has left is forgotten with its last call',
    file: 'storage/pools.ts',
    find: '      if (each.inFlight === 0) await write(each, 0, null);\n',
    put: '',
    tests: changes,
    titles: 'N7 what a tenant that leaves',
  },
  {
    name: 'shared capacity: guarantees cut to what there is',
    file: POOLS,
    find: 'least(m.promised_in_all, m.capacity)',
    put: 'm.promised_in_all',
    tests: changes,
    titles: 'N7 Q6 a guarantee that is changed',
  },
  {
    name: 'shared capacity: short calls are no idleness',
    file: ADMIT,
    find: `if shared or a.answer = 'admitted' and l.capacity is not null then`,
    put: 'if shared then',
    tests: capacity,
    titles: 'N7 whose calls are over',
  },
  {
    name: 'shared capacity: a provider pool of the same name is another one',
    file: METERS,
    find: `s.environment = t.environment and s.provider <> '' and`,
    put: 's.environment = t.environment and',
    tests: capacity,
    titles: 'N7 a provider pool of the same name',
  },
  {
    name: 'shared capacity: a guarantee within the limits of its class',
    file: 'contracts/documents.ts',
    find: '  if (guaranteed.callsInFlight <= limits.callsInFlight) return;',
    put: '  if (limits.callsInFlight >= 0) return;',
    tests: ['test/policy/documents'],
    titles: 'U3 N7 a guarantee',
  },
  {
    name: 'shared capacity: a remembered refusal gives way to a free place',
    file: 'activities/remembered-refusals.ts',
    find: `      if (layerOf(entry.refusal.rule) === 'calls_in_flight') entry.until`,
    put: `      if (entry.refusal.rule === 'calls_in_flight') entry.until`,
    tests: ['test/runs/remembered-refusals'],
    titles: 'P9 N7 a share',
  },
];
