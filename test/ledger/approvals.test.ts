import { canonicalJson } from '../../contracts/digest';
import { approval, approved, ask, decide, FINANCE, HOUR, refund, requested, REQUESTER } from './approving';
import { decidedBy, LEASE_MS, LedgerWorld, type LedgerTenant } from './harness';
import { recount } from './recount';

const START = Date.UTC(2025, 2, 10, 12);
const REQUIRED = { answer: 'refused', refusal: { kind: 'approval_required' } };

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(8);
});
beforeEach(() => world.setClock(new Date(START)));
afterAll(() => world.close());
const at = (ms: number) => world.setClock(new Date(START + ms));

const kinds = async (tenant: LedgerTenant): Promise<string[]> =>
  (await tenant.journal()).map(({ facts }) => (JSON.parse(facts) as { kind: string }).kind);

test('P4 a call that needs approval waits without claim, slot or charge, and its request shows what will be sent', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const args = { amount: 900, to: 'fay', note: '<b>&\u0000' };
  const change = {
    decided: { input: { destination: 'pay.example' } as never, inputDigest: 'd'.repeat(64) as never },
  };
  const first = await ask(tenant, runId, '1.1', { args, change });
  expect(first).toMatchObject({ ...REQUIRED, approval: { expiresInMs: HOUR } });
  const { no } = (first as { approval: { no: number } }).approval;
  expect(await tenant.row()).toMatchObject({ inflight: 0, tool_day_used: 0 });
  expect(await tenant.claimed()).toBe(0);
  expect(await tenant.store.run(runId)).toMatchObject({
    state: 'approval_required',
    spentMicroUsd: 0,
    steps: 0,
  });
  const row = await approval(tenant, no);
  expect(row).toEqual({
    approvalNo: no,
    runId,
    path: '1.1',
    action: 'payment.refund',
    callClass: 'high_risk_write',
    system: 'helpdesk',
    destination: 'pay.example',
    args: canonicalJson(args),
    kind: 'rule',
    terms: { rules: ['large-refund'], roles: [['finance']], expiresAfterMs: HOUR, notRequester: true },
    requester: REQUESTER,
    policyVersion: 1,
    state: 'pending',
    requestedAt: '2025-03-10T12:00:00.000000Z',
    expiresAt: '2025-03-10T13:00:00.000000Z',
    decidedAt: null,
    approver: null,
    note: null,
    usedAt: null,
  });
  // Asked again it is the same request, and not journaled again.
  await at(1_000);
  const before = (await tenant.row()).journal_seq;
  expect(await ask(tenant, runId, '1.1', { args })).toMatchObject({
    ...REQUIRED,
    approval: { no, expiresInMs: HOUR - 1_000 },
  });
  expect((await tenant.row()).journal_seq).toBe(before);
  expect(await tenant.store.approvals.list({ open: true, limit: 9 })).toEqual([row]);
});

test('P4 P9 an approved call is let in once, and the journal names the approval and its approver', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const no = await requested(tenant, runId, '1.1');
  expect(await decide(tenant, no)).toMatchObject({
    kind: 'decided',
    approval: { state: 'approved', approver: FINANCE.principal, note: 'seen', usedAt: null },
  });
  const asked = refund(tenant, runId, '1.1');
  expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted', attempt: 1 });
  expect(await tenant.store.run(runId)).toMatchObject({ state: 'running' });
  expect(await approval(tenant, no)).toMatchObject({
    state: 'approved',
    usedAt: '2025-03-10T12:00:00.000000Z',
  });
  await tenant.store.settle(tenant.settlement(asked));
  expect(await ask(tenant, runId, '1.1')).toMatchObject({
    answer: 'replayed',
    outcome: { state: 'succeeded' },
  });
  const entries = (await tenant.journal()).map(({ facts }) => JSON.parse(facts) as Record<string, unknown>);
  expect(entries.find(({ kind }) => kind === 'approval_decided')).toMatchObject({
    approval: no,
    decision: 'approve',
    actor: FINANCE.principal,
    roles: FINANCE.roles,
    run: runId,
  });
  expect(entries.find(({ kind }) => kind === 'admitted')).toMatchObject({ approval: no, effect: 'approve' });
  expect(recount(await tenant.journal()).violations).toEqual([]);
  expect(await tenant.verify()).toEqual({ intact: true });
});

