import { undoPath } from '../../contracts/calls';
import type { AdmitRequest, SettleRequest } from '../../contracts/ledger';
import { digest, LEASE_MS, LedgerWorld, refusal, WIDE, type LedgerTenant } from './harness';
import { answerOf, claim, countersOf, dayOf, HOUR, model, NOON, read, RESERVE, settle } from './quota-calls';
import { recount } from './recount';

/** What each call is charged and holds, however it ends. */
let world: LedgerWorld;
const at = (time: number) => world.setClock(new Date(time));
const counters = (tenant: LedgerTenant) => countersOf(world, tenant);
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());
beforeEach(() => at(NOON));

test('Q2 each way a call ends has its price: unknown all of it, open what its provider bills, failed and succeeded the truth', async () => {
  const charge = { toolCalls: 0, microUsd: 3, modelTokens: 4 } as const;
  const steps = { steps: 1, activeMs: 2_000 };
  const prices = {
    unknown: { toolCalls: 1, steps: 1, activeMs: LEASE_MS, microUsd: 10, modelTokens: 20, highRiskWrites: 1 },
    open: { toolCalls: 0, steps: 0, activeMs: 0, microUsd: 3, modelTokens: 4, highRiskWrites: 0 },
    failed: { ...charge, ...steps, highRiskWrites: 1 },
    succeeded: { ...charge, ...steps, highRiskWrites: 1 },
  } as const;
  for (const result of ['unknown', 'open', 'failed', 'succeeded'] as const) {
    await at(NOON);
    const tenant = await world.tenant({ perAction: { 'ticket.update': { stepsPerDay: 9 } } });
    const runId = await tenant.run();
    const reserve = { toolCalls: 1, steps: 1, microUsd: 10, modelTokens: 20 } as const;
    const request = await claim(tenant, runId, '1.1', { callClass: 'high_risk_write', reserve });
    await at(NOON + 2_000);
    await settle(tenant, request, { result, charge });
    const { own, named } = await counters(tenant);
    expect({ result, ...own }).toMatchObject({ result, inflight: 0, used: prices[result] });
    expect(named['action:ticket.update']).toMatchObject({ inflight: 0, used: prices[result] });
    const { toolCalls, steps: stepped, microUsd } = prices[result];
    expect(await tenant.store.run(runId)).toMatchObject({
      toolCalls,
      steps: stepped,
      spentMicroUsd: microUsd,
    });
  }
});

test('Q2 a lost attempt costs all that it reserved until it reports, once, and its step for good', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const lost = await claim(tenant, runId, '1.1', read({ reserve: { ...RESERVE, microUsd: 10 } }));
  await at(NOON + 1_000);
  await world.platform.reapCalls(100);
  expect((await counters(tenant)).own).toMatchObject({
    inflight: 0,
    used: { steps: 1, microUsd: 10, activeMs: 1_000 },
  });
  const report = { result: 'open', charge: { toolCalls: 0, microUsd: 4, modelTokens: 0 } } as const;
  expect(await settle(tenant, lost, report)).toMatchObject({ answer: 'late' });
  expect((await counters(tenant)).own).toMatchObject({
    used: { steps: 1, toolCalls: 0, microUsd: 4, activeMs: 0 },
  });
  expect(await settle(tenant, lost, report)).toMatchObject({ answer: 'already' });
  const replaced = await claim(tenant, runId, '1.2', read());
  await at(NOON + 2_000);
  await claim(tenant, runId, '1.2', read());
  const both = (await counters(tenant)).own;
  expect(both).toMatchObject({ inflight: 1, used: { steps: 3, toolCalls: 2 } });
  for (let times = 0; times < 2; times += 1)
    expect(await settle(tenant, replaced, { result: 'open' })).toMatchObject({ answer: 'late' });
  expect((await counters(tenant)).own).toMatchObject({ inflight: 1, used: { steps: 3, toolCalls: 1 } });
});

