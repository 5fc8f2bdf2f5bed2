import type { Client } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { positionPath, undoPath, type CallAnswer, type Position } from '../contracts/calls';

export type History = Awaited<ReturnType<ReturnType<Client['workflow']['getHandle']>['fetchHistory']>>;

/** One execution of a workflow id, with its events. */
export interface Execution {
  readonly workflowId: string;
  readonly runId: string;
  readonly history: History;
}

/** What a history tells of one governed call: every answer that its workflow was given, in order. */
export interface ToldCall {
  readonly path: string;
  readonly activity: string;
  readonly answers: readonly CallAnswer<unknown>[];
}

/**
 * All executions of a workflow id that lead to its newest one, the newest first: those that it continued, and those that it
 * was reset from. Found by what histories say of each other, which is true at once. Empty where Temporal knows none.
 */
export async function executionsOf(client: Client, workflowId: string): Promise<Execution[]> {
  const found: Execution[] = [];
  const seen = new Set<string>();
  const newest = await client.workflow
    .getHandle(workflowId)
    .describe()
    .catch((error: unknown) => {
      if (error instanceof Error && error.name === 'WorkflowNotFoundError') return undefined;
      throw error;
    });
  const waiting = newest ? [newest.runId] : [];
  for (let runId = waiting.shift(); runId !== undefined; runId = waiting.shift()) {
    if (seen.has(runId)) continue;
    seen.add(runId);
    const history = await client.workflow.getHandle(workflowId, runId).fetchHistory();
    found.push({ workflowId, runId, history });
    for (const event of history.events ?? []) {
      const before = event.workflowExecutionStartedEventAttributes?.continuedExecutionRunId;
      const resetFrom = event.workflowTaskFailedEventAttributes?.baseRunId;
      waiting.push(...[before, resetFrom].filter((id): id is string => Boolean(id)));
    }
  }
  return found;
}

const CALLS: Readonly<Record<string, (input: Record<string, unknown>) => string>> = {
  callModel: ({ position }) => positionPath(position as Position),
  callTool: ({ position }) => positionPath(position as Position),
  undoCall: ({ path }) => undoPath(String(path)),
  retryCall: ({ path }) => String(path),
};

/** The governed calls of these histories, by path. One that was never answered is there without an answer. */
export function toldCalls(executions: readonly Execution[]): Map<string, ToldCall> {
  const calls = new Map<string, { path: string; activity: string; answers: CallAnswer<unknown>[] }>();
  // The oldest first, so that answers stand in the order in which they were given.
  for (const { history } of [...executions].reverse()) {
    const scheduled = new Map<string, string>();
    for (const event of history.events ?? []) {
      const activity = event.activityTaskScheduledEventAttributes;
      const name = activity?.activityType?.name ?? '';
      const pathOf = CALLS[name];
      if (activity && pathOf) {
        const path = pathOf(payloadOf(activity.input) as Record<string, unknown>);
        scheduled.set(String(event.eventId), path);
        if (!calls.has(path)) calls.set(path, { path, activity: name, answers: [] });
      }
      const done = event.activityTaskCompletedEventAttributes;
      const path = done ? scheduled.get(String(done.scheduledEventId)) : undefined;
      if (path !== undefined) calls.get(path)?.answers.push(payloadOf(done?.result) as CallAnswer<unknown>);
    }
  }
  return calls;
}

function payloadOf(payloads: { payloads?: object[] | null } | null | undefined): unknown {
  const payload = payloads?.payloads?.[0];
  return payload ? defaultPayloadConverter.fromPayload(payload) : {};
}
