import type { CallAnswer, ModelStep, Position } from '../contracts/calls';
import { positionPath } from '../contracts/calls';
import { APPROVAL_RULES } from '../contracts/approvals';
import type { Refusal } from '../contracts/refusal';
import { REVIEW_ABANDONED } from '../contracts/reviews';
import type { StopReason } from '../contracts/states';
import type { Entered } from '../contracts/workflow-io';
import type { EndedCall } from './repeats';
import type { RunView } from './run-view';
import { throughWaits } from './waits';

/** How the loop ended: for good, or to go on in a fresh history. */
export interface LoopEnd {
  readonly stopReason: StopReason | 'continue';
  readonly outputRef: string | null;
}

export interface LoopCalls {
  callModel(position: Position): Promise<CallAnswer<ModelStep>>;
  callTool(
    position: Position,
    source: Position,
    index: number,
    action: string | null,
  ): Promise<CallAnswer<null>>;
}

const end = (stopReason: StopReason, outputRef: string | null = null): LoopEnd => ({ stopReason, outputRef });

/**
 * Model step, governed calls, observe, again. A tool's refusal or failure is the model's to see and go on from; what no
 * model can mend ends the run. Positions are taken before the first await, and kept across waits.
 */
export async function agentLoop(view: RunView, bounds: Entered, calls: LoopCalls): Promise<LoopEnd> {
  const firstStep = view.step;
  // The steps that a forked run copied were another run's.
  const lastStep = (bounds.firstStep ?? 0) + bounds.maxSteps;
  for (;;) {
    if (view.step >= lastStep) return end('budget_exceeded');
    if (view.step - firstStep >= bounds.continueAsNewAfter)
      return { stopReason: 'continue', outputRef: null };
    const source: Position = { step: view.step, ordinal: 0 };
    const asked = await throughWaits(view, bounds, () => calls.callModel(source));
    if (asked.kind !== 'done') return end(endsModelCall(asked.refusal));
    view.countModel(asked.value);
    const { toolCalls, asked: digests } = asked.value;
    if (toolCalls.length === 0) return end('completed', positionPath(source));
    let usable = false;
    const ended: EndedCall[] = [];
    for (const [index, action] of toolCalls.entries()) {
      const position: Position = { step: source.step, ordinal: index + 1 };
      const answer = await throughWaits(
        view,
        bounds,
        () => calls.callTool(position, source, index, action),
        action ?? undefined,
      );
      view.countTool(answer.kind === 'done' ? null : answer.refusal, action);
      ended.push({ action, asked: digests?.[index], answer });
      // A suggestion is an answer that the model may go on from.
      if (answer.kind === 'done' || answer.kind === 'suggested') usable = true;
      if (answer.kind !== 'done') {
        const stop = endsToolCall(answer.refusal);
        if (stop) return end(stop);
      }
    }
    view.misbehaved = usable ? 0 : view.misbehaved + 1;
    if (view.misbehaved >= bounds.maxMisbehaviour) return end('model_misbehaved');
    const repeat = view.repeats.ended(ended);
    if (repeat && repeat.times >= (bounds.maxRepeats ?? Infinity)) {
      view.loops(repeat);
      return end('model_misbehaved');
    }
    view.step += 1;
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
  if (refusal.rule === REVIEW_ABANDONED) return 'review_abandoned';
  if (refusal.rule === APPROVAL_RULES.denied) return 'approval_denied';
  if (refusal.rule === APPROVAL_RULES.expired) return 'approval_expired';
  switch (refusal.kind) {
    case 'killed':
      return 'killed';
    case 'throttled':
      // What the platform had no room for is no budget of anybody's.
      return refusal.origin === 'platform' ? 'failed' : 'budget_exceeded';
    case 'budget_exceeded':
      return 'budget_exceeded';
    case 'scope_ambiguous':
      return 'scope_ambiguous';
    case 'outcome_unknown':
    case 'read_back_mismatch':
      return 'outcome_unknown';
    case 'idempotency_conflict':
      return 'idempotency_conflict';
    case 'frozen':
      return 'failed';
    case 'provider_degraded':
      // Left alone for longer than a run may wait; what was tried and failed is the model's to see.
      return refusal.retryAfterMs === undefined ? undefined : 'provider_degraded';
    case 'denied':
    case 'suggested':
    case 'approval_required':
    case 'failed':
      return refusal.rule === 'credential_unavailable' ? 'credential_unavailable' : undefined;
  }
}
