import type { Approver } from '../../contracts/approvals';
import {
  approval,
  approved,
  ask,
  decide,
  FINANCE,
  HOUR,
  refund,
  requested,
  REQUESTER,
  SUPPORT,
  type Asked,
} from './approving';
import { LedgerWorld } from './harness';

const START = Date.UTC(2025, 2, 10, 12);
const DENIED = { answer: 'refused', refusal: { kind: 'denied', origin: 'control', rule: 'approval_denied' } };

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(8);
});
beforeEach(() => world.setClock(new Date(START)));
afterAll(() => world.close());

const BOTH: Asked = { terms: { roles: [['finance', 'treasury'], ['lead']] } };
test.each<[string, Asked, Approver, string]>([
  ['has no role of the list', {}, SUPPORT, 'finance'],
  ['has no role at all', {}, { principal: 'user:x', roles: [] }, 'finance'],
  ['has a role of one list and not of the other', BOTH, FINANCE, 'finance or treasury, and lead'],
  ['asked for the run', {}, { principal: REQUESTER, roles: ['finance'] }, 'asked for the run'],
  ['is one of nobody, for no rule names a role', { terms: { roles: [] } }, FINANCE, 'name no roles'],
])('P4 whoever %s decides nothing, neither yes nor no', async (_, asked, approver, words) => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const no = await requested(tenant, runId, '1.1', asked);
  const before = (await tenant.row()).journal_seq;
  for (const decision of ['approve', 'deny'] as const)
    expect(await decide(tenant, no, approver, decision)).toMatchObject({
      kind: 'refused',
      message: expect.stringContaining(words),
      approval: { state: 'pending', approver: null },
    });
  expect((await tenant.row()).journal_seq).toBe(before);
  expect(await ask(tenant, runId, '1.1', asked)).toMatchObject({ refusal: { kind: 'approval_required' } });
});

test('P4 one with a role of each list decides; the requester may where the rules allow it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const lead = { principal: 'user:lee', roles: ['lead', 'treasury'] };
  expect(await decide(tenant, await requested(tenant, runId, '1.1', BOTH), lead)).toMatchObject({
    kind: 'decided',
  });
  expect(await ask(tenant, runId, '1.1', BOTH)).toMatchObject({ answer: 'admitted' });
  const own = { terms: { notRequester: false } };
  const requester = { principal: REQUESTER, roles: ['finance'] };
  expect(await decide(tenant, await requested(tenant, runId, '1.2', own), requester)).toMatchObject({
    kind: 'decided',
  });
  // Under a rule that has become stricter since, who asked for the run has approved nothing.
  expect(await ask(tenant, runId, '1.2')).toMatchObject({ refusal: { kind: 'approval_required' } });
});

test('P4 a no is for good: asked again it stays no, also under other rules, and nobody turns it', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const no = await requested(tenant, runId, '1.1');
  expect(await decide(tenant, no, FINANCE, 'deny')).toMatchObject({
    kind: 'decided',
    approval: { state: 'denied' },
  });
  expect(await ask(tenant, runId, '1.1')).toMatchObject(DENIED);
  expect(
    await ask(tenant, runId, '1.1', { schema: 'v2', terms: { rules: ['other'], roles: [['support']] } }),
  ).toMatchObject(DENIED);
  expect(await decide(tenant, no)).toMatchObject({ kind: 'already', approval: { state: 'denied' } });
  await world.setClock(new Date(START + 2 * HOUR));
  expect(await ask(tenant, runId, '1.1')).toMatchObject(DENIED);
  expect(await approval(tenant, no)).toMatchObject({ state: 'denied' });
  // Of other arguments, which no call has used the position for, a person is asked.
  const next = await requested(tenant, runId, '1.1', { args: { amount: 1 } });
  expect(await decide(tenant, next)).toMatchObject({ kind: 'decided' });
  expect(await ask(tenant, runId, '1.1')).toMatchObject(DENIED);
});

test('P4 the same word twice is one decision: approved stays approved, by whom it was', async () => {
  const tenant = await world.tenant();
  const no = await requested(tenant, await tenant.run(), '1.1');
  await decide(tenant, no);
  const other = { principal: 'user:finn', roles: ['finance'] };
  for (const decision of ['approve', 'deny'] as const)
    expect(await decide(tenant, no, other, decision)).toMatchObject({
      kind: 'already',
      approval: { state: 'approved', approver: FINANCE.principal },
    });
});

