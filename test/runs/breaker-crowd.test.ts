import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import type { Run } from '../../client/run';
import { SIGNALS } from '../../contracts/workflow-io';
import { setBreakerTerms } from '../support/breaker-terms';
import { until } from '../support/until';
import { call, openDesk, type Desk } from './desk';

/** Crowds that one breaker keeps waiting, on real Temporal: when each comes back by Temporal's own word, and what it does outside. */

/** Longer than what is waited for in place, so a state of the run. */
const OPEN_MS = 30_000;
/** Waited for in place. */
const SHORT_MS = 9_000;
const CROWD = 20;
/** A host believes what it was told for a second; Temporal and the ledger have a clock each. */
const SLACK_MS = 2_500;

let desk: Desk;
beforeEach(() => {
  desk.outside.effects.length = 0;
});
beforeAll(async () => {
  desk = await openDesk();
  const terms = {
    failures: 1,
    withinMs: 60_000,
    firstOpenMs: OPEN_MS,
    longestOpenMs: OPEN_MS,
    lookMs: 500,
  };
  await setBreakerTerms(desk.stack.database, terms);
}, 120_000);
afterAll(() => desk.close());

test('N6 N5 calls that a breaker keeps waiting in place send nothing before its moment, and each write is made once then', async () => {
  const { failed, begin } = await broken('brief', SHORT_MS);
  // It works again, but nobody has found out.
  desk.outside.faults = {};
  const others = begin();
  await sleep(SHORT_MS - SLACK_MS);
  const runs = [failed, ...(await others)];
  // The one that was under way is looked up or sent again whatever the breaker says; of the others nothing was sent.
  const early = desk.outside.effects.length;
  await endsWell(runs);
  expect(early).toBeLessThanOrEqual(1);
}, 150_000);

test('N6 N5 runs that wait for a breaker come within half as long again, not at one moment, and each write is made once', async () => {
  const { failed, begin } = await broken('lasting', OPEN_MS);
  const opens = Date.now() + OPEN_MS;
  const crowd = await begin();
  const runs = [failed, ...crowd];
  const wakes = await comingOf(crowd);
  expect(Math.min(...wakes)).toBeGreaterThan(opens - SLACK_MS);
  expect(Math.max(...wakes)).toBeLessThan(opens + OPEN_MS / 2 + SLACK_MS);
  // Of twenty numbers at random, all within a fifth of the range: once in some hundred billion times.
  expect(Math.max(...wakes) - Math.min(...wakes)).toBeGreaterThan(OPEN_MS / 10);
  desk.outside.faults = {};
  await openFor(0);
  await Promise.all(runs.map(({ workflowId }) => handleOf(workflowId).signal(SIGNALS.wakeRun)));
  await endsWell(runs);
}, 150_000);

const handleOf = (workflowId: string) => desk.stack.temporal.workflow.getHandle(workflowId);

/** A tenant whose system has just failed a run, so that its breaker is open for so long; and how to begin a crowd of such runs. */
async function broken(tenant: string, openMs: number): Promise<{ failed: Run; begin: () => Promise<Run[]> }> {
  await desk.tenant(tenant);
  desk.outside.faults = { statusOf: { bearer: `secret-${tenant}-`, status: 503 } };
  const script = [call(['note.write', { recordId: 'r1', text: 'once' }])];
  const failed = await desk.begin(tenant, script);
  await until(
    'an open breaker',
    async () => (await desk.stack.store(tenant).breakers()).some(({ state }) => state === 'open'),
    30_000,
  );
  await openFor(openMs);
  return {
    failed,
    begin: () => Promise.all(Array.from({ length: CROWD }, () => desk.begin(tenant, script))),
  };
}

/** When each comes back, once all of them wait for a moment that is ahead. */
async function comingOf(runs: readonly Run[]): Promise<number[]> {
  return await until(
    'all of them waiting',
    async () => {
      const at = await Promise.all(runs.map(nextTimer));
      return at.every((each) => each > Date.now()) && at;
    },
    30_000,
  );
}

async function endsWell(runs: readonly Run[]): Promise<void> {
  const ended = await Promise.all(runs.map((run) => run.result({ timeoutMs: 60_000 })));
  expect(new Set(ended.map(({ stopReason }) => stopReason))).toEqual(new Set(['completed']));
  const keys = desk.outside.effects.map(({ key }) => key);
  expect(new Set(keys).size).toBe(keys.length);
  expect(keys).toHaveLength(runs.length);
}

async function nextTimer({ workflowId }: Run): Promise<number> {
  const { events } = await handleOf(workflowId).fetchHistory();
  const started = events?.findLast(({ timerStartedEventAttributes: timer }) => timer);
  const wait = started?.timerStartedEventAttributes?.startToFireTimeout;
  return wait ? msOf(started?.eventTime) + msOf(wait) : 0;
}

const msOf = (time: { seconds?: unknown; nanos?: number | null } | null | undefined): number =>
  time ? Number(time.seconds ?? 0) * 1_000 + (time.nanos ?? 0) / 1e6 : 0;

async function openFor(ms: number): Promise<void> {
  const admin = new Client({ connectionString: desk.stack.database.adminUrl });
  await admin.connect();
  try {
    const at = `clock_timestamp() + $1 * interval '1 millisecond'`;
    await admin.query(`update bulkhead.breakers set open_until = ${at} where state = 'open'`, [ms]);
  } finally {
    await admin.end();
  }
}
