import { Client } from 'pg';
import { BulkheadError } from '../../client/errors';
import type { Run } from '../../client/run';
import { SIGNALS } from '../../contracts/workflow-io';
import { createCliWorld, type CliWorld } from '../cli/world';
import { plays, startModel, type Move, type Script, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';
import { asksFor, payment } from './approving';
import { call, idOf } from './desk';

/** Runs of a tenant beyond its slots, through the public surface, on the real stack. */

const LONG_MS = 60_000;

let world: CliWorld;
let outside: Outside;
let model: TestModel;
/** What the model does in a run, by the input of it. */
const scripts = new Map<string, Script>();

beforeAll(async () => {
  const script: Script = (seen) =>
    scripts.get(seen.input.replace(/[^]*?(input-\d{4})[^]*/, '$1'))?.(seen) ?? {
      say: `unknown ${seen.input}`,
    };
  [world, outside, model] = await Promise.all([
    createCliWorld({ timing: { sweepEveryMs: 2_000 } }),
    startOutside('acct'),
    startModel(script),
  ]);
}, LONG_MS);
afterAll(async () => {
  await world.close();
  await Promise.all([outside.close(), model.close()]);
});

const note = (text: string): Move => call(['note.write', { recordId: 'r1', text }]);
const tenant = (name: string, limits: string, more: object = {}): Promise<void> =>
  readyTenant(world.stack, { name, keeper: outside.url, models: model.url, limits, ...more });

interface Begun {
  readonly run: Run;
  /** Lets its model answer. */
  readonly open: () => void;
}
/** Begins a run whose model answers once it is let. */
async function begin(name: string, moves: Move[] = [], more: { priority?: number } = {}): Promise<Begun> {
  const input = `input-${String(scripts.size).padStart(4, '0')}`;
  const script = plays(...moves);
  let open = (): void => undefined;
  const held = new Promise<void>((resolve) => (open = resolve));
  scripts.set(input, async (seen) => {
    await held;
    return await script(seen);
  });
  const run = await world.stack.client.startRun({
    ...{ token: await world.stack.token(name), agent: 'test_worker', input, ...more },
    target: { system: 'keeper', recordId: 'r1' },
  });
  return { run, open };
}

const inState = (run: Run, state: string) =>
  until(
    `a run that is ${state}`,
    async () => {
      const why = await run.explain();
      return why.state === state ? why : undefined;
    },
    LONG_MS,
  );
/** Once its own workflow says so, and not its row alone. */
const shownAs = (run: Run, state: string) =>
  until(
    `a workflow that is ${state}`,
    async () => {
      const shown = await world.stack.temporal.workflow
        .getHandle(run.workflowId)
        .query<{ state: string; detail: string }>('runState')
        .catch(() => undefined);
      return shown?.state === state ? shown : undefined;
    },
    LONG_MS,
  );
const ends = async (run: Run, stopReason = 'completed'): Promise<void> => {
  expect(await run.result({ timeoutMs: LONG_MS })).toMatchObject({ stopReason });
};
const countsOf = async (name: string): Promise<unknown> => {
  const rows = await world.stack.store(name).runs({ limit: 100 });
  return {
    slots: rows.filter(({ slotSince }) => slotSince !== null).length,
    queued: rows.filter(({ queuedSince }) => queuedSince !== null).length,
  };
};
const timersOf = async (run: Run): Promise<number> => {
  const { events } = await world.stack.temporal.workflow.getHandle(run.workflowId).fetchHistory();
  return (events ?? []).filter(({ timerStartedEventAttributes: timer }) => timer).length;
};

test('N1 Q3 runs beyond the slots are accepted at once, wait with their position and without a timer, and go on in their order', async () => {
  await tenant('line', '{ concurrentRuns: 1 }');
  const one = await begin('line', [note('1')]);
  await shownAs(one.run, 'running');
  const two = await begin('line', [note('2')]);
  const three = await begin('line', [note('3')]);
  const first = await begin('line', [note('4')], { priority: 3 });
  expect(await two.run.row()).toMatchObject({ state: 'queued', enteredAt: null });
  const shown = await shownAs(three.run, 'queued');
  expect(shown.detail).toMatch(/^waits for a slot of its tenant: position \d of \d; 1 of 1 concurrent runs$/);
  expect(await inState(three.run, 'queued')).toMatchObject({
    queue: { position: 2, waiting: 3 },
    waitsFor: { kind: 'throttled', origin: 'tenant_cap', rule: 'concurrent_runs', value: 1, used: 1 },
    means: 'waits for a slot of its tenant: position 2 of 3; 1 of 1 concurrent runs',
    since: (await three.run.row()).queuedSince,
  });
  const explained = await world.run(['run', 'explain', three.run.runId, '--tenant', 'line']);
  expect(explained.code).toBe(0);
  for (const words of [
    'queued',
    'position',
    '2 of 3',
    'concurrent_runs (a limit of the tenant)',
    'limit',
    'as soon as one of those ends',
  ])
    expect(explained.out).toContain(words);
  const listed = await world.run(['run', 'list', '--tenant', 'line', '--state', 'queued', '-o', 'json']);
  expect(JSON.parse(listed.out)).toHaveLength(3);
  for (const { open } of [one, two, three, first]) open();
  for (const { run } of [one, two, three, first]) await ends(run);
  const entered = await Promise.all(
    [one, two, three, first].map(async ({ run }) => (await run.row()).enteredAt ?? ''),
  );
  expect([...entered].sort()).toEqual(entered);
  expect(await timersOf(three.run)).toBe(0);
  expect(await countsOf('line')).toEqual({ slots: 0, queued: 0 });
}, 180_000);

test('N1 a better priority goes first; one that is not the tenant’s to ask for is refused with what to do', async () => {
  await tenant('ranked', '{ concurrentRuns: 1, bestPriority: 2 }');
  const one = await begin('ranked');
  await shownAs(one.run, 'running');
  const usual = await begin('ranked');
  const better = await begin('ranked', [], { priority: 2 });
  await shownAs(usual.run, 'queued');
  expect(await inState(better.run, 'queued')).toMatchObject({ queue: { position: 1, waiting: 2 } });
  const refused: unknown = await begin('ranked', [], { priority: 1 }).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(BulkheadError);
  expect(refused).toMatchObject({
    code: 'invalid',
    reason: 'best_priority',
    message: expect.stringContaining('ask for 2 to 5'),
  });
  for (const { open } of [one, usual, better]) open();
  for (const { run } of [one, usual, better]) await ends(run);
  const entered = async ({ run }: Begun): Promise<string> => (await run.row()).enteredAt ?? '';
  expect((await entered(better)) < (await entered(usual))).toBe(true);
}, 120_000);

test('Q1 Q3 acceptance refuses by run starts and by queued runs with every number, and exits 3 in words', async () => {
  await tenant('starts', '{ runStartsPerMinute: 1 }');
  const one = await begin('starts');
  one.open();
  const error: unknown = await begin('starts').catch((caught: unknown) => caught);
  expect(error).toMatchObject({
    code: 'refused',
    refusal: {
      kind: 'throttled',
      origin: 'tenant_cap',
      rule: 'run_starts_per_minute',
      value: 1,
      used: 1,
      retryAfterMs: expect.any(Number),
    },
  });
  const { code, said } = await world.run(['run', 'start', '--tenant', 'starts', '--agent', 'test_worker']);
  expect({ code, said }).toEqual({
    code: 3,
    said: expect.stringMatching(/run starts per minute .* try again in \d+ s/),
  });
  await tenant('full', '{ concurrentRuns: 1, queuedRuns: 1 }');
  const begun = [await begin('full'), await begin('full')];
  await expect(begin('full')).rejects.toMatchObject({ refusal: { rule: 'queued_runs', value: 1, used: 1 } });
  for (const { open } of begun) open();
  for (const { run } of [one, ...begun]) await ends(run);
}, 120_000);

test('N1 a run that waits for approval gives its slot up, another works meanwhile, and it goes on after the yes', async () => {
  await tenant('asks', '{ concurrentRuns: 1 }', { rules: asksFor('{ roles: [payer] }') });
  const asks = await begin('asks', [call(payment(700))]);
  asks.open();
  await shownAs(asks.run, 'approval_required');
  await until('a free slot', async () => (await asks.run.row()).slotSince === null, LONG_MS);
  expect(await asks.run.row()).toMatchObject({ state: 'approval_required' });
  const beside = await begin('asks', [note('meanwhile')]);
  beside.open();
  await ends(beside.run);
  const [approval] = (await asks.run.explain()).approvals;
  const token = await world.stack.token('asks', { roles: ['payer'], subject: 'payer' });
  const sent = outside.effects.length;
  await world.stack.client.approve({ token, approvalNo: approval?.approvalNo ?? 0 });
  await until('the payment', () => Promise.resolve(outside.effects.length > sent), LONG_MS);
  await ends(asks.run);
  expect(await countsOf('asks')).toEqual({ slots: 0, queued: 0 });
}, 120_000);

test('N1 T3 a run whose slot a restored ledger does not know of stands in line for one, and goes on', async () => {
  await tenant('restored', '{ concurrentRuns: 1 }');
  const run = await begin('restored', [note('once more')]);
  await shownAs(run.run, 'running');
  // As after a backup of the time at which it waited for a person, and another run has its place since.
  const admin = new Client({ connectionString: world.stack.database.adminUrl });
  await admin.connect();
  await admin.query(
    `update bulkhead.ledgers set slots = 0 where tenant_id = 'restored';
     update bulkhead.runs set slot_at = null where tenant_id = 'restored'`,
  );
  await admin.end();
  const other = await begin('restored', [note('its place')]);
  await shownAs(other.run, 'running');
  run.open();
  expect(await inState(run.run, 'queued')).toMatchObject({ queue: { position: 1, waiting: 1 } });
  other.open();
  await ends(other.run);
  await ends(run.run);
  expect(await countsOf('restored')).toEqual({ slots: 0, queued: 0 });
}, 120_000);

test('N1 one that is approved while all slots are taken is queued, and comes back before those that came later', async () => {
  await tenant('back', '{ concurrentRuns: 1 }', { rules: asksFor('{ roles: [payer] }') });
  const asks = await begin('back', [call(payment(800))]);
  asks.open();
  await until(
    'a free slot',
    async () => {
      const { slotSince, state } = await asks.run.row();
      return state === 'approval_required' && slotSince === null;
    },
    LONG_MS,
  );
  const holder = await begin('back');
  await shownAs(holder.run, 'running');
  const later = await begin('back');
  await shownAs(later.run, 'queued');
  const [approval] = (await asks.run.explain()).approvals;
  const token = await world.stack.token('back', { roles: ['payer'], subject: 'payer' });
  await world.stack.client.approve({ token, approvalNo: approval?.approvalNo ?? 0 });
  expect(await inState(asks.run, 'queued')).toMatchObject({ queue: { position: 1, waiting: 2 } });
  holder.open();
  later.open();
  for (const { run } of [holder, asks, later]) await ends(run);
  expect(((await later.run.row()).enteredAt ?? '') > ((await holder.run.row()).closedAt ?? '')).toBe(true);
}, 120_000);

test('N1 Q5 queued runs are cancelled, killed and terminated; nobody keeps a slot, and a terminated holder’s goes to the next', async () => {
  await tenant('ends', '{ concurrentRuns: 1 }');
  const holder = await begin('ends');
  await shownAs(holder.run, 'running');
  const cancelled = await begin('ends');
  await shownAs(cancelled.run, 'queued');
  await cancelled.run.cancel('not needed');
  await ends(cancelled.run, 'cancelled');
  const next = await begin('ends');
  await shownAs(next.run, 'queued');
  await world.stack.temporal.workflow.getHandle(holder.run.workflowId).terminate('an operator in a hurry');
  holder.open();
  next.open();
  await ends(holder.run, 'terminated');
  await ends(next.run);
  const works = await begin('ends');
  const waits = await begin('ends');
  await shownAs(waits.run, 'queued');
  await world.stack.store('ends').kill({ reason: 'x', actor: 'op' });
  for (const { run } of [works, waits])
    await world.stack.temporal.workflow.getHandle(run.workflowId).signal(SIGNALS.killRun);
  works.open();
  for (const { run } of [works, waits]) await ends(run, 'killed');
  expect(await countsOf('ends')).toEqual({ slots: 0, queued: 0 });
}, 180_000);

test('Q6 a raised ceiling lets queued runs in within moments, though who raised it signals nobody', async () => {
  await tenant('raised', '{ concurrentRuns: 0 }');
  const begun = [await begin('raised'), await begin('raised')];
  for (const { run, open } of begun) {
    open();
    await shownAs(run, 'queued');
  }
  const raised = Date.now();
  await tenant('raised', '{ concurrentRuns: 2 }');
  await Promise.all(begun.map(({ run }) => shownAs(run, 'closed')));
  expect(Date.now() - raised).toBeLessThan(10_000);
  for (const { run } of begun) await ends(run);
}, 120_000);

test('Q3 a look at a limit costs its history a dozen events at most, so that a day of waiting is below two hundred', async () => {
  await tenant('throttled', '{ toolCallsPerDay: 1 }');
  const { run, open } = await begin('throttled', [note('1'), note('2')]);
  open();
  await shownAs(run, 'throttled');
  const handle = world.stack.temporal.workflow.getHandle(run.workflowId);
  const eventsOf = async (): Promise<number> => (await handle.fetchHistory()).events?.length ?? 0;
  const looksOf = async (): Promise<number> =>
    ((await handle.fetchHistory()).events ?? []).filter(
      ({ activityTaskScheduledEventAttributes: of }) => of?.activityType?.name === 'callTool',
    ).length;
  const settled = async (): Promise<number> =>
    until('nothing under way', async () => {
      const { raw } = await handle.describe();
      return !raw.pendingActivities?.length && !raw.pendingWorkflowTask && (await eventsOf());
    });
  const [before, looks] = [await settled(), await looksOf()];
  for (let look = 1; look <= 5; look += 1) {
    await handle.signal(SIGNALS.wakeRun);
    await until('a look', async () => (await looksOf()) === looks + look);
    await settled();
  }
  expect((await settled()) - before).toBeLessThanOrEqual(5 * 12);
  expect(before).toBeLessThan(50);
  expect(await run.explain()).toMatchObject({
    state: 'throttled',
    waitsFor: { rule: 'tool_calls_per_day', value: 1, used: 1, retryAfterMs: expect.any(Number) },
    freesAt: expect.stringMatching(/T00:00:00/),
  });
  await run.cancel('seen');
  await ends(run, 'cancelled');
}, 120_000);

test('Q1 Q5 a run that stands in line for too long is ended by the sweep as budget_exceeded, and says by what', async () => {
  await tenant('aged', '{ concurrentRuns: 1, queuedSeconds: 1 }');
  const holder = await begin('aged');
  await shownAs(holder.run, 'running');
  const waits = await begin('aged');
  await ends(waits.run, 'budget_exceeded');
  expect((await waits.run.explain()).lastRefusal).toMatchObject({
    refusal: { kind: 'budget_exceeded', origin: 'tenant_cap', rule: 'queued_seconds', value: 1 },
  });
  holder.open();
  await ends(holder.run);
}, 120_000);

test('N1 a signal that is lost is made up for: the sweep tells whoever holds a slot and does not come', async () => {
  await tenant('lost', '{ concurrentRuns: 1 }');
  const holder = await begin('lost');
  await shownAs(holder.run, 'running');
  const waits = await begin('lost');
  await shownAs(waits.run, 'queued');
  // Left as by somebody whose signal never arrived.
  await world.stack.temporal.workflow.getHandle(holder.run.workflowId).terminate('gone');
  await world.stack.store('lost').leaveRun({
    ...{ runId: idOf(holder.run), temporalRunId: null, stopReason: 'terminated', outputRef: null },
  });
  holder.open();
  waits.open();
  await ends(waits.run);
}, 120_000);
