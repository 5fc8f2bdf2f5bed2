import { Client } from 'pg';
import type { Run } from '../../client/run';
import { QUERIES, SIGNALS } from '../../contracts/workflow-io';
import { setBreakerTerms } from '../support/breaker-terms';
import { plays } from '../support/model';
import { until } from '../support/until';
import { call, on, openDesk, type Desk } from './desk';

let desk: Desk;

beforeAll(async () => {
  desk = await openDesk();
  // A wait of over ten seconds is a state of the run; a shorter one is waited for in place.
  const terms = { failures: 3, withinMs: 60_000, firstOpenMs: 12_000, longestOpenMs: 60_000, lookMs: 500 };
  await setBreakerTerms(desk.stack.database, terms);
});
beforeEach(() => {
  desk.outside.faults = {};
});
afterAll(() => desk.close());

const brokenFor = (tenant: string, status = 503): void => {
  desk.outside.faults = { statusOf: { bearer: `secret-${tenant}-`, status } };
};
const note = (text: string) => [call(['note.write', { recordId: 'r1', text }])];
const written = (tenant: string): string[] =>
  desk.outside.effects
    .filter(({ bearer }) => bearer.includes(`secret-${tenant}-`))
    .map(({ body }) => (body as { text: string }).text);
const asked = (tenant: string): number =>
  desk.outside.requests.filter(({ bearer }) => bearer.includes(`secret-${tenant}-`)).length;
const state = async (run: Run): Promise<{ state: string; detail: string }> =>
  await desk.stack.temporal.workflow.getHandle(run.workflowId).query(QUERIES.runState);
const waits = (run: Run, as: string) =>
  until(
    `a run that shows ${as}`,
    async () => {
      const shown = await state(run);
      return shown.state === as && shown;
    },
    40_000,
  );
const openUntil = async (tenant: string, inMs: number): Promise<void> => {
  const admin = new Client({ connectionString: desk.stack.database.adminUrl });
  await admin.connect();
  try {
    const till = `clock_timestamp() + $2 * interval '1 millisecond'`;
    await admin.query(`update bulkhead.breakers set open_until = ${till} where tenant_id = $1`, [
      tenant,
      inMs,
    ]);
  } finally {
    await admin.end();
  }
};
const kinds = async (tenant: string): Promise<unknown[]> =>
  (await desk.stack.journal(tenant))
    .map(({ facts }) => JSON.parse(facts) as { kind: string })
    .filter(({ kind }) => kind.startsWith('breaker'))
    .map(({ kind }) => kind);

test('N5 one tenant’s broken integration trips its breaker only; its neighbours on the same system go on', async () => {
  await Promise.all([desk.tenant('broken'), desk.tenant('neighbour')]);
  brokenFor('broken');
  const run = await desk.begin('broken', [on('record.read'), ...note('after it was mended')]);
  const shown = await waits(run, 'provider_degraded');
  expect(shown.detail).toContain('breaker_open (3 of 3)');
  expect(await desk.stack.store('broken').run(run.runId as never)).toMatchObject({
    state: 'provider_degraded',
  });
  expect(await desk.stack.store('broken').breakers()).toMatchObject([
    { system: 'keeper', state: 'open', failures: 3, cause: expect.stringContaining('503') },
  ]);
  // Held there, however slow the neighbour's run is on this machine.
  await openUntil('broken', 3_600_000);
  const before = asked('broken');

  const other = await desk.play('neighbour', note('meanwhile'));
  expect(other.result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1, refusals: 0 } });
  expect(written('neighbour')).toEqual(['meanwhile']);
  expect(await desk.stack.store('neighbour').breakers()).toEqual([]);
  expect(asked('broken')).toBe(before);

  desk.outside.faults = {};
  // The script was replaced by the neighbour's; this is where the first one stood.
  desk.model.script = plays(on('record.read'), ...note('after it was mended'));
  await openUntil('broken', 0);
  await desk.stack.temporal.workflow.getHandle(run.workflowId).signal(SIGNALS.wakeRun);
  const result = await run.result({ timeoutMs: 50_000 });
  expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 2 } });
  expect(written('broken')).toEqual(['after it was mended']);
  // Each attempt that was let in is a request, and no refusal is.
  const { attempts } = (await desk.stack.store('broken').call(run.runId, '0.1')) ?? { attempts: 0 };
  expect(asked('broken')).toBe(attempts + 1);
  expect((await kinds('broken')).slice(-2)).toEqual(['breaker_half_open', 'breaker_closed']);
  expect(await kinds('neighbour')).toEqual([]);
});

