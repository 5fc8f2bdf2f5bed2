import { DeadlinePassed, readFailure } from '../../activities/acting';
import type { GovernedCall } from '../../activities/governed-call';
import { HttpNotSent, HttpUnavailable } from '../../contracts/http-errors';

const call = (change: Partial<GovernedCall>): GovernedCall =>
  ({
    action: 'record.read',
    callClass: 'read',
    system: 'keeper',
    keyValidMs: null,
    reconcile: null,
    ...change,
  }) as GovernedCall;
const over = { mayHaveApplied: false, before: false, aborted: true, timedOut: true };
const late = {
  result: 'open',
  refusal: { kind: 'provider_degraded', origin: 'provider', rule: 'timed_out' },
};
const ours = { result: 'open', refusal: { origin: 'platform' } };

test('N5 Q4 time that a system outside used up is its own trouble, however the abort comes out', () => {
  expect(readFailure(new HttpUnavailable('no answer'), call({}), over)).toMatchObject(late);
  expect(readFailure(new HttpNotSent('no connection'), call({}), over)).toMatchObject(late);
  // A library's own error, with its request still out.
  const model = call({ callClass: 'model', system: 'models' });
  const out = { ...over, mayHaveApplied: true };
  expect(readFailure(new DOMException('aborted', 'AbortError'), model, out)).toMatchObject(late);
  expect(readFailure(new DeadlinePassed('over'), model, out)).toMatchObject(late);
});

test('N5 Q4 what was stopped by us, or used up its time by itself, is not', () => {
  expect(readFailure(new HttpUnavailable('cut off'), call({}), { ...over, timedOut: false })).toMatchObject(
    ours,
  );
  expect(readFailure(new DeadlinePassed('over'), call({}), over)).toMatchObject(ours);
  expect(readFailure(new Error('slow sums'), call({}), over)).toMatchObject(ours);
});

test('N5 T3 of a write that may have been applied the breaker is told what the system did, never what we did', () => {
  const write = call({ callClass: 'write', keyValidMs: 1_000 });
  const sent = { mayHaveApplied: true, before: false, aborted: false, timedOut: false };
  const answered = new HttpUnavailable('keeper answered 503');
  expect(readFailure(answered, write, sent)).toMatchObject({
    result: 'pending',
    trouble: 'keeper answered 503',
  });
  const blind = call({ callClass: 'write' });
  expect(readFailure(answered, blind, sent)).toMatchObject({
    result: 'unknown',
    trouble: 'keeper answered 503',
  });
  const timedOut = readFailure(answered, write, { ...sent, aborted: true, timedOut: true });
  expect(timedOut).toMatchObject({ result: 'pending', trouble: expect.any(String) });
  expect(readFailure(answered, write, { ...sent, aborted: true }).trouble).toBeUndefined();
  expect(readFailure(new Error('a defect'), write, sent).trouble).toBeUndefined();
});
