import type { Envelope } from '../contracts/envelope';
import { parseWorkflowId } from '../contracts/workflow-ids';

/**
 * What is wrong with the binding of an envelope to the workflow id that it names, in words; `undefined` where they
 * agree. A root run's id names its own run id; a child's id names the root's, and the child has a parent.
 */
export function bindingMismatch(envelope: Envelope): string | undefined {
  const address = parseWorkflowId(envelope.workflowId);
  if (address?.kind !== 'run') return 'its workflow id is not that of a run';
  if (address.tenantId !== envelope.tenantId) return 'its workflow id names another tenant';
  if (address.environment !== envelope.environment) return 'its workflow id names another environment';
  if (address.runId !== envelope.rootRunId) return 'its workflow id names another root run';
  if (address.path !== '') {
    return envelope.parentRunId === null || envelope.runId === envelope.rootRunId
      ? 'it is a child without a parent'
      : undefined;
  }
  return envelope.runId !== envelope.rootRunId || envelope.parentRunId !== null
    ? 'it is a root run with a parent'
    : undefined;
}
