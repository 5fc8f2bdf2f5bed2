import type { CheckpointCall, CheckpointName } from '../../contracts/checkpoint';
import { until } from '../support/until';
import { call, failing, on, openDesk, type Desk } from './desk';

let desk: Desk;
const passed: [CheckpointName, CheckpointCall][] = [];
/** What is done at a place, beside writing down that it was passed. */
let atPoint: (point: CheckpointName, place: CheckpointCall) => Promise<void>;

beforeAll(async () => {
  desk = await openDesk({
    checkpoint: async (point, place) => {
      passed.push([point, place]);
      await atPoint(point, place);
    },
  });
  await desk.tenant('acme');
});
beforeEach(() => {
  passed.length = 0;
  atPoint = () => Promise.resolve();
  desk.outside.faults = {};
});
afterAll(() => desk.close());

const pointsOf = (path: string): CheckpointName[] =>
  passed.filter(([, place]) => place.path === path).map(([point]) => point);

test('T3 a write passes every named place, in order, and a request that has left is one that arrives', async () => {
  const arrived: [CheckpointName, number][] = [];
  const notes = (): number => desk.outside.requests.filter(({ path }) => path === '/notes').length;
  atPoint = async (point, { path }) => {
    if (path !== '0.1') return;
    // Nothing was read of the answer, and yet the request is on its way: nothing more is needed for it to arrive.
    if (point === 'after_send') await until('it arrives', () => Promise.resolve(notes() > 0), 5_000);
    if (point.endsWith('_send') || point === 'after_reply') arrived.push([point, notes()]);
  };
  const { run } = await desk.play('acme', [call(['note.write', { recordId: 'r1', text: 'x' }])]);
  expect(pointsOf('0.1')).toEqual([
    'decided',
    'claimed',
    'admitted',
    'leased',
    'before_send',
    'after_send',
    'after_reply',
    'before_settle',
    'after_settle',
  ]);
  expect(arrived).toEqual([
    ['before_send', 0],
    ['after_send', 1],
    ['after_reply', 1],
  ]);
  expect(passed.find(([, place]) => place.path === '0.1')?.[1]).toEqual({
    tenantId: 'acme',
    runId: run.runId,
    path: '0.1',
    action: 'note.write',
    attempt: 1,
  });
});

test('T5 an undo passes them too, and two of its own around its request', async () => {
  await desk.play('acme', [on('order.place'), ...failing], 'test_undoer');
  const points = pointsOf('0.1/undo');
  expect(points.filter((point) => point.endsWith('undo') || point.startsWith('after_'))).toEqual([
    'before_undo',
    'after_send',
    'after_reply',
    'after_undo',
    'after_settle',
  ]);
});

test('O8 the sequence of its admission is in a call’s heartbeats, and stays there', async () => {
  desk.outside.faults = { delayMs: 2_500 };
  const run = await desk.begin('acme', [call(['note.write', { recordId: 'r1', text: 'slow' }])]);
  const handle = desk.stack.temporal.workflow.getHandle(run.workflowId);
  const beating = async (): Promise<number | undefined> => {
    const { raw } = await handle.describe();
    const pending = raw.pendingActivities?.find(({ activityType }) => activityType?.name === 'callTool');
    const data = pending?.heartbeatDetails?.payloads?.[0]?.data;
    return data ? (JSON.parse(Buffer.from(data).toString()) as { seq: number }).seq : undefined;
  };
  const seq = await until('a heartbeat with a sequence', beating);
  const admitted = (await desk.stack.journal('acme')).find(({ facts }) => {
    const { kind, run: of, path } = JSON.parse(facts) as Record<string, unknown>;
    return kind === 'admitted' && of === run.runId && path === '0.1';
  });
  expect(seq).toBe(admitted?.seq);
  // The plain beats of the next seconds repeat it.
  await new Promise((resolve) => setTimeout(resolve, 1_800));
  expect([seq, undefined]).toContain(await beating());
  await run.result({ timeoutMs: 30_000 });
});
