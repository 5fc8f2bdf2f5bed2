import { Client } from 'pg';
import type { Run } from '../../client/run';
import type { CheckpointCall } from '../../contracts/checkpoint';
import { followUpWorkflowId } from '../../contracts/workflow-ids';
import type { FollowUp, Resolution } from '../../contracts/reviews';
import { SIGNALS } from '../../contracts/workflow-io';
import { call, failing, openDesk, type Desk } from '../runs/desk';
import { until } from '../support/until';

/** What an undo makes of answers that neither undo a write nor leave it as it is: it is not lost, and it does not spin. */

let desk: Desk;
/** Called just before the ledger is asked for a call. */
let beforeAsking: (call: CheckpointCall) => Promise<void>;

const ORDER = call(['order.place', { recordId: 'r1' }]);
const WRITE = '0.1';

beforeAll(async () => {
  desk = await openDesk({
    timing: { sweepEveryMs: 1_000 },
    checkpoint: async (point, of) => {
      if (point === 'decided') await beforeAsking(of);
    },
  });
  await desk.tenant('acme');
}, 60_000);
beforeEach(() => {
  desk.outside.faults = {};
  beforeAsking = () => Promise.resolve();
});
afterAll(() => desk.close());

const handle = (workflowId: string) => desk.stack.temporal.workflow.getHandle(workflowId);
const cancelled = (): number =>
  desk.outside.effects.filter(({ operation }) => operation === 'POST /orders/cancel').length;
const undoOf = async (run: Run): Promise<FollowUp | undefined> =>
  (await desk.followUps('acme', run)).find(({ kind }) => kind === 'undo');
const undoDone = (run: Run): Promise<FollowUp> =>
  until(
    'the undo is done',
    async () => {
      const undo = await undoOf(run);
      return undo?.state === 'done' ? undo : undefined;
    },
    40_000,
  );

/** As if its keys had expired, or not: the ledger then refuses a new call, without a review and without a word on when. */
async function accepted(run: { runId: string }, daysAgo: number): Promise<void> {
  const admin = new Client({ connectionString: desk.stack.database.adminUrl });
  await admin.connect();
  try {
    await admin.query(
      `update bulkhead.runs set accepted_at = bulkhead.now() - $2 * interval '1 day' where run_id = $1`,
      [run.runId, daysAgo],
    );
  } finally {
    await admin.end();
  }
}

async function activitiesOf(workflowId: string, type: string): Promise<string[]> {
  const { events } = await handle(workflowId).fetchHistory();
  return (events ?? []).flatMap(({ eventId, activityTaskScheduledEventAttributes: scheduled }) =>
    scheduled?.activityType?.name === type ? [String(eventId)] : [],
  );
}

/** What Temporal's UI shows of it. */
const details = async (workflowId: string): Promise<string> => {
  const answer = await handle(workflowId).query<{ currentDetails?: string }>('__temporal_workflow_metadata');
  return answer.currentDetails ?? '';
};

test('T5 an undo that is refused for another reason than that nothing is to be done waits, shows why, and is made later', async () => {
  const { run } = await desk.play('acme', [ORDER, ...failing]);
  const before = cancelled();
  beforeAsking = ({ path }) => (path === `${WRITE}/undo` ? accepted(run, 91) : Promise.resolve());
  const { order } = await run.rollback({ note: 'not wanted' });
  const workflowId = followUpWorkflowId(run.workflowId, order);
  await until('why', async () => (await details(workflowId)).includes('key_expired'), 40_000);
  expect((await undoOf(run))?.state).toBe('entered');
  expect(await details(workflowId)).toContain(`${WRITE} order.place: not undone yet`);
  // It waits: it does not ask again by itself for minutes.
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(await activitiesOf(workflowId, 'undoCall')).toHaveLength(1);
  beforeAsking = () => Promise.resolve();
  await accepted(run, 0);
  await handle(workflowId).signal(SIGNALS.wakeRun);
  expect(await undoDone(run)).toMatchObject({ outcome: { undone: 1, left: 0, abandoned: 0 } });
  expect(cancelled() - before).toBe(1);
}, 90_000);

test('T5 a failed run whose own undo is refused so leaves, and what is not undone stays ordered and is undone later', async () => {
  const before = cancelled();
  beforeAsking = ({ path, runId }) =>
    path === `${WRITE}/undo` ? accepted({ runId }, 91) : Promise.resolve();
  const { run, result } = await desk.play('acme', [ORDER, ...failing], 'test_undoer');
  expect(result).toMatchObject({ stopReason: 'model_misbehaved' });
  expect(await activitiesOf(run.workflowId, 'undoCall')).toHaveLength(1);
  expect(await activitiesOf(run.workflowId, 'leaveFollowUp')).toEqual([]);
  const undo = (await undoOf(run)) as FollowUp;
  expect(undo.state).not.toBe('done');
  const workflowId = followUpWorkflowId(run.workflowId, undo);
  await until(
    'its follow-up asks too',
    async () => (await details(workflowId).catch(() => '')).includes('key_expired'),
    40_000,
  );
  beforeAsking = () => Promise.resolve();
  await accepted(run, 0);
  await handle(workflowId).signal(SIGNALS.wakeRun);
  expect(await undoDone(run)).toMatchObject({ reason: 'failed', outcome: { undone: 1 } });
  expect(cancelled() - before).toBe(1);
}, 90_000);

