import { Client, Connection } from '@temporalio/client';
import { BulkheadClient } from '../../client/bulkhead';
import { BulkheadError } from '../../client/errors';
import { acceptRun, type RunRequest } from '../../client/acceptance';
import { startAccepted } from '../../client/start';
import type { VerifiedPrincipal } from '../../client/identity';
import { TenantId, WorkspaceId } from '../../contracts/ids';
import { mintScope } from '../../contracts/scope-mint';
import { generateEnvelopeKeys } from '../../secrets/envelope-keys';
import { createEnvelopeSigner } from '../../secrets/envelope-signer';
import { Client as Postgres } from 'pg';
import { openStorage } from '../../storage/open';
import { createTestDatabase } from '../support/database';
import { createTestStack, type TestStack } from '../support/stack';

const TENANTS = `
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: small }
---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: acme }
environments: { \${ENV}: { policyProfile: careful, quotaClass: small } }
workspaces: [main, second]
---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: globex }
environments: { \${ENV}: { policyProfile: careful, quotaClass: small } }
workspaces: [main]
`;
const CANARY = 'canary-7f3a91';

let stack: TestStack;
let agent: string;
beforeAll(async () => {
  stack = await createTestStack({ workers: false });
  await stack.apply(TENANTS);
  agent = [...stack.parts.app.agents.keys()][0] ?? '';
});
afterAll(() => stack.close());

const start = async (over: Partial<RunRequest> = {}, by: { tenant?: string; workspaces?: string[] } = {}) =>
  stack.client.startRun({
    token: await stack.token(by.tenant ?? 'acme', by.workspaces ? { workspaces: by.workspaces } : {}),
    agent,
    input: { ticket: CANARY },
    ...over,
  });
const runsOf = (tenant: string) => stack.store(tenant).runs({ limit: 500 });

