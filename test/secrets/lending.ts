import { randomUUID } from 'node:crypto';
import { digestOf } from '../../contracts/digest';
import { Envelope, SignedEnvelope } from '../../contracts/envelope';
import { RunId } from '../../contracts/ids';
import type { AdmitRequest, Claim } from '../../contracts/ledger';
import type { TenantStore } from '../../contracts/ports';
import type { CallContext } from '../../contracts/rows';
import { admissionOf as anAdmission } from '../support/calls';

export const CAPABILITY = 'payments:refund';

/** What a call that needs this credential would be judged by; `undefined` for a tenant that does not exist. */
export const contextOf = (store: TenantStore, capability: string): Promise<CallContext | undefined> =>
  store.callContext({ runId: RunId.parse('r-1'), records: [], capability });
/** The same for {@link CAPABILITY}, of a tenant that exists. */
export async function readContext(store: TenantStore): Promise<CallContext> {
  const context = await contextOf(store, CAPABILITY);
  if (!context) throw new Error('there is no such tenant');
  return context;
}

/** A write of a fresh run that needs what the context has sealed. */
export const admissionOf = async (store: TenantStore, context: CallContext): Promise<AdmitRequest> =>
  anAdmission(
    { runId: await enteredRun(store), path: '0.1', temporalRunId: 'temporal-1', decidedBy: context.versions },
    { action: 'payment.refund', system: 'payments', capability: context.sealed?.capability ?? null },
  );
/** What a broker is shown where admission said no. */
export const NOT_LET_IN: Claim = { epoch: 0, attempt: 0, leaseId: null, seq: 0 };
/** Asks for one such write. */
export async function admit(store: TenantStore, context: CallContext): Promise<Claim> {
  const admission = await store.admit(await admissionOf(store, context));
  return admission.answer === 'admitted' ? admission : NOT_LET_IN;
}

async function enteredRun(store: TenantStore): Promise<RunId> {
  const { tenantId, environment } = store.scope;
  const runId = RunId.parse(randomUUID());
  const envelope = Envelope.parse({
    schemaVersion: 1,
    workflowId: `tenant/${tenantId}/${environment}/run/${runId}`,
    tenantId,
    environment,
    workspaceId: 'main',
    agentId: 'refunds',
    agentVersion: '0123456789ab',
    runId,
    parentRunId: null,
    rootRunId: runId,
    policyProfile: 'careful',
    quotaClass: 'standard',
    requestedAction: 'run.start',
    target: null,
    principal: { kind: 'user', subject: 'u-1' },
    inputDigest: digestOf('input'),
    acceptedAt: '2025-03-10T12:00:00.000Z',
  });
  const signed = SignedEnvelope.parse({ envelope, proof: { protected: 'p', signature: 's' } });
  await store.acceptRun({ signed, idempotencyKey: null, bodyDigest: digestOf(runId), input: 'go' });
  await store.enterRun({ runId, temporalRunId: 'temporal-1', previousTemporalRunId: null, generation: 0 });
  return runId;
}
