import { z } from 'zod';
import { AgentId, AgentVersion, Digest, Environment, RunId, SystemName, TenantId, WorkspaceId } from './ids';

/** Who asked: a subject id of the identity provider, no name, no mail address. */
export const Principal = z.strictObject({
  kind: z.enum(['user', 'service', 'schedule']),
  subject: z.string().min(1).max(200),
});
export type Principal = z.infer<typeof Principal>;

/** The record in an outside system that a run is about. */
export const Target = z.strictObject({ system: SystemName, recordId: z.string().min(1).max(200) });
export type Target = z.infer<typeof Target>;

/**
 * The immutable record of a run's acceptance (promise E1). Minted by acceptance alone, from a verified token and
 * the tenant's record; bound to `workflowId`, so that a copy into another workflow fails. What is in force now
 * (policy version, limits, mode) is the tenant row's to say, not the envelope's.
 */
export const Envelope = z.strictObject({
  schemaVersion: z.literal(1),
  workflowId: z.string().min(1).max(400),
  tenantId: TenantId,
  environment: Environment,
  workspaceId: WorkspaceId,
  agentId: AgentId,
  agentVersion: AgentVersion,
  runId: RunId,
  parentRunId: RunId.nullable(),
  /** The run that children charge and whose id leads every idempotency key; `runId` for a run without parent. */
  rootRunId: RunId,
  policyProfile: z.string().min(1).max(100),
  quotaClass: z.string().min(1).max(100),
  requestedAction: z.string().min(1).max(100),
  target: Target.nullable(),
  principal: Principal,
  /** Of the run's input, which itself stays in tenant storage. */
  inputDigest: Digest,
  acceptedAt: z.iso.datetime(),
});
export type Envelope = z.infer<typeof Envelope>;

/**
 * An envelope with its proof: a JWS (RFC 7515, flattened, Ed25519) with detached payload (appendix F). The payload
 * is the canonical JSON (RFC 8785) of the envelope, so the readable form is what is signed.
 */
export const SignedEnvelope = z.strictObject({
  envelope: Envelope,
  proof: z.strictObject({ protected: z.string().min(1).max(500), signature: z.string().min(1).max(200) }),
});
export type SignedEnvelope = z.infer<typeof SignedEnvelope>;