describe('E1 acceptance is the only minter of envelopes', () => {
  test('E1 a run is recorded and started, bound to the token’s tenant, and its envelope is believed for its workflow alone', async () => {
    const run = await start({ target: { system: 'keeper', recordId: 'r1' } });
    expect(run.acceptance).toMatchObject({ existing: false, started: true, notice: null });
    const { signed } = run.acceptance ?? {};
    expect(signed?.envelope).toMatchObject({
      tenantId: 'acme',
      environment: stack.environment,
      workspaceId: 'main',
      agentId: agent,
      policyProfile: 'careful',
      quotaClass: 'small',
      parentRunId: null,
      rootRunId: run.runId,
      principal: { kind: 'user', subject: 'tester' },
      workflowId: run.workflowId,
    });
    await expect(stack.parts.verifier.verify(signed, run.workflowId)).resolves.toMatchObject({
      scope: { tenantId: 'acme' },
    });
    await expect(stack.parts.verifier.verify(signed, `${run.workflowId}x`)).rejects.toMatchObject({
      reason: 'other_workflow',
    });
    expect(await run.state()).toBe('accepted');
  });

  test('O6 operators find it by its attributes, and read in plain words what it is; no payload is in history', async () => {
    const run = await start({ target: { system: 'keeper', recordId: CANARY } });
    const handle = stack.temporal.workflow.getHandle(run.workflowId);
    const about = await handle.describe();
    const attributes = about.typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value]);
    expect(Object.fromEntries(attributes)).toMatchObject({
      TenantId: 'acme',
      Environment: stack.environment,
      WorkspaceId: 'main',
      AgentId: agent,
      PolicyProfile: 'careful',
      QuotaClass: 'small',
      RunState: 'accepted',
    });
    expect(about.memo ?? {}).toEqual({});
    expect(await about.staticSummary()).toBe(`${agent} for acme on a record in keeper`);
    expect(await about.staticDetails()).not.toContain(CANARY);
    expect(about.priority).toMatchObject({ fairnessKey: 'acme' });
    const { events } = await handle.fetchHistory();
    const [first] = events ?? [];
    expect(first?.workflowExecutionStartedEventAttributes?.workflowTaskTimeout?.seconds?.toString()).toBe(
      '3',
    );
    const payloads = first?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
    // The target's id is in the envelope, which is for the workers; what the caller gave is not.
    expect(Buffer.concat(payloads.map(({ data }) => Buffer.from(data ?? []))).toString()).not.toContain(
      'ticket',
    );
  });

  test('E1 what is not the token’s to decide is compared, never believed', async () => {
    const before = (await runsOf('acme')).length;
    for (const over of [
      { tenantId: 'globex' },
      { environment: 'staging' },
      { tenantId: 'ACME' },
      { tenantId: '' },
    ]) {
      await expect(start(over)).rejects.toMatchObject({
        code: 'refused',
        reason: 'scope_ambiguous',
        refusal: { origin: 'policy', rule: 'scope' },
      });
    }
    await expect(start({ tenantId: 'acme', environment: stack.environment })).resolves.toBeDefined();
    expect((await runsOf('acme')).length).toBe(before + 1);
    expect(await runsOf('globex')).toEqual([]);
  });

  test('E1 a tenant id in the input changes nothing', async () => {
    const run = await start({
      input: { tenantId: 'globex', envelope: { tenantId: 'globex' }, workspace: 'second' },
    });
    expect(run.acceptance?.signed.envelope).toMatchObject({ tenantId: 'acme', workspaceId: 'main' });
  });

  test('E4 a workspace is named or there is only one to mean; it is the token’s and the tenant’s', async () => {
    await expect(start({}, { workspaces: ['main', 'second'] })).rejects.toMatchObject({
      reason: 'scope_ambiguous',
    });
    await expect(start({ workspace: 'second' })).rejects.toMatchObject({
      code: 'refused',
      refusal: { kind: 'denied', rule: 'workspace' },
    });
    await expect(start({ workspace: 'ghost' }, { workspaces: ['ghost'] })).rejects.toMatchObject({
      code: 'not_found',
      reason: 'unknown_workspace',
    });
    const run = await start({ workspace: 'second' }, { workspaces: ['main', 'second'] });
    expect(run.acceptance?.signed.envelope.workspaceId).toBe('second');
  });

  test.each([
    ['tenant', {}, { tenant: 'nobody' }, 'unknown_tenant', /tenant create/],
    ['agent', { agent: 'no_such_agent' }, {}, 'unknown_agent', /BULKHEAD_APP/],
  ])('E1 an unknown %s is not found, with the remedy', async (_, over, by, reason, remedy) => {
    await expect(start(over, by)).rejects.toMatchObject({
      code: 'not_found',
      reason,
      message: expect.stringMatching(remedy),
    });
  });

  test('E1 an unverified caller gets nothing done', async () => {
    await expect(stack.client.startRun({ token: undefined, agent, input: {} })).rejects.toMatchObject({
      code: 'unauthenticated',
    });
    await expect(stack.client.startRun({ token: 'acme', agent, input: {} })).rejects.toMatchObject({
      code: 'unauthenticated',
    });
    await expect(stack.client.runs({ token: undefined })).rejects.toMatchObject({ code: 'unauthenticated' });
  });

  test.each<[string, Partial<RunRequest>]>([
    ['a date', { input: { at: new Date() } }],
    ['a function', { input: { run: () => 1 } }],
    ['not a number', { input: { n: Number.NaN } }],
    ['undefined inside', { input: { a: undefined } }],
    ['half a character', { input: { text: '\ud800' } }],
    ['half a character as a name', { input: { ['\udc00']: 1 } }],
    ['__proto__', { input: JSON.parse('{"__proto__": {"admin": true}}') }],
    ['a thousand levels', { input: JSON.parse('['.repeat(1_000) + ']'.repeat(1_000)) }],
    ['two megabytes', { input: 'x'.repeat(2_000_000) }],
    ['a field that does not exist', { admin: true } as Partial<RunRequest>],
    ['an agent that is a path', { agent: '../other' }],
    ['a target with a system out of form', { target: { system: 'a/b', recordId: '1' } }],
    ['a target with a NUL', { target: { system: 'keeper', recordId: 'r\0' } }],
    ['a target with half a character', { target: { system: 'keeper', recordId: 'r\ud800' } }],
    ['an idempotency key with a line break', { idempotencyKey: 'a\nb' }],
    ['an empty idempotency key', { idempotencyKey: '' }],
  ])('T1 %s in the request is refused and nothing is done', async (_, over) => {
    const before = (await runsOf('acme')).length;
    await expect(start(over)).rejects.toMatchObject({ code: 'invalid' });
    expect((await runsOf('acme')).length).toBe(before);
  });
});

