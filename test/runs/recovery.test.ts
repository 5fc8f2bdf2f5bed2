import { Pool } from 'pg';
import { until } from '../support/until';
import { call, on, openDesk, type Desk } from './desk';

let desk: Desk;

beforeAll(async () => {
  desk = await openDesk();
  await desk.tenant('acme');
});
beforeEach(() => {
  desk.outside.faults = {};
});
afterAll(() => desk.close());

/** How the ledger moved the call, in order: `admitted`, `recovering`, `settled succeeded`. */
async function moves(run: Parameters<Desk['journalOf']>[1], path = '0.1'): Promise<string[]> {
  const facts = (await desk.journalOf('acme', run, path)) as { kind: string; result?: string }[];
  return facts.map(({ kind, result }) => (result === undefined ? kind : `${kind} ${result}`));
}

test('T3 a lost answer of a write that can be looked up is looked up once its lease is over: done, one effect', async () => {
  desk.outside.faults = { dropAfterApply: 1 };
  const { run, result, effects, asked } = await desk.play('acme', [on('looked.write')]);
  expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1, refusals: 0 } });
  expect(effects).toHaveLength(1);
  expect(asked.filter((line) => !line.includes('records'))).toEqual(['POST /looked', 'GET /by-key']);
  expect(await moves(run)).toEqual(['admitted', 'recovering', 'settled succeeded']);
  expect(await desk.payload('acme', run, '0.1')).toMatchObject({ outcome: 'done', result: { id: 'r1' } });
  expect(await desk.reviews('acme', run.runId)).toEqual([]);
});

test('T3 absent before visibleWithin proves nothing: it is asked again, and what was late is found', async () => {
  // The lease is over at 3 s, the write is applied at 4.5 s, and shows within 4 s.
  desk.outside.faults = { dropAndApplyAfterMs: 4_500 };
  const { run, result, effects, asked } = await desk.play('acme', [on('looked.write')]);
  expect(result.stopReason).toBe('completed');
  expect(effects).toHaveLength(1);
  expect(asked.filter((line) => line.startsWith('POST'))).toEqual(['POST /looked']);
  expect(asked.filter((line) => line.includes('by-key')).length).toBeGreaterThan(1);
  expect((await moves(run)).at(-1)).toBe('settled succeeded');
});

test('T3 absent after visibleWithin is never: the call is made again through all of admission, once', async () => {
  desk.outside.faults = { dropBeforeApply: 1 };
  const { run, result, effects, asked } = await desk.play('acme', [on('looked.write')]);
  expect(result.stopReason).toBe('completed');
  expect(effects).toHaveLength(1);
  expect(asked.filter((line) => line.startsWith('POST'))).toEqual(['POST /looked', 'POST /looked']);
  const moved = await moves(run);
  expect(moved.filter((move) => move !== 'recovering')).toEqual([
    'admitted',
    'settled open',
    'admitted',
    'settled succeeded',
  ]);
});

test('T3 what shows at no time that anybody declares is in review, and is never sent a second time', async () => {
  desk.outside.faults = { dropBeforeApply: 1 };
  const { run, result, asked } = await desk.play('acme', [on('murky.write')]);
  expect(result.stopReason).toBe('outcome_unknown');
  expect(asked.filter((line) => line.startsWith('POST'))).toEqual(['POST /murky']);
  expect(await desk.reviews('acme', run.runId)).toMatchObject([
    { kind: 'outcome_unknown', path: '0.1', action: 'murky.write', resolvedAt: null },
  ]);
});

test('T3 a look-up that finds nobody to ask is made again, and proves nothing until then', async () => {
  desk.outside.faults = { dropAfterApply: 1, lookUpStatus: 503 };
  const before = desk.outside.requests.length;
  const playing = desk.play('acme', [on('murky.write')]);
  await until('a look-up', () =>
    Promise.resolve(desk.outside.requests.slice(before).some(({ path }) => path.startsWith('/by-key'))),
  );
  desk.outside.faults = {};
  const { result, effects, asked } = await playing;
  expect(result.stopReason).toBe('completed');
  expect(effects).toHaveLength(1);
  expect(asked.filter((line) => line.includes('by-key'))).toHaveLength(2);
});

