import { call, on, openDesk, type Desk } from './desk';
import { until } from '../support/until';

let desk: Desk;

beforeAll(async () => {
  desk = await openDesk();
  await desk.tenant('acme', { policy: 'onUnknownOutcome: review' });
});
beforeEach(() => {
  desk.outside.faults = {};
});
afterAll(() => desk.close());

const RESULT = { id: 'r1', account: 'acct', effect: 77 };

/** A run that waits for a person, because the answer of its blind write was lost before or after it was applied. */
async function waiting(faults: Desk['outside']['faults']) {
  const before = desk.outside.effects.length;
  const requests = desk.outside.requests.length;
  desk.outside.faults = faults;
  const run = await desk.begin('acme', [on('blind.write')]);
  const review = await desk.openReview('acme', run.runId);
  await desk.waitsForReview(run);
  return {
    run,
    review,
    effects: () => desk.outside.effects.slice(before),
    sent: () => desk.outside.requests.slice(requests).filter(({ path }) => path === '/blind').length,
  };
}

test('T3 the run waits for the review; happened: its result is the call’s, and nothing is sent again', async () => {
  const { run, review, effects, sent } = await waiting({ dropAfterApply: 1 });
  await desk.resolve('acme', run, review, 'happened', RESULT);
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({
    stopReason: 'completed',
    usage: { toolCalls: 1 },
  });
  expect([effects().length, sent()]).toEqual([1, 1]);
  expect(await desk.payload('acme', run, '0.1')).toMatchObject({ outcome: 'done', result: RESULT });
  expect(JSON.stringify(desk.model.requests.at(-1)?.messages)).toContain('77');
});

test('T3 did not happen: the call is made again, under its key and through all of admission', async () => {
  const { run, review, effects, sent } = await waiting({ dropBeforeApply: 1 });
  expect(effects()).toEqual([]);
  await desk.resolve('acme', run, review, 'did_not_happen');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  expect([effects().length, sent()]).toEqual([1, 2]);
  expect(effects()[0]?.key).toBe(review.idempotencyKey);
  expect(await desk.payload('acme', run, '0.1')).toMatchObject({ outcome: 'done' });
});

test('T3 did not happen, and the new attempt is tried again: the refusal of before is not its answer', async () => {
  const { run, review, effects } = await waiting({ dropBeforeApply: 1 });
  desk.outside.faults = { status: 429 };
  await desk.resolve('acme', run, review, 'did_not_happen');
  await until('an attempt that is told 429', async () => {
    const told = await desk.journalOf('acme', run, '0.1');
    return told.filter(({ result }) => result === 'open').length > 0;
  });
  desk.outside.faults = {};
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  expect(effects()).toHaveLength(1);
});

test('Q5 T3 given up: the run ends as review_abandoned, and the review says who said so', async () => {
  const { run, review, sent } = await waiting({ dropAfterApply: 1 });
  await desk.resolve('acme', run, review, 'abandon');
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'review_abandoned' });
  expect(sent()).toBe(1);
  expect(await desk.reviews('acme', run.runId)).toMatchObject([{ resolution: 'abandon', actor: 'tester' }]);
});

test('T4 a read-back that showed something else is waited for like any doubt', async () => {
  desk.outside.faults = { otherRecord: true };
  const run = await desk.begin('acme', [call(['payment.send', { recordId: 'r1', amountCents: 100 }])]);
  const review = await desk.openReview('acme', run.runId);
  expect(review.kind).toBe('read_back_mismatch');
  desk.outside.faults = {};
  await desk.resolve('acme', run, review, 'happened', RESULT);
  expect(await run.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
});
