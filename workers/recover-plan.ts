import { toolNameOfAction } from '../contracts/tool-names';
import { LEASE_MARGIN_MS } from '../activities/attempt';
import type { Action } from '../contracts/action';
import type { Agent } from '../contracts/agent';
import type { CallAnswer, ModelStep, StoredInput, StoredPayload } from '../contracts/calls';
import { digestOf } from '../contracts/digest';
import { MODEL_ACTION } from '../contracts/names';
import type { LedgerCall, RestoredCall } from '../contracts/recovery';
import type { Refusal } from '../contracts/refusal';
import type { CallTrace } from './recover-history';

/** What models read in the place of what was lost. */
const LOST = {
  input:
    'The request that this run was started with was lost when the platform’s database was restored from a backup. What the run had done so far is shown below. Do not guess the request: say what was done, and end.',
  text: '(These words were lost when the platform’s database was restored from a backup.)',
  args: '(The arguments of this call were lost when the platform’s database was restored from a backup.)',
  result:
    'This call was done, once. Its result was lost when the platform’s database was restored from a backup. Do not repeat it; read again what you need.',
} as const;

/** Stands for the input of a run that was accepted after the backup. */
export const lostInput = (): StoredInput => ({ kind: 'input', input: LOST.input, lost: true });

/** Stands for a step that a fork had copied from another run. */
export const lostStep = (): StoredPayload => ({
  kind: 'model',
  text: LOST.text,
  toolCalls: [],
  inputTokens: 0,
  outputTokens: 0,
  lost: true,
});

/** Every class that a result may have brought: what a run is taken to have read where nobody knows what it read. */
export const declaredClasses = (actions: PlanParts['actions']): string[] =>
  [...new Set([...actions.values()].flatMap(({ resultClasses }) => resultClasses))].sort();

/** What is done about one call, with why, in words. */
export interface CallPlan {
  readonly path: string;
  readonly action: string;
  readonly history: string;
  readonly ledger: string;
  readonly done: string;
  /** `null`: nothing. */
  readonly restore: {
    readonly from: LedgerCall['state'] | null;
    readonly to: 'claimed' | 'succeeded' | 'failed' | 'unknown';
    readonly call: RestoredCall;
  } | null;
}

/** What is known of the run that a call is of. */
export interface PlanParts {
  readonly agent: Agent | undefined;
  readonly actions: ReadonlyMap<string, Action>;
  readonly ledger: ReadonlyMap<string, LedgerCall>;
  readonly calls: ReadonlyMap<string, CallTrace>;
  /** Names of what the model asked for, where the ledger still has the step with its arguments; `undefined` where they are lost. */
  readonly asked: (source: string) => readonly (string | null)[] | undefined;
}

/** Decides about one call from its history and the restored ledger. Pure. */
export function planCall(trace: CallTrace, parts: PlanParts): CallPlan {
  const { path } = trace;
  const name = actionOf(trace, parts);
  const row = parts.ledger.get(path);
  const base = { path, action: name, history: inWords(trace), ledger: row?.state ?? 'unknown to it' };
  const nothing = (done: string): CallPlan => ({ ...base, done, restore: null });
  const restore = (
    to: NonNullable<CallPlan['restore']>['to'],
    done: string,
    more: Partial<RestoredCall>,
  ): CallPlan => ({
    ...base,
    done,
    restore: { from: row?.state ?? null, to, call: { ...facts(trace, name, parts), ...more } },
  });
  const answer = answerOf(trace);

  if (answer?.kind === 'done') {
    if (row?.state === 'succeeded') return nothing('nothing: the ledger has it');
    return restore('succeeded', 'put back as done; its payload is lost', {
      ...charge(trace, name, parts),
      value: answer.value ?? null,
      payload: donePayload(trace, name, answer),
      payloadDigest: answer.digest,
    });
  }
  if (row?.state === 'succeeded') return nothing('nothing: the ledger has it as done');
  const again = answer === null || trace.kind === 'retry';
  if (trace.mayBeSent && again) return planUnfinished(trace, name, row, parts, { nothing, restore });
  if (answer === null) {
    if (trace.answer) return nothing('nothing: the undo was not made');
    return nothing(row ? 'nothing: it goes on from there' : 'nothing: it was not sent');
  }

  const { refusal } = answer;
  // What it has of it now, a person may have made of the suggestion.
  if (refusal.kind === 'suggested' && row) return nothing('nothing: the ledger has it');
  const unknown = refusal.kind === 'outcome_unknown' || refusal.kind === 'read_back_mismatch';
  const to = unknown && refusal.rule !== 'review_abandoned' ? 'unknown' : 'failed';
  if (row?.state === to || (row?.state === 'failed' && to === 'unknown'))
    return nothing('nothing: the ledger has it');
  const payload: StoredPayload | null =
    trace.kind === 'tool' || trace.kind === 'retry'
      ? { kind: 'tool', outcome: refusal.kind, action: name, refusal }
      : null;
  return restore(
    to,
    to === 'unknown' ? 'put back as unknown; a person reviews it' : `put back as ${refusal.kind}`,
    {
      ...(wasCharged(refusal) ? charge(trace, name, parts) : {}),
      ...(to === 'failed' ? { microUsd: 0, modelTokens: 0 } : {}),
      refusal,
      payload,
      payloadDigest: payload && digestOf(payload),
      review: reviewOf(trace, refusal, to),
    },
  );
}

