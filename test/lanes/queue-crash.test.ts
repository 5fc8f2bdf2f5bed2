import { resolve } from 'node:path';
import { Client } from 'pg';
import { until } from '../support/until';
import { startWorkerProcess, type WorkerProcess } from '../support/worker-process';
import { createGround, jobs, LONG_MS, namesOf, type Ground } from './ground';

/** Slots of runs over hosts that die: who has one is counted at the system outside. */

const SLOTS = 3;
const RUNS = 7;
const JOBS = 3;
const HOSTS = 2;

let ground: Ground;
const hosts: WorkerProcess[] = [];
beforeAll(async () => {
  ground = await createGround({ workers: false, timing: { sweepEveryMs: 1_000 } });
  await ground.stack.startControl();
});
afterAll(async () => {
  await Promise.all(hosts.map((host) => host.stop()));
  await ground.close();
});

/** How many runs were between their first job and their last, as each job arrived. */
function atOnce(tenant: string): number[] {
  const spans = new Map<string, { first: number; last: number }>();
  const arrived = ground.keeper.effects.filter((job) => job.tenant === tenant).sort((a, b) => a.no - b.no);
  for (const { intent, no } of arrived) {
    const run = intent.split('-')[0] ?? '';
    spans.set(run, { first: spans.get(run)?.first ?? no, last: no });
  }
  return arrived.map(
    ({ no }) => [...spans.values()].filter(({ first, last }) => first <= no && no <= last).length,
  );
}

test(
  'N1 Q2 three slots are never a fourth run’s, across hosts that are killed meanwhile, and none is leaked',
  async () => {
    await ground.tenant('crowd', { limits: `{ concurrentRuns: ${SLOTS} }` });
    for (let no = 0; no < HOSTS; no += 1)
      hosts.push(
        startWorkerProcess({
          ...{ spec: ground.stack.workerSpec, hostId: `queue-${no}`, roles: ['host'] },
          appModule: resolve(__dirname, 'app.ts'),
        }),
      );
    const runs = await Promise.all(
      Array.from({ length: RUNS }, (_, no) => ground.run('crowd', jobs(JOBS, 300, `${no}-`))),
    );
    for (const host of hosts) {
      await host.ready();
      await until('a call under way', async () => ground.keeper.nowOf('crowd') > 0, LONG_MS);
      host.kill();
    }
    const ends = await Promise.all(runs.map((run) => run.result({ timeoutMs: LONG_MS })));
    expect(ends.map(({ stopReason }) => stopReason)).toEqual(Array(RUNS).fill('completed'));
    expect(ground.intentsOf('crowd').sort()).toEqual(
      Array.from({ length: RUNS }, (_, no) => namesOf(JOBS, `${no}-`)).flat(),
    );
    const most = Math.max(...atOnce('crowd'));
    expect(most).toBeLessThanOrEqual(SLOTS);
    // Else nobody wanted a slot that another had.
    expect(most).toBeGreaterThan(1);
    expect(hosts.map(({ kills }) => kills)).toEqual(Array(HOSTS).fill(1));
    const admin = new Client({ connectionString: ground.stack.database.adminUrl });
    await admin.connect();
    const { rows } = await admin.query(
      `select slots, queued from bulkhead.ledgers where tenant_id = 'crowd'`,
    );
    await admin.end();
    expect(rows).toEqual([{ slots: 0, queued: 0 }]);
  },
  2 * LONG_MS,
);
