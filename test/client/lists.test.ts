import { Client } from 'pg';
import { BulkheadError } from '../../client/errors';
import type { EntryFilter } from '../../client/lists';
import { Planter } from '../support/listed';
import { createTestStack, type TestStack } from '../support/stack';
import { PLAIN_ACME } from '../support/tenants';

let stack: TestStack;
let admin: Client;
let plant: Planter;
let tokens: Record<'main' | 'second' | 'both', string>;
/** The run of workspace main, older than the 60 of workspace second. */
let own: string;
/** Its newest number. Above it are 60 of workspace second. */
const OWN = 3;

beforeAll(async () => {
  stack = await createTestStack({ workers: false });
  await stack.apply(PLAIN_ACME.replace('workspaces: [main]', 'workspaces: [main, second]'));
  admin = new Client({ connectionString: stack.database.adminUrl });
  await admin.connect();
  plant = new Planter(admin);
  const whose = { tenant: 'acme', environment: stack.environment };
  const main = { ...whose, workspace: 'main' };
  const second = { ...whose, workspace: 'second' };
  own = (await plant.runs(main, 1))[0] ?? '';
  await plant.entries(main, [own], 1, OWN);
  const theirs = await plant.runs(second, 60, { from: 2 });
  await plant.entries(second, theirs, OWN + 1, 60);
  const of = (...workspaces: string[]) => stack.token('acme', { workspaces });
  tokens = { main: await of('main'), second: await of('second'), both: await of('main', 'second', 'main') };
}, 60_000);
afterAll(async () => {
  await admin.end();
  await stack.close();
});

type Lists = (filter: EntryFilter & { token: string }) => Promise<number[]>;
const lists: Record<string, Lists> = {
  approvals: async (asked) => (await stack.client.approvals(asked)).map(({ approvalNo }) => approvalNo),
  reviews: async (asked) => (await stack.client.reviews(asked)).map(({ reviewNo }) => reviewNo),
  deadLetters: async (asked) => (await stack.client.deadLetters(asked)).map(({ letterNo }) => letterNo),
};
const countdown = (from: number, to: number): number[] =>
  Array.from({ length: from - to + 1 }, (_, at) => from - at);
const failed = (step: Promise<unknown>): Promise<string> =>
  step.then(
    () => 'done',
    (error: unknown) => (error instanceof BulkheadError ? `${error.code} ${error.reason}` : String(error)),
  );

describe.each(Object.keys(lists))('%s', (name) => {
  const list: Lists = (asked) => (lists[name] as Lists)(asked);

  test.each([true, false])(
    'E1 a workspace’s own are listed also behind a full page of another’s (open: %s), and the other’s are not',
    async (open) => {
      expect(await list({ token: tokens.main, open })).toEqual(countdown(OWN, 1));
      expect(await list({ token: tokens.main, open, limit: 2 })).toEqual([3, 2]);
      expect(await list({ token: tokens.second, open })).toEqual(countdown(63, 14));
      expect(await list({ token: tokens.both, open, limit: 500 })).toEqual(countdown(63, 1));
      expect(await list({ token: tokens.both, open, limit: 501 })).toHaveLength(63);
    },
  );

  test.each([true, false])('U1 they go on below the last one seen, page by page (open: %s)', async (open) => {
    const seen: number[] = [];
    for (let before: number | undefined; ;) {
      const page = await list({
        ...{ token: tokens.both, open, limit: 25 },
        ...(before === undefined ? {} : { before }),
      });
      seen.push(...page);
      if (page.length < 25) break;
      before = page.at(-1);
    }
    expect(seen).toEqual(countdown(63, 1));
    expect(await list({ token: tokens.main, open, before: 63 })).toEqual(countdown(OWN, 1));
    expect(await list({ token: tokens.main, open, before: OWN })).toEqual([2, 1]);
    expect(await list({ token: tokens.main, open, before: 1 })).toEqual([]);
  });

  test('U1 of one run, also page by page; another workspace’s run is not found', async () => {
    expect(await list({ token: tokens.main, runId: own })).toEqual(countdown(OWN, 1));
    expect(await list({ token: tokens.both, runId: own, open: false, limit: 2, before: 3 })).toEqual([2, 1]);
    for (const runId of [own, 'nobody', 'No Run'])
      expect(await failed(list({ token: tokens.second, runId }))).toBe('not_found unknown_run');
  });

  test('U1 a limit or a place that is no number is invalid', async () => {
    for (const limit of [Number.NaN, 1.5, 0, -1, Number.POSITIVE_INFINITY, '7' as never])
      expect(await failed(list({ token: tokens.main, limit }))).toBe('invalid invalid_limit');
    for (const before of [Number.NaN, 1.5, 0, -1, 2 ** 60, 'x' as never])
      expect(await failed(list({ token: tokens.main, before }))).toBe('invalid invalid_before');
  });
});