/**
 * What the answer says of this very call. Of an undo only what the ledger had recorded of it does: all else, such as that its
 * write is in doubt, or that nothing was to be undone, was answered before there was any call.
 */
function answerOf({ kind, answer }: CallTrace): CallTrace['answer'] {
  if (kind !== 'undo' || !answer || answer.kind === 'done') return answer;
  return answer.review?.of !== undefined || answer.refusal.rule === 'review_abandoned' ? answer : null;
}

/** A call that may have been sent and whose end nobody was told. */
function planUnfinished(
  trace: CallTrace,
  name: string,
  row: LedgerCall | undefined,
  parts: PlanParts,
  {
    nothing,
    restore,
  }: {
    nothing: (done: string) => CallPlan;
    restore: (to: 'claimed' | 'unknown', done: string, more: Partial<RestoredCall>) => CallPlan;
  },
): CallPlan {
  if (classOf(trace, name, parts) === 'read' || classOf(trace, name, parts) === 'model')
    return nothing('nothing: it changes nothing, so it is asked again');
  if (row?.state === 'claimed') return nothing('nothing: its next attempt finds out');
  if (row?.state === 'unknown') return nothing('nothing: its review is open');
  if (parts.asked(trace.source) !== undefined)
    return restore('claimed', 'put back as claimed: its next attempt finds out', charge(trace, name, parts));
  const refusal: Refusal = {
    kind: 'outcome_unknown',
    origin: 'platform',
    rule: 'ledger_rewound',
    rules: ['ledger_rewound'],
    message: `${name} may have been sent before the ledger was restored; what it was asked with is lost, so nobody can look it up by itself`,
  };
  const payload: StoredPayload = { kind: 'tool', outcome: 'outcome_unknown', action: name, refusal };
  return restore('unknown', 'put back as unknown; a person reviews it', {
    ...charge(trace, name, parts),
    refusal,
    payload: trace.kind === 'undo' ? null : payload,
    payloadDigest: trace.kind === 'undo' ? null : digestOf(payload),
    review: trace.kind === 'undo' ? 'undo_failed' : 'outcome_unknown',
  });
}

/** Whether an attempt was let in before this refusal, and so charged. */
function wasCharged({ kind, rule }: Refusal): boolean {
  const atAdmission = [
    'denied',
    'suggested',
    'approval_required',
    'throttled',
    'budget_exceeded',
    'frozen',
    'killed',
    'idempotency_conflict',
  ];
  return rule === 'egress' || !atAdmission.includes(kind);
}

function reviewOf(trace: CallTrace, refusal: Refusal, to: 'failed' | 'unknown'): RestoredCall['review'] {
  if (refusal.rule === 'review_abandoned') return null;
  if (trace.kind === 'undo') return 'undo_failed';
  if (to === 'unknown')
    return refusal.kind === 'read_back_mismatch' ? 'read_back_mismatch' : 'outcome_unknown';
  return refusal.kind === 'scope_ambiguous' ? 'scope_ambiguous' : null;
}