test('E1 a subject that could not be recorded is no bearer’s', async () => {
  for (const subject of ['al\0ice', 'al\ud800ice']) {
    const token = await stack.token('acme', { subject });
    await expect(stack.client.startRun({ token, agent, input: {} })).rejects.toMatchObject({
      code: 'unauthenticated',
      reason: 'claims',
    });
  }
});

describe('U1 the same key answers the same run', () => {
  test('U1 the same key and body, ten times at once, is one run', async () => {
    const runs = await Promise.all(Array.from({ length: 10 }, () => start({ idempotencyKey: 'once' })));
    expect(new Set(runs.map((run) => run.runId)).size).toBe(1);
    expect(runs.filter((run) => run.acceptance?.existing === false)).toHaveLength(1);
    const again = await start({ idempotencyKey: 'once' });
    expect(again.acceptance).toMatchObject({ existing: true, started: true });
  });

  test('U1 the same key with another body is refused, and with another tenant a run of its own', async () => {
    const mine = await start({ idempotencyKey: 'shared' });
    for (const over of [{ input: { ticket: 'other' } }, { target: { system: 'keeper', recordId: 'r2' } }]) {
      await expect(start({ idempotencyKey: 'shared', ...over })).rejects.toMatchObject({
        code: 'conflict',
        reason: 'idempotency_key_reused',
      });
    }
    const theirs = await start({ idempotencyKey: 'shared' }, { tenant: 'globex' });
    expect(theirs.runId).not.toBe(mine.runId);
    expect(theirs.acceptance?.existing).toBe(false);
  });
});

describe('N1 acceptance is apart from execution', () => {
  const principal = (tenant: string): VerifiedPrincipal => ({
    scope: mintScope(TenantId.parse(tenant), stack.environment, 'token'),
    principal: { kind: 'service', subject: 'svc' },
    workspaces: [WorkspaceId.parse('main')],
    roles: [],
  });

  test('N1 with Temporal away a run is accepted and recorded, says so, and is started by what the sweep does', async () => {
    const connection = Connection.lazy({ address: '127.0.0.1:1', connectTimeout: '500ms' });
    const away = new Client({ connection, namespace: stack.environment });
    const keys = await generateEnvelopeKeys();
    const ports = { storage: stack.storage, signer: createEnvelopeSigner(keys), temporal: away };
    const accepted = await acceptRun(ports, principal('acme'), { agent, input: {} });
    await connection.close();
    expect(accepted).toMatchObject({
      existing: false,
      started: false,
      notice: expect.stringContaining('sweep'),
    });

    const waiting = await stack.storage.platform.acceptedNotStarted(0, 500);
    const row = waiting.find((run) => run.runId === accepted.run.runId);
    expect(row?.signed).toEqual(accepted.signed);
    await expect(startAccepted(stack.temporal, accepted.signed)).resolves.toBe('started');
    await expect(startAccepted(stack.temporal, accepted.signed)).resolves.toBe('already');
  }, 30_000);

  test('N1 in a namespace that Temporal does not have a run is accepted all the same, and which one is missing is said', async () => {
    const temporal = new Client({ connection: stack.temporal.connection, namespace: 'not-there' });
    const bulkhead = new BulkheadClient({ ...stack.clientPorts, temporal });
    const run = await bulkhead.startRun({ token: await stack.token('acme'), agent, input: {} });
    expect(run.acceptance).toMatchObject({
      existing: false,
      started: false,
      notice: expect.stringMatching(/recorded; Temporal has no namespace not-there[^]*sweep starts it/),
    });
    await expect(run.cancel('never mind')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('no namespace not-there'),
    });
    await expect(run.result({ timeoutMs: 600 })).rejects.toMatchObject({ code: 'timeout' });
    const waiting = await stack.storage.platform.acceptedNotStarted(0, 500);
    expect(waiting.map(({ runId }) => runId as string)).toContain(run.runId);
  }, 30_000);

  test('N1 with the database out of reach nothing is accepted and nothing is started', async () => {
    const database = await createTestDatabase();
    const admin = new Postgres({ connectionString: database.adminUrl });
    await admin.connect();
    await admin.query(`alter database ${database.name} connection limit 0`);
    const storage = openStorage({ databaseUrl: database.appUrl, environment: stack.environment });
    const signer = createEnvelopeSigner(await generateEnvelopeKeys());
    const ports = { storage, signer, temporal: stack.temporal };
    await expect(acceptRun(ports, principal('acme'), { agent, input: {} })).rejects.toMatchObject({
      code: 'unavailable',
      reason: 'database',
    });
    await storage.close();
    await admin.end();
    await database.drop();
  });

  test('O1 a killed tenant’s run is refused by the operator’s act, and after the release accepted', async () => {
    const control = stack.storage.tenant(mintScope(TenantId.parse('globex'), stack.environment, 'control'));
    await control.kill({ reason: 'drill', actor: 'test' });
    await expect(start({}, { tenant: 'globex' })).rejects.toMatchObject({
      code: 'refused',
      refusal: { kind: 'killed', origin: 'control' },
    });
    await expect(start()).resolves.toBeDefined();
    await control.release({ reason: 'drill over', actor: 'test' });
    await expect(start({}, { tenant: 'globex' })).resolves.toBeDefined();
  });
});

