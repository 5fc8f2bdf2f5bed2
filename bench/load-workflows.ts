import {
  ApplicationFailure,
  CancellationScope,
  condition,
  defineQuery,
  defineSignal,
  proxyActivities,
  setHandler,
} from '@temporalio/workflow';
import type { SignedEnvelope } from '../contracts/envelope';
import { lifecycle } from '../workflows/activities';
import { CallsLane } from '../workflows/call-lane';
import { RunView } from '../workflows/run-view';
import { throughWaits } from '../workflows/waits';
import type { Job } from './load-app';

/** The product's own beside them: one bundle serves all hosts of a benchmark. */
export * from '../workflows';

/** The queue of the control arm: everybody's activities, in the order of their arrival. */
export const RAW_QUEUE = 'raw';

/** Input of an activity of the control arm. */
export interface RawLoad {
  readonly tenant: string;
  readonly index: number;
  readonly job: Job;
}

/** Input of the workflows below. A run with `raw` is not governed, and does this job. */
export interface LoadInput {
  readonly signed: SignedEnvelope;
  readonly raw?: Job;
}

/** How the calls of a run ended, by the kind of their answer. */
export type Tally = Readonly<Record<string, number>>;

export const callsSignal = defineSignal<[{ from: number; count: number }]>('calls');
export const endSignal = defineSignal('end');
export const stopSignal = defineSignal('stop');
export const readyQuery = defineQuery<boolean>('ready');

/** No run of a load lives for longer. */
const MAX_WAIT_MS = 3_600_000;

/** Makes the call of an index, and answers how it ended. */
type Make = (index: number) => Promise<string>;

/**
 * Makes calls when it is told to, by signals, however many are under way: an open loop. `end`: no more will come, and it leaves
 * after the last. `stop`: it gives up what is under way and leaves.
 */
export async function openLoop(input: LoadInput): Promise<Tally> {
  const waiting: number[] = [];
  let ended = false;
  setHandler(callsSignal, ({ from, count }) => {
    for (let index = from; index < from + count; index += 1) waiting.push(index);
  });
  setHandler(endSignal, () => void (ended = true));
  return await counting(input, async (begin, underWay) => {
    for (;;) {
      await condition(() => waiting.length > 0 || ended);
      if (waiting.length === 0) break;
      for (const index of waiting.splice(0)) begin(index);
    }
    await condition(() => underWay() === 0);
  });
}

/** Keeps so many calls under way, until it is told to stop: a backlog that never ends. */
export async function backlog(input: LoadInput & { readonly outstanding: number }): Promise<Tally> {
  return await counting(input, async (begin, underWay) => {
    for (let index = 0; ;) {
      for (; underWay() < input.outstanding; index += 1) begin(index);
      await condition(() => underWay() < input.outstanding);
    }
  });
}

/** Makes its calls one after the other, and leaves. */
export async function shortRun(input: LoadInput & { readonly calls: number }): Promise<Tally> {
  return await counting(input, async (begin, underWay) => {
    for (let index = 0; index < input.calls; index += 1) {
      begin(index);
      await condition(() => underWay() === 0);
    }
  });
}

/** Enters, does the work, counts the answers and leaves, also where it was stopped. */
async function counting(
  input: LoadInput,
  work: (begin: (index: number) => void, underWay: () => number) => Promise<void>,
): Promise<Tally> {
  const tally: Record<string, number> = {};
  const scope = new CancellationScope();
  let ready = false;
  let open = 0;
  setHandler(readyQuery, () => ready);
  setHandler(stopSignal, () => scope.cancel());
  const { make, leave } = input.raw ? rawly(input, input.raw) : await governed(input);
  ready = true;
  const count = (kind: string): void => {
    open -= 1;
    tally[kind] = (tally[kind] ?? 0) + 1;
  };
  const begin = (index: number): void => {
    open += 1;
    make(index).then(count, () => count('gaveUp'));
  };
  await scope
    .run(() => work(begin, () => open))
    .catch((error: unknown) => {
      if (!scope.consideredCancelled) throw error;
    });
  await condition(() => open === 0);
  await leave();
  return tally;
}

async function governed({ signed }: LoadInput): Promise<{ make: Make; leave: () => Promise<unknown> }> {
  const view = new RunView(undefined);
  const entry = await lifecycle('enter').enterRun({ generation: 0, previousTemporalRunId: null });
  if (entry.kind !== 'entered')
    throw ApplicationFailure.nonRetryable(`the run was not entered: ${entry.kind}`);
  const lane = new CallsLane(view, entry, signed.envelope.tenantId);
  const source = { step: 0, ordinal: 0 };
  return {
    make: async (index) => {
      const position = { step: 0, ordinal: index + 1 };
      // As the product's own loop does: what is refused for now is asked for again, and not replaced by the next call.
      const { kind } = await throughWaits(view, { maxWaitMs: MAX_WAIT_MS }, () =>
        lane.call('job.do', `call ${index}`, ({ callTool }) =>
          callTool({ position, source, index: 0, seq: view.seq }),
        ),
      );
      return kind;
    },
    leave: () => lifecycle('leave').leaveRun({ stopReason: 'completed', outputRef: null }),
  };
}

function rawly({ signed }: LoadInput, job: Job): { make: Make; leave: () => Promise<unknown> } {
  const { rawCall } = proxyActivities<{ rawCall(load: RawLoad): Promise<{ kind: string }> }>({
    taskQueue: RAW_QUEUE,
    startToCloseTimeout: '1m',
    retry: { initialInterval: '200ms', backoffCoefficient: 2, maximumInterval: '5s' },
  });
  return {
    make: async (index) => (await rawCall({ tenant: signed.envelope.tenantId, index, job })).kind,
    leave: () => Promise.resolve(),
  };
}
