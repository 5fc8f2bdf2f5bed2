import { TenantId } from '../../contracts/ids';
import type { Placement } from '../../contracts/platform-ports';
import { LANE_SETTINGS, planLanes } from '../../workers/lane-plan';
import { PlacedTenants } from '../../workers/placed-tenants';

const tenant = (name: string): TenantId => TenantId.parse(name);
const placed = (name: string, lane: Placement['lane']): Placement => ({
  tenantId: tenant(name),
  lane,
  workerCeiling: 8,
  expensiveCeiling: 2,
});
const ALL = [placed('a', 'own'), placed('b', 'dedicated'), placed('c', 'shared')];
const queues = (placements: readonly Placement[], only?: string, anyExpensive = true): string[] =>
  [
    ...planLanes(placements, {
      only: only === undefined ? undefined : tenant(only),
      settings: LANE_SETTINGS,
      anyExpensive,
    }).values(),
  ].map(({ queue, ceiling, tenantId }) => `${queue} ${ceiling} ${tenantId ?? 'all'}`);

test('N2 N3 a host serves the lanes of its own tenants and the shared one, each with its ceilings; a dedicated process its tenant’s alone', () => {
  expect(queues(ALL)).toEqual([
    'lane/a 8 a',
    'lane/a/expensive 2 a',
    'shared 40 all',
    'shared/expensive 4 all',
  ]);
  expect(queues(ALL, 'b')).toEqual(['lane/b 8 b', 'lane/b/expensive 2 b']);
  // Wherever it is placed by now, what was scheduled for it before is still taken.
  expect(queues(ALL, 'c')).toEqual(['lane/c 8 c', 'lane/c/expensive 2 c']);
  expect(queues(ALL, 'nobody')).toEqual([]);
});

test('N3 no worker for expensive calls where no action is expensive, none for the shared lane where nobody is placed on it', () => {
  expect(queues([placed('a', 'own'), placed('b', 'dedicated')], undefined, false)).toEqual(['lane/a 8 a']);
});

test('E3 on the shared lane nobody is served by a placement that cannot be read, or by one that is older than a second', async () => {
  let now: Placement[] | Error = [placed('c', 'shared'), placed('a', 'own')];
  let reads = 0;
  const tenants = new PlacedTenants({
    placements: () => {
      reads += 1;
      return now instanceof Error ? Promise.reject(now) : Promise.resolve(now);
    },
  });
  expect(await tenants.serves(tenant('c'))).toBe(true);
  expect(await tenants.serves(tenant('c'))).toBe(true);
  expect(reads).toBe(1);
  expect(await tenants.serves(tenant('a'))).toBe(false);
  expect(reads).toBe(2);
  // One that has just come is let in at once.
  now = [placed('a', 'shared')];
  expect(await tenants.serves(tenant('a'))).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  now = new Error('the database is away');
  await expect(tenants.serves(tenant('a'))).rejects.toMatchObject({ type: 'PlatformBusy' });
  now = [placed('a', 'own')];
  expect(await tenants.serves(tenant('a'))).toBe(false);
});
