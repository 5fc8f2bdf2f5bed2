import type { CallAnswer } from '../../contracts/calls';
import { NOT_UNDONE } from '../../contracts/reviews';
import type { Refusal } from '../../contracts/refusal';
import { planCall, type PlanParts } from '../../workers/recover-plan';
import type { CallTrace } from '../../workers/recover-history';
import { app } from '../support/app';

/** What recovery makes of an undo, from the last answer that its workflow was told. */

const UNDO = '0.1/undo';

const refusal = (kind: Refusal['kind'], rule: string): Refusal => ({
  kind,
  origin: 'platform',
  rule,
  rules: [rule],
  message: 'as the test has it',
});
const answered = (
  kind: Refusal['kind'],
  rule: string,
  review?: { no: number; wait: boolean; of?: string },
): CallAnswer<null> => ({ kind, refusal: refusal(kind, rule), ...(review && { review }), seq: 9 });

function plan(answer: CallAnswer<null> | null, mayBeSent = false) {
  const trace: CallTrace = {
    path: UNDO,
    kind: 'undo',
    source: '0.0',
    index: 0,
    firstAt: new Date(0),
    answer,
    mayBeSent,
  };
  const parts: PlanParts = {
    agent: undefined,
    actions: app.actions,
    ledger: new Map(),
    calls: new Map(),
    asked: () => ['order.place'],
  };
  return planCall(trace, parts).restore;
}

test('O8 T5 an undo that said there was nothing to undo, or that was not let in, puts back no undo and no review', () => {
  for (const rule of Object.keys(NOT_UNDONE)) expect(plan(answered('failed', rule))).toBeNull();
  for (const [kind, rule] of [
    ['killed', 'tenant_killed'],
    ['denied', 'undo_not_entered'],
    ['failed', 'key_expired'],
  ] as const)
    expect(plan(answered(kind, rule))).toBeNull();
});

test('O8 T5 an undo that waited for the review of its write was never made, and is not put back as unknown', () => {
  const waited = answered('outcome_unknown', 'attempt_lost', { no: 7, wait: true });
  expect(plan(waited)).toBeNull();
  // Asked again since, it may have been sent.
  expect(plan(waited, true)).toMatchObject({ to: 'claimed', call: { undoOf: '0.1' } });
});

test('O8 T5 an undo that failed is put back with its review, one that was given up without', () => {
  const own = { no: 7, wait: true, of: UNDO };
  expect(plan(answered('failed', 'http_422', own))).toMatchObject({
    to: 'failed',
    call: { review: 'undo_failed' },
  });
  expect(plan(answered('denied', 'no-way-back', own))).toMatchObject({
    to: 'failed',
    call: { review: 'undo_failed' },
  });
  expect(plan(answered('outcome_unknown', 'attempt_lost', own))).toMatchObject({
    to: 'unknown',
    call: { review: 'undo_failed' },
  });
  expect(plan(answered('failed', 'review_abandoned'))).toMatchObject({
    to: 'failed',
    call: { review: null },
  });
});

test('O8 P8 a suggestion that the ledger still has stays one; one that it has lost is put back as what the model was told', () => {
  const trace: CallTrace = {
    path: '0.1',
    kind: 'tool',
    source: '0.0',
    index: 0,
    firstAt: new Date(0),
    answer: answered('suggested', 'only-ideas'),
    mayBeSent: false,
  };
  const row = {
    path: '0.1',
    state: 'suggested',
    action: 'order.place',
    class: 'write',
    reviewNo: null,
  } as const;
  const parts = { agent: undefined, actions: app.actions, calls: new Map(), asked: () => ['order.place'] };
  expect(planCall(trace, { ...parts, ledger: new Map([['0.1', row]]) }).restore).toBeNull();
  expect(planCall(trace, { ...parts, ledger: new Map() }).restore).toMatchObject({
    to: 'failed',
    call: { toolCalls: 0, review: null, payload: { outcome: 'suggested' } },
  });
});