test.each([
  ['other arguments', { args: { amount: 901 } }],
  ['another schema of the action', { schema: 'v2' }],
  ['other rules', { terms: { rules: ['large-refund', 'night'] } }],
  ['approvers that this one is not among', { terms: { roles: [['finance'], ['director']] } }],
  ['another requester', { requester: 'user:u-2' }],
  ['the approver as the requester', { requester: FINANCE.principal }],
])(
  'P4 an approval does not stand for %s: it is asked anew, and the old one is used by nobody',
  async (_, changed) => {
    const tenant = await world.tenant();
    const runId = await tenant.run();
    const no = await approved(tenant, runId, '1.1');
    const next = await requested(tenant, runId, '1.1', changed);
    expect(next).toBeGreaterThan(no);
    expect(await approval(tenant, no)).toMatchObject({ state: 'superseded', usedAt: null });
    // Also not when what is asked changes back.
    expect(await requested(tenant, runId, '1.1')).toBeGreaterThan(next);
    expect(await tenant.claimed()).toBe(0);
  },
);

test('P4 terms that changed in their time limit alone leave an approval standing, and a request open', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const no = await requested(tenant, runId, '1.1');
  const longer = { terms: { expiresAfterMs: 9 * HOUR } };
  expect(await requested(tenant, runId, '1.1', longer)).toBe(no);
  await decide(tenant, no);
  expect(await ask(tenant, runId, '1.1', longer)).toMatchObject({ answer: 'admitted' });
});

test('P4 a request that asks other people than the rules do now is replaced before anybody decides it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const no = await requested(tenant, runId, '1.1');
  const next = await requested(tenant, runId, '1.1', { terms: { roles: [['director']] } });
  expect(next).toBeGreaterThan(no);
  expect(await decide(tenant, no)).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('changed'),
  });
});

test('P4 an approval lets no other position in', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const other = await tenant.run();
  const no = await approved(tenant, runId, '1.1');
  const same = refund(tenant, runId, '1.1');
  expect(
    await tenant.store.admit({ ...same, path: '1.2', token: refund(tenant, runId, '1.2').token }),
  ).toMatchObject(REQUIRED);
  expect(
    await tenant.store.admit({
      ...same,
      runId: other,
      temporalRunId: `${other}/1`,
      token: refund(tenant, other, '1').token,
    }),
  ).toMatchObject(REQUIRED);
  expect(await approval(tenant, no)).toMatchObject({ usedAt: null });
  expect(await tenant.store.admit(same)).toMatchObject({ answer: 'admitted' });
});

test('P4 by the database’s clock: expired while pending, and while approved and not used', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const pending = await requested(tenant, runId, '1.1');
  const unused = await approved(tenant, runId, '1.2');
  await at(HOUR - 1);
  expect(await ask(tenant, runId, '1.1')).toMatchObject(REQUIRED);
  await at(HOUR);
  expect(await approval(tenant, pending)).toMatchObject({ state: 'expired' });
  expect(await tenant.store.approvals.list({ open: true, limit: 9 })).toEqual([]);
  expect(await decide(tenant, pending)).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('in time'),
  });
  const expired = {
    answer: 'refused',
    refusal: { kind: 'denied', origin: 'policy', rule: 'approval_expired' },
  };
  for (const path of ['1.1', '1.2', '1.1', '1.2'])
    expect(await ask(tenant, runId, path)).toMatchObject(expired);
  expect(await approval(tenant, unused)).toMatchObject({ state: 'expired', approver: FINANCE.principal });
  expect((await kinds(tenant)).filter((kind) => kind === 'approval_expired')).toHaveLength(2);
  // What is asked for by other rules since is another request.
  expect(await requested(tenant, runId, '1.1', { terms: { rules: ['newer'] } })).toBeGreaterThan(unused);
});

