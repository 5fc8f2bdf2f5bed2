import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import {
  SearchAttributeType,
  TypedSearchAttributes,
  defineSearchAttributeKey,
  type SearchAttributePair,
} from '@temporalio/common';
import type { Envelope, SignedEnvelope } from '../contracts/envelope';
import { RUNS_QUEUE, WORKFLOW, fairnessKey } from '../contracts/names';
import type { SearchAttribute } from '../contracts/states';
import type { AgentRunInput } from '../contracts/workflow-io';

/** A Keyword search attribute with its value, typed for Temporal. */
export const keyword = (name: SearchAttribute, value: string): SearchAttributePair => ({
  key: defineSearchAttributeKey(name, SearchAttributeType.KEYWORD),
  value,
});

/** What operators find an accepted run by (promise O6). Ids and names only, never payload. */
export function runSearchAttributes(envelope: Envelope): TypedSearchAttributes {
  return new TypedSearchAttributes([
    keyword('TenantId', envelope.tenantId),
    keyword('Environment', envelope.environment),
    keyword('WorkspaceId', envelope.workspaceId),
    keyword('AgentId', envelope.agentId),
    keyword('PolicyProfile', envelope.policyProfile),
    keyword('QuotaClass', envelope.quotaClass),
    keyword('RunState', 'accepted'),
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
