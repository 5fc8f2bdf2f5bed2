import {
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  isCancellation,
  setDefaultSignalHandler,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { positionPath } from '../contracts/calls';
import type { Envelope } from '../contracts/envelope';
import { STOP_REASONS, type RunState, type StopReason } from '../contracts/states';
import {
  QUERIES,
  SIGNALS,
  type AgentRunInput,
  type AgentRunResult,
  type Entered,
} from '../contracts/workflow-io';
import { callsOn, lifecycle } from './activities';
import { agentLoop, type LoopEnd } from './agent-loop';
import { RunView } from './run-view';

export const killRun = defineSignal(SIGNALS.killRun);
export const cancelRun = defineSignal(SIGNALS.cancelRun);
/** A limit may have freed, a person may have decided: a hint to ask again, never the answer. */
export const wakeRun = defineSignal(SIGNALS.wakeRun);
export const runState = defineQuery<{
  state: RunState;
  detail: string;
  since: string;
  stopReason: StopReason | null;
  step: number;
}>(QUERIES.runState);

/**
 * One agent run, from entry to exactly one stop reason (promise Q5). It orchestrates and remembers positions; what is
 * permitted, counted or sent is decided in its activities. Payloads stay in tenant storage: history holds references.
 *
 * Closes Completed for `completed`, Canceled for `cancelled`, Failed with the stop reason as the failure's type for
 * every other one, so that Temporal's UI tells the truth.
 */
export async function agentRun(input: AgentRunInput): Promise<AgentRunResult> {
  const envelope = envelopeOf(input);
  const view = new RunView(input.carry);
  const body = new CancellationScope();
  let halted: StopReason | undefined;
  const halt = (reason: StopReason): void => {
    halted ??= reason;
    body.cancel();
  };
  // A function, for the compiler does not see that handlers change it between two awaits.
  const notHalted = (): boolean => halted === undefined;
  setHandler(killRun, () => halt('killed'));
  setHandler(cancelRun, () => halt('cancelled'));
  setHandler(wakeRun, () => view.wake());
  setHandler(runState, () => ({ ...view.shown(), stopReason: halted ?? null, step: view.step }));
  // Signals by hand may have any name: an unknown one is dropped, not kept for ever.
  setDefaultSignalHandler(() => undefined);

  const { stopReason: reason, outputRef } = await ending(() =>
    body.run(async () => {
      const entered = await enter(view);
      return 'stopReason' in entered ? { ...entered, outputRef: null } : await work(view, entered, envelope);
    }),
  );
  if (reason === 'continue' && notHalted()) {
    const root = CancellationScope.current();
    await CancellationScope.nonCancellable(() => condition(allHandlersFinished));
    // A kill or cancel that came while waiting is not lost: it is read again, and nothing is awaited after that.
    if (root.consideredCancelled) halt('cancelled');
    if (notHalted()) await continueAsNew<typeof agentRun>({ signed: input.signed, carry: view.carry() });
  }
  const wanted = halted ?? (reason === 'continue' ? 'failed' : reason);
  const { stopReason } = await CancellationScope.nonCancellable(() =>
    lifecycle('leave: free the slot, record why the run ended').leaveRun({ stopReason: wanted, outputRef }),
  );
  view.close(stopReason);
  switch (STOP_REASONS[stopReason].closing) {
    case 'Completed':
      return { stopReason, outputRef, usage: view.usage };
    case 'Canceled':
      await cancellationRequested();
      throw new CancelledFailure(STOP_REASONS[stopReason].means);
    default:
      throw ApplicationFailure.nonRetryable(STOP_REASONS[stopReason].means, stopReason);
  }

  /** Runs the body and reads how it ended; cancellation from outside is a reason like any other. */
  async function ending(run: () => Promise<LoopEnd>): Promise<LoopEnd> {
    try {
      return await run();
    } catch (error) {
      if (isCancellation(error)) return { stopReason: halted ?? 'cancelled', outputRef: null };
      view.failedWith(error);
      return { stopReason: 'failed', outputRef: null };
    }
  }
}

/**
 * Temporal closes as Canceled only what was asked to cancel, and no workflow can ask itself: for a run stopped by our own
 * signal `leaveRun` has asked, and the request is on its way.
 */
async function cancellationRequested(): Promise<void> {
  const root = CancellationScope.current();
  if (root.consideredCancelled) return;
  await CancellationScope.nonCancellable(() => condition(() => root.consideredCancelled, '30s'));
}

async function enter(view: RunView): Promise<Entered | { stopReason: StopReason }> {
  const { continuedFromExecutionRunId } = workflowInfo();
  const entry = await lifecycle(
    view.generation === 0 ? 'enter: take a slot' : `enter again, part ${view.generation + 1}`,
  ).enterRun({
    generation: view.generation,
    previousTemporalRunId: continuedFromExecutionRunId ?? null,
  });
  if (entry.kind === 'entered') {
    view.entered(entry.seq);
    return entry;
  }
  view.refused(entry.refusal);
  return { stopReason: entry.stopReason };
}

function work(view: RunView, entered: Entered, envelope: Envelope): Promise<LoopEnd> {
  return agentLoop(view, entered, {
    callModel: (position, seq) =>
      callsOn(entered.queue, `step ${position.step} · ask the model`, envelope.tenantId).callModel({
        position,
        seq,
      }),
    callTool: (position, source, index, action, seq) =>
      callsOn(
        entered.queue,
        `step ${positionPath(position)} · ${action ?? 'an action that does not exist'}`,
        envelope.tenantId,
      ).callTool({
        position,
        source,
        index,
        seq,
      }),
  });
}

/** The envelope is read here only for names; whether it is true is the interceptor's to say, before each activity. */
function envelopeOf(input: AgentRunInput | undefined): Envelope {
  const envelope = (input as Partial<AgentRunInput> | undefined)?.signed?.envelope;
  if (typeof envelope?.tenantId !== 'string') {
    throw ApplicationFailure.nonRetryable(
      'a run needs a signed envelope; start it through the client',
      'EnvelopeInvalid',
    );
  }
  return envelope;
}