test.each([
  // Told the eighth time: it is asked once more, in vain.
  [6, 2],
  // Told the seventeenth time: whatever became of sixteen, none begins any more.
  [15, 1],
])(
  'T3 what can never be looked up is in review in the end (%i look-ups made, %i asked)',
  async (looks, lookUps) => {
    desk.outside.faults = { dropAfterApply: 1, lookUpStatus: 503 };
    const before = desk.outside.requests.length;
    const asked = (what: string) =>
      desk.outside.requests.slice(before).filter(({ path }) => path.startsWith(what)).length;
    const run = await desk.begin('acme', [on('looked.write')]);
    await until('a look-up', () => Promise.resolve(asked('/by-key') > 0), 40_000);
    const admin = new Pool({ connectionString: desk.stack.database.adminUrl, max: 1 });
    await admin.query('update bulkhead.calls set looks = $2 where run_id = $1 and looks = 1', [
      run.runId,
      looks,
    ]);
    await admin.end();
    const result = await run.result({ timeoutMs: 50_000 });
    expect(result.stopReason).toBe('outcome_unknown');
    expect([asked('/looked'), asked('/by-key')]).toEqual([1, lookUps]);
    expect(await desk.reviews('acme', run.runId)).toMatchObject([
      { kind: 'outcome_unknown', path: '0.1', refusal: { rule: 'attempt_lost' } },
    ]);
  },
);

test('T3 a lost answer where nothing can be learned is in review at once, with the key that the system was given', async () => {
  desk.outside.faults = { dropAfterApply: 1 };
  const { run, result, effects } = await desk.play('acme', [on('blind.write')]);
  expect(result.stopReason).toBe('outcome_unknown');
  expect(effects).toHaveLength(1);
  expect(await desk.reviews('acme', run.runId)).toMatchObject([
    { kind: 'outcome_unknown', idempotencyKey: effects[0]?.key, system: 'keeper', resolvedAt: null },
  ]);
});

test('T4 what reads back as something else is an outcome of its own, with its review', async () => {
  const pay = call(['payment.send', { recordId: 'r1', amountCents: 100 }]);
  desk.outside.faults = { otherRecord: true };
  const other = await desk.play('acme', [pay]);
  expect(other.effects).toHaveLength(1);
  expect(await desk.payload('acme', other.run, '0.1')).toMatchObject({
    outcome: 'read_back_mismatch',
    refusal: { rule: 'read_back_mismatch' },
  });
  expect(await desk.reviews('acme', other.run.runId)).toMatchObject([{ kind: 'read_back_mismatch' }]);
  expect(await moves(other.run)).toEqual(['admitted', 'settled unknown']);
});

test('T4 a high-risk write without read-back is refused, unless the policy accepts that in words', async () => {
  const refused = await desk.play('acme', [on('wire.send')]);
  expect(refused.effects).toEqual([]);
  expect(await desk.payload('acme', refused.run, '0.1')).toMatchObject({
    outcome: 'denied',
    refusal: { origin: 'policy', rule: 'read_back_missing' },
  });
  await desk.tenant('waiving', {
    policy: 'readBackWaived: [{ action: wire.send, because: "the bank shows wires a day later" }]',
  });
  const waived = await desk.play('waiving', [on('wire.send')]);
  expect(waived.result.stopReason).toBe('completed');
  expect(waived.effects).toHaveLength(1);
});

test('E4 a foreign record in a result stops the run and opens a review, also where runs wait for reviews', async () => {
  await desk.tenant('waiting', { policy: 'onUnknownOutcome: review' });
  desk.outside.faults = { account: 'acct_of_globex' };
  const { run, result } = await desk.play('waiting', [on('record.read')]);
  expect(result.stopReason).toBe('scope_ambiguous');
  expect(await desk.reviews('waiting', run.runId)).toMatchObject([
    { kind: 'scope_ambiguous', path: '0.1', callClass: 'read', resolvedAt: null },
  ]);
});
