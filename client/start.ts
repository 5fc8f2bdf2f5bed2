import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import {
  SearchAttributeType,
  TypedSearchAttributes,
  defineSearchAttributeKey,
  type SearchAttributePair,
} from '@temporalio/common';
import type { Envelope, SignedEnvelope } from '../contracts/envelope';
import { RUNS_QUEUE, WORKFLOW, fairnessKey } from '../contracts/names';
import { followUpWorkflowId } from '../contracts/workflow-ids';
import type { FollowUpKind } from '../contracts/reviews';
import type { RunState, SearchAttribute } from '../contracts/states';
import type { AgentRunInput, FollowUpInput } from '../contracts/workflow-io';

/** A Keyword search attribute with its value, typed for Temporal. */
export const keyword = (name: SearchAttribute, value: string): SearchAttributePair => ({
  key: defineSearchAttributeKey(name, SearchAttributeType.KEYWORD),
  value,
});

/** What operators find an accepted run by (promise O6). Ids and names only, never payload. */
export function runSearchAttributes(envelope: Envelope, state: RunState = 'accepted'): TypedSearchAttributes {
  return new TypedSearchAttributes([
    keyword('TenantId', envelope.tenantId),
    keyword('Environment', envelope.environment),
    keyword('WorkspaceId', envelope.workspaceId),
    keyword('AgentId', envelope.agentId),
    keyword('PolicyProfile', envelope.policyProfile),
    keyword('QuotaClass', envelope.quotaClass),
    keyword('RunState', state),
  ]);
}

/**
 * Starts the workflow of an accepted run, once: `already` if its id was ever used, open or closed. Acceptance calls it
 * after the row is written, and the sweep for every row whose workflow is missing. Throws what Temporal's client throws.
 */
export async function startAccepted(client: Client, signed: SignedEnvelope): Promise<'started' | 'already'> {
  const { envelope } = signed;
  const input: AgentRunInput = { signed };
  try {
    await client.workflow.start(WORKFLOW.run, {
      workflowId: envelope.workflowId,
      taskQueue: RUNS_QUEUE,
      args: [input],
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
      // After a worker was killed, its task waits this long for another.
      workflowTaskTimeout: '3s',
      typedSearchAttributes: runSearchAttributes(envelope),
      priority: { fairnessKey: fairnessKey(envelope.tenantId) },
      staticSummary: `${envelope.agentId} for ${envelope.tenantId}${envelope.target ? ` on a record in ${envelope.target.system}` : ''}`,
      staticDetails: [
        `Agent **${envelope.agentId}** (version ${envelope.agentVersion}) works for tenant **${envelope.tenantId}**, workspace ${envelope.workspaceId}.`,
        `Asked for by a ${envelope.principal.kind}. Policy profile ${envelope.policyProfile}, quota class ${envelope.quotaClass}.`,
        'What it was given and what it says is kept in the tenant’s own storage, not here.',
      ].join('\n\n'),
    });
    return 'started';
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return 'already';
    throw error;
  }
}

const FOLLOW_UPS = {
  undo: { type: WORKFLOW.undo, state: 'compensating', summary: 'undoes what a run did' },
  retry: { type: WORKFLOW.retry, state: 'running', summary: 'one call of a run, once more' },
} as const satisfies Record<FollowUpKind, { type: string; state: RunState; summary: string }>;

/**
 * Starts the workflow of a follow-up that was ordered, under the envelope of its run: `already` while one is open, and
 * once one has completed. One that was ended from outside, or failed, may be begun again, for its order still stands: what it
 * did is known by its keys, and a follow-up that is done is not entered. Throws what Temporal's client throws.
 */
export async function startFollowUp(
  client: Client,
  signed: SignedEnvelope,
  { kind, followUpNo }: { kind: FollowUpKind; followUpNo: number },
): Promise<'started' | 'already'> {
  const { envelope } = signed;
  const { type, state, summary } = FOLLOW_UPS[kind];
  const input: FollowUpInput = { signed, followUpNo };
  try {
    await client.workflow.start(type, {
      workflowId: followUpWorkflowId(envelope.workflowId, { kind, followUpNo }),
      taskQueue: RUNS_QUEUE,
      args: [input],
      workflowIdReusePolicy: 'ALLOW_DUPLICATE_FAILED_ONLY',
      workflowIdConflictPolicy: 'FAIL',
      workflowTaskTimeout: '3s',
      typedSearchAttributes: runSearchAttributes(envelope, state),
      priority: { fairnessKey: fairnessKey(envelope.tenantId) },
      staticSummary: `${summary}: ${envelope.agentId} for ${envelope.tenantId}`,
      staticDetails: `Follow-up ${followUpNo} of run **${envelope.runId}**, ordered in the tenant's ledger: ${summary}.`,
    });
    return 'started';
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return 'already';
    throw error;
  }
}
