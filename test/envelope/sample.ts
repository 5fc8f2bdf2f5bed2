import { digestOf } from '../../contracts/digest';
import { Envelope } from '../../contracts/envelope';

/** An envelope of acme's run `run-1` in prod, with fields replaced. */
export function sampleEnvelope(changes: Record<string, unknown> = {}): Envelope {
  return Envelope.parse({
    schemaVersion: 1,
    workflowId: 'tenant/acme/prod/run/run-1',
    tenantId: 'acme',
    environment: 'prod',
    workspaceId: 'main',
    agentId: 'support_triage',
    agentVersion: '0123456789ab',
    runId: 'run-1',
    parentRunId: null,
    rootRunId: 'run-1',
    policyProfile: 'regulated_support',
    quotaClass: 'enterprise_gold',
    requestedAction: 'agent.run',
    target: { system: 'helpdesk', recordId: 'T-1' },
    principal: { kind: 'service', subject: 'svc-1' },
    inputDigest: digestOf({ ticket: 'T-1' }),
    acceptedAt: '2026-01-01T00:00:00.000Z',
    ...changes,
  });
}
