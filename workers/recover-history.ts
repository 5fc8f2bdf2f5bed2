import type { CallAnswer } from '../contracts/calls';
import { parseFollowUpId, parseWorkflowId } from '../contracts/workflow-ids';
import type { RunEnd } from '../contracts/recovery';
import type { FollowUp, UndoOutcome } from '../contracts/reviews';
import {
  activityId,
  beforeUntaken,
  closedAs,
  decoded,
  failureType,
  inputOf,
  isStopReason,
  isUnderWay,
  mayBeSentBefore,
  NOT_RUN,
  placeOf,
  textOrNull,
  timeOf,
  type History,
  type HistoryEvent,
  type Pending,
  type Place,
} from './recover-events';

/** What histories tell of one governed call. */
export interface CallTrace extends Place {
  /** Under the root run. */
  readonly path: string;
  readonly firstAt: Date;
  /** What its workflow was told last that was not "later"; `done` stays. */
  readonly answer: CallAnswer<unknown> | null;
  /** After that answer an attempt was under way whose end nobody was told. */
  readonly mayBeSent: boolean;
}

/** What histories tell of an undo or a retry. */
export type FollowUpTrace = Pick<FollowUp, 'followUpNo' | 'kind' | 'state' | 'wantedAt'> & {
  readonly temporalRunId: string | null;
  readonly path: string | null;
  readonly outcome: UndoOutcome | null;
  /** Ordered by the run itself. */
  readonly inline: boolean;
};

/** All that is known of one workflow id: its chain of executions, read in their order. */
export interface WorkflowTrace {
  readonly workflowId: string;
  /** As it stands in the input: to be verified before anything of it is believed. */
  readonly signed: unknown;
  readonly open: boolean;
  readonly entered: {
    readonly temporalRunId: string;
    readonly generation: number;
    readonly at: Date;
    readonly firstStep: number;
  } | null;
  readonly calls: readonly CallTrace[];
  readonly followUps: readonly FollowUpTrace[];
  readonly end: RunEnd | null;
  /** Highest journal sequence that it was told. */
  readonly highestSeq: number;
}

/** One execution of a workflow id, as Temporal keeps it. */
export interface Execution {
  readonly runId: string;
  readonly open: boolean;
  readonly history: History;
  readonly pending: readonly Pending[];
}

interface Activity {
  readonly type: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly at: Date;
}
type MutableCall = { -readonly [K in keyof CallTrace]: CallTrace[K] };
type MutableFollowUp = { -readonly [K in keyof FollowUpTrace]: FollowUpTrace[K] };

/**
 * Reads what a workflow's executions tell, the oldest first. Attempts that ended before `since` are the ledger's to know.
 * An execution made by a reset copies what was before, and was never entered: nothing of it is read but its end.
 */
export function traceWorkflow(
  workflowId: string,
  executions: readonly Execution[],
  since: Date,
): WorkflowTrace {
  const reader = new TraceReader(workflowId, since);
  for (const execution of executions) reader.read(execution);
  return reader.trace();
}

class TraceReader {
  readonly #calls = new Map<string, MutableCall>();
  readonly #followUps = new Map<number, MutableFollowUp>();
  readonly #prefix: string;
  readonly #own: ReturnType<typeof parseFollowUpId>;
  #signed: unknown;
  #open = false;
  #entered: WorkflowTrace['entered'] = null;
  #end: RunEnd | null = null;
  #leftWith: string | null = null;
  #highestSeq = 0;

