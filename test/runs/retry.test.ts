import { call, openDesk, type Desk } from './desk';
import { until } from '../support/until';

let desk: Desk;

beforeAll(async () => {
  desk = await openDesk();
  await desk.tenant('acme');
});
beforeEach(() => {
  desk.outside.faults = {};
});
afterAll(() => desk.close());

test('N5 T2 a call that used up its attempts is made once more after its run, under its own key, and once', async () => {
  let before = desk.outside.effects.length;
  const run = await desk.begin('acme', ({ moves }) => {
    desk.outside.faults = { status: 429 };
    return moves === 0 ? call(['note.write', { recordId: 'r1', text: 'later' }]) : { say: 'gave up' };
  });
  expect(await run.result({ timeoutMs: 50_000 })).toMatchObject({ stopReason: 'completed' });
  expect(desk.outside.effects.length).toBe(before);
  const store = desk.stack.store('acme');
  const [letter] = await store.deadLetters({ open: true, limit: 5 });
  expect(letter).toMatchObject({ runId: run.runId, path: '0.1', state: 'dead', action: 'note.write' });

  // Still down: the retry uses its attempts anew, waits, and ends with the first that is taken.
  desk.outside.faults = { status: 429 };
  before = desk.outside.effects.length;
  const requests = desk.outside.requests.length;
  const ordered = await desk.stack.client.retryDeadLetter({
    token: await desk.stack.token('acme'),
    letterNo: letter?.letterNo ?? 0,
    note: 'it is up again',
  });
  await until('the retry is refused', () => Promise.resolve(desk.outside.requests.length > requests));
  desk.outside.faults = {};
  expect(await ordered.result({ timeoutMs: 40_000 })).toMatchObject({ state: 'done' });
  expect(await ordered.call()).toMatchObject({ state: 'succeeded' });
  const written = desk.outside.effects.slice(before);
  expect(written.map(({ body }) => (body as { text: string }).text)).toEqual(['later']);
  const admitted = await desk.journalOf('acme', run, '0.1');
  expect(admitted.some(({ kind }) => kind === 'exhausted')).toBe(true);
  expect(await desk.payload('acme', run, '0.1')).toMatchObject({ outcome: 'done' });
});
