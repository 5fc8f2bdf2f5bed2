import { condition } from '@temporalio/workflow';
import type { CallAnswer, ModelStep, Position } from '../contracts/calls';
import { positionPath } from '../contracts/calls';
import type { Refusal } from '../contracts/refusal';
import type { StopReason } from '../contracts/states';
import type { Entered } from '../contracts/workflow-io';
import type { RunView } from './run-view';

/** How the loop ended: for good, or to go on in a fresh history. */
export interface LoopEnd {
  readonly stopReason: StopReason | 'continue';
  readonly outputRef: string | null;
}

export interface LoopCalls {
  callModel(position: Position, seq: number): Promise<CallAnswer<ModelStep>>;
  callTool(
    position: Position,
    source: Position,
    index: number,
    action: string | null,
    seq: number,
  ): Promise<CallAnswer<null>>;
}

const end = (stopReason: StopReason, outputRef: string | null = null): LoopEnd => ({ stopReason, outputRef });

/**
 * Model step, governed calls, observe, again. A tool's refusal or failure is the model's to see and go on from; what no
 * model can mend ends the run. Positions are taken before the first await, and kept across waits.
 */
export async function agentLoop(view: RunView, bounds: Entered, calls: LoopCalls): Promise<LoopEnd> {
  const firstStep = view.step;
  let misbehaved = 0;
  for (;;) {
    if (view.step >= bounds.maxSteps) return end('budget_exceeded');
    if (view.step - firstStep >= bounds.continueAsNewAfter)
      return { stopReason: 'continue', outputRef: null };
    const source: Position = { step: view.step, ordinal: 0 };
    const asked = await throughWaits(view, bounds, () => calls.callModel(source, view.seq));
    if (asked.kind !== 'done') return end(endsModelCall(asked.refusal));
    view.countModel(asked.value);
    const { toolCalls } = asked.value;
    if (toolCalls.length === 0) return end('completed', positionPath(source));
    let usable = false;
    for (const [index, action] of toolCalls.entries()) {
      const position: Position = { step: source.step, ordinal: index + 1 };
      const answer = await throughWaits(view, bounds, () =>
        calls.callTool(position, source, index, action, view.seq),
      );
      view.countTool(answer.kind === 'done' ? null : answer.refusal, action);
      if (answer.kind === 'done') usable = true;
      else {
        const stop = endsToolCall(answer.refusal);
        if (stop) return end(stop);
      }
    }
    misbehaved = usable ? 0 : misbehaved + 1;
    if (misbehaved >= bounds.maxMisbehaviour) return end('model_misbehaved');
    view.step += 1;
  }
}

/**
 * Asks until the answer is not "later". The position stays, the wait is durable and visible, ends early on a wake-up
 * and for good when the run has waited longer than it may.
 */
async function throughWaits<T>(
  view: RunView,
  bounds: Entered,
  ask: () => Promise<CallAnswer<T>>,
): Promise<CallAnswer<T>> {
  for (let waited = 0; ;) {
    const seen = view.wakeUps;
    const answer = await ask();
    view.saw(answer.seq);
    if (answer.kind === 'done') return answer;
    const { retryAfterMs } = answer.refusal;
    if (retryAfterMs === undefined) return answer;
    const wait = Math.min(retryAfterMs, bounds.maxWaitMs - waited);
    if (wait <= 0) return answer;
    view.waitsFor(answer.refusal);
    const since = Date.now();
    await condition(() => view.wakeUps > seen, wait);
    waited += Date.now() - since;
    view.goesOn();
  }
}

/** Every refusal of a model call ends the run: without its model an agent can do nothing. */
function endsModelCall(refusal: Refusal): StopReason {
  return (
    endsToolCall(refusal) ??
    (refusal.origin === 'policy'
      ? 'policy_denied'
      : refusal.origin === 'provider' || refusal.rule === 'attempts_exhausted'
        ? 'provider_degraded'
        : 'failed')
  );
}

/** The stop reason of a refusal that ends the run; `undefined` where the model sees it and goes on. */
function endsToolCall(refusal: Refusal): StopReason | undefined {
  switch (refusal.kind) {
    case 'killed':
      return 'killed';
    case 'budget_exceeded':
    case 'throttled':
      return 'budget_exceeded';
    case 'scope_ambiguous':
      return 'scope_ambiguous';
    case 'outcome_unknown':
      return 'outcome_unknown';
    case 'idempotency_conflict':
      return 'idempotency_conflict';
    case 'denied':
    case 'suggested':
    case 'approval_required':
    case 'provider_degraded':
    case 'failed':
    case 'frozen':
      return refusal.rule === 'credential_unavailable' ? 'credential_unavailable' : undefined;
  }
}
