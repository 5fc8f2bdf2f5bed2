import type { LoadRun } from './load-runs';

/** One call of a run, by its workflow's history: wall-clock milliseconds of the server. */
export interface CallTimes {
  /** Its number in the run, from 0. */
  readonly index: number;
  /** Of the attempt that ended it. */
  readonly startedAt: number;
  readonly endedAt: number;
}

interface Timed {
  readonly eventTime?: { readonly seconds?: unknown; readonly nanos?: number | null } | null;
}

/** Calls of a run that ended with an answer, in the order of their ends, and how many events its history has. */
export async function callTimes(run: LoadRun): Promise<{ calls: CallTimes[]; events: number }> {
  const { events } = await run.fetchHistory();
  const indexes = new Map<string, number>();
  const startedAt = new Map<string, number>();
  const calls: CallTimes[] = [];
  for (const event of events ?? []) {
    const scheduled = event.activityTaskScheduledEventAttributes;
    const index = indexOf(scheduled?.input?.payloads?.[0]?.data);
    if (scheduled && index !== undefined) indexes.set(String(event.eventId), index);
    const started = event.activityTaskStartedEventAttributes;
    if (started) startedAt.set(String(started.scheduledEventId), at(event));
    const completed = event.activityTaskCompletedEventAttributes;
    const known = indexes.get(String(completed?.scheduledEventId));
    if (completed && known !== undefined) {
      calls.push({
        index: known,
        startedAt: startedAt.get(String(completed.scheduledEventId)) ?? at(event),
        endedAt: at(event),
      });
    }
  }
  return { calls, events: events?.length ?? 0 };
}

const at = ({ eventTime }: Timed): number =>
  Number(eventTime?.seconds ?? 0) * 1_000 + (eventTime?.nanos ?? 0) / 1e6;

/** The number of a call, out of an activity's input; `undefined` for an activity that is no call. */
function indexOf(data: Uint8Array | null | undefined): number | undefined {
  if (!data) return undefined;
  const input = JSON.parse(Buffer.from(data).toString('utf8')) as {
    index?: number;
    position?: { ordinal?: number };
  };
  return input.position?.ordinal === undefined ? input.index : input.position.ordinal - 1;
}
