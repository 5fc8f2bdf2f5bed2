import { randomUUID } from 'node:crypto';
import { WorkflowFailedError } from '@temporalio/client';
import { ActivityFailure } from '@temporalio/common';
import { Worker } from '@temporalio/worker';
import type { SignedEnvelope } from '../../contracts/envelope';
import { LIFECYCLE_QUEUE, tenantQueue } from '../../contracts/names';
import { failing, on, openDesk, type Desk } from '../runs/desk';
import type { StrayInput } from './stray';

let desk: Desk;
let stray: Worker;
let working: Promise<void>;
let mine: SignedEnvelope;
let others: SignedEnvelope;
let foreign: SignedEnvelope;

/** A closed run with a write that could be undone. */
async function signedRun(tenant: string): Promise<SignedEnvelope> {
  const { run } = await desk.play(tenant, [on('order.place'), ...failing]);
  if (!run.acceptance) throw new Error('a started run has its acceptance');
  return run.acceptance.signed;
}

beforeAll(async () => {
  desk = await openDesk();
  await desk.tenant('acme');
  await desk.tenant('globex');
  [mine, others, foreign] = [await signedRun('acme'), await signedRun('acme'), await signedRun('globex')];
  stray = await Worker.create({
    connection: desk.stack.parts.connection,
    namespace: desk.stack.environment,
    taskQueue: 'stray',
    workflowsPath: require.resolve('./stray'),
    interceptors: { workflowModules: [require.resolve('../../workflows/interceptors')] },
  });
  working = stray.run();
});
afterAll(async () => {
  stray.shutdown();
  await working;
  await desk.close();
});

/** Type of the failure that the activity ended with; what it answered otherwise. */
async function ends(type: string, workflowId: string, input: StrayInput): Promise<unknown> {
  const handle = await desk.stack.temporal.workflow.start(type, {
    workflowId,
    taskQueue: 'stray',
    args: [input],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
  });
  return await handle.result().then(
    (answer: unknown) => answer,
    (error: unknown) => {
      const cause = error instanceof WorkflowFailedError ? error.cause : undefined;
      return cause instanceof ActivityFailure ? (cause.cause as { type?: string }).type : String(error);
    },
  );
}

const LANE = tenantQueue('acme' as never);
const undo = { followUpNo: 7, path: '0.1', seq: 0 };
const tool = { position: { step: 0, ordinal: 1 }, source: { step: 0, ordinal: 0 }, index: 0, seq: 0 };

type Attack = [
  what: string,
  type: string,
  id: () => string,
  signed: () => SignedEnvelope,
  queue: string,
  activity: string,
  args: unknown,
];
const attacks: Attack[] = [
  [
    'another run’s envelope',
    'undoRun',
    () => `${mine.envelope.workflowId}/undo/7`,
    () => others,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'another tenant’s envelope',
    'undoRun',
    () => `${mine.envelope.workflowId}/undo/7`,
    () => foreign,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'a tenant’s own envelope on another’s lane',
    'undoRun',
    () => `${foreign.envelope.workflowId}/undo/7`,
    () => foreign,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'a workflow of another type',
    'otherType',
    () => `${mine.envelope.workflowId}/undo/7`,
    () => mine,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'the type of the other kind',
    'retryCall',
    () => `${mine.envelope.workflowId}/undo/7`,
    () => mine,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'a run’s type under a follow-up’s id',
    'agentRun',
    () => `${mine.envelope.workflowId}/undo/7`,
    () => mine,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'a follow-up’s type under the run’s id',
    'undoRun',
    () => mine.envelope.workflowId,
    () => mine,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'an undo that retries',
    'undoRun',
    () => `${mine.envelope.workflowId}/undo/7`,
    () => mine,
    LANE,
    'retryCall',
    undo,
  ],
  [
    'a retry that undoes',
    'retryCall',
    () => `${mine.envelope.workflowId}/retry/7`,
    () => mine,
    LANE,
    'undoCall',
    undo,
  ],
  ['a run that retries', 'agentRun', () => mine.envelope.workflowId, () => mine, LANE, 'retryCall', undo],
  [
    'a run that enters a follow-up',
    'agentRun',
    () => mine.envelope.workflowId,
    () => mine,
    LIFECYCLE_QUEUE,
    'enterFollowUp',
    { followUpNo: 7 },
  ],
  [
    'a follow-up that makes the run’s calls',
    'undoRun',
    () => `${mine.envelope.workflowId}/undo/7`,
    () => mine,
    LANE,
    'callTool',
    tool,
  ],
  [
    'a follow-up that leaves for the run',
    'undoRun',
    () => `${mine.envelope.workflowId}/undo/7`,
    () => mine,
    LIFECYCLE_QUEUE,
    'leaveRun',
    { stopReason: 'completed', outputRef: null },
  ],
  [
    'an id of no follow-up',
    'undoRun',
    () => `${mine.envelope.workflowId}/undo/seven`,
    () => mine,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'a follow-up of a follow-up',
    'undoRun',
    () => `${mine.envelope.workflowId}/undo/7/undo/7`,
    () => mine,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'no envelope',
    'undoRun',
    () => `${mine.envelope.workflowId}/undo/7`,
    () => undefined as never,
    LANE,
    'undoCall',
    undo,
  ],
  [
    'an invented run',
    'undoRun',
    () => `tenant/acme/${desk.stack.environment}/run/${randomUUID()}/undo/7`,
    () => mine,
    LANE,
    'undoCall',
    undo,
  ],
];

test.each(attacks)(
  'E2 E3 a follow-up with %s is refused before any effect',
  async (_what, type, id, signed, queue, activity, args) => {
    const before = desk.outside.requests.length;
    const end = await ends(type, id(), { signed: signed(), queue, activity, args });
    expect(['EnvelopeInvalid', 'WrongLane']).toContain(end);
    expect(desk.outside.requests.length).toBe(before);
  },
);

test('E2 a follow-up that asks for another number than its id’s is refused, and one that nobody ordered is let in by no ledger', async () => {
  const before = desk.outside.requests.length;
  const id = `${mine.envelope.workflowId}/undo/8`;
  expect(await ends('undoRun', id, { signed: mine, queue: LANE, activity: 'undoCall', args: undo })).toBe(
    'ContractBroken',
  );
  const right = { ...undo, followUpNo: 8 };
  expect(
    await ends('undoRun', id, { signed: mine, queue: LANE, activity: 'undoCall', args: right }),
  ).toMatchObject({
    refusal: { origin: 'control' },
  });
  expect(desk.outside.requests.length).toBe(before);
});

test('N2 a workflow of one’s own that works on a run learns where its calls go, and nothing else of follow-ups', async () => {
  const asked = (activity: string, args: unknown, queue: string) =>
    ends('otherType', mine.envelope.workflowId, { signed: mine, queue, activity, args });
  expect(await asked('findLane', { queue: LANE, untilServed: false }, LIFECYCLE_QUEUE)).toMatchObject({
    lane: { queues: { calls: LANE } },
  });
  expect(await asked('undoCall', undo, LANE)).toBe('EnvelopeInvalid');
});
