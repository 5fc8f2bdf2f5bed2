import { Client } from 'pg';
import { commandControl } from '../../client/control';
import type { Run } from '../../client/run';
import type { TenantId } from '../../contracts/ids';
import { controlWorkflowId, followUpWorkflowId } from '../../contracts/workflow-ids';
import { QUERIES, SIGNALS } from '../../contracts/workflow-io';
import type { Running } from '../../workers/parts';
import { plays } from '../support/model';
import { until } from '../support/until';
import { call, failing, on, openDesk, type Desk } from '../runs/desk';

let desk: Desk;
let host: Running;
/** Started while its ledger had lost entries: it waits at the door from the first test to the last. */
let early: Run;

const ORDER = call(['order.place', { recordId: 'r1' }]);
const COMPENSATES = { policy: 'onKill: { compensate: true }' };

beforeAll(async () => {
  desk = await openDesk({ workers: false, timing: { sweepEveryMs: 1_000 } });
  await desk.tenant('behind');
  early = await desk.begin('behind', []);
  await rewind(true);
  [, host] = await Promise.all([desk.stack.startControl(), desk.stack.startHost()]);
  await desk.tenant('acme');
}, 60_000);
beforeEach(() => {
  desk.outside.faults = {};
});
afterAll(() => desk.close());

const store = (tenant: string) => desk.stack.store(tenant);
const handle = (workflowId: string) => desk.stack.temporal.workflow.getHandle(workflowId);
const stateOf = async (run: Run): Promise<string> =>
  (await handle(run.workflowId).query<{ state: string }>(QUERIES.runState)).state;

/** The orders that were cancelled since, in that order, by the effect that made each; and those that were made. */
function seen(since: number): { made: number[]; cancelled: number[]; at: number[] } {
  const effects = desk.outside.effects.slice(since);
  const cancels = effects.filter(({ operation }) => operation === 'POST /orders/cancel');
  return {
    made: effects.flatMap(({ operation }, index) =>
      operation === 'POST /orders' ? [since + index + 1] : [],
    ),
    cancelled: cancels.map(({ body }) => (body as { effect: number }).effect),
    at: cancels.map(({ at }) => at),
  };
}
const reversed = (numbers: readonly number[]): number[] => [...numbers].reverse();
const undoDone = (tenant: string, run: Run, timeoutMs = 40_000) =>
  until(
    'the undo is done',
    async () => (await store(tenant).followUps(run.runId as never)).find(({ state }) => state === 'done'),
    timeoutMs,
  );
const kill = (tenant: string) =>
  handle(controlWorkflowId(tenant as TenantId, desk.stack.environment)).signal(SIGNALS.kill);
const drained = (tenant: string) =>
  until('draining', async () => (await store(tenant).control())?.drainedAt ?? undefined, 40_000);
const release = (tenant: string) =>
  commandControl(desk.stack.temporal, tenant as TenantId, desk.stack.environment, {
    op: 'release',
    scope: { kind: 'tenant' },
    reason: 'test over',
    actor: 'test',
  });

test('T5 a failed run is undone in reverse order, each write once, also where its worker host is stopped meanwhile', async () => {
  const since = desk.outside.effects.length;
  const run = await desk.begin('acme', [ORDER, ORDER, ORDER, ...failing], 'test_undoer');
  await until('the third order', () => Promise.resolve(seen(since).made.length === 3));
  desk.outside.faults = { delayMs: 700 };
  await until('the first undo', () => Promise.resolve(seen(since).cancelled.length === 1));
  await host.stop();
  desk.outside.faults = {};
  host = await desk.stack.startHost();
  expect(await run.result({ timeoutMs: 50_000 })).toMatchObject({ stopReason: 'model_misbehaved' });
  const { made, cancelled } = seen(since);
  expect(cancelled).toEqual(reversed(made));
  expect(await undoDone('acme', run)).toMatchObject({ outcome: { undone: 3, left: 0, abandoned: 0 } });
}, 90_000);

test('T5 a cancel while a failed run undoes its writes changes nothing: they are undone, and the reason stays', async () => {
  const since = desk.outside.effects.length;
  const run = await desk.begin('acme', [ORDER, ORDER, ...failing], 'test_undoer');
  await until('the second order', () => Promise.resolve(seen(since).made.length === 2));
  desk.outside.faults = { delayMs: 700 };
  await until('the undo', async () => (await stateOf(run)) === 'compensating');
  await handle(run.workflowId).signal(SIGNALS.cancelRun);
  await handle(run.workflowId).cancel();
  expect(await run.result({ timeoutMs: 50_000 })).toMatchObject({ stopReason: 'model_misbehaved' });
  expect(seen(since).cancelled).toEqual(reversed(seen(since).made));
}, 90_000);

/** A run that has placed two orders and works on, killed with its tenant. */
async function killed(tenant: string): Promise<{ run: Run; since: number }> {
  const since = desk.outside.effects.length;
  const run = await desk.begin(tenant, ({ moves }) =>
    moves < 2 ? ORDER : call(['note.write', { recordId: 'r1', text: `${moves}` }]),
  );
  await until(
    'two orders and more',
    () => Promise.resolve(seen(since).made.length === 2 && desk.outside.effects.length - since > 3),
    30_000,
  );
  await kill(tenant);
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'killed' });
  await drained(tenant);
  return { run, since };
}

