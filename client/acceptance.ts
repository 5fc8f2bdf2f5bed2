import type { Client } from '@temporalio/client';
import { z } from 'zod';
import type { Agent } from '../contracts/agent';
import { digestOf } from '../contracts/digest';
import type { TenantRecord } from '../contracts/documents';
import { Target, type SignedEnvelope } from '../contracts/envelope';
import { AgentId, WorkspaceId, type RunId } from '../contracts/ids';
import type { Storage, TenantStore } from '../contracts/ports';
import type { AcceptRun, Acceptance, RunRow } from '../contracts/rows';
import type { EnvelopeSigner } from '../contracts/secrets-ports';
import type { Refusal } from '../contracts/refusal';
import { BulkheadError, reachDatabase, refusedBy, scopeAmbiguous } from './errors';
import type { VerifiedPrincipal } from './identity';
import { requireBoundedJson, requireStorableText } from './json-bounds';
import { mint, newRunId } from './minting';
import { startAccepted } from './start';
import { isTemporalTrouble, temporalTroubleIn } from './temporal-trouble';

export { runSearchAttributes, startAccepted } from './start';

const IdempotencyKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,200}$/, 'an idempotency key is 1 to 200 visible ASCII characters');

/** What a caller asks for. The tenant is not among it: it comes from the token. */
export const RunRequest = z.strictObject({
  agent: AgentId,
  /** May be left out where the token is for exactly one workspace. */
  workspace: WorkspaceId.optional(),
  /** JSON, at most 1 MiB. It stays in tenant storage. */
  input: z.unknown(),
  target: Target.nullable().optional(),
  /** The same key and body answer the same run; the same key with another body is refused. */
  idempotencyKey: IdempotencyKey.optional(),
  /** From 1, which goes first among the tenant's queued runs, to 5; 3 where it is left out. A tenant's quota bounds it. */
  priority: z.int().min(1).max(5).optional(),
  /** Only ever compared with the token, never believed. */
  tenantId: z.string().optional(),
  environment: z.string().optional(),
});
export type RunRequest = z.input<typeof RunRequest>;

/** Another run that a new one begins from. */
export const ForkRequest = z.strictObject({
  runId: z.string(),
  /** The first step that is made anew, from 0. */
  fromStep: z.int().min(0).max(100_000),
  idempotencyKey: IdempotencyKey.optional(),
});
export type ForkRequest = z.input<typeof ForkRequest>;

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
    const { input, target = null, idempotencyKey = null, priority } = request;
    const runId = newRunId(who.scope, idempotencyKey);
    const inputDigest = digestOf(input);
    const signed = await ports.signer.sign(
      mint(who, record, { runId, workspaceId, agent, target, inputDigest }),
    );
    const asked = priority === undefined ? {} : { priority };
    const bodyDigest = digestOf({ agent: request.agent, workspace: workspaceId, target, input, ...asked });
    return store.acceptRun({ signed, idempotencyKey, bodyDigest, input, ...asked });
  });
  return await begin(ports, acceptance);
}

/**
 * Accepts a run that knows what another one of the tenant knew before a step, and goes on from there: with the agent as it
 * was then, keys of its own and policy as it is now. The other run stays as it is, and so does what it wrote.
 * Throws as {@link acceptRun} does; `invalid` (`no_such_step`) where the steps before it are not all done.
 */
export async function forkRun(
  ports: AcceptancePorts,
  who: VerifiedPrincipal,
  candidate: ForkRequest,
): Promise<Accepted> {
  const { runId: from, fromStep, idempotencyKey = null } = parse(ForkRequest, candidate, 'a fork');
  const store = ports.storage.tenant(who.scope);
  const acceptance = await reachDatabase(async () => {
    const record = await requireRecord(store);
    const origin = await store.run(from as RunId);
    const given = origin && (await store.payload(origin.runId, 'input'));
    if (!origin || given?.kind !== 'input') throw unknownRun(from);
    const workspaceId = chooseWorkspace(who, record, origin.workspaceId as WorkspaceId);
    const agent = await store.agent(origin.agentId, origin.agentVersion);
    if (!agent) throw unknownAgent(origin.agentId);
    const { input } = given;
    const runId = newRunId(who.scope, idempotencyKey);
    const { target } = origin;
    const inputDigest = digestOf(input);
    const signed = await ports.signer.sign(
      mint(who, record, {
        runId,
        workspaceId,
        agent,
        target: target && Target.parse(target),
        inputDigest,
      }),
    );
    const fork: AcceptRun['fork'] = { runId: origin.runId, fromStep };
    const bodyDigest = digestOf({ fork });
    return store.acceptRun({ signed, fork, idempotencyKey, bodyDigest, input }).catch((error: unknown) => {
      throw isMissingStep(error) ? noSuchStep(from, fromStep, error) : error;
    });
  });
  return await begin(ports, acceptance);
}