test('P4 a retry of the approved call passes, also after the expiry; nobody else’s does', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const no = await approved(tenant, runId, '1.1');
  const first = refund(tenant, runId, '1.1');
  await tenant.store.admit(first);
  await tenant.store.settle(tenant.settlement(first, { result: 'open' }));
  await at(2 * HOUR);
  const second = refund(tenant, runId, '1.1');
  expect(await tenant.store.admit(second)).toMatchObject({ answer: 'admitted', attempt: 2 });
  expect(await approval(tenant, no)).toMatchObject({
    state: 'approved',
    usedAt: '2025-03-10T12:00:00.000000Z',
  });
  await tenant.store.settle(tenant.settlement(second, { result: 'open' }));
  // Under rules that ask for other people the same retry is asked anew.
  expect(await ask(tenant, runId, '1.1', { terms: { roles: [['director']] } })).toMatchObject(REQUIRED);
  expect(await ask(tenant, runId, '1.1')).toMatchObject({ answer: 'admitted', attempt: 3 });
});

test('P4 a slot that is not free, a limit or a fence leaves the approval unused', async () => {
  const tenant = await world.tenant({ callsInFlight: 0 });
  const runId = await tenant.run();
  const no = await approved(tenant, runId, '1.1');
  expect(await ask(tenant, runId, '1.1')).toMatchObject({ refusal: { rule: 'calls_in_flight' } });
  expect(await approval(tenant, no)).toMatchObject({ usedAt: null });
  await tenant.setLimits({ callsInFlight: 1, toolCallsPerDay: 9, perRunSteps: 9 });
  await tenant.store.kill({ reason: 'x', actor: 'op' });
  expect(await ask(tenant, runId, '1.1')).toMatchObject({ refusal: { rule: 'tenant_killed' } });
  await tenant.store.release({ reason: 'x', actor: 'op' });
  expect(await ask(tenant, runId, '1.1')).toMatchObject({ refusal: { rule: 'run_fenced' } });
  expect(await approval(tenant, no)).toMatchObject({ state: 'approved', usedAt: null });
});

test('P4 P10 a policy published between approval and use: stale, then decided again', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const no = await approved(tenant, runId, '1.1');
  await tenant.publish(2);
  expect(await ask(tenant, runId, '1.1')).toMatchObject({ answer: 'stale', policyVersion: 2 });
  expect(await approval(tenant, no)).toMatchObject({ usedAt: null });
  const change = { decidedBy: decidedBy(2) };
  expect(await ask(tenant, runId, '1.1', { change })).toMatchObject({ answer: 'admitted' });
});

test('T3 P4 a take-over sends again only with the approval that the call was let in with', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  for (const path of ['1.1', '1.2']) {
    await approved(tenant, runId, path);
    await ask(tenant, runId, path);
  }
  // Let in when nobody had to approve it, the second although somebody had.
  await approved(tenant, runId, '1.4');
  for (const path of ['1.3', '1.4'])
    await tenant.store.admit({
      ...refund(tenant, runId, path),
      verdict: { effect: 'allow', rules: ['all'] },
    });
  await at(LEASE_MS);
  const over = (path: string, asked = {}) => ask(tenant, runId, path, asked);
  expect(await over('1.1')).toMatchObject({ answer: 'recover', lookupOnly: false });
  expect(await over('1.2', { terms: { roles: [['director']] } })).toMatchObject({
    answer: 'recover',
    lookupOnly: true,
  });
  for (const path of ['1.3', '1.4'])
    expect(await over(path)).toMatchObject({ answer: 'recover', lookupOnly: true });
  expect(await tenant.store.approvals.list({ open: true, limit: 9 })).toEqual([]);
});

test('T3 P4 a take-over under suggest, and of a call whose approval a lost ledger forgot, only looks', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  for (const path of ['1.1', '1.2']) {
    await approved(tenant, runId, path);
    await ask(tenant, runId, path);
  }
  await world.admin.query(
    `update bulkhead.calls set approval_no = null where tenant_id = $1 and path = '1.2'`,
    [tenant.tenantId],
  );
  await at(LEASE_MS);
  expect(await ask(tenant, runId, '1.1', { effect: 'suggest' })).toMatchObject({
    answer: 'recover',
    lookupOnly: true,
  });
  expect(await ask(tenant, runId, '1.2')).toMatchObject({ answer: 'recover', lookupOnly: true });
});

test('T5 an undo asks nobody: approve and suggest are no verdicts for it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const reserve = { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 } as const;
  for (const effect of ['approve', 'suggest'] as const)
    await expect(
      ask(tenant, runId, '1.1/undo', { effect, change: { undoOf: '1.1', reserve } }),
    ).rejects.toThrow('asks nobody');
});
