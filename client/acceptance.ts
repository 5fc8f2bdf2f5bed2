import { randomUUID } from 'node:crypto';
import type { Client } from '@temporalio/client';
import { z } from 'zod';
import type { Agent } from '../contracts/agent';
import { digestOf } from '../contracts/digest';
import type { TenantRecord } from '../contracts/documents';
import { Target, type Envelope, type SignedEnvelope } from '../contracts/envelope';
import { AgentId, RunId, WorkspaceId } from '../contracts/ids';
import { runWorkflowId } from '../contracts/names';
import type { EnvelopeSigner, RunRow, Storage, TenantStore } from '../contracts/ports';
import { BulkheadError, reachDatabase, refusedBy, scopeAmbiguous } from './errors';
import type { VerifiedPrincipal } from './identity';
import { requireBoundedJson } from './json-bounds';
import { startAccepted } from './start';
import { isTemporalTrouble } from './temporal-trouble';

export { runSearchAttributes, startAccepted } from './start';

/** What a caller asks for. The tenant is not among it: it comes from the token. */
export const RunRequest = z.strictObject({
  agent: AgentId,
  /** May be left out where the token is for exactly one workspace. */
  workspace: WorkspaceId.optional(),
  /** JSON, at most 1 MiB. It stays in tenant storage. */
  input: z.unknown(),
  target: Target.nullable().optional(),
  /** The same key and body answer the same run; the same key with another body is refused. */
  idempotencyKey: z
    .string()
    .regex(/^[\x21-\x7e]{1,200}$/, 'an idempotency key is 1 to 200 visible ASCII characters')
    .optional(),
  /** Only ever compared with the token, never believed. */
  tenantId: z.string().optional(),
  environment: z.string().optional(),
});
export type RunRequest = z.input<typeof RunRequest>;

export interface AcceptancePorts {
  readonly storage: Storage;
  readonly signer: EnvelopeSigner;
  readonly temporal: Client;
}

export interface Accepted {
  readonly run: RunRow;
  readonly signed: SignedEnvelope;
  /** The idempotency key was known: this is the earlier run. */
  readonly existing: boolean;
  /** `false`: Temporal could not be reached. The run is recorded and the sweep starts it; `notice` says so. */
  readonly started: boolean;
  readonly notice: string | null;
}

/** How long acceptance waits for Temporal before it leaves the start to the sweep. */
const START_DEADLINE_MS = 5_000;

/**
 * Accepts a run: the only place where an envelope is minted (promise E1), from a verified token and the tenant's
 * record. The row is written first and the workflow started second, so that a run is never lost in between.
 * Throws a {@link BulkheadError}: `invalid`, `refused`, `not_found`, `conflict` or `unavailable`; then nothing was done.
 */
export async function acceptRun(
  ports: AcceptancePorts,
  who: VerifiedPrincipal,
  candidate: RunRequest,
): Promise<Accepted> {
  const request = parseRequest(candidate);
  const { tenantId, environment } = who.scope;
  if (request.tenantId !== undefined && request.tenantId !== tenantId) {
    throw scopeAmbiguous(
      `the request names tenant ${printable(request.tenantId)}, the token is for ${tenantId}: leave the tenant out, or bring that tenant’s token`,
    );
  }
  if (request.environment !== undefined && request.environment !== environment) {
    throw scopeAmbiguous(
      `the request names environment ${printable(request.environment)}, the token is for ${environment}: leave it out, or bring a token of that environment`,
    );
  }
  const store = ports.storage.tenant(who.scope);
  const acceptance = await reachDatabase(async () => {
    const record = await requireRecord(store);
    const workspaceId = chooseWorkspace(who, record, request.workspace);
    const agent = await requireAgent(store, request.agent);
    const signed = await ports.signer.sign(mint(who, record, workspaceId, agent, request));
    const { input, target = null, idempotencyKey = null } = request;
    const bodyDigest = digestOf({ agent: request.agent, workspace: workspaceId, target, input });
    return store.acceptRun({ signed, idempotencyKey, bodyDigest, input });
  });

  switch (acceptance.kind) {
    case 'conflict':
      throw new BulkheadError(
        'conflict',
        `this idempotency key belongs to run ${acceptance.run.runId}, which was asked for with another body: use a new key for a new request`,
        {
          reason: 'idempotency_key_reused',
        },
      );
    case 'refused':
      throw refusedBy(acceptance.refusal);
    case 'accepted':
    case 'existing': {
      const { run, signed } = acceptance;
      const started = run.state === 'closed' || (await start(ports.temporal, signed));
      const notice = started
        ? null
        : `run ${run.runId} is accepted and recorded; Temporal does not answer now, and the sweep starts it once it does`;
      return { run, signed, existing: acceptance.kind === 'existing', started, notice };
    }
  }
}

