import type { Client } from '@temporalio/client';
import { unpackHeads } from '../activities/heads';
import { SignedEnvelope } from '../contracts/envelope';
import type { Environment, TenantId } from '../contracts/ids';
import { SWEEP_WORKFLOW_PREFIX, WORKFLOW } from '../contracts/names';
import { controlWorkflowId, parseFollowUpId } from '../contracts/workflow-ids';
import type { Storage } from '../contracts/ports';
import type { EnvelopeVerifier } from '../contracts/secrets-ports';
import type { RecoveryAnswer, RecoveryReport } from '../contracts/recovery';
import { mintScope } from '../contracts/scope-mint';
import { SIGNALS, type PackedHead } from '../contracts/workflow-io';
import type { App } from '../tools/app';
import type { WorkflowTrace } from './recover-history';
import { Recovery, type Trusted } from './recover-steps';
import { lastControlState, readWorkflows } from './recover-workflows';

export interface RecoverParts {
  readonly storage: Storage;
  readonly client: Client;
  readonly environment: Environment;
  readonly verifier: EnvelopeVerifier;
  /** What a lost call was is read from its action. */
  readonly app: Pick<App, 'actions' | 'agents'>;
  readonly say?: (line: string) => void;
}

export interface RecoverRequest {
  readonly tenantId: TenantId;
  readonly dryRun: boolean;
  readonly actor: string;
  /** How far before the newest entry of the ledger workflows that closed are still read, milliseconds. */
  readonly marginMs?: number;
}

/** The newest entry may be of after the restore, from before anybody noticed it. */
const MARGIN_MS = 15 * 60_000;
/** Entries that a backup may lack: years of the busiest tenant. A history that names a number beyond is not the platform's own. */
const BELIEVABLE_LOSS = 1_000_000_000;
const beyondBelief = (seq: number): string =>
  `it names journal entry ${seq}, which this tenant cannot have come to: somebody else has written that`;

/**
 * Brings a tenant's ledger, restored from a backup, back to what Temporal's histories know (promise O8): runs, calls,
 * undos, fences. Then the loss is acknowledged, and the tenant works again. A dry run changes nothing and says the same.
 *
 * Every step is guarded and may be repeated: whoever is killed halfway runs it again. While it goes on the tenant is
 * fenced, so nothing is admitted beside it.
 */
export async function recoverTenant(parts: RecoverParts, request: RecoverRequest): Promise<RecoveryAnswer> {
  const { storage, client, environment, verifier } = parts;
  const { tenantId, dryRun } = request;
  const say = parts.say ?? (() => undefined);
  const store = storage.tenant(mintScope(tenantId, environment, 'operator'));
  const before = await store.recovery.state();
  if (!before) return { kind: 'absent' };
  const since = new Date(
    Date.parse(before.asOf ?? new Date(0).toISOString()) - (request.marginMs ?? MARGIN_MS),
  );
  const ledgerOpen = (await store.openRuns(10_000)).map(({ workflowId }) => workflowId);
  say(`reading the histories of ${tenantId} since ${since.toISOString()}`);
  const traces = await readWorkflows(client, { tenantId, environment, since, also: ledgerOpen });
  say(`${traces.length} workflows read`);

  const refused: { workflowId: string; because: string }[] = [];
  const trusted: Trusted[] = [];
  const believable = Math.max(before.journalSeq, before.acknowledgedSeq) + BELIEVABLE_LOSS;
  for (const trace of traces) {
    try {
      const signed = await verified(verifier, trace, tenantId);
      if (trace.highestSeq > believable) throw new Error(beyondBelief(trace.highestSeq));
      trusted.push({ trace, signed });
    } catch (error) {
      const because = error instanceof Error ? error.message : 'its envelope is not readable';
      refused.push({ workflowId: trace.workflowId, because });
    }
  }
  // Of those alone: the journal goes on after it, and whoever may start workflows must not move it.
  const seenSeq = Math.max(0, ...trusted.map(({ trace }) => trace.highestSeq));

  const lostHead = (await storage.platform.lostHeads(await lastHeads(client))).find(
    (head) => head.tenantId === tenantId && head.seq <= believable,
  );
  if (before.rewoundSeq === 0) {
    const now = (await store.recovery.state()) ?? before;
    const behind = seenSeq > Math.max(now.journalSeq, now.acknowledgedSeq);
    if (!lostHead && !behind) return { kind: 'at_work' };
    if (!dryRun) {
      const by = `recover, by ${request.actor}`;
      const marked = lostHead
        ? await store.recovery.markRewound({ ...lostHead, by })
        : await store.recovery.markRewound({ seq: seenSeq, hash: null, acknowledged: 0, by });
      if (!marked) return { kind: 'at_work' };
    }
  }
  const highestSeq = Math.max(seenSeq, lostHead?.seq ?? 0, before.rewoundSeq);
  if (!dryRun) await store.recovery.begin({ highestSeq, actor: request.actor });

  const work = new Recovery(parts.app, store, dryRun);
  const control = await lastControlState(client, controlWorkflowId(tenantId, environment), since);
  const fence = await work.fence(control, before.fenceEpoch);
  for (const each of trusted.filter(({ trace }) => !parseFollowUpId(trace.workflowId)))
    await work.run(each, fence);
  for (const each of trusted) await work.calls(each);
  for (const each of trusted)
    for (const followUp of each.trace.followUps) await work.followUp(each, followUp);
  for (const each of trusted.filter(({ trace }) => !parseFollowUpId(trace.workflowId))) await work.end(each);

  if (!dryRun) {
    await store.recovery.finish({ actor: request.actor, counts: work.counts });
    await wake(client, trusted);
  }
  const report: RecoveryReport = {
    dryRun,
    asOf: before.asOf,
    journalSeq: before.journalSeq,
    seenSeq: highestSeq,
    policyVersion: before.policyVersion,
    rows: work.rows,
    counts: work.counts,
    refused,
    released: !dryRun,
    mode: fence?.mode ?? before.mode,
  };
  return { kind: 'recovered', report };
}

/** Believes nothing of a workflow before its envelope holds, for its very id and this tenant. */
async function verified(
  verifier: EnvelopeVerifier,
  trace: WorkflowTrace,
  tenantId: TenantId,
): Promise<SignedEnvelope> {
  const ofRun = parseFollowUpId(trace.workflowId)?.runWorkflow ?? trace.workflowId;
  const { scope, signed } = await verifier.verify(trace.signed, ofRun);
  if (scope.tenantId !== tenantId) throw new Error('its envelope is another tenant’s');
  return SignedEnvelope.parse(signed);
}

/** Where journals ended at the last sweep that completed: a witness outside the database. */
async function lastHeads(client: Client) {
  const sweeps = client.workflow.list({
    query: `WorkflowType = '${WORKFLOW.sweep}' and ExecutionStatus = 'Completed' and WorkflowId STARTS_WITH '${SWEEP_WORKFLOW_PREFIX}'`,
    pageSize: 1,
  });
  for await (const { workflowId, runId } of sweeps) {
    const result: unknown = await client.workflow.getHandle(workflowId, runId).result();
    return unpackHeads((result as { heads?: readonly PackedHead[] } | null)?.heads);
  }
  return [];
}

/** Runs that wait because their tenant was fenced ask again at once. A hint: without it they do in minutes. */
async function wake(client: Client, trusted: readonly Trusted[]): Promise<void> {
  const open = trusted.filter(({ trace }) => trace.open);
  await Promise.allSettled(
    open.map(({ trace }) => client.workflow.getHandle(trace.workflowId).signal(SIGNALS.wakeRun)),
  );
}
