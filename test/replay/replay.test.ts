import type { JournalEntry } from '../../contracts/ledger';
import type { RunRow } from '../../contracts/rows';
import { testTemporal } from '../support/shared-temporal';
import { until } from '../support/until';
import { compare, replayRun, type ReplayedCall } from '../../workers/replay';
import { executionsOf, type Execution } from '../../workers/replay-history';
import { startFollowUp } from '../../client/start';
import { asksFor, decide, payment, waitsForApproval } from '../runs/approving';
import { call, failing, idOf, on, openDesk, type Desk } from '../runs/desk';

let desk: Desk;
let finished: RunRow;

beforeAll(async () => {
  desk = await openDesk({ bounds: { continueAsNewAfter: 2 } });
  await desk.tenant('acme');
  // Done, refused, failed and undone calls, over several histories of the run itself.
  const { run } = await desk.play(
    'acme',
    [
      call(['order.place', { recordId: 'r1' }], ['vault.open', {}]),
      call(['record.read', { recordId: 'r1' }], ['note.write', { recordId: 'r1', text: 'x', extra: 1 }]),
      on('order.place'),
    ],
    'test_worker',
  );
  finished = await run.row();
});
afterAll(() => desk.close());

const bundle = (): { codePath: string } => ({ codePath: testTemporal().bundlePath });
const replay = (run: RunRow, tenant = 'acme') =>
  replayRun({ client: desk.stack.temporal, store: desk.stack.store(tenant), bundle: bundle(), run });
const agreeing = (calls: readonly ReplayedCall[]): string[] =>
  calls.filter(({ agrees }) => agrees).map(({ path }) => path);

test('O3 a finished run replays, and agrees with its journal call by call, over all that it continued as', async () => {
  const report = await replay(finished);
  expect(report).toMatchObject({ replays: true, because: null, histories: 2, differences: 0 });
  expect(report.calls.map(({ path, action }) => `${path} ${action}`)).toEqual([
    '0.0 model.generate',
    '0.1 order.place',
    '0.2 unknown.action',
    '1.0 model.generate',
    '1.1 record.read',
    '1.2 note.write',
    '2.0 model.generate',
    '2.1 order.place',
    '3.0 model.generate',
  ]);
  expect(report.calls[1]?.history).toMatch(/^done [0-9a-f]{12}$/);
  expect(report.calls[1]?.history).toBe(report.calls[1]?.journal);
  expect(report.calls[2]).toMatchObject({ history: 'denied (unknown_action)', agrees: true });
});

test('O3 undos are part of it: those of the run itself, and those of a follow-up with a history of its own', async () => {
  const own = await desk.play('acme', [on('order.place'), ...failing], 'test_undoer');
  // What a model has done wrong so far is not forgotten where a run continues as new.
  expect(own.result.stopReason).toBe('model_misbehaved');
  const ofRun = await replay(await own.run.row());
  expect(ofRun).toMatchObject({ replays: true, differences: 0 });
  expect(ofRun.calls.find(({ path }) => path === '0.1/undo')).toMatchObject({ agrees: true });

  const kept = await desk.play('acme', [on('order.place'), ...failing]);
  const undo = await kept.run.rollback({ note: 'not wanted' });
  await undo.result({ timeoutMs: 40_000 });
  await until('the undo’s close', async () => (await replay(await kept.run.row())).differences === 0);
  const both = await replay(await kept.run.row());
  expect(both).toMatchObject({ replays: true, differences: 0 });
  expect(both.histories).toBeGreaterThan(2);
  expect(both.calls.find(({ path }) => path === '0.1/undo')?.history).toMatch(/^done/);
});

test('O3 P4 P8 what waited for approval, was kept as a suggestion, or was made of one agrees with the journal too', async () => {
  await desk.tenant('asking', {
    rules: `${asksFor()}
  - { id: ideas, effect: suggest, actions: [note.write], approvers: { roles: [payer] } }`,
  });
  const store = desk.stack.store('asking');
  const run = await desk.begin('asking', [
    call(payment(5), ['note.write', { recordId: 'r1', text: 'an idea' }]),
  ]);
  await decide(desk, 'asking', await waitsForApproval(desk, 'asking', run), 'approve');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  const answer = await store.approvals.promote({
    runId: idOf(run),
    path: '0.2',
    approver: { principal: 'user:payer', roles: ['payer'] },
    note: 'do it',
  });
  if (answer.kind !== 'ordered') throw new Error(JSON.stringify(answer));
  await startFollowUp(desk.stack.temporal, answer.signed, answer.followUp);
  await until('the note', async () => (await store.call(run.runId, '0.2'))?.state === 'succeeded', 40_000);
  const report = await until('all told', async () => {
    const each = await replay(await run.row(), 'asking');
    return each.differences === 0 ? each : undefined;
  });
  expect(report).toMatchObject({ replays: true, because: null });
  expect(agreeing(report.calls)).toEqual(['0.0', '0.1', '0.2', '1.0']);
  expect(report.histories).toBe(2);
});