test('T5 O1 a kill undoes what the killed runs did where the policy orders it, after they are closed', async () => {
  await desk.tenant('paid', COMPENSATES);
  const { run, since } = await killed('paid');
  expect(await undoDone('paid', run)).toMatchObject({ reason: 'killed', outcome: { undone: 2 } });
  const { made, cancelled, at } = seen(since);
  expect(cancelled).toEqual(reversed(made));
  const { closedAt } = await run.row();
  expect(Math.min(...at)).toBeGreaterThanOrEqual(Date.parse(closedAt ?? ''));
  expect((await store('paid').control())?.mode).toBe('killed');
}, 90_000);

test('T5 O1 a kill undoes nothing where the policy orders nothing; after the release an operator may', async () => {
  await desk.tenant('plain');
  const { run, since } = await killed('plain');
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect(await store('plain').followUps(run.runId as never)).toEqual([]);
  expect(seen(since).cancelled).toEqual([]);
  await release('plain');
  await run.rollback({ note: 'not wanted' });
  expect(await undoDone('plain', run)).toMatchObject({ reason: 'rollback', outcome: { undone: 2 } });
  expect(seen(since).cancelled).toEqual(reversed(seen(since).made));
}, 90_000);

test('T5 O1 a run that is killed while it undoes: the policy’s undo goes on where it was, each write once', async () => {
  await desk.tenant('both', COMPENSATES);
  const since = desk.outside.effects.length;
  const run = await desk.begin('both', [ORDER, ORDER, ORDER, ...failing], 'test_undoer');
  await until('the third order', () => Promise.resolve(seen(since).made.length === 3));
  desk.outside.faults = { delayMs: 600 };
  await until('the first undo', () => Promise.resolve(seen(since).cancelled.length === 1));
  await kill('both');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'killed' });
  desk.outside.faults = {};
  await undoDone('both', run);
  expect(seen(since).cancelled).toEqual(reversed(seen(since).made));
  expect(await store('both').followUps(run.runId as never)).toHaveLength(1);
}, 90_000);

test('T5 the sweep starts an undo that nobody started, and begins again one that was terminated', async () => {
  const since = desk.outside.effects.length;
  const { run } = await desk.play('acme', [ORDER, ORDER, ...failing]);
  desk.outside.faults = { delayMs: 1_000 };
  // Ordered in the ledger alone: whoever did so died before the start.
  const ordered = await store('acme').orderUndo({ runId: run.runId as never, actor: 'gone', note: '' });
  if (ordered.kind !== 'ordered') throw new Error(ordered.kind);
  const { workflowId } = handle(followUpWorkflowId(run.workflowId, ordered.followUp));
  await until('the first undo', () => Promise.resolve(seen(since).cancelled.length === 1), 40_000);
  await handle(workflowId).terminate('by hand');
  desk.outside.faults = {};
  expect(await undoDone('acme', run, 50_000)).toMatchObject({ outcome: { undone: 2 } });
  expect(seen(since).cancelled).toEqual(reversed(seen(since).made));
}, 120_000);

test('T5 a run terminated from outside is undone where its agent asks, by a follow-up that the sweep orders', async () => {
  const since = desk.outside.effects.length;
  const run = await desk.begin(
    'acme',
    ({ moves }) => (moves < 1 ? ORDER : call(['note.write', { recordId: 'r1', text: `${moves}` }])),
    'test_undoer',
  );
  await until('an order and more', () => Promise.resolve(desk.outside.effects.length - since > 2));
  await handle(run.workflowId).terminate('by hand');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'terminated' });
  expect(await undoDone('acme', run)).toMatchObject({ reason: 'failed', outcome: { undone: 1 } });
  expect(seen(since).cancelled).toEqual(seen(since).made);
}, 90_000);

test('T3 a run that waits longer for its review than it may ends with what is known', async () => {
  const impatient = await openDesk({ bounds: { maxReviewWaitMs: 2_000 } });
  try {
    await impatient.tenant('acme', { policy: 'onUnknownOutcome: review' });
    impatient.outside.faults = { dropAfterApply: 1 };
    const { result, effects } = await impatient.play('acme', [on('blind.write')]);
    expect(result).toMatchObject({ stopReason: 'outcome_unknown' });
    expect(effects).toHaveLength(1);
  } finally {
    await impatient.close();
  }
}, 60_000);

test('O8 a run that comes to a ledger which has lost entries waits at the door, and enters once it is brought back', async () => {
  const { raw } = await handle(early.workflowId).describe();
  expect(raw.pendingActivities).toMatchObject([
    { activityType: { name: 'enterRun' }, lastFailure: { applicationFailureInfo: { type: 'Waiting' } } },
  ]);
  expect((await early.row()).state).toBe('accepted');
  await rewind(false);
  desk.model.script = plays();
  expect(await early.result({ timeoutMs: 50_000 })).toMatchObject({ stopReason: 'completed' });
}, 60_000);

async function rewind(lost: boolean): Promise<void> {
  const admin = new Client({ connectionString: desk.stack.database.adminUrl });
  await admin.connect();
  try {
    await admin.query(
      `update bulkhead.ledgers set rewound_seq = case when $1 then journal_seq else 0 end where tenant_id = 'behind'`,
      [lost],
    );
  } finally {
    await admin.end();
  }
}
