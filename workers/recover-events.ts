import type { Client } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { positionPath, undoPath, type Position } from '../contracts/calls';
import { STOP_REASONS, type StopReason } from '../contracts/states';

/** How Temporal's events are read: what of them recovery believes, and what it takes for "may have been sent". */

export type History = Awaited<ReturnType<ReturnType<Client['workflow']['getHandle']>['fetchHistory']>>;
export type HistoryEvent = NonNullable<History['events']>[number];
export type Pending = NonNullable<
  Awaited<ReturnType<ReturnType<Client['workflow']['getHandle']>['describe']>>['raw']['pendingActivities']
>[number];
type Payloads = { payloads?: (object | null)[] | null } | null | undefined;

/** Failures of an attempt after which surely nothing of it was sent. */
const NOT_SENT: ReadonlySet<string> = new Set(['Waiting', 'PlatformBusy', 'ProviderUnavailable']);
/** Refused before the gateway was reached. */
export const NOT_RUN: ReadonlySet<string> = new Set(['EnvelopeInvalid', 'WrongLane']);

/** Where a call stands, by the activity that makes it. */
export interface Place {
  /** Within its run. */
  readonly path: string;
  readonly kind: 'model' | 'tool' | 'undo' | 'retry';
  /** Of a tool: where the model asked for it, and as which of its calls. Of an undo: those of the write. */
  readonly source: string;
  readonly index: number;
}

/** The place that an activity is for; `undefined` for one that makes no call. */
export function placeOf(type: string, input: Readonly<Record<string, unknown>>): Place | undefined {
  if (type === 'callModel') {
    const path = positionPath(input['position'] as Position);
    return { path, kind: 'model', source: path, index: 0 };
  }
  if (type === 'callTool') {
    const source = positionPath(input['source'] as Position);
    return {
      path: positionPath(input['position'] as Position),
      kind: 'tool',
      source,
      index: Number(input['index']),
    };
  }
  if (type !== 'undoCall' && type !== 'retryCall') return undefined;
  const forward = String(input['path']);
  const [step, ordinal] = forward.split('.').map(Number);
  const place = { source: `${step ?? 0}.0`, index: (ordinal ?? 1) - 1 };
  return type === 'undoCall'
    ? { path: undoPath(forward), kind: 'undo', ...place }
    : { path: forward, kind: 'retry', ...place };
}

/** Whether an attempt before the one that ended, or waits, may have sent something. Only the last failure is known. */
export function mayBeSentBefore(start: { attempt: number; lastFailure: string | null } | undefined): boolean {
  const earlier = (start?.attempt ?? 1) - 1;
  return earlier > 1 || (earlier === 1 && !NOT_SENT.has(start?.lastFailure ?? ''));
}

/**
 * Of an attempt that no worker took in time, which leaves no start: what the attempts before it have said last, and whether one
 * of them may have sent something. They say a sequence once they are admitted.
 */
export function beforeUntaken(failure: unknown): { seq: unknown; mayBeSent: boolean } {
  const { timeoutFailureInfo, cause } = (failure ?? {}) as {
    timeoutFailureInfo?: { lastHeartbeatDetails?: Payloads } | null;
    cause?: unknown;
  };
  const { seq } = inputOf(timeoutFailureInfo?.lastHeartbeatDetails);
  const failed = cause !== null && cause !== undefined && !NOT_SENT.has(failureType(cause) ?? '');
  return { seq, mayBeSent: seq !== undefined || failed };
}

/** Of an activity that is not over: whether this or an earlier attempt may have sent something. */
export function isUnderWay(now: Pending | undefined): boolean {
  // Gone from the list since the history was read: it has run.
  if (!now) return true;
  const SCHEDULED = 1;
  if (Number(now.state) !== SCHEDULED) return true;
  return mayBeSentBefore({ attempt: now.attempt ?? 1, lastFailure: failureType(now.lastFailure) });
}

/** Of a scheduled activity, by its event. */
export function activityId(history: History, scheduledEventId: string): string | null | undefined {
  return history.events?.find(({ eventId }) => String(eventId) === scheduledEventId)
    ?.activityTaskScheduledEventAttributes?.activityId;
}

/** The stop reason that an event closes its workflow with; `undefined` for any other event. */
export function closedAs(event: HistoryEvent): StopReason | undefined {
  if (event.workflowExecutionCompletedEventAttributes) {
    const { stopReason } = inputOf(event.workflowExecutionCompletedEventAttributes.result);
    return isStopReason(stopReason) ? stopReason : 'completed';
  }
  if (event.workflowExecutionFailedEventAttributes) {
    const type = failureType(event.workflowExecutionFailedEventAttributes.failure);
    return isStopReason(type) ? type : 'failed';
  }
  if (event.workflowExecutionCanceledEventAttributes) return 'cancelled';
  if (event.workflowExecutionTerminatedEventAttributes) return 'terminated';
  if (event.workflowExecutionTimedOutEventAttributes) return 'timed_out';
  return undefined;
}

export const isStopReason = (value: unknown): value is StopReason =>
  typeof value === 'string' && Object.hasOwn(STOP_REASONS, value);

/** The type of a failure of ours, `timeout`, or `null`. */
export function failureType(failure: unknown): string | null {
  const { applicationFailureInfo, timeoutFailureInfo } = (failure ?? {}) as {
    applicationFailureInfo?: { type?: string | null } | null;
    timeoutFailureInfo?: unknown;
  };
  return applicationFailureInfo?.type ?? (timeoutFailureInfo ? 'timeout' : null);
}

/** The first payload as an object; an empty one for anything else. */
export function inputOf(payloads: Payloads): Readonly<Record<string, unknown>> {
  const value = decoded(payloads?.payloads?.[0]);
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** What a payload holds; `null` for none, or one that cannot be read. */
export function decoded(payload: object | null | undefined): unknown {
  if (!payload) return null;
  try {
    return defaultPayloadConverter.fromPayload(payload);
  } catch {
    return null;
  }
}

export const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null);

/** A timestamp of Temporal as a date. */
export function timeOf(time: { seconds?: unknown; nanos?: number | null } | null | undefined): Date {
  return new Date(Number(time?.seconds ?? 0) * 1_000 + Math.floor((time?.nanos ?? 0) / 1e6));
}
