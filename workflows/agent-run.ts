import {
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  continueAsNew,
  isCancellation,
  setDefaultSignalHandler,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { positionPath } from '../contracts/calls';
import type { Envelope } from '../contracts/envelope';
import { STOP_REASONS, type StopReason } from '../contracts/states';
import type { AgentRunInput, AgentRunResult, Entered } from '../contracts/workflow-io';
import { lifecycle } from './activities';
import { agentLoop, type LoopEnd } from './agent-loop';
import { CallsLane } from './call-lane';
import { approvalDecided, cancelRun, killRun, reviewDecided, runState, wakeRun } from './messages';
import { RunView } from './run-view';
import { Slot } from './slot';
import { undoLoop } from './undo-loop';

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
  let entered: Entered | undefined;
  let undoing: CancellationScope | undefined;
  let halted: StopReason | undefined;
  const halt = (reason: StopReason): void => {
    halted ??= reason;
    body.cancel();
  };
  // A function, for the compiler does not see that handlers change it between two awaits.
  const notHalted = (): boolean => halted === undefined;
  setHandler(killRun, () => {
    halt('killed');
    undoing?.cancel();
  });
  setHandler(cancelRun, () => halt('cancelled'));
  setHandler(wakeRun, () => view.wake());
  setHandler(reviewDecided, () => view.wake());
  setHandler(approvalDecided, () => view.wake());
  setHandler(runState, () => ({ ...view.shown(), stopReason: halted ?? null, step: view.step }));
  // Signals by hand may have any name: an unknown one is dropped, not kept for ever.
  setDefaultSignalHandler(() => undefined);

  const { stopReason: reason, outputRef } = await ending(() =>
    body.run(async () => {
      const entry = await enter(view);
      if ('stopReason' in entry) return { ...entry, outputRef: null };
      entered = entry;
      return await work(view, entry, envelope);
    }),
  );
  if (reason === 'continue' && notHalted()) {
    const root = CancellationScope.current();
    await CancellationScope.nonCancellable(() => condition(allHandlersFinished));
    // A kill or cancel that came while waiting is not lost: it is read again, and nothing is awaited after that.
    if (root.consideredCancelled) halt('cancelled');
    if (notHalted()) await continueAsNew<typeof agentRun>({ signed: input.signed, carry: view.carry() });
  }
  let wanted = halted ?? (reason === 'continue' ? 'failed' : reason);
  if (asksForUndo(entered) && fails(wanted) && !(await undone())) wanted = 'killed';
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

  /**
   * Undoes the run's own writes. A cancel from now on changes nothing, a kill ends it: `false`. What is then not undone,
   * or where it fails, is a follow-up's, which leaving orders.
   */
  async function undone(): Promise<boolean> {
    return await CancellationScope.nonCancellable(async () => {
      // Made in here, so that only a kill cancels it.
      const inside = new CancellationScope();
      undoing = inside;
      await inside
        .run(() => undoOwnWrites(view, envelope))
        .catch((error: unknown) => {
          if (!isCancellation(error)) view.failedWith(error);
        });
      return !inside.consideredCancelled;
    });
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

const asksForUndo = (entered: Entered | undefined): boolean => entered?.undoOnFailure === true;

/** Whether a run that ends so has failed, by itself: neither done, nor stopped by anybody. */
const fails = (reason: StopReason): boolean =>
  STOP_REASONS[reason].closing === 'Failed' && reason !== 'killed';

async function undoOwnWrites(view: RunView, { tenantId }: Envelope): Promise<void> {
  const begun = await lifecycle('undo what the run did: begin').beginUndo({ reason: 'failed' });
  if (begun.kind !== 'entered') return;
  const { followUpNo } = begun;
  const { outcome } = await undoLoop(view, begun, tenantId, { insists: false });
  await lifecycle('undo what the run did: record how it ended').leaveFollowUp({ followUpNo, outcome });
}

async function enter(view: RunView): Promise<Entered | { stopReason: StopReason }> {
  const { continuedFromExecutionRunId } = workflowInfo();
  for (;;) {
    const seen = view.wakeUps;
    const entry = await lifecycle(
      view.generation === 0 ? 'enter: take a slot' : `enter again, part ${view.generation + 1}`,
    ).enterRun({
      generation: view.generation,
      previousTemporalRunId: continuedFromExecutionRunId ?? null,
    });
    switch (entry.kind) {
      case 'entered':
        view.entered(entry.seq, entry.firstStep ?? 0);
        if (entry.parks) view.slot = new Slot(view);
        return entry;
      case 'refused':
        view.refused(entry.refusal);
        return { stopReason: entry.stopReason };
      case 'queued':
        view.saw(entry.seq);
        view.waitsForSlot(entry);
        // No timer: whoever gives it a slot, or ends its wait, signals; the sweep does where that was lost.
        await condition(() => view.wakeUps > seen);
    }
  }
}

function work(view: RunView, entered: Entered, envelope: Envelope): Promise<LoopEnd> {
  const lane = new CallsLane(view, entered, envelope.tenantId);
  return agentLoop(view, entered, {
    callModel: (position) =>
      lane.call(null, `step ${position.step} · ask the model`, ({ callModel }) =>
        callModel({ position, seq: view.seq }),
      ),
    callTool: (position, source, index, action) =>
      lane.call(
        action,
        `step ${positionPath(position)} · ${action ?? 'an action that does not exist'}`,
        ({ callTool }) => callTool({ position, source, index, seq: view.seq }),
      ),
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