test('N5 T3 writes that may have been applied trip it while they are still claimed; each is applied once in the end', async () => {
  await desk.tenant('writes');
  brokenFor('writes');
  const script = [...note('once')];
  const runs = [1, 2, 3].map(() => desk.begin('writes', script));
  await until(
    'an open breaker',
    async () => (await desk.stack.store('writes').breakers()).some(({ state }) => state === 'open'),
    30_000,
  );
  expect(await desk.stack.store('writes').claimedCalls({})).toBe(3);
  expect(written('writes')).toEqual([]);
  desk.outside.faults = {};
  for (const run of await Promise.all(runs)) {
    expect(await run.result({ timeoutMs: 50_000 })).toMatchObject({ stopReason: 'completed' });
  }
  expect(written('writes')).toHaveLength(3);
  expect(new Set(desk.outside.effects.slice(-3).map(({ key }) => key)).size).toBe(3);
});

test('N5 Q4 a system that hangs until the call’s time is over is the provider’s trouble too', async () => {
  await desk.tenant('hanging');
  desk.outside.faults = { delayMs: 4_000 };
  const run = await desk.begin('hanging', [on('record.read')]);
  const [row] = await until(
    'a failure that was counted',
    async () => {
      const rows = await desk.stack.store('hanging').breakers();
      return rows.length > 0 && rows;
    },
    30_000,
  );
  expect(row).toMatchObject({
    system: 'keeper',
    state: 'closed',
    failures: 1,
    cause: expect.stringMatching(/in time|TIMEOUT/),
  });
  desk.outside.faults = {};
  expect(await run.result({ timeoutMs: 50_000 })).toMatchObject({ stopReason: 'completed' });
  expect(await desk.stack.store('hanging').breakers()).toEqual([]);
});

test('N5 Q3 a system that stays down for longer than a run may wait ends that run as provider_degraded', async () => {
  const hasty = await openDesk({ bounds: { maxWaitMs: 2_000 } });
  const admin = new Client({ connectionString: hasty.stack.database.adminUrl });
  try {
    await hasty.tenant('patient');
    await admin.connect();
    await admin.query(
      `insert into bulkhead.breakers (tenant_id, environment, system, state, failures, failed_at, cause, openings, opened_at, open_until)
         values ('patient', $1, 'keeper', 'open', 3, '{}', 'down for hours', 9, now(), now() + interval '2 hours')`,
      [hasty.stack.environment],
    );
    const { result, asked: requests } = await hasty.play('patient', [on('record.read')]);
    expect(result.stopReason).toBe('provider_degraded');
    expect(requests).toEqual([]);
  } finally {
    await admin.end();
    await hasty.close();
  }
});

test('N5 Q3 a tenant that has used up its retries waits for the next one, says so, and goes on', async () => {
  await Promise.all([desk.tenant('stormy'), desk.tenant('calm')]);
  const admin = new Client({ connectionString: desk.stack.database.adminUrl });
  await admin.connect();
  const allow = (perMinute: number) =>
    admin.query(`update bulkhead.limits set retries_per_minute = $1 where tenant_id = 'stormy'`, [perMinute]);
  try {
    await allow(1);
    brokenFor('stormy');
    const run = await desk.begin('stormy', [on('record.read')]);
    const shown = await waits(run, 'throttled');
    expect(shown.detail).toContain('retries_per_minute (1 of 1)');
    // The first attempt and its one retry.
    expect(asked('stormy')).toBe(2);
    expect((await desk.play('calm', note('meanwhile'))).result.stopReason).toBe('completed');
    desk.outside.faults = {};
    desk.model.script = plays(on('record.read'));
    await allow(6_000);
    await desk.stack.temporal.workflow.getHandle(run.workflowId).signal(SIGNALS.wakeRun);
    expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({
      stopReason: 'completed',
      usage: { toolCalls: 1 },
    });
    expect(asked('stormy')).toBe(3);
  } finally {
    await admin.end();
  }
});
