import { Client } from 'pg';
import type { RunId } from '../../contracts/ids';
import type { EntryPage } from '../../contracts/lists';
import { mintScope } from '../../contracts/scope-mint';
import { approvalsOf } from '../../storage/approvals';
import { deadLettersOf } from '../../storage/dead-letters';
import { reviewsOf } from '../../storage/reviews';
import { runsOf } from '../../storage/runs';
import type { TenantSession } from '../../storage/session';
import { Planter } from '../support/listed';
import { ENVIRONMENT, LedgerWorld, type LedgerTenant } from './harness';

/** Enough that whoever walks by all of them is found out; with five times as many it looks at no row more. */
const MANY = 20_000;
/** Rows that a page of ten may look at, whatever stands around them: its own, of each workspace, and their runs. */
const FEW = 100;

let world: LedgerWorld;
let tenant: LedgerTenant;
let client: Client;
/** The only open ones of workspace main: newer than all that is over there, older than all that workspace busy has. */
const OPEN = [MANY + 3, MANY + 2, MANY + 1];
let quiet: string;

beforeAll(async () => {
  world = await LedgerWorld.open(2);
  tenant = await world.tenant();
  client = new Client({ connectionString: world.database.appUrl });
  await client.connect();
  const plant = new Planter(world.admin);
  const whose = { tenant: tenant.tenantId, environment: ENVIRONMENT };
  const main = { ...whose, workspace: 'main' };
  const busy = { ...whose, workspace: 'busy' };
  const [first = '', ...rest] = await plant.runs(main, 20);
  quiet = first;
  const loud = (await plant.runs(busy, MANY, { from: 100 })).slice(-500);
  await plant.entries(main, [quiet], MANY + 1, 3);
  await plant.entries(main, rest, MANY + 4, MANY, { over: true });
  await plant.entries(busy, loud, 2 * MANY + 4, MANY);
  await plant.analyze();
}, 240_000);
afterAll(async () => {
  await client.end();
  await world.close();
});

const names: string[] = [];
const nameOf = (sql: string): number => (names.includes(sql) ? names.indexOf(sql) : names.push(sql) - 1);
let looked = 0;
/** Rows that this session has fetched from tables, as it counts them until it tells the server. */
const fetched = async (): Promise<number> => {
  const { rows } = await client.query<{ rows: number }>(
    'select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::int as rows from pg_stat_xact_user_tables',
  );
  return rows[0]?.rows ?? 0;
};
/** One session as hosts have it, that counts the rows its last statement has fetched. */
function counting(mode: string): TenantSession {
  const scope = mintScope(tenant.tenantId, ENVIRONMENT, 'envelope');
  const ask = async <T extends object>(sql: string, params: readonly unknown[]): Promise<T[]> => {
    await client.query('begin');
    await client.query(`set local plan_cache_mode = ${mode}`);
    await client.query('select bulkhead.bind_scope($1, $2)', [scope.tenantId, scope.environment]);
    const before = await fetched();
    const rows = await client.query<T>({ name: `${mode}${nameOf(sql)}`, text: sql, values: [...params] });
    looked = (await fetched()) - before;
    await client.query('commit');
    return rows.rows;
  };
  return { scope, call: ask, read: ask, write: ask };
}

const main = ['main'] as never;
const both = ['main', 'busy'] as never;

/** Planned for the values at hand, and once for all of them, as a connection does after a while. */
describe.each(['force_custom_plan', 'force_generic_plan'])('with %s', (mode) => {
  const few = async (what: Promise<unknown>): Promise<void> => {
    await what;
    expect(looked).toBeGreaterThan(0);
    expect(looked).toBeLessThan(FEW);
  };

  test.each(['approvals', 'reviews', 'deadLetters'] as const)(
    'U1 behind 20,000 that are over and 20,000 of another workspace, a page of %s looks at what it shows',
    async (name) => {
      const session = counting(mode);
      const { approvals } = approvalsOf(session);
      const list = async (page: EntryPage): Promise<number[]> => {
        if (name === 'approvals') return (await approvals.list(page)).map(({ approvalNo }) => approvalNo);
        if (name === 'reviews')
          return (await reviewsOf(session).reviews(page)).map(({ reviewNo }) => reviewNo);
        return (await deadLettersOf(session).deadLetters(page)).map(({ letterNo }) => letterNo);
      };
      const page = { open: true, limit: 10 };
      expect(await list({ ...page, workspaces: main })).toEqual(OPEN);
      await few(list({ ...page, workspaces: main }));
      await few(list({ ...page, workspaces: main, before: OPEN[0] ?? 0 }));
      await few(list({ ...page, workspaces: both }));
      await few(list({ ...page, workspaces: both, before: 3 * MANY }));
      await few(list({ ...page, open: false, workspaces: main }));
      await few(list({ ...page, open: false, workspaces: both, before: 2 * MANY }));
      const runId = quiet as RunId;
      expect(await list({ ...page, workspaces: main, runId })).toEqual(OPEN);
      await few(list({ ...page, open: false, workspaces: main, runId }));
      await few(list(page));
      await few(list({ ...page, open: false, before: 2 * MANY }));
    },
  );

  test('U1 behind 20,000 runs of another workspace, a page of runs looks at what it shows', async () => {
    const store = runsOf(counting(mode));
    const page = { limit: 10 };
    await few(store.runs({ ...page, workspaces: main }));
    const last = (await store.runs({ ...page, workspaces: main })).at(-1);
    if (!last) throw new Error('workspace main has twenty');
    expect(await store.runs({ ...page, workspaces: main, before: last })).toHaveLength(10);
    await few(store.runs({ ...page, workspaces: main, before: last }));
    await few(store.runs({ ...page, workspaces: both, before: { acceptedAt: last.acceptedAt } }));
    await few(store.runs({ ...page, workspaces: both, state: 'running' }));
    await few(store.runs({ ...page, before: last }));
    await few(store.openRuns(10, { state: 'running' }));
  });
});
