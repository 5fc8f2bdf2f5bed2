import {
  type ActivityInboundCallsInterceptor,
  type ActivityExecuteInput,
  type Next,
} from '@temporalio/worker';
import { Context } from '@temporalio/activity';
import { defaultPayloadConverter } from '@temporalio/common';
import { ENVELOPE_HEADER, SWEEP_WORKFLOW_PREFIX, WORKFLOW } from '../contracts/names';
import { parseFollowUpId, parseWorkflowId } from '../contracts/workflow-ids';
import type { EnvelopeVerifier } from '../contracts/secrets-ports';
import { mintScope } from '../contracts/scope-mint';
import { runInZone, workflowExecution, type CallerZone, type ServedLane } from './call-context';
import { failure } from './failure';

/** Which zone an activity belongs to: every registered activity has exactly one, so none can forget. */
export type Zones = Readonly<Record<string, CallerZone['zone']>>;

/**
 * Stands before every activity (promises E2, E3). A run's activity needs the envelope that was signed for the very
 * workflow that Temporal says is calling, of the tenant and environment that this worker serves; a follow-up's needs that of
 * the run which its workflow's id names, and a workflow of the type for it; control and the sweep are known by Temporal's
 * own word for who calls. Anything else fails closed, before any effect, not to be retried.
 */
export function createEnvelopeInterceptor(parts: {
  verifier: EnvelopeVerifier;
  zones: Zones;
  lane: ServedLane;
}): ActivityInboundCallsInterceptor {
  const { verifier, zones, lane } = parts;

  const zoneOf = async (input: ActivityExecuteInput): Promise<CallerZone> => {
    const { activityType, namespace, workflowType } = Context.current().info;
    const { workflowId } = workflowExecution();
    const zone = Object.hasOwn(zones, activityType) ? zones[activityType] : undefined;
    if (namespace !== lane.namespace) {
      throw failure(
        'WrongLane',
        `this worker serves namespace ${lane.namespace}; the task is of ${namespace}`,
      );
    }
    switch (zone) {
      case 'run':
        return { zone, ...(await ofThisLane(input, workflowId)) };
      case 'followUp': {
        const { runWorkflow, followUpNo } = followUpOf(activityType, workflowId, workflowType);
        return { zone, ...(await ofThisLane(input, runWorkflow)), followUpNo };
      }
      case 'control': {
        const address = parseWorkflowId(workflowId);
        if (
          address?.kind !== 'control' ||
          workflowType !== WORKFLOW.control ||
          address.environment !== lane.environment
        ) {
          throw failure(
            'EnvelopeInvalid',
            `${activityType} is for a tenant's control workflow, not for ${workflowId}`,
          );
        }
        return { zone, scope: mintScope(address.tenantId, address.environment, 'control') };
      }
      case 'platform': {
        if (!workflowId.startsWith(SWEEP_WORKFLOW_PREFIX) || workflowType !== WORKFLOW.sweep) {
          throw failure('EnvelopeInvalid', `${activityType} is the platform's own, not for ${workflowId}`);
        }
        return { zone, environment: lane.environment };
      }
      case undefined:
        throw failure('EnvelopeInvalid', `activity ${activityType} has no zone, so it is not run`);
    }
  };

  /** The envelope that the task carries, if it is of that workflow and of what this worker serves. */
  const ofThisLane = async (input: ActivityExecuteInput, workflowId: string) => {
    const { scope, signed } = await verified(input, workflowId);
    if (scope.environment !== lane.environment) {
      throw failure(
        'WrongLane',
        `this worker serves environment ${lane.environment}, the envelope is of ${scope.environment}`,
      );
    }
    if (lane.tenants && !(await lane.tenants.serves(scope.tenantId))) {
      throw failure(
        'WrongLane',
        'this worker serves the shared lane; the tenant of the task is not placed on it',
      );
    }
    if (lane.tenantId !== undefined && scope.tenantId !== lane.tenantId) {
      throw failure(
        'WrongLane',
        `this worker serves tenant ${lane.tenantId} alone; the task is another tenant's`,
      );
    }
    return { scope, signed };
  };

  const verified = async (input: ActivityExecuteInput, workflowId: string) => {
    const header = input.headers[ENVELOPE_HEADER];
    if (!header) throw failure('EnvelopeInvalid', 'the task carries no envelope');
    try {
      return await verifier.verify(defaultPayloadConverter.fromPayload(header), workflowId);
    } catch (error) {
      throw failure(
        'EnvelopeInvalid',
        `the envelope was refused: ${error instanceof Error ? error.message : 'unreadable'}`,
      );
    }
  };

  return {
    async execute(
      input: ActivityExecuteInput,
      next: Next<ActivityInboundCallsInterceptor, 'execute'>,
    ): Promise<unknown> {
      return await runInZone(await zoneOf(input), () => next(input));
    },
  };
}

/** Workflow types by the kind of follow-up in the id, and the activities each may call beside entering and leaving. */
const FOLLOW_UPS = {
  undo: { workflowType: WORKFLOW.undo, activity: 'undoCall' },
  retry: { workflowType: WORKFLOW.retry, activity: 'retryCall' },
} as const;

/** What a run may call of these: it undoes its own writes. */
const INLINE: readonly string[] = ['undoCall', 'leaveFollowUp'];

/** Whose follow-up it is, by the calling workflow's id, if its type is the one for that and may call this activity. */
function followUpOf(
  activityType: string,
  workflowId: string,
  workflowType: string | undefined,
): { runWorkflow: string; followUpNo: number | null } {
  const followUp = parseFollowUpId(workflowId);
  const fits = followUp
    ? workflowType === FOLLOW_UPS[followUp.kind].workflowType &&
      ['enterFollowUp', 'leaveFollowUp', 'findLane', FOLLOW_UPS[followUp.kind].activity].includes(
        activityType,
      )
    : parseWorkflowId(workflowId)?.kind === 'run' &&
      // Whatever workflow makes calls for a run has to learn where they go.
      (activityType === 'findLane' || (workflowType === WORKFLOW.run && INLINE.includes(activityType)));
  if (!fits) {
    throw failure(
      'EnvelopeInvalid',
      `${activityType} is for a follow-up of that kind, not for ${workflowType ?? 'nothing'} ${workflowId}`,
    );
  }
  return followUp
    ? { runWorkflow: followUp.runWorkflow, followUpNo: followUp.followUpNo }
    : { runWorkflow: workflowId, followUpNo: null };
}
