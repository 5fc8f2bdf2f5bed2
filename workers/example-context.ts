import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { ensureControl } from '../client/control';
import { refusalsOf } from '../client/journal';
import type { CliRuntime } from '../client/cli/context';
import { digestOf } from '../contracts/digest';
import { AgentId, RunId, SystemName, TenantId, WorkspaceId } from '../contracts/ids';
import { controlWorkflowId } from '../contracts/workflow-ids';
import type { Placement } from '../contracts/platform-ports';
import type { TenantStore } from '../contracts/ports';
import type { RunRow } from '../contracts/rows';
import { checkDocuments } from '../policy/compile';
import { formatMistakes, type ParsedDocument } from '../policy/documents';
import type { ExampleContext, RunReport } from '../tools/example';
import { openRuntime } from './cli-runtime';
import type { Config } from './config';
import type { Stack } from './bring-up';
import { spawnSystem } from './example-host';
import { journaledWrites } from './example-journal';
import { machineOf, typedCommand } from './example-machine';

const ACTOR = 'bulkhead up';
/** Who starts the runs: the customer's own service, which may approve nothing. */
const BACKEND: Bearer = { subject: 'support-desk-backend', kind: 'service', roles: [] };

interface Bearer {
  readonly subject: string;
  readonly kind: 'user' | 'service';
  readonly roles: readonly string[];
}

export interface ExampleContextOptions {
  /** Settings of the running stack, with its operator's access. */
  readonly config: Config;
  readonly stack: Stack;
  readonly say: (line: string) => void;
}

export interface OpenedExampleContext extends ExampleContext {
  placements(): Promise<Placement[]>;
  close(): Promise<void>;
}

/**
 * What an example works with: the same client, documents and signals that a person has, as the development issuer's
 * service account. Nothing here is a way around the public surface.
 */