  constructor(
    private readonly workflowId: string,
    private readonly since: Date,
  ) {
    this.#own = parseFollowUpId(workflowId);
    const address = parseWorkflowId(this.#own?.runWorkflow ?? workflowId);
    this.#prefix = address?.kind === 'run' ? address.path.slice(1) : '';
  }

  trace(): WorkflowTrace {
    return {
      workflowId: this.workflowId,
      signed: this.#signed,
      open: this.#open,
      entered: this.#entered,
      calls: [...this.#calls.values()].sort((a, b) => a.firstAt.getTime() - b.firstAt.getTime()),
      followUps: [...this.#followUps.values()],
      end: this.#open ? null : this.#end,
      highestSeq: this.#highestSeq,
    };
  }

  read({ runId, open, history, pending }: Execution): void {
    this.#open = open;
    const activities = new Map<string, Activity>();
    const started = new Map<string, { attempt: number; lastFailure: string | null }>();
    let generation = 0;
    let reset = false;
    for (const event of history.events ?? []) {
      const at = timeOf(event.eventTime);
      const begun = event.workflowExecutionStartedEventAttributes;
      if (begun) {
        const input = inputOf(begun.input) as {
          signed?: unknown;
          carry?: { generation?: number; seq?: number };
        };
        this.#signed ??= input.signed;
        this.#saw(input.carry?.seq);
        generation = input.carry?.generation ?? 0;
        reset = Boolean(begun.originalExecutionRunId) && begun.originalExecutionRunId !== runId;
        this.#ownFollowUp(at);
      }
      this.#readEnd(event, reset);
      if (reset) continue;
      const scheduled = event.activityTaskScheduledEventAttributes;
      if (scheduled) {
        const activity = { type: scheduled.activityType?.name ?? '', input: inputOf(scheduled.input), at };
        activities.set(String(event.eventId), activity);
        this.#saw(activity.input['seq']);
        this.#callOf(activity);
        if (activity.type === 'leaveRun') this.#leftWith = textOrNull(activity.input['outputRef']);
      }
      const start = event.activityTaskStartedEventAttributes;
      if (start) {
        const lastFailure = failureType(start.lastFailure);
        started.set(String(start.scheduledEventId), { attempt: start.attempt ?? 1, lastFailure });
      }
      const done = event.activityTaskCompletedEventAttributes;
      const ended =
        done ??
        event.activityTaskFailedEventAttributes ??
        event.activityTaskTimedOutEventAttributes ??
        event.activityTaskCanceledEventAttributes;
      if (!ended) continue;
      const id = String(ended.scheduledEventId);
      const activity = activities.get(id);
      if (!activity) continue;
      activities.delete(id);
      const earlier = mayBeSentBefore(started.get(id));
      if (done) this.#completed(activity, inputOf(done.result), { runId, generation, at, earlier });
      else {
        const failed = event.activityTaskFailedEventAttributes?.failure;
        // One that was never handed to a worker leaves no start.
        const ran = started.has(id) && !NOT_RUN.has(failureType(failed) ?? '');
        const before = beforeUntaken(event.activityTaskTimedOutEventAttributes?.failure);
        this.#saw(before.seq);
        if (at >= this.since && (ran || earlier || before.mayBeSent)) this.#mayBeSent(activity);
      }
    }
    if (reset) return;
    for (const [id, activity] of activities) {
      const now = pending.find((each) => each.activityId === activityId(history, id));
      for (const payload of now?.heartbeatDetails?.payloads ?? [])
        this.#saw((decoded(payload) as { seq?: unknown } | null)?.seq);
      // Of a closed workflow nobody can tell how far its last activity had come.
      if (!open || isUnderWay(now)) this.#mayBeSent(activity);
    }
  }

  #saw(seq: unknown): void {
    if (typeof seq === 'number' && seq > this.#highestSeq) this.#highestSeq = seq;
  }

  #callOf({ type, input, at }: Activity): MutableCall | undefined {
    const place = placeOf(type, input);
    if (!place) return undefined;
    const path = [this.#prefix, place.path].filter(Boolean).join('/');
    const known = this.#calls.get(path);
    // A retry is made at the path of the call that it repeats.
    if (known && place.kind === 'retry') known.kind = 'retry';
    if (place.kind === 'retry' && this.#own) this.#followUp(this.#own.followUpNo, at, false).path ??= path;
    if (known) return known;
    const call: MutableCall = { ...place, path, firstAt: at, answer: null, mayBeSent: false };
    this.#calls.set(path, call);
    return call;
  }

  #mayBeSent(activity: Activity): void {
    const call = this.#callOf(activity);
    if (call && call.answer?.kind !== 'done') call.mayBeSent = true;
  }

  #completed(
    activity: Activity,
    result: Readonly<Record<string, unknown>>,
    { runId, generation, at, earlier }: { runId: string; generation: number; at: Date; earlier: boolean },
  ): void {
    this.#saw(result['seq']);
    const call = this.#callOf(activity);
    if (call) {
      const answer = result as unknown as CallAnswer<unknown>;
      if (call.answer?.kind === 'done') return;
      if (answer.kind !== 'done' && (answer.approval || answer.refusal.retryAfterMs !== undefined)) {
        if (earlier && at >= this.since) call.mayBeSent = true;
        return;
      }
      call.answer = answer;
      call.mayBeSent = false;
      return;
    }
    if (activity.type === 'enterRun' && result['kind'] === 'entered')
      this.#entered = { temporalRunId: runId, generation, at, firstStep: Number(result['firstStep'] ?? 0) };
    if (
      (activity.type === 'beginUndo' || activity.type === 'enterFollowUp') &&
      result['kind'] === 'entered'
    ) {
      const followUp = this.#followUp(Number(result['followUpNo']), at, activity.type === 'beginUndo');
      followUp.state = 'entered';
      followUp.temporalRunId = runId;
      followUp.path = textOrNull(result['path']) ?? followUp.path;
    }
    if (activity.type === 'leaveFollowUp') {
      const followUp = this.#followUp(Number(activity.input['followUpNo']), at, false);
      followUp.state = 'done';
      followUp.outcome = (activity.input['outcome'] ?? null) as UndoOutcome | null;
    }
    if (activity.type === 'leaveRun' && isStopReason(result['stopReason'])) {
      this.#end = { stopReason: result['stopReason'], outputRef: this.#leftWith };
    }
  }

  #ownFollowUp(at: Date): void {
    if (this.#own) this.#followUp(this.#own.followUpNo, at, false);
  }

  #followUp(followUpNo: number, at: Date, inline: boolean): MutableFollowUp {
    const known = this.#followUps.get(followUpNo);
    if (known) return known;
    const followUp: MutableFollowUp = {
      followUpNo,
      kind: this.#own?.kind ?? 'undo',
      state: 'wanted',
      wantedAt: at.toISOString(),
      temporalRunId: null,
      path: null,
      outcome: null,
      inline,
    };
    this.#followUps.set(followUpNo, followUp);
    return followUp;
  }

  /** The first reason stays: what it left with, or else how it closed. */
  #readEnd(event: HistoryEvent, reset: boolean): void {
    const stopReason = closedAs(event);
    if (!stopReason || this.#end || (reset && stopReason === 'terminated')) return;
    const result = inputOf(event.workflowExecutionCompletedEventAttributes?.result);
    this.#end = { stopReason, outputRef: textOrNull(result['outputRef']) };
  }
}
