import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeUntaken, inputOf } from '../../workers/recover-events';
import { until } from '../support/until';
import { startWorkerProcess, type WorkerProcess } from '../support/worker-process';
import { createGround, jobs, LONG_MS, namesOf, type Ground } from './ground';

/** Lanes over several hosts, which die: counted at the system outside. */

const HOSTS = 3;
const KILLS = 6;

let ground: Ground;
const hosts: WorkerProcess[] = [];
beforeAll(async () => {
  ground = await createGround({ workers: false, lanes: { takenWithinMs: 2_000 } });
  await ground.stack.startControl();
});
afterEach(() => Promise.all(hosts.splice(0).map((host) => host.stop())));
afterAll(() => ground.close());

const startHost = async (): Promise<WorkerProcess> => {
  const host = startWorkerProcess({
    spec: ground.stack.workerSpec,
    hostId: `lanes-${hosts.length}-${Date.now()}`,
    appModule: resolve(__dirname, 'app.ts'),
    roles: ['host'],
  });
  hosts.push(host);
  await host.ready();
  return host;
};

const runAll = (tenant: string, runs: number, many: number, takesMs: number) =>
  Promise.all(
    Array.from({ length: runs }, async (_, no) => await ground.run(tenant, jobs(many, takesMs, `${no}-`))),
  );
const intended = (runs: number, many: number): string[] =>
  Array.from({ length: runs }, (_, no) => namesOf(many, `${no}-`))
    .flat()
    .sort();

test(
  'N2 the queue of a tenant with a ceiling of 3 never runs a fourth call, across three hosts, while hosts are killed',
  async () => {
    await ground.tenant('three', { limits: '{ callsInFlight: 3 }' });
    await Promise.all(Array.from({ length: HOSTS }, startHost));
    const runs = await runAll('three', 8, 6, 300);
    let killed = 0;
    while (killed < KILLS) {
      await until('a call under way', async () => ground.keeper.nowOf('three') > 0, LONG_MS);
      const host = hosts[killed % HOSTS];
      await host?.ready();
      if (host?.kill()) killed += 1;
      await sleep(700);
    }
    const ends = await Promise.all(runs.map((run) => run.result({ timeoutMs: 2 * LONG_MS })));
    expect(ends.map(({ stopReason }) => stopReason)).toEqual(Array(8).fill('completed'));
    expect(ground.intentsOf('three').sort()).toEqual(intended(8, 6));
    expect(ground.keeper.mostOf('three')).toBe(3);
    expect(hosts.reduce((sum, { kills }) => sum + kills, 0)).toBe(KILLS);
  },
  3 * LONG_MS,
);

test(
  'N2 a host that is killed while it drains a lane loses no call and repeats none: its tenant goes on where it was moved to',
  async () => {
    await ground.tenant('drained', { ceiling: 6 });
    const drains = await startHost();
    const runs = await runAll('drained', 4, 4, 1_200);
    await until('calls under way', async () => ground.keeper.nowOf('drained') >= 3, LONG_MS);
    await ground.move('drained', { lane: 'shared' });
    // It reads the placements every 0.2 s, and gives what it makes two seconds to end.
    await sleep(500);
    expect(ground.keeper.nowOf('drained')).toBeGreaterThan(0);
    expect(drains.kill()).toBe(true);
    const ends = await Promise.all(runs.map((run) => run.result({ timeoutMs: 2 * LONG_MS })));
    expect(ends.map(({ stopReason }) => stopReason)).toEqual(Array(4).fill('completed'));
    expect(ground.intentsOf('drained').sort()).toEqual(intended(4, 4));
    // What the dead host had been told of the ledger went with the call to where it was made again.
    const told = (await Promise.all(runs.map(({ workflowId }) => toldOfUntaken(workflowId)))).flat();
    expect(told.length).toBeGreaterThan(0);
    for (const { before, again } of told) {
      expect(before).toBeGreaterThan(0);
      expect(again).toBeGreaterThanOrEqual(before);
    }
  },
  3 * LONG_MS,
);

test(
  'N2 two hosts that both believe that a lane is theirs are harmless: the ceiling is the ledger’s, and each call is made once',
  async () => {
    await ground.tenant('claimed', { limits: '{ callsInFlight: 3 }' });
    const [shared, alone] = await Promise.all([
      ground.stack.startHost(),
      ground.stack.startHost({ only: 'claimed' as never }),
    ]);
    const runs = await runAll('claimed', 8, 4, 150);
    const ends = await Promise.all(runs.map((run) => run.result({ timeoutMs: LONG_MS })));
    expect(ends.map(({ stopReason }) => stopReason)).toEqual(Array(8).fill('completed'));
    expect(ground.intentsOf('claimed').sort()).toEqual(intended(8, 4));
    expect(ground.keeper.mostOf('claimed')).toBe(3);
    const took = await hostsThatTook(runs.map(({ workflowId }) => workflowId));
    expect(took.size).toBe(2);
    await Promise.all([shared.stop(), alone.stop()]);
  },
  2 * LONG_MS,
);

/** Of each call that began, lost its host and was then taken by nobody: the sequence it was told, and with which it was made again. */
async function toldOfUntaken(workflowId: string): Promise<{ before: number; again: number }[]> {
  const { events = [] } = await ground.stack.temporal.workflow.getHandle(workflowId).fetchHistory();
  return (events ?? []).flatMap(({ activityTaskTimedOutEventAttributes: timedOut }, at) => {
    const { seq, mayBeSent } = beforeUntaken(timedOut?.failure);
    if (!mayBeSent) return [];
    const next = (events ?? [])
      .slice(at)
      .find(
        ({ activityTaskScheduledEventAttributes: scheduled }) =>
          scheduled?.activityType?.name === 'callTool' || scheduled?.activityType?.name === 'callModel',
      );
    const { seq: again } = inputOf(next?.activityTaskScheduledEventAttributes?.input);
    return [{ before: Number(seq ?? 0), again: Number(again) }];
  });
}

/** The workers that have made tool calls of these runs, by what they call themselves. */
async function hostsThatTook(workflowIds: readonly string[]): Promise<Set<string>> {
  const took = new Set<string>();
  for (const workflowId of workflowIds) {
    const { events } = await ground.stack.temporal.workflow.getHandle(workflowId).fetchHistory();
    const calls = new Set(
      (events ?? []).flatMap(({ eventId, activityTaskScheduledEventAttributes: scheduled }) =>
        scheduled?.activityType?.name === 'callTool' ? [String(eventId)] : [],
      ),
    );
    for (const { activityTaskStartedEventAttributes: started } of events ?? [])
      if (started && calls.has(String(started.scheduledEventId))) took.add(started.identity ?? '');
  }
  return took;
}