describe('runs', () => {
  const runs = async (asked: Parameters<TestStack['client']['runs']>[0]): Promise<string[]> =>
    (await stack.client.runs(asked)).map(({ runId }) => runId);
  /** All that the token sees, and how many a page had. */
  const paged = async (token: string, limit: number, more: object = {}) => {
    const seen: string[] = [];
    const pages: number[] = [];
    for (let before: string | undefined; ;) {
      const page = await runs({ token, limit, ...more, ...(before === undefined ? {} : { before }) });
      seen.push(...page);
      pages.push(page.length);
      if (page.length < limit) return { seen, pages };
      before = page.at(-1);
    }
  };

  test('E1 a workspace’s own are listed also behind a full page of another’s, and every page but the last is full', async () => {
    expect(await runs({ token: tokens.main })).toEqual([own]);
    expect(await runs({ token: tokens.main, state: 'running', limit: 1 })).toEqual([own]);
    expect((await paged(tokens.second, 25)).pages).toEqual([25, 25, 10]);
    const { seen } = await paged(tokens.both, 25, { state: 'running' });
    expect(seen).toHaveLength(61);
    expect(seen.at(-1)).toBe(own);
    expect(await runs({ token: tokens.main, stopReason: 'completed' })).toEqual([]);
  });

  test('U1 runs that were accepted at one moment are each shown once, page by page', async () => {
    const tied = { tenant: 'acme', environment: stack.environment, workspace: 'tied' };
    const ids = await plant.runs(tied, 7, { apartMs: 0, at: '2026-02-01T00:00:00.123456Z' });
    const token = await stack.token('acme', { workspaces: ['tied'] });
    const { seen, pages } = await paged(token, 3);
    expect(seen).toEqual([...ids].sort().reverse());
    expect(pages).toEqual([3, 3, 1]);

    // A time is for those accepted before it: none of these is.
    expect(await runs({ token, before: '2026-02-01T00:00:00.123456Z' })).toEqual([]);
    expect(await runs({ token, before: '2026-02-01T01:00:00.123457+01:00' })).toHaveLength(7);
  });

  test('U1 a place that is neither a run one may see nor a time is invalid, and a limit that is no number', async () => {
    for (const before of ['x', '', 'No Run', '2026-13-45T00:00:00Z', '2026-02-01', 7 as never])
      expect(await failed(runs({ token: tokens.main, before }))).toBe('invalid invalid_before');
    // Another workspace's run is as none.
    expect(await failed(runs({ token: tokens.second, before: own }))).toBe('invalid invalid_before');
    for (const limit of [Number.NaN, 1.5, 0, -1])
      expect(await failed(runs({ token: tokens.main, limit }))).toBe('invalid invalid_limit');
  });
});

test('U1 a run shows its dead letter behind 500 newer ones of other runs', async () => {
  const busy = { tenant: 'acme', environment: stack.environment, workspace: 'busy' };
  const [quiet = '', loud = ''] = await plant.runs(busy, 2);
  await plant.entries(busy, [quiet], 1_000);
  await plant.entries(busy, [loud], 1_001, 500);
  const token = await stack.token('acme', { workspaces: ['busy'] });
  const beside = await (await stack.client.run({ token, runId: quiet })).beside();
  expect(beside.deadLetters.map(({ letterNo }) => letterNo)).toEqual([1_000]);
  expect(beside.approvals.map(({ approvalNo }) => approvalNo)).toEqual([1_000]);
  expect(beside.reviews.map(({ reviewNo }) => reviewNo)).toEqual([1_000]);
});