describe('E1 a run is visible to its tenant and workspaces alone', () => {
  test('E1 another tenant’s run id is not found, in the same words as one that does not exist', async () => {
    const { runId } = await start();
    const asked = async (tenant: string, id: string, workspaces?: string[]) =>
      stack.client
        .run({ token: await stack.token(tenant, workspaces ? { workspaces } : {}), runId: id })
        .then(
          () => 'found',
          (error: unknown) =>
            error instanceof BulkheadError ? `${error.code} ${error.message}` : String(error),
        );
    expect(await asked('acme', runId)).toBe('found');
    const none = await asked('globex', '00000000-0000-4000-8000-000000000000');
    expect(none).toMatch(/^not_found/);
    expect(await asked('globex', runId)).toBe(none);
    expect(await asked('acme', runId, ['second'])).toBe(none);
    for (const id of ['', '../x', `${runId}'`, `acme/${runId}`, runId.toUpperCase() + 'X'])
      expect(await asked('acme', id)).toBe(none);
    await expect(stack.client.journal({ token: await stack.token('globex'), runId })).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  test('E1 a tenant named beside the token has to be the token’s', async () => {
    const { runId } = await start();
    const token = await stack.token('acme');
    await expect(stack.client.run({ token, runId, tenantId: 'globex' })).rejects.toMatchObject({
      reason: 'scope_ambiguous',
    });
    await expect(stack.client.runs({ token, tenantId: 'globex' })).rejects.toMatchObject({
      reason: 'scope_ambiguous',
    });
    await expect(stack.client.runs({ token, tenantId: 'acme' })).resolves.not.toHaveLength(0);
  });

  test('E1 a list holds the token’s tenant and workspaces, and nothing else', async () => {
    const other = await start({ workspace: 'second' }, { workspaces: ['second'] });
    const theirs = await start({}, { tenant: 'globex' });
    const ids = (await stack.client.runs({ token: await stack.token('acme'), limit: 500 })).map(
      (row) => row.runId as string,
    );
    expect(ids.length).toBeGreaterThan(3);
    expect(ids).not.toContain(other.runId);
    expect(ids).not.toContain(theirs.runId);
  });
});
