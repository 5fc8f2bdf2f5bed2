import { Context } from '@temporalio/activity';
import { TemporalFailure } from '@temporalio/common';
import type { Action } from '../contracts/action';
import type {
  ControlActivities,
  FollowUpActivities,
  HeadActivities,
  RunActivities,
  SweepActivities,
} from '../contracts/workflow-io';
import { isStorageBusy } from '../contracts/storage-busy';
import { createAskedCalls } from './asked-calls';
import { createControl } from './control';
import type { Zones } from './envelope-interceptor';
import { failure } from './failure';
import { createGateway, type GatewayParts } from './gateway';
import { createHeads } from './heads';
import { beat } from './heartbeat';
import { createLifecycle, type LifecycleParts } from './lifecycle';
import { createCallModel } from './model';
import { createSweep, type SweepParts } from './sweep';
import { StoredSteps } from './stored-steps';
import { createRetryCall } from './retry';
import { frozenWhileRewound } from './rewound';
import { createCallTool } from './tool';
import { createUndoCall } from './undo';

/** Every activity and its zone. An activity that is missing here is refused by the interceptor. */
export const ZONES = {
  enterRun: 'run',
  parkRun: 'run',
  resumeRun: 'run',
  leaveRun: 'run',
  beginUndo: 'run',
  callModel: 'run',
  callTool: 'run',
  enterFollowUp: 'followUp',
  leaveFollowUp: 'followUp',
  findLane: 'followUp',
  undoCall: 'followUp',
  retryCall: 'followUp',
  loadControl: 'control',
  applyControl: 'control',
  awaitContained: 'control',
  drainRuns: 'control',
  startAccepted: 'platform',
  closeGone: 'platform',
  reapCalls: 'platform',
  ensureControls: 'platform',
  startFollowUps: 'platform',
  tendQueues: 'platform',
  purge: 'platform',
  checkHeads: 'platform',
} as const satisfies Zones &
  Record<
    keyof (RunActivities & FollowUpActivities & ControlActivities & SweepActivities & HeadActivities),
    unknown
  >;

/** Activities of tenants' lanes. */
export function laneActivities(
  parts: GatewayParts & { actions: ReadonlyMap<string, Action> },
): Pick<RunActivities, 'callModel' | 'callTool'> & Pick<FollowUpActivities, 'undoCall' | 'retryCall'> {
  const { storage, policies, actions } = parts;
  const gateway = createGateway(parts);
  const steps = new StoredSteps();
  const tools = { storage, gateway, calls: createAskedCalls({ steps, actions }) };
  return guarded(
    {
      callModel: frozenWhileRewound(createCallModel({ storage, steps, policies, gateway, actions })),
      callTool: frozenWhileRewound(createCallTool(tools)),
      undoCall: frozenWhileRewound(createUndoCall(tools)),
      retryCall: frozenWhileRewound(createRetryCall(tools)),
    },
    ofCall,
  );
}

/** Activities of the lifecycle queue. */
export function lifecycleActivities(parts: LifecycleParts): ReturnType<typeof createLifecycle> {
  return guarded(createLifecycle(parts));
}

/** Activities of the control queue: the switch of each tenant, and the sweep. */
export function controlActivities(
  parts: SweepParts & { drainGraceMs: number },
): ControlActivities & SweepActivities & HeadActivities {
  return guarded({ ...createControl(parts), ...createSweep(parts), ...createHeads(parts) });
}

const busyOrSame = (error: unknown): unknown =>
  isStorageBusy(error)
    ? failure('PlatformBusy', `the ledger does not answer; nothing was done: ${(error as Error).message}`)
    : error;

/**
 * What a call throws that no part of the gateway has read is an author's or our own defect: it would be thrown again, and
 * its message may hold payload. So it ends the call, by its name alone.
 */
function ofCall(error: unknown): unknown {
  const read = busyOrSame(error);
  if (read instanceof TemporalFailure) return read;
  return failure(
    'ContractBroken',
    `the call threw ${read instanceof Error ? read.name : typeof read} where nothing may`,
  );
}

const HEARTBEAT_MS = 1_000;

/**
 * Heartbeats while an activity works, so that its host's death is noticed in seconds and cancellation arrives, and turns
 * a database that does not answer into a failure that is retried.
 */
function guarded<T extends object>(activities: T, readable: (error: unknown) => unknown = busyOrSame): T {
  const wrap =
    (activity: (...args: unknown[]) => Promise<unknown>) =>
    async (...args: unknown[]): Promise<unknown> => {
      const context = Context.current();
      const heart = setInterval(() => beat(context), HEARTBEAT_MS);
      try {
        return await activity(...args);
      } catch (error) {
        throw readable(error);
      } finally {
        clearInterval(heart);
      }
    };
  return Object.fromEntries(
    Object.entries(activities).map(([name, activity]) => [
      name,
      wrap(activity as (...args: unknown[]) => Promise<unknown>),
    ]),
  ) as T;
}
