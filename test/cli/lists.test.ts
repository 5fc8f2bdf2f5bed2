import { Client } from 'pg';
import { Planter } from '../support/listed';
import { PLAIN_ACME } from '../support/tenants';
import { createCliWorld, type CliWorld, type Ran } from './world';

let world: CliWorld;
let runs: string[];
beforeAll(async () => {
  world = await createCliWorld();
  await world.stack.apply(PLAIN_ACME.replace('workspaces: [main]', 'workspaces: [main, second]'));
  const admin = new Client({ connectionString: world.stack.database.adminUrl });
  await admin.connect();
  try {
    const plant = new Planter(admin);
    const whose = { tenant: 'acme', environment: world.stack.environment };
    runs = await plant.runs({ ...whose, workspace: 'main' }, 5, { apartMs: 0 });
    await plant.entries({ ...whose, workspace: 'main' }, runs, 1, 5);
    const theirs = await plant.runs({ ...whose, workspace: 'second' }, 60, { at: '2026-02-01T00:00:00Z' });
    await plant.entries({ ...whose, workspace: 'second' }, theirs, 6, 60);
  } finally {
    await admin.end();
  }
}, 60_000);
afterAll(() => world.close());

const ofMain = async (...args: string[]): Promise<Ran> => {
  const token = (await world.run(['token', '--tenant', 'acme', '--workspace', 'main'])).out.trim();
  return world.run([...args, '--token', token]);
};
/** The first column of what a command printed. */
const named = ({ out }: Ran): string[] =>
  out
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(' ')[0] ?? '');

test.each([
  ['approval', ['list'], ['5', '4', '3', '2', '1']],
  ['review', ['list'], ['5', '4', '3', '2', '1']],
  ['dead-letter', ['list'], ['5', '4', '3', '2', '1']],
  ['run', ['list'], ['main-000005', 'main-000004', 'main-000003', 'main-000002', 'main-000001']],
])('U2 %s list goes on with what a full page says, to the end', async (noun, verb, all) => {
  // Not one of the 60 newer ones of another workspace.
  expect(await ofMain(noun, ...verb)).toMatchObject({ code: 0, said: '' });
  expect(named(await ofMain(noun, ...verb))).toEqual(all);

  const seen: string[] = [];
  let more: string[] = [];
  for (let pages = 1; ; pages += 1) {
    const page = await ofMain(noun, ...verb, '--limit', '2', ...more);
    expect(page.code).toBe(0);
    seen.push(...named(page));
    const hint = /^there may be more: the same with (--before \S+)\n$/.exec(page.said);
    if (!hint) {
      expect({ pages, said: page.said }).toEqual({ pages: 3, said: '' });
      break;
    }
    more = (hint[1] ?? '').split(' ');
  }
  expect(seen).toEqual(all);

  // A program is told nothing beside its rows.
  const asJson = await ofMain(noun, ...verb, '--limit', '2', '-o', 'json');
  expect(asJson).toMatchObject({ code: 0, said: '' });
  expect(JSON.parse(asJson.out)).toHaveLength(2);
  expect((await world.run([noun, ...verb, '--help'])).out).toMatch(/--before <[^]*Examples:[^]*--before /);
});

test('U2 a place that is none is exit code 2, and a run of another workspace is none', async () => {
  for (const noun of ['approval', 'review', 'dead-letter'])
    for (const before of ['x', '0', '-1', '1.5'])
      expect(await ofMain(noun, 'list', `--before=${before}`)).toMatchObject({ code: 2, out: '' });
  for (const before of ['x', 'second-000001', '2026-02-30T00:00:00Z'])
    expect(await ofMain('run', 'list', '--before', before)).toMatchObject({
      code: 2,
      out: '',
      said: expect.stringContaining('before is the id of the last run seen, or a time'),
    });
  expect(named(await ofMain('run', 'list', '--before', '2026-01-01T00:00:00Z'))).toEqual([]);
  expect(named(await ofMain('run', 'list', '--before', '2026-01-01T00:00:01Z'))).toHaveLength(5);
  expect((await ofMain('dead-letter', 'list', '--run', runs[0] ?? '')).out).toMatch(/^5 /m);
  expect((await ofMain('run', 'show', runs[0] ?? '')).out).toMatch(/dead letters +5 +payment\.send/);
});
