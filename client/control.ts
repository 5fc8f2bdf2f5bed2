import {
  WithStartWorkflowOperation,
  WorkflowExecutionAlreadyStartedError,
  type Client,
  type WorkflowStartOptions,
} from '@temporalio/client';
import type { Environment, TenantId } from '../contracts/ids';
import { CONTROL_QUEUE, WORKFLOW } from '../contracts/names';
import { controlWorkflowId } from '../contracts/workflow-ids';
import { QUERIES, type ControlCommand, type ControlState } from '../contracts/workflow-io';
import { BulkheadError } from './errors';
import { keyword } from './start';
import { isTemporalTrouble } from './temporal-trouble';

/** How a tenant's control workflow is started, by whoever needs it first. */
function controlOptions(
  tenantId: TenantId,
  environment: Environment,
): Omit<WorkflowStartOptions, 'workflowIdConflictPolicy'> {
  return {
    workflowId: controlWorkflowId(tenantId, environment),
    taskQueue: CONTROL_QUEUE,
    args: [],
    // After a worker was killed, its task waits this long for another.
    workflowTaskTimeout: '3s',
    typedSearchAttributes: [keyword('TenantId', tenantId), keyword('Environment', environment)],
    staticSummary: `kill switch of ${tenantId}`,
    staticDetails: `Takes \`kill\` and \`release\` for tenant **${tenantId}** in ${environment}, as a signal or an update. It is always open; the fence itself is in the database.`,
  };
}

/** How long Temporal may take to start one; the sweep comes again. */
const START_DEADLINE_MS = 5_000;

/**
 * Sees that a tenant's control workflow is open: `started`, or `already`. Called when a tenant is created, and by the
 * sweep for every tenant. Throws what Temporal's client throws.
 */
export async function ensureControl(
  client: Client,
  tenantId: TenantId,
  environment: Environment,
): Promise<'started' | 'already'> {
  try {
    await client.withDeadline(Date.now() + START_DEADLINE_MS, () =>
      client.workflow.start(WORKFLOW.control, {
        ...controlOptions(tenantId, environment),
        workflowIdConflictPolicy: 'FAIL',
      }),
    );
    return 'started';
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return 'already';
    throw error;
  }
}

/** How long a control act may take until its fence is committed, before the operator is told what to do by hand. */
export const CONTROL_DEADLINE_MS = 15_000;

/**
 * Kills or releases a tenant: an update of its control workflow, which is started where it is missing. Resolves with the
 * state after the act's commit; for `kill`, from `fencedAt` on no forward call is admitted (promise O1).
 * Throws a {@link BulkheadError} `unavailable` where no answer came in time: the act may still be applied.
 */
export async function commandControl(
  client: Client,
  tenantId: TenantId,
  environment: Environment,
  command: ControlCommand,
  deadlineMs = CONTROL_DEADLINE_MS,
): Promise<ControlState> {
  const { op, ...argument } = command;
  const startWorkflowOperation = new WithStartWorkflowOperation(WORKFLOW.control, {
    ...controlOptions(tenantId, environment),
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  try {
    return await client.withDeadline(Date.now() + deadlineMs, () =>
      client.workflow.executeUpdateWithStart<() => Promise<void>, ControlState, [typeof argument]>(op, {
        args: [argument],
        startWorkflowOperation,
      }),
    );
  } catch (error) {
    if (!isTemporalTrouble(error)) throw error;
    throw new BulkheadError(
      'unavailable',
      `${op} of ${tenantId} was not confirmed within ${deadlineMs / 1_000} s, and may still be applied: see that the control worker runs and the database answers, then ask again; it is safe to repeat`,
      {
        reason: 'control',
        cause: error,
      },
    );
  }
}

/** What the control workflow says of itself; `undefined` where it does not answer within a second. */
export async function queryControl(
  client: Client,
  tenantId: TenantId,
  environment: Environment,
): Promise<ControlState | undefined> {
  const handle = client.workflow.getHandle(controlWorkflowId(tenantId, environment));
  try {
    return await client.withDeadline(Date.now() + 1_000, () =>
      handle.query<ControlState>(QUERIES.controlState),
    );
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}