export async function createExampleContext({
  config,
  stack,
  say,
}: ExampleContextOptions): Promise<OpenedExampleContext> {
  const runtime = openRuntime(config, undefined);
  const { environment } = runtime;
  const stateDir = path.join(config.stateDir, 'example');
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const [storage, operator, bulkhead, app] = await Promise.all([
    runtime.storage(),
    runtime.operator(),
    runtime.bulkhead(),
    runtime.app(),
  ]);
  const tokens = new Map<string, { token: Promise<string>; until: number }>();

  const storeOf = (tenant: string): TenantStore =>
    storage.tenant(runtime.operatorScope(TenantId.parse(tenant)));
  const tokenFor = (tenant: string): Promise<string> => {
    const known = tokens.get(tenant);
    if (known && known.until > Date.now()) return known.token;
    const token = mintToken(runtime, storeOf(tenant), tenant, BACKEND);
    tokens.set(tenant, { token, until: Date.now() + 1_800_000 });
    // One that could not be made (the database was away) is made again at the next call.
    token.catch(() => tokens.delete(tenant));
    return token;
  };
  const runOf = async (tenant: string, runId: string) =>
    bulkhead.run({ token: await tokenFor(tenant), runId });

  return {
    stateDir,
    environment,
    say,
    model: (tenant) => {
      const model = config.model(tenant);
      return model && { baseUrl: model.baseUrl, apiKey: model.apiKey.reveal(), name: model.name };
    },
    spawn: (name, modulePath, env) => spawnSystem(stack.children, name, modulePath, env),
    async apply(yaml) {
      const read = checkDocuments(yaml, app ?? { actions: new Map(), agents: new Map() });
      if (!read.ok)
        throw new Error(
          `the example's documents have mistakes:\n${formatMistakes(read.mistakes, 'documents')}`,
        );
      // Tenants name quota classes and profiles, so those come first.
      const inOrder = (kind: ParsedDocument['kind']): ParsedDocument[] =>
        read.documents.filter((document) => document.kind === kind);
      for (const one of [...inOrder('QuotaClass'), ...inOrder('PolicyProfile'), ...inOrder('Tenant')])
        await applyOne(one);
    },
    async putCredential(tenant, capability, secret) {
      await operator.putCredential(runtime.operatorScope(TenantId.parse(tenant)), capability, secret, ACTOR);
    },
    async putKnowledge(tenant, documents) {
      for (const document of documents) {
        const put = await storeOf(tenant).putKnowledge(document);
        if (put.kind === 'refused') throw new Error(`${document.documentId}: ${put.refusal.message}`);
      }
    },
    async startRun({ tenant, workspace, agent, input, target, idempotencyKey }) {
      const run = await bulkhead.startRun({
        token: await tokenFor(tenant),
        workspace: WorkspaceId.parse(workspace),
        agent: AgentId.parse(agent),
        input,
        target: { system: SystemName.parse(target.system), recordId: target.recordId },
        idempotencyKey,
      });
      return { runId: run.runId };
    },
    async waitRun(tenant, runId) {
      const run = await runOf(tenant, runId);
      await run.result();
      return reportOf(await run.row());
    },
    async runs(tenant) {
      return (await storeOf(tenant).runs({ limit: 500 })).map(reportOf);
    },
    refusals: (tenant, runId) => refusalsOf(storeOf(tenant), RunId.parse(runId)),
    writes: (tenant) => journaledWrites(storeOf(tenant)),
    openReviews: (tenant) => storeOf(tenant).reviews({ open: true, limit: 500 }),
    followUps: (tenant, runId) => storeOf(tenant).followUps(RunId.parse(runId)),
    openApprovals: (tenant) => storeOf(tenant).approvals.list({ open: true, limit: 500 }),
    async decide(tenant, { approvalNo, decision, note, person }) {
      const token = await mintToken(runtime, storeOf(tenant), tenant, { ...person, kind: 'user' });
      await bulkhead[decision]({ token, approvalNo, note });
    },
    suggestions: (tenant, runId) => storeOf(tenant).approvals.suggestions(RunId.parse(runId)),
    command: (words, as) => typedCommand(words, { stack, say, ...(as && { as }) }),
    machine: machineOf(stack),
    async signalControl(tenant, name, argument) {
      const { temporalBinary, temporalAddress } = stack.addresses;
      const workflowId = controlWorkflowId(TenantId.parse(tenant), environment);
      if (temporalBinary === null) {
        const client = await runtime.temporal();
        await client.workflow
          .getHandle(workflowId)
          .signal(name, ...(argument === undefined ? [] : [argument]));
        return;
      }
      const input = argument === undefined ? [] : ['--input', JSON.stringify(argument)];
      const typed = [
        'workflow',
        'signal',
        '--address',
        temporalAddress,
        '--namespace',
        config.temporal.namespace,
        '--workflow-id',
        workflowId,
        '--name',
        name,
        ...input,
      ];
      say(`$ temporal ${typed.map((word) => (/[\s{"]/.test(word) ? `'${word}'` : word)).join(' ')}`);
      await promisify(execFile)(temporalBinary, typed, { timeout: 20_000 });
    },
    async controlState(tenant) {
      const state = await storeOf(tenant).control();
      if (!state) throw new Error(`there is no tenant ${tenant}`);
      return state;
    },
    placements: () => storage.platform.placements(),
    close: () => runtime.close(),
  };

  async function applyOne(one: ParsedDocument): Promise<void> {
    if (one.kind === 'ProviderPool') await operator.putProviderPool(one.document, ACTOR);
    else if (one.kind === 'CallCapacity') await operator.putCallCapacity(one.document, ACTOR);
    else if (one.kind === 'QuotaClass') await operator.putQuotaClass(one.document, ACTOR);
    else if (one.kind === 'Tenant') {
      await operator.putTenant(one.document, ACTOR);
      await ensureControl(await runtime.temporal(), one.document.metadata.name, environment);
    } else await publishIfChanged(one);
  }

  /** A start is no reason for a new version: the same text stays the version that it is. */
  async function publishIfChanged({
    document,
    text,
  }: Extract<ParsedDocument, { kind: 'PolicyProfile' }>): Promise<void> {
    const { name } = document.metadata;
    const [last] = await operator.policyHistory(name);
    const published = last && (await operator.policyPublished(name, last.version));
    if (published?.text === text) return;
    const reason = `example, text ${digestOf(text).slice(0, 12)}`;
    await operator.publishPolicy({ name, environments: document.environments, text }, ACTOR, reason);
  }
}

async function mintToken(
  runtime: CliRuntime,
  store: TenantStore,
  tenant: string,
  { subject, kind, roles }: Bearer,
): Promise<string> {
  const issuer = runtime.devIssuer();
  if (!issuer)
    throw new Error(
      'the example needs the development issuer: unset BULKHEAD_TOKEN_ISSUER, or set BULKHEAD_DEV_ISSUER_KEY',
    );
  const record = await store.record();
  return await issuer.token({
    tenant: TenantId.parse(tenant),
    environment: runtime.environment,
    workspaces: [...(record?.workspaces ?? [])],
    roles: [...roles],
    subject,
    kind,
  });
}

function reportOf(row: RunRow): RunReport {
  const { runId, state, stopReason, steps, toolCalls, refusals, spentMicroUsd, acceptedAt, closedAt } = row;
  return { runId, state, stopReason, steps, toolCalls, refusals, spentMicroUsd, acceptedAt, closedAt };
}