test('Q2 negative and absent amounts are refused, reserved or settled, in time or late, and move nothing', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const request = await claim(tenant, runId, '1.0', {
    ...model(50, 50),
    leaseMs: 1_000,
    digest: digest('a'),
  });
  const before = await counters(tenant);
  for (const part of ['toolCalls', 'steps', 'microUsd', 'modelTokens']) {
    for (const bad of [-1, null]) {
      const reserve = { ...RESERVE, [part]: bad } as AdmitRequest['reserve'];
      await expect(tenant.store.admit(tenant.admission(runId, '1.1', { reserve }))).rejects.toThrow();
    }
  }
  const bad = [-1, null].flatMap((amount) =>
    ['toolCalls', 'microUsd', 'modelTokens'].map(
      (part) =>
        ({ toolCalls: 0, microUsd: 0, modelTokens: 0, [part]: amount }) as unknown as SettleRequest['charge'],
    ),
  );
  for (const charge of bad) await expect(settle(tenant, request, { charge })).rejects.toThrow('never less');
  expect(await counters(tenant)).toEqual(before);
  // A lost attempt's report is believed no more than that.
  await at(NOON + 1_000);
  await claim(tenant, runId, '1.0', { ...model(50, 50), digest: digest('a') });
  const both = await counters(tenant);
  for (const charge of bad) await expect(settle(tenant, request, { charge })).rejects.toThrow('never less');
  expect(await counters(tenant)).toEqual(both);
});

test('Q2 an overshoot is charged in full and said to be one, and the next call meets the cap', async () => {
  const tenant = await world.tenant({ more: { spendMicroUsdPerDay: 100, modelTokensPerDay: 1_000 } });
  const runId = await tenant.run();
  const request = await claim(tenant, runId, '1.0', model(200, 40));
  await settle(tenant, request, { charge: { toolCalls: 0, microUsd: 130, modelTokens: 150 } });
  const facts = (await tenant.journal()).map(
    (entry) => JSON.parse(entry.facts) as { kind: string; overshoot?: unknown },
  );
  expect(facts.filter(({ kind }) => kind === 'settled')).toMatchObject([
    { overshoot: { microUsd: 90, modelTokens: 0 } },
  ]);
  expect(await tenant.store.admit(tenant.admission(runId, '2.0', model(1, 1)))).toMatchObject({
    refusal: { rule: 'spend_micro_usd_per_day', value: 100, used: 130, retryAfterMs: 12 * HOUR },
  });
  expect(recount(await tenant.journal())).toMatchObject({
    violations: [],
    days: { [dayOf(NOON)]: { microUsd: 130, modelTokens: 150 } },
  });
});

test('Q2 T5 an undo reserves nothing, and no limit refuses it: not in flight, not of a day, a minute or its run', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  await settle(tenant, await claim(tenant, runId, '1.1'));
  const nothing = {
    toolCallsPerDay: 0,
    stepsPerDay: 0,
    activeSecondsPerDay: 0,
    spendMicroUsdPerDay: 0,
    modelTokensPerDay: 0,
  };
  const none = {
    ...nothing,
    highRiskWritesPerDay: 0,
    callsPerMinute: 0,
    modelTokensPerMinute: 0,
    callsInFlight: 0,
  };
  await tenant.setLimits({
    ...none,
    perRunSteps: 1,
    more: none,
    perRun: { seconds: 1, spendMicroUsd: 0 },
    perAction: { 'ticket.update': none },
    perAgent: { support_triage: none },
  });
  const before = await counters(tenant);
  await tenant.store.beginUndo({ runId, temporalRunId: `${runId}/1` });
  const reserve = { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 } as const;
  const undo = await claim(tenant, runId, undoPath('1.1'), {
    undoOf: '1.1',
    reserve,
    callClass: 'high_risk_write',
  });
  expect(await counters(tenant)).toEqual({ ...before, own: { ...before.own, inflight: 1 } });
  await at(NOON + 5_000);
  await settle(tenant, undo);
  expect(await counters(tenant)).toEqual(before);
});

