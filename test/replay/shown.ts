import { STOP_REASONS, type RunState, type StopReason } from '../../contracts/states';
import type { History } from './history-json';

type Fields = Record<string, { data?: Uint8Array | null } | null> | null | undefined;

const value = (fields: Fields, name: string): string[] => {
  const data = fields?.[name]?.data;
  return data ? [JSON.parse(Buffer.from(data).toString('utf8')) as string] : [];
};

/** The states that a run's history has shown, and the stop reasons that it closed with. */
export function shownBy(history: History): { states: RunState[]; stopReasons: StopReason[] } {
  const states: string[] = [];
  const stopReasons: string[] = [];
  for (const event of history.events ?? []) {
    const started = event.workflowExecutionStartedEventAttributes?.searchAttributes?.indexedFields;
    const upserted = event.upsertWorkflowSearchAttributesEventAttributes?.searchAttributes?.indexedFields;
    states.push(...value(started, 'RunState'), ...value(upserted, 'RunState'));
    stopReasons.push(...value(upserted, 'StopReason'));
    const failure = event.workflowExecutionFailedEventAttributes?.failure?.applicationFailureInfo?.type;
    if (failure && Object.hasOwn(STOP_REASONS, failure)) stopReasons.push(failure);
    if (event.workflowExecutionTerminatedEventAttributes) stopReasons.push('terminated');
    if (event.workflowExecutionTimedOutEventAttributes) stopReasons.push('timed_out');
    if (event.workflowExecutionCanceledEventAttributes) stopReasons.push('cancelled');
  }
  return { states: states as RunState[], stopReasons: stopReasons as StopReason[] };
}