/** What the ledger answered, in the client's words; starts the workflow of a run that was accepted. */
async function begin(ports: AcceptancePorts, acceptance: Acceptance): Promise<Accepted> {
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
      throw notAccepted(acceptance.refusal);
    case 'accepted':
    case 'existing': {
      const { run, signed } = acceptance;
      const trouble = run.state === 'closed' ? undefined : await start(ports.temporal, signed);
      const started = trouble === undefined;
      const notice = started
        ? null
        : `run ${run.runId} is accepted and recorded; ${temporalTroubleIn(trouble)}, and the sweep starts it once it can`;
      return { run, signed, existing: acceptance.kind === 'existing', started, notice };
    }
  }
}

/** A priority that is not the tenant's to ask for is a mistake in the request; every other refusal is one of the ledger's. */
function notAccepted(refusal: Refusal): BulkheadError {
  if (refusal.rule !== 'best_priority') return refusedBy(refusal);
  return new BulkheadError(
    'invalid',
    `${refusal.message}, and ${refusal.used} was asked for: ask for ${refusal.value} to 5, or have \`limits.bestPriority\` of its quota class changed`,
    { reason: 'best_priority', refusal },
  );
}

/** The ledger says `no_data_found` of a step that nothing can begin from. */
const isMissingStep = (error: unknown): boolean => (error as { code?: unknown } | null)?.code === 'P0002';

const noSuchStep = (runId: string, step: number, cause: unknown): BulkheadError =>
  new BulkheadError(
    'invalid',
    `run ${runId} cannot be forked from step ${step}: the steps before it are not all done; \`bulkhead run show ${runId}\` counts them`,
    { reason: 'no_such_step', cause },
  );

const unknownRun = (runId: string): BulkheadError =>
  new BulkheadError('not_found', `there is no run ${printable(runId)} in your tenant to fork`, {
    reason: 'unknown_run',
  });

function parseRequest(candidate: RunRequest): z.output<typeof RunRequest> {
  const request = parse(RunRequest, candidate, 'a run');
  requireBoundedJson(request.input, 'input');
  if (request.target) requireStorableText(request.target.recordId, 'target.recordId');
  return request;
}

function parse<T>(schema: z.ZodType<T>, candidate: unknown, what: string): T {
  const parsed = schema.safeParse(candidate);
  if (!parsed.success) {
    const mistakes = parsed.error.issues
      .map((issue) => `${issue.path.join('.') || 'request'}: ${issue.message}`)
      .join('; ');
    throw new BulkheadError(
      'invalid',
      `this is no request for ${what} (${mistakes}): correct it and send it again`,
    );
  }
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
  throw unknownAgent(agentId);
}

function unknownAgent(agentId: string): BulkheadError {
  return new BulkheadError(
    'not_found',
    `there is no agent ${agentId}: a worker makes the agents of its app (BULKHEAD_APP) known when it starts, so define it there and start one`,
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

/** The error where Temporal is the trouble: the row is written, so the answer is yes and the sweep does the rest. */
async function start(client: Client, signed: SignedEnvelope): Promise<Error | undefined> {
  try {
    await client.withDeadline(Date.now() + START_DEADLINE_MS, () => startAccepted(client, signed));
    return undefined;
  } catch (error) {
    if (isTemporalTrouble(error)) return error;
    throw error;
  }
}

/** A caller's text, made fit to repeat in a message. */
const printable = (text: string): string => JSON.stringify(text.slice(0, 60));