function parseRequest(candidate: RunRequest): z.output<typeof RunRequest> {
  const parsed = RunRequest.safeParse(candidate);
  if (!parsed.success) {
    const mistakes = parsed.error.issues
      .map((issue) => `${issue.path.join('.') || 'request'}: ${issue.message}`)
      .join('; ');
    throw new BulkheadError(
      'invalid',
      `this is no request for a run (${mistakes}): correct it and send it again`,
    );
  }
  requireBoundedJson(parsed.data.input, 'input');
  return parsed.data;
}

async function requireRecord(store: TenantStore): Promise<TenantRecord> {
  const record = await store.record();
  if (record) return record;
  const { tenantId, environment } = store.scope;
  throw new BulkheadError(
    'not_found',
    `there is no tenant ${tenantId} in environment ${environment}: create it with \`bulkhead tenant create -f tenant.yaml\``,
    {
      reason: 'unknown_tenant',
    },
  );
}

async function requireAgent(store: TenantStore, agentId: AgentId): Promise<Agent> {
  const agent = await store.agent(agentId);
  if (agent) return agent;
  throw new BulkheadError(
    'not_found',
    `there is no agent ${agentId}: start a worker whose app (BULKHEAD_APP) defines it; \`bulkhead agent list\` shows those there are`,
    {
      reason: 'unknown_agent',
    },
  );
}

/** A workspace is named, or there is only one to mean. Never guessed (promise E4). */
function chooseWorkspace(
  who: VerifiedPrincipal,
  record: TenantRecord,
  asked: WorkspaceId | undefined,
): WorkspaceId {
  const only = who.workspaces.length === 1 ? who.workspaces[0] : undefined;
  const workspace = asked ?? only;
  if (workspace === undefined) {
    throw scopeAmbiguous(
      `the token is for several workspaces and the request names none: name one of ${who.workspaces.join(', ')}`,
    );
  }
  if (!who.workspaces.includes(workspace)) {
    throw refusedBy({
      kind: 'denied',
      origin: 'policy',
      rule: 'workspace',
      rules: ['workspace'],
      message: `the token is not for workspace ${workspace}: name one of ${who.workspaces.join(', ')}, or bring another token`,
    });
  }
  if (!record.workspaces.includes(workspace)) {
    throw new BulkheadError(
      'not_found',
      `tenant ${record.tenantId} has no workspace ${workspace}: it has ${record.workspaces.join(', ')}; add one to the Tenant document`,
      {
        reason: 'unknown_workspace',
      },
    );
  }
  return workspace;
}

function mint(
  who: VerifiedPrincipal,
  record: TenantRecord,
  workspaceId: WorkspaceId,
  agent: Agent,
  request: z.output<typeof RunRequest>,
): Envelope {
  const { tenantId, environment } = who.scope;
  const runId = RunId.parse(randomUUID());
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
    target: request.target ?? null,
    principal: who.principal,
    inputDigest: digestOf(request.input),
    acceptedAt: new Date().toISOString(),
  };
}

/** `false` where Temporal is the trouble: the row is written, so the answer is yes and the sweep does the rest. */
async function start(client: Client, signed: SignedEnvelope): Promise<boolean> {
  try {
    await client.withDeadline(Date.now() + START_DEADLINE_MS, () => startAccepted(client, signed));
    return true;
  } catch (error) {
    if (isTemporalTrouble(error)) return false;
    throw error;
  }
}

/** A caller's text, made fit to repeat in a message. */
const printable = (text: string): string => JSON.stringify(text.slice(0, 60));
