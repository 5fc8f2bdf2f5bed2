import { randomUUID } from 'node:crypto';
import { digestOf } from '../contracts/digest';
import type { TenantRecord } from '../contracts/documents';
import type { Envelope, Target } from '../contracts/envelope';
import { RunId, type Digest, type Environment, type TenantId, type WorkspaceId } from '../contracts/ids';
import { runWorkflowId } from '../contracts/workflow-ids';
import type { VerifiedPrincipal } from './identity';

/**
 * The id of a run to be. With the caller's key it follows from the key: a request that is sent again reaches the same
 * workflow id even where the database has lost the first one, and Temporal starts none twice. Random without a key.
 */
export function newRunId(
  { tenantId, environment }: { tenantId: TenantId; environment: Environment },
  idempotencyKey: string | null,
): RunId {
  if (idempotencyKey === null) return RunId.parse(randomUUID());
  return RunId.parse(`k-${digestOf(['run', tenantId, environment, idempotencyKey]).slice(0, 40)}`);
}

/** The envelope of a run without a parent. What is asked for was checked against the token by now. */
export function mint(
  who: VerifiedPrincipal,
  record: TenantRecord,
  run: {
    runId: RunId;
    workspaceId: WorkspaceId;
    agent: { id: Envelope['agentId']; version: Envelope['agentVersion'] };
    target: Target | null;
    inputDigest: Digest;
  },
): Envelope {
  const { tenantId, environment } = who.scope;
  const { runId, workspaceId, agent, target, inputDigest } = run;
  return {
    schemaVersion: 1,
    workflowId: runWorkflowId(tenantId, environment, runId),
    tenantId,
    environment,
    workspaceId,
    agentId: agent.id,
    agentVersion: agent.version,
    runId,
    parentRunId: null,
    rootRunId: runId,
    policyProfile: record.policyProfile,
    quotaClass: record.quotaClass,
    requestedAction: 'agent.run',
    target,
    principal: who.principal,
    inputDigest,
    acceptedAt: new Date().toISOString(),
  };
}
