import { until } from '../support/until';
import { createGround, jobs, LONG_MS, type Ground, type Jobs } from './ground';

/** Expensive actions have a lane of their own, on every kind of lane (promise N3). */

let ground: Ground;
beforeAll(async () => {
  ground = await createGround({ lanes: { sharedExpensive: 1 } });
});
afterAll(() => ground.close());

const reports = (many: number): Jobs => ({
  steps: Array.from({ length: many }, (_, no) => [
    { action: 'report.make' as const, intent: `report-${no}`, takesMs: 1_500 },
  ]),
});

test.each(['own', 'shared', 'dedicated'])(
  'N3 on a lane of kind %s expensive calls have a small ceiling of their own and hold up no ordinary call',
  async (lane) => {
    const tenant = `dear-${lane}`;
    await ground.tenant(tenant, { lane, ceiling: 2, expensiveCeiling: 1 });
    const host = lane === 'dedicated' && (await ground.stack.startHost({ only: tenant as never }));
    const dear = await Promise.all(Array.from({ length: 4 }, () => ground.run(tenant, reports(1))));
    await until('a report', async () => ground.keeper.nowOf(tenant) > 0, LONG_MS);
    const ordinary = await ground.run(tenant, jobs(3, 0));
    await ordinary.result({ timeoutMs: LONG_MS });
    // Four at once would be six seconds of one slot; the ordinary ones did not wait for them.
    const done = ground.intentsOf(tenant);
    expect(done.filter((intent) => !intent.startsWith('report'))).toEqual(['0', '1', '2']);
    expect(done.filter((intent) => intent.startsWith('report')).length).toBeLessThan(4);
    const ends = await Promise.all(dear.map((run) => run.result({ timeoutMs: LONG_MS })));
    expect(ends.map(({ stopReason }) => stopReason)).toEqual(Array(4).fill('completed'));
    expect(ground.intentsOf(tenant)).toHaveLength(7);
    // One expensive call and at most the ordinary run’s one beside it.
    expect(ground.keeper.mostOf(tenant)).toBeLessThanOrEqual(2);
    if (host) await host.stop();
  },
  LONG_MS,
);