test('P4 M1 another tenant sees nothing of it, and decides nothing', async () => {
  const [tenant, other] = [await world.tenant(), await world.tenant()];
  const runId = await tenant.run();
  const no = await requested(tenant, runId, '1.1');
  const before = await other.row();
  expect(await other.store.approvals.get(no)).toBeUndefined();
  expect(await other.store.approvals.list({ open: false, limit: 9 })).toEqual([]);
  expect(await decide(other, no)).toEqual({ kind: 'absent' });
  expect(await other.store.approvals.suggestions(runId)).toEqual([]);
  expect(await other.row()).toEqual(before);
  expect(await approval(tenant, no)).toMatchObject({ state: 'pending' });
});

test('P4 of two that decide at once one has decided, and whoever asks meanwhile is let in once at most', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  for (let round = 0; round < 25; round += 1) {
    const path = `${round}.1`;
    const no = await requested(tenant, runId, path);
    const [yes, nay, ...asked] = await Promise.all([
      decide(tenant, no, { principal: 'user:a', roles: ['finance'] }),
      decide(tenant, no, { principal: 'user:b', roles: ['finance'] }, 'deny'),
      ask(tenant, runId, path),
      ask(tenant, runId, path),
    ]);
    expect([yes.kind, nay.kind].sort()).toEqual(['already', 'decided']);
    const row = await approval(tenant, no);
    expect(row).toMatchObject(
      yes.kind === 'decided'
        ? { state: 'approved', approver: 'user:a' }
        : { state: 'denied', approver: 'user:b' },
    );
    const again = await ask(tenant, runId, path);
    const let_in = [...asked, again].filter(({ answer }) => answer === 'admitted');
    expect(let_in).toHaveLength(yes.kind === 'decided' ? 1 : 0);
  }
});

test('P4 nobody decides for a run that is over, nor while the ledger has to be reconciled', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const no = await requested(tenant, runId, '1.1');
  await world.admin.query('update bulkhead.ledgers set rewound_seq = 99 where tenant_id = $1', [
    tenant.tenantId,
  ]);
  expect(await decide(tenant, no)).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('recover'),
  });
  await world.admin.query('update bulkhead.ledgers set rewound_seq = 0 where tenant_id = $1', [
    tenant.tenantId,
  ]);
  // Let in without, under another policy, and done.
  const done = await requested(tenant, runId, '1.2');
  const asked = { ...refund(tenant, runId, '1.2'), verdict: { effect: 'allow', rules: ['all'] } } as const;
  await tenant.store.admit(asked);
  await tenant.store.settle(tenant.settlement(asked));
  expect(await decide(tenant, done)).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('over'),
  });
  expect(await tenant.store.approvals.list({ open: true, limit: 9 })).toMatchObject([{ approvalNo: no }]);
  await tenant.store.leaveRun({
    runId,
    temporalRunId: `${runId}/1`,
    stopReason: 'cancelled',
    outputRef: null,
  });
  expect(await decide(tenant, no)).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('over'),
  });
  expect(await tenant.store.approvals.list({ open: true, limit: 9 })).toEqual([]);
  expect(await tenant.store.approvals.list({ open: false, limit: 9, runId })).toMatchObject([
    { state: 'pending' },
    { state: 'pending' },
  ]);
});

test('P4 an approval is used once: not again by a read that was asked in other words since, nor where its use is forgotten', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const read = (amount: number): Asked => ({ args: { amount }, change: { callClass: 'read' } });
  for (const words of [read(1), read(2)]) {
    await approved(tenant, runId, '1.1', words);
    const asked = refund(tenant, runId, '1.1', words);
    expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
    await tenant.store.settle(tenant.settlement(asked));
  }
  expect(await ask(tenant, runId, '1.1', read(1))).toMatchObject({ refusal: { kind: 'approval_required' } });

  await approved(tenant, runId, '1.2');
  const write = refund(tenant, runId, '1.2');
  await tenant.store.admit(write);
  await tenant.store.settle(tenant.settlement(write, { result: 'open' }));
  await world.admin.query(`update bulkhead.calls set approval_no = null where tenant_id = $1`, [
    tenant.tenantId,
  ]);
  expect(await ask(tenant, runId, '1.2')).toMatchObject({ refusal: { kind: 'approval_required' } });
});

test('P4 the approval of a call stays its own while another policy asks nobody', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await approved(tenant, runId, '1.1');
  const send = async (change: object = {}) => {
    const asked = { ...refund(tenant, runId, '1.1'), ...change };
    expect(await tenant.store.admit(asked)).toMatchObject({ answer: 'admitted' });
    await tenant.store.settle(tenant.settlement(asked, { result: 'open' }));
  };
  await send();
  await send({ verdict: { effect: 'allow', rules: ['all'] } });
  await send();
});