function actionOf(trace: CallTrace, parts: PlanParts): string {
  if (trace.kind === 'model') return MODEL_ACTION;
  const row = parts.ledger.get(trace.path);
  if (row) return row.action;
  const asked = parts.calls.get(trace.source)?.answer;
  const names =
    asked?.kind === 'done' ? (asked.value as ModelStep | null)?.toolCalls : parts.asked(trace.source);
  return names?.[trace.index] ?? 'unknown.action';
}

/** As its action declares it; one that this app does not have is treated as the most dangerous. */
function classOf(trace: CallTrace, name: string, { actions, ledger }: PlanParts): RestoredCall['class'] {
  if (trace.kind === 'model') return 'model';
  const known = ledger.get(trace.path)?.class as RestoredCall['class'] | undefined;
  if (name === 'unknown.action') return known ?? 'read';
  return known ?? actions.get(name)?.effect ?? 'high_risk_write';
}

function facts(trace: CallTrace, name: string, parts: PlanParts): RestoredCall {
  const action = parts.actions.get(name);
  const callClass = classOf(trace, name, parts);
  const writes = callClass === 'write' || callClass === 'high_risk_write';
  return {
    action: name,
    class: callClass,
    system: trace.kind === 'model' ? (parts.agent?.model.split('/')[0] ?? null) : (action?.system ?? null),
    reversible: writes ? (action?.reversible ?? 'final') : null,
    undoOf: trace.kind === 'undo' ? trace.path.slice(0, -'/undo'.length) : null,
    firstClaimedAt: trace.firstAt.toISOString(),
    leaseMs: (action?.timeoutMs ?? 60_000) + LEASE_MARGIN_MS,
    toolCalls: 0,
    steps: 0,
    microUsd: 0,
    modelTokens: 0,
    refusal: null,
    value: null,
    payload: null,
    payloadDigest: null,
    review: null,
    dataClasses: trace.kind === 'model' ? [] : (action?.resultClasses ?? declaredClasses(parts.actions)),
  };
}

function charge(
  trace: CallTrace,
  name: string,
  { actions }: PlanParts,
): Pick<RestoredCall, 'toolCalls' | 'steps' | 'microUsd' | 'modelTokens'> {
  const free = { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 } as const;
  if (trace.kind === 'undo') return free;
  if (trace.kind === 'model') return { ...free, steps: 1, ...costOf(trace) };
  return { ...free, toolCalls: 1, steps: 1, microUsd: actions.get(name)?.costMicroUsd ?? 0 };
}

/** What the answer of a model was charged. Attempts that failed before it are not in a history. */
function costOf({ answer }: CallTrace): Pick<RestoredCall, 'microUsd' | 'modelTokens'> {
  const step = answer?.kind === 'done' ? (answer.value as Partial<ModelStep> | null) : null;
  return {
    microUsd: step?.microUsd ?? 0,
    modelTokens: (step?.inputTokens ?? 0) + (step?.outputTokens ?? 0),
  };
}

function donePayload(
  trace: CallTrace,
  name: string,
  answer: CallAnswer<unknown> & { kind: 'done' },
): StoredPayload | null {
  if (trace.kind === 'undo') return null;
  if (trace.kind !== 'model')
    return { kind: 'tool', outcome: 'done', action: name, result: { notice: LOST.result }, lost: true };
  const step = answer.value as ModelStep;
  return {
    kind: 'model',
    text: LOST.text,
    toolCalls: step.toolCalls.map((asked, index) => ({
      id: `lost_${trace.path.replaceAll(/[^0-9]/g, '_')}_${index}`,
      name: asked === null ? 'unknown_tool' : toolNameOfAction(asked),
      args: { notice: LOST.args },
    })),
    inputTokens: step.inputTokens,
    outputTokens: step.outputTokens,
    lost: true,
  };
}

function inWords({ answer, mayBeSent, kind }: CallTrace): string {
  if (answer?.kind === 'done') return 'done';
  if (mayBeSent && (answer === null || kind === 'retry')) return 'under way, its end not told';
  if (answer === null) return 'not done yet';
  return `${answer.kind} (${answer.refusal.rule})`;
}
