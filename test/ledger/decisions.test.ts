import type { AdmitRequest } from '../../contracts/ledger';
import { digestOf } from '../../contracts/digest';
import type { DecisionInput } from '../../contracts/policy-decision';
import { ask, decide, requested } from './approving';
import { decidedBy, LedgerWorld, refusal } from './harness';

const START = Date.UTC(2025, 2, 10, 12);
let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open();
});
beforeEach(() => world.setClock(new Date(START)));
afterAll(() => world.close());
const at = (ms: number) => world.setClock(new Date(START + ms));
const SINCE = new Date(START - 1_000).toISOString();

const input = (change: Partial<DecisionInput> = {}): DecisionInput => ({
  agentId: 'support_triage',
  agentClass: 'support',
  workspaceId: 'main',
  environment: 'test',
  principal: { kind: 'user', subject: 'u-1' },
  target: { system: 'helpdesk', recordId: 'ticket-\u0000' },
  action: 'ticket.update',
  effect: 'write',
  reversible: 'compensable',
  undo: false,
  system: 'helpdesk',
  destination: 'help.example',
  model: null,
  facts: { verdict: 'no\u0000t' },
  dataClasses: ['pii'],
  ...change,
});
const decided = (change: Partial<DecisionInput> = {}): Pick<AdmitRequest, 'decided'> => ({
  decided: { input: input(change), inputDigest: digestOf(input(change)) },
});

test('P9 P12 each decision is kept with what was asked and said, the refused ones too, and the journal has its digest', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const store = tenant.store;
  const allowed = tenant.admission(runId, '1.1', {
    ...decided(),
    reserve: { toolCalls: 1, steps: 1, microUsd: 70, modelTokens: 0 },
  });
  await store.admit(allowed);
  await at(1);
  await store.admit(
    tenant.admission(runId, '1.2', {
      ...decided({ action: 'mail.send' }),
      verdict: { effect: 'deny', refusal: refusal() },
    }),
  );
  await at(2);
  const no = await requested(tenant, runId, '1.3', { change: decided() });
  await at(3);
  await ask(tenant, runId, '1.4', { effect: 'suggest', change: decided() });
  await store.admit(
    tenant.admission(runId, '1.5', { verdict: { effect: 'deny', refusal: refusal({ rule: 'schema' }) } }),
  );
  const rows = await store.decisions.since({ since: SINCE, limit: 9 });
  expect(rows).toEqual([
    {
      runId,
      path: '1.1',
      at: '2025-03-10T12:00:00.000000Z',
      effect: 'allow',
      rules: ['update-ticket'],
      policyVersion: 1,
      input: input(),
      microUsd: 70,
    },
    expect.objectContaining({
      path: '1.2',
      effect: 'deny',
      rules: ['no-mail'],
      input: input({ action: 'mail.send' }),
      microUsd: 0,
    }),
    expect.objectContaining({ path: '1.3', effect: 'approve', rules: ['large-refund'], microUsd: 0 }),
    expect.objectContaining({ path: '1.4', effect: 'suggest', microUsd: 0 }),
  ]);
  // Decided again, its row is the last decision; the charge is that of the call.
  await tenant.publish(2);
  await store.settle(tenant.settlement(allowed, { charge: { toolCalls: 1, microUsd: 30, modelTokens: 0 } }));
  await decide(tenant, no);
  await at(4);
  await ask(tenant, runId, '1.3', { change: { ...decided(), decidedBy: decidedBy(2) } });
  const again = await store.decisions.since({ since: SINCE, limit: 9 });
  expect(again.map(({ path, policyVersion, microUsd }) => [path, policyVersion, microUsd])).toEqual([
    ['1.1', 1, 30],
    ['1.2', 1, 0],
    ['1.4', 1, 0],
    ['1.3', 2, 0],
  ]);
  const inputs = (await tenant.journal())
    .map(({ facts }) => JSON.parse(facts) as { kind: string; path?: string; inputs?: string })
    .filter((facts) => facts.inputs)
    .map(({ kind, path, inputs: of }) => [
      kind,
      path,
      of === digestOf(input(path === '1.2' ? { action: 'mail.send' } : {})),
    ]);
  expect(inputs).toEqual([
    ['admitted', '1.1', true],
    ['refused', '1.2', true],
    ['approval_requested', '1.3', true],
    ['suggested', '1.4', true],
    ['admitted', '1.3', true],
  ]);
});

test('P12 what was not decided anew is not kept: stale, in flight, replayed, another call’s position', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const first = tenant.admission(runId, '1.1', decided());
  await tenant.store.admit(first);
  const kept = await tenant.store.decisions.since({ since: SINCE, limit: 9 });
  await at(5);
  const other = decided({ action: 'other' });
  const asked = (change: Partial<AdmitRequest> = {}) =>
    tenant.store.admit(tenant.admission(runId, '1.1', { ...other, ...change }));
  expect(await asked()).toMatchObject({ answer: 'in_flight' });
  await tenant.store.settle(tenant.settlement(first));
  expect(await asked()).toMatchObject({ answer: 'replayed' });
  expect(await asked({ digest: digestOf('reworded') })).toMatchObject({
    refusal: { kind: 'idempotency_conflict' },
  });
  expect(
    await tenant.store.admit(tenant.admission(runId, '1.2', { ...other, decidedBy: decidedBy(0) })),
  ).toMatchObject({
    answer: 'stale',
  });
  expect(await tenant.store.decisions.since({ since: SINCE, limit: 9 })).toEqual(kept);
});

test('P12 M1 pages go through all of them once, the oldest first, of the tenant alone', async () => {
  const tenant = await world.tenant();
  const other = await world.tenant();
  const runId = await tenant.run();
  for (let n = 0; n < 25; n += 1) {
    await at(Math.floor(n / 10));
    await tenant.store.admit(tenant.admission(runId, `${n}.1`, decided()));
  }
  const seen: string[] = [];
  for (let after; ;) {
    const page = await tenant.store.decisions.since({ since: SINCE, limit: 7, ...(after && { after }) });
    seen.push(...page.map(({ path }) => path));
    after = page.at(-1);
    if (!after) break;
  }
  expect(new Set(seen).size).toBe(25);
  expect(seen).toHaveLength(25);
  expect(new Set(seen.slice(20))).toEqual(new Set(['20.1', '21.1', '22.1', '23.1', '24.1']));
  expect(
    await tenant.store.decisions.since({ since: new Date(START + 2).toISOString(), limit: 99 }),
  ).toHaveLength(5);
  expect(await other.store.decisions.since({ since: SINCE, limit: 9 })).toEqual([]);
});

test('O3 what was asked, shown and said of a call is forgotten with its key', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const done = tenant.admission(runId, '1.1', decided());
  await tenant.store.admit(done);
  await tenant.store.settle(tenant.settlement(done));
  await requested(tenant, runId, '1.2', { change: decided() });
  await ask(tenant, runId, '1.3', { effect: 'suggest', change: decided() });
  await tenant.store.leaveRun({
    runId,
    temporalRunId: `${runId}/1`,
    stopReason: 'completed',
    outputRef: null,
  });
  const count = async () => {
    const { rows } = await world.admin.query<{ n: number }>(
      `select ((select count(*) from bulkhead.decisions where run_id = $1) + (select count(*) from bulkhead.approvals where run_id = $1)
         + (select count(*) from bulkhead.suggestions where run_id = $1))::int as n`,
      [runId],
    );
    return rows[0]?.n;
  };
  expect(await count()).toBe(5);
  await at(91 * 86_400_000);
  while ((await world.platform.purge(100)) > 0);
  expect(await count()).toBe(0);
});