test('O3 a run after a reset, and one that Temporal has forgotten', async () => {
  const handle = desk.stack.temporal.workflow.getHandle(finished.workflowId);
  const { runId } = await handle.describe();
  await desk.stack.temporal.workflowService.resetWorkflowExecution({
    namespace: desk.stack.environment,
    workflowExecution: { workflowId: finished.workflowId, runId },
    reason: 'test',
    requestId: 'reset-for-replay',
    workflowTaskFinishEventId: 4 as never,
  });
  await until('the end of the reset run', async () => (await handle.describe()).status.name !== 'RUNNING');
  expect(await replay(finished)).toMatchObject({ replays: true, histories: 3, differences: 0 });

  const gone = await replay({ ...finished, workflowId: `${finished.workflowId}x` });
  expect(gone).toMatchObject({ replays: false, histories: 0 });
  expect(gone.because).toContain('no history');
  expect(gone.differences).toBeGreaterThan(5);
});

describe('O3 what was tampered with is found', () => {
  let executions: Execution[];
  let entries: JournalEntry[];
  beforeAll(async () => {
    executions = await executionsOf(desk.stack.temporal, finished.workflowId);
    entries = await desk.stack.store('acme').journal({ afterSeq: 0, limit: 500, runId: finished.runId });
  });
  const differing = async (changed: readonly JournalEntry[], told = executions): Promise<string[]> => {
    const calls = await compare(told, changed, () => Promise.resolve(false));
    const good = agreeing(calls);
    return calls.map(({ path }) => path).filter((path) => !good.includes(path));
  };
  const rewritten = (path: string, kind: string, change: (facts: Record<string, unknown>) => object) =>
    entries.map((entry) => {
      const facts = JSON.parse(entry.facts) as Record<string, unknown>;
      return facts['path'] === path && facts['kind'] === kind
        ? { ...entry, facts: JSON.stringify({ ...facts, ...change(facts) }) }
        : entry;
    });
  const without = (path: string, kinds: string[]) =>
    entries.filter(({ facts }) => {
      const read = JSON.parse(facts) as { kind: string; path?: string };
      return read.path !== path || !kinds.includes(read.kind);
    });

  test('control arm: untouched copies agree', async () => {
    expect(await differing(entries)).toEqual([]);
  });
  test('an outcome of the journal that is another', async () => {
    expect(await differing(rewritten('0.1', 'settled', () => ({ result: 'failed' })))).toEqual(['0.1']);
  });
  test('a digest of the journal that is another', async () => {
    const other = 'f'.repeat(64);
    expect(await differing(rewritten('2.0', 'settled', () => ({ payloadDigest: other })))).toEqual(['2.0']);
  });
  test('a settlement, an admission and a refusal that are gone from the journal', async () => {
    expect(await differing(without('2.1', ['settled']))).toEqual(['2.1']);
    expect(await differing(without('2.1', ['admitted']))).toEqual(['2.1']);
    expect(await differing(without('1.2', ['refused']))).toEqual(['1.2']);
  });
  test('an outcome in the journal that no workflow asked for', async () => {
    const moved = rewritten('2.1', 'settled', () => ({ path: '7.1' }));
    expect(await differing(moved)).toEqual(['2.1', '7.1']);
  });
  test('an answer of the history that is another, and an execution that is gone', async () => {
    const changed = executions.map((execution) => ({
      ...execution,
      history: {
        ...execution.history,
        events: (execution.history.events ?? []).map((event) => {
          const done = event.activityTaskCompletedEventAttributes;
          const data = done?.result?.payloads?.[0]?.data;
          const text = data && Buffer.from(data).toString('utf8');
          if (!text?.includes('"ref":"0.1"')) return event;
          const digest = /"digest":"[0-9a-f]{4}/;
          const payload = {
            ...done?.result?.payloads?.[0],
            data: Buffer.from(text.replace(digest, '"digest":"0000')),
          };
          return {
            ...event,
            activityTaskCompletedEventAttributes: { ...done, result: { payloads: [payload] } },
          };
        }),
      },
    })) as Execution[];
    expect(await differing(entries, changed)).toEqual(['0.1']);
    const last = executions.slice(0, 1);
    expect(await differing(entries, last)).toEqual(expect.arrayContaining(['0.0', '0.1', '1.0', '1.1']));
  });
});