test('Q2 Q4 a refusal moves no counter, whatever refuses it', async () => {
  const some = { toolCallsPerDay: 1, callsInFlight: 1 };
  const perRun = { steps: 1 };
  for (const limits of [
    { callsInFlight: 1 },
    { toolCallsPerDay: 1 },
    { more: { stepsPerDay: 1 } },
    { more: { callsPerMinute: 1 } },
    { more: { modelTokensPerMinute: 3 } },
    { perAction: { 'ticket.update': some } },
    { perAgent: { support_triage: some } },
    { perRunSteps: 1, perRun },
  ]) {
    const tenant = await world.tenant(limits);
    const runId = await tenant.run();
    const reserve = { ...RESERVE, modelTokens: 2 };
    await claim(tenant, runId, '1.1', { reserve });
    const before = await counters(tenant);
    const denied = { verdict: { effect: 'deny', refusal: refusal() } } as const;
    for (const change of [{}, denied]) {
      expect(await tenant.store.admit(tenant.admission(runId, '1.2', { reserve, ...change }))).toMatchObject({
        answer: 'refused',
      });
    }
    expect([limits, await counters(tenant)]).toEqual([limits, before]);
  }
});

test('Q2 a read that takes a lost one’s place has one slot, on each meter', async () => {
  const tenant = await world.tenant({ callsInFlight: 1, perAction: { 'ticket.read': { callsInFlight: 1 } } });
  const runId = await tenant.run();
  let last: AdmitRequest | undefined;
  for (const turn of [0, 1, 2]) {
    await at(NOON + turn * 1_000);
    last = await claim(tenant, runId, '1.1', read());
    const { own, named } = await counters(tenant);
    expect([own.inflight, named['action:ticket.read']?.inflight]).toEqual([1, 1]);
  }
  await settle(tenant, last!);
  expect(await counters(tenant)).toMatchObject({
    own: { inflight: 0 },
    named: { 'action:ticket.read': { inflight: 0 } },
  });
});

test('Q1 a reworded read that is another action now takes that action’s slot, or is refused', async () => {
  const tenant = await world.tenant({ perAction: { 'mail.read': { callsInFlight: 1 } } });
  const runId = await tenant.run();
  const mail = read({ action: 'mail.read', digest: digest('mail') });
  await claim(tenant, runId, '1.1', { ...mail, leaseMs: LEASE_MS });
  await claim(tenant, runId, '1.2', read());
  await at(NOON + 1_000);
  expect(await tenant.store.admit(tenant.admission(runId, '1.2', mail))).toMatchObject({
    refusal: { rule: 'action:mail.read/calls_in_flight', value: 1, used: 1 },
  });
  // What was refused took no place away either.
  expect(await counters(tenant)).toMatchObject({
    own: { inflight: 2 },
    named: { 'action:mail.read': { inflight: 1 } },
  });
  expect(recount(await tenant.journal()).violations).toEqual([]);
});

test('Q6 a limit that is named while calls are in flight counts those that come after, and gives back theirs alone', async () => {
  const tenant = await world.tenant();
  const runId = await tenant.run();
  const [before, lost] = [await claim(tenant, runId, '1.1'), await claim(tenant, runId, '1.2', read())];
  const perAction = { 'ticket.update': { callsInFlight: 1 }, 'ticket.read': { callsInFlight: 0 } };
  await tenant.setLimits({ ...WIDE, perAction });
  const after = await claim(tenant, runId, '1.3');
  expect(await answerOf(tenant, tenant.admission(runId, '1.4'))).toBe('action:ticket.update/calls_in_flight');
  await settle(tenant, before);
  expect(await answerOf(tenant, tenant.admission(runId, '1.4'))).toBe('action:ticket.update/calls_in_flight');
  await at(NOON + 1_000);
  // It would take a place that nobody had when it was let in.
  expect(await answerOf(tenant, tenant.admission(runId, '1.2', read()))).toBe(
    'action:ticket.read/calls_in_flight',
  );
  await tenant.setLimits(WIDE);
  await settle(tenant, after);
  await settle(tenant, lost, { result: 'open' });
  expect(await counters(tenant)).toMatchObject({
    own: { inflight: 0 },
    named: { 'action:ticket.update': { inflight: 0 } },
  });
});
