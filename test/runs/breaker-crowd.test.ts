import { Client } from 'pg';
import type { Run } from '../../client/run';
import { setBreakerTerms } from '../support/breaker-terms';
import { until } from '../support/until';
import { call, openDesk, type Desk } from './desk';

/** A crowd that one breaker keeps waiting, on real Temporal; what it does is counted at the system outside. */

const CROWD = 20;
/** Waited for in place, and half as long again, too. */
const OPEN_MS = 6_000;

let desk: Desk;
beforeAll(async () => {
  desk = await openDesk();
  const terms = { failures: 1, withinMs: 60_000, firstOpenMs: OPEN_MS, longestOpenMs: OPEN_MS, lookMs: 500 };
  await setBreakerTerms(desk.stack.database, terms);
}, 120_000);
afterAll(() => desk.close());

test('N6 N5 whom a breaker keeps waiting does not come at one moment, but within half as long again, and each write is made once', async () => {
  await desk.tenant('broken');
  desk.outside.faults = { statusOf: { bearer: 'secret-broken-', status: 503 } };
  const script = [call(['note.write', { recordId: 'r1', text: 'once' }])];
  const first = await desk.begin('broken', script);
  await until(
    'an open breaker',
    async () => (await desk.stack.store('broken').breakers()).some(({ state }) => state === 'open'),
    30_000,
  );
  const others = await Promise.all(Array.from({ length: CROWD }, () => desk.begin('broken', script)));
  await openAgain();
  // By Temporal's own word, when each looks next.
  const looks = await until(
    'all of them waiting in place',
    async () => {
      const at = await Promise.all(others.map(nextLook));
      return at.every((each) => each > Date.now()) && at;
    },
    30_000,
  );
  desk.outside.faults = {};
  // At the breaker's own moment they would be some milliseconds apart; by chance as near as this they are once in a million times.
  expect(Math.max(...looks) - Math.min(...looks)).toBeGreaterThan(OPEN_MS / 6);

  const ended = await Promise.all([first, ...others].map((run) => run.result({ timeoutMs: 60_000 })));
  expect(new Set(ended.map(({ stopReason }) => stopReason))).toEqual(new Set(['completed']));
  expect(desk.outside.effects).toHaveLength(CROWD + 1);
}, 150_000);

async function nextLook({ workflowId }: Run): Promise<number> {
  const { raw } = await desk.stack.temporal.workflow.getHandle(workflowId).describe();
  const [waiting] = raw.pendingActivities ?? [];
  const at = (waiting?.attempt ?? 0) > 1 ? waiting?.scheduledTime : undefined;
  return at ? Number(at.seconds) * 1_000 + (at.nanos ?? 0) / 1e6 : 0;
}

/** However long the crowd took to come, it waits for one moment that is still ahead. */
async function openAgain(): Promise<void> {
  const admin = new Client({ connectionString: desk.stack.database.adminUrl });
  await admin.connect();
  try {
    await admin.query(
      `update bulkhead.breakers set open_until = clock_timestamp() + $1 * interval '1 millisecond'`,
      [OPEN_MS],
    );
  } finally {
    await admin.end();
  }
}
