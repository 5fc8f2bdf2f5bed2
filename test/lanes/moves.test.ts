import type { Running } from '../../workers/parts';
import type { History } from '../../workers/recover-events';
import { until } from '../support/until';
import { createGround, jobs, LONG_MS, namesOf, type Ground } from './ground';

/** Tenants move between lanes while their runs work; a lane that nobody serves says so. */

let ground: Ground;
beforeAll(async () => {
  ground = await createGround({ lanes: { takenWithinMs: 700 } });
});
afterAll(() => ground.close());

const dedicated: Running[] = [];
afterEach(async () => {
  for (const host of dedicated.splice(0)) await host.stop();
});
const startDedicated = async (tenant: string): Promise<void> => {
  dedicated.push(await ground.stack.startHost({ only: tenant as never }));
};

test(
  'N2 a tenant moves from its own lane to the shared one, to a dedicated one and back under load: each write is made exactly once',
  async () => {
    // Somebody stays on the shared lane, so that its worker is there, and refuses whoever has left.
    await ground.tenant('resident', { lane: 'shared' });
    await ground.tenant('mover');
    const runs = await Promise.all(
      Array.from({ length: 4 }, (_, no) => ground.run('mover', jobs(24, 60, `${no}-`))),
    );
    const done = (many: number): Promise<unknown> =>
      until(`${many} jobs`, async () => ground.intentsOf('mover').length >= many, LONG_MS);
    await done(6);
    const queues = async (): Promise<Set<string>> =>
      new Set((await Promise.all(runs.map(({ workflowId }) => queuesOfCalls(workflowId)))).flat());
    await ground.move('mover', { lane: 'shared' });
    await until('a call on the shared lane', async () => (await queues()).has('shared'), LONG_MS);
    await startDedicated('mover');
    await ground.move('mover', { lane: 'dedicated' });
    await done(60);
    await ground.move('mover', { lane: 'own' });
    const ends = await Promise.all(runs.map((run) => run.result({ timeoutMs: LONG_MS })));
    expect(ends.map(({ stopReason }) => stopReason)).toEqual(Array(4).fill('completed'));
    expect(ground.intentsOf('mover').sort()).toEqual(
      [0, 1, 2, 3].flatMap((no) => namesOf(24, `${no}-`)).sort(),
    );
    expect(await queues()).toEqual(new Set(['lane/mover', 'shared']));
  },
  LONG_MS,
);

test(
  'N2 Q4 a lane that no worker serves says so, as the platform’s own fault and with what to do, and goes on by itself',
  async () => {
    await ground.tenant('alone', { lane: 'dedicated' });
    const run = await ground.run('alone', jobs(2, 0));
    const shown = await until(
      'the wait',
      async () => {
        const now = await ground.shown(run);
        return now.state === 'throttled' && now;
      },
      LONG_MS,
    );
    expect(shown.detail).toContain('throttled by Bulkhead itself, failing closed: lane_unserved');
    expect(shown.detail).toContain('bulkhead worker --role host --tenant alone');
    expect(await run.explain()).toMatchObject({
      state: 'throttled',
      waitsFor: { origin: 'platform', rule: 'lane_unserved' },
    });
    expect(ground.intentsOf('alone')).toEqual([]);
    // However long it waits, its history does not grow.
    const before = await eventsOf(run.workflowId);
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    expect((await eventsOf(run.workflowId)) - before).toBeLessThan(6);

    await startDedicated('alone');
    expect(await run.result({ timeoutMs: LONG_MS })).toMatchObject({ stopReason: 'completed' });
    expect(ground.intentsOf('alone')).toEqual(['0', '1']);

    // A worker that was stopped has said so, and is not taken for a busy one.
    await dedicated.pop()?.stop();
    const after = await ground.run('alone', jobs(1, 0, 'after-'));
    const { refusal } = await until(
      'the wait',
      async () => {
        const now = await ground.shown(after);
        return now.state === 'throttled' && now;
      },
      LONG_MS,
    );
    expect(refusal).toMatchObject({ origin: 'platform', rule: 'lane_unserved' });
    await startDedicated('alone');
    expect(await after.result({ timeoutMs: LONG_MS })).toMatchObject({ stopReason: 'completed' });
  },
  LONG_MS,
);

test(
  'N2 Q4 a busy lane is not called unserved: its tenant’s own ceiling is what binds, and every call is made once',
  async () => {
    await ground.tenant('busy', { ceiling: 1 });
    const runs = await Promise.all(
      Array.from({ length: 3 }, (_, no) => ground.run('busy', jobs(2, 2_500, `${no}-`))),
    );
    const shown = await until(
      'the wait',
      async () => {
        const all = await Promise.all(runs.map((run) => ground.shown(run)));
        return all.find(({ state }) => state === 'throttled');
      },
      LONG_MS,
    );
    expect(shown.refusal).toMatchObject({ origin: 'tenant_cap', rule: 'worker_ceiling', value: 1, used: 1 });
    const ends = await Promise.all(runs.map((run) => run.result({ timeoutMs: LONG_MS })));
    expect(ends.map(({ stopReason }) => stopReason)).toEqual(Array(3).fill('completed'));
    expect(ground.intentsOf('busy').sort()).toEqual([0, 1, 2].flatMap((no) => namesOf(2, `${no}-`)).sort());
    expect(ground.keeper.mostOf('busy')).toBe(1);
  },
  LONG_MS,
);

test(
  'N2 a run that waits for a worker is killed and cancelled like any other',
  async () => {
    await ground.tenant('waits', { lane: 'dedicated' });
    const run = await ground.run('waits', jobs(1, 0));
    await until('the wait', async () => (await ground.shown(run)).refusal?.rule === 'lane_unserved', LONG_MS);
    await run.cancel('not needed');
    expect(await run.result({ timeoutMs: LONG_MS })).toMatchObject({ stopReason: 'cancelled' });
    expect(ground.intentsOf('waits')).toEqual([]);
  },
  LONG_MS,
);

async function eventsOf(workflowId: string): Promise<number> {
  const { historyLength } = await ground.stack.temporal.workflow.getHandle(workflowId).describe();
  return historyLength;
}

/** The queues that a run's calls were scheduled on, over all that it continued as. */
async function queuesOfCalls(workflowId: string): Promise<string[]> {
  const queues: string[] = [];
  for (let runId: string | undefined = undefined, more = true; more;) {
    const history: History = await ground.stack.temporal.workflow.getHandle(workflowId, runId).fetchHistory();
    more = false;
    for (const event of history.events ?? []) {
      const begun = event.workflowExecutionStartedEventAttributes?.continuedExecutionRunId;
      if (begun) [runId, more] = [begun, true];
      const scheduled = event.activityTaskScheduledEventAttributes;
      if (scheduled?.activityType?.name === 'callTool') queues.push(scheduled.taskQueue?.name ?? '');
    }
  }
  return queues;
}