/** Puts a workflow back to just before its first activity of this type, as an operator may in Temporal's UI. */
async function resetBefore(workflowId: string, activity: string): Promise<void> {
  const { events } = await handle(workflowId).fetchHistory();
  const scheduled = events?.findIndex(
    (event) => event.activityTaskScheduledEventAttributes?.activityType?.name === activity,
  );
  const decided = events
    ?.slice(0, scheduled)
    .filter((event) => event.workflowTaskCompletedEventAttributes)
    .at(-1);
  const { runId } = await handle(workflowId).describe();
  const { temporal } = desk.stack;
  await temporal.workflowService.resetWorkflowExecution({
    namespace: temporal.options.namespace,
    workflowExecution: { workflowId, runId },
    workflowTaskFinishEventId: decided!.eventId!,
    requestId: `reset-${workflowId}`,
    reason: 'test',
  });
}

const closings = async (workflowId: string): Promise<string[]> => {
  const found: { status: string; at: number }[] = [];
  for await (const { status, startTime } of desk.stack.temporal.workflow.list({
    query: `WorkflowId = '${workflowId}'`,
  }))
    found.push({ status: status.name, at: startTime.getTime() });
  return found.sort((a, b) => a.at - b.at).map(({ status }) => status);
};

/** The review that a workflow was told of last. */
async function reviewTold(workflowId: string): Promise<unknown> {
  const { events } = await handle(workflowId).fetchHistory();
  const results = events?.flatMap(
    ({ activityTaskCompletedEventAttributes: done }) => done?.result?.payloads?.[0]?.data ?? [],
  );
  const answer = JSON.parse(Buffer.from(results?.at(-1) ?? '{}').toString()) as { review?: unknown };
  return answer.review;
}

/** An undo that waits for its review, reset; then the review is resolved. */
async function resetWhileReviewed(resolution: Resolution): Promise<{ run: Run; workflowId: string }> {
  const { run } = await desk.play('acme', [ORDER, ...failing]);
  desk.outside.faults = { status: 422 };
  const { order } = await run.rollback({ note: 'not wanted' });
  const review = await desk.openReview('acme', run.runId);
  const workflowId = followUpWorkflowId(run.workflowId, order);
  // Recovery tells by this that the review is of the undo, and not of the write.
  expect(await until('its answer', () => reviewTold(workflowId))).toMatchObject({
    no: review.reviewNo,
    of: `${WRITE}/undo`,
  });
  await resetBefore(workflowId, 'undoCall');
  desk.outside.faults = {};
  // The run itself is closed and takes no signal.
  const result = resolution === 'happened' ? { by: 'hand' } : undefined;
  await desk.resolve('acme', run, review, resolution, result).catch(() => undefined);
  await handle(workflowId)
    .signal(SIGNALS.reviewDecided)
    .catch(() => undefined);
  return { run, workflowId };
}

for (const [resolution, because, effects] of [
  ['did_not_happen', 'its ledger lets it undo nothing', 1],
  ['happened', 'it cannot record the end', 0],
] as const)
  test(`T5 an undo that was reset after it had entered is not lost: ${because}, so it fails and is begun again`, async () => {
    const before = cancelled();
    const { run, workflowId } = await resetWhileReviewed(resolution);
    expect(await undoDone(run)).toMatchObject({ outcome: { undone: 1, left: 0, abandoned: 0 } });
    expect(cancelled() - before).toBe(effects);
    await until('its end', async () => (await closings(workflowId)).at(-1) === 'COMPLETED', 20_000);
    expect(await closings(workflowId)).toEqual(['TERMINATED', 'FAILED', 'COMPLETED']);
  }, 90_000);

test('T5 an undo that was reset after it was done ends as done once more, and undoes nothing again', async () => {
  const before = cancelled();
  const { run } = await desk.play('acme', [ORDER, ...failing]);
  const { order } = await run.rollback({ note: 'not wanted' });
  const workflowId = followUpWorkflowId(run.workflowId, order);
  const ended = (executions: number): Promise<unknown> =>
    until(
      'its end',
      async () => {
        const all = await closings(workflowId);
        return all.length === executions && all.at(-1) !== 'RUNNING';
      },
      40_000,
    );
  await ended(1);
  await resetBefore(workflowId, 'undoCall');
  await ended(2);
  expect(await closings(workflowId)).toEqual(['COMPLETED', 'COMPLETED']);
  expect(await undoOf(run)).toMatchObject({ state: 'done', outcome: { undone: 1 } });
  expect(cancelled() - before).toBe(1);
}, 90_000);
