import type { Guard } from './guard-list';

const crowd = ['test/ledger/sweep-crowd'];

/** What stays small beside a large tenant, and goes on beside one that is stuck (promises N1, N6, O1, T2), and what is counted once (Q2, O8). */
export const BESIDE_GUARDS: readonly Guard[] = [
  {
    name: 'a kill revokes the leases that are out',
    file: 'storage/migrations/0008_control.sql',
    find: "    and expires_at > n - interval '1 minute';",
    put: ';',
    tests: crowd,
    titles: 'O1 S1 a kill revokes',
  },
  {
    name: 'leases are found by their call',
    file: 'storage/migrations/0001_foundation.sql',
    find: 'create index leases_by_call on leases (tenant_id, environment, run_id, path);',
    put: '',
    tests: crowd,
    titles: 'T2 purging a run',
  },
  {
    name: 'slot holders are looked at apart',
    file: 'storage/migrations/0009_sweep.sql',
    find: 'order by random() limit (p_limit + 1) / 2',
    put: 'order by random() limit 0',
    tests: crowd,
    titles: 'N1 N6 a run that holds a slot',
  },
  {
    name: 'a tenant whose row is held is left out',
    file: 'storage/tenant-by-tenant.ts',
    find: 'if (isStorageBusy(error) && !heldUp(error)) throw error;',
    put: 'throw error;',
    tests: ['test/ledger/sweep-held'],
    titles: 'N6 Q2 a tenant whose row',
  },
  {
    name: 'tokens given back free only what has not drained',
    file: 'storage/migrations/0003_meters.sql',
    find: 'greatest(0, coalesce(p_mark, 0) - (m).tokens_gone)',
    put: '((m).model_tokens).level',
    tests: ['test/ledger/quota-minute'],
    titles: 'Q2 many slow calls|Q2 in no time',
  },
  {
    name: 'recovery counts on top of what was billed',
    file: 'storage/migrations/0011_recover.sql',
    find: "c.state not in ('open', 'suggested') and not c.lost",
    put: 'not c.lost',
    tests: ['test/recover/charged'],
    titles: 'O8 Q2',
  },
  {
    name: 'a worker that has failed is noticed',
    file: 'workers/served-worker.ts',
    find: "worker.getState() === 'FAILED' && failed(undefined)",
    put: 'undefined',
    tests: ['test/cli/worker'],
    titles: 'U4 a worker whose polls',
  },
  {
    name: 'a worker refuses a foreign schema',
    file: 'workers/worker-command.ts',
    find: 'await assertMigrated(databaseUrl);',
    put: '',
    tests: ['test/cli/worker'],
    titles: 'O8 a worker refuses',
  },
  {
    name: 'a list counts what its reader may see',
    file: 'client/lists.ts',
    find: 'workspaces: who.workspaces,',
    put: 'workspaces: undefined,',
    tests: ['test/client/lists'],
    titles: 'E1 a workspace’s own',
  },
  {
    name: 'a head of a journal is found by its number',
    file: 'client/cli/journal.ts',
    find: 'entries.find((entry) => entry.seq === seq)?.hash',
    put: 'entries[seq - 1]?.hash',
    tests: ['test/cli/journal'],
    titles: 'O2 O8 after a recovery',
  },
];
