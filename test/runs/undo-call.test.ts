import { forwardCall, undoOf, type AskedCall } from '../../activities/tool-call';
import type { CallRow } from '../../contracts/rows';
import { app } from '../support/app';

const asked = (action: string, args: unknown = { recordId: 'r1' }): AskedCall => ({
  position: { step: 0, ordinal: 1 },
  seq: 1,
  asked: { id: 'a', name: action, args },
  action: app.actions.get(action),
  lost: false,
  agentClass: 'test',
});
const forward: CallRow = {
  path: '0.1',
  action: 'order.place',
  digest: 'd',
  callClass: 'write',
  state: 'succeeded',
  reversible: 'compensable',
  undoOf: null,
  attempts: 1,
  reviewNo: null,
  refusal: null,
};
const result = { value: { id: 'r1', account: 'acct', effect: 1 } };

test('T5 an undo is of the write’s class and action, from a reserve, and is judged by no look-up or read-back of it', () => {
  const undo = undoOf(asked('order.place'), forward, result);
  const write = forwardCall(asked('order.place'));
  expect(undo).toMatchObject({
    undoOf: '0.1',
    action: write.action,
    callClass: write.callClass,
    args: write.args,
    records: write.records,
    keyValidMs: write.keyValidMs,
    reserve: { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 },
    refusedByForm: null,
    reconcile: null,
    verify: null,
  });
  expect(undo.site).not.toBe(write.site);
});

test.each<[string, AskedCall, typeof result | undefined]>([
  ['the action is gone', asked('gone.action'), result],
  ['it has lost its compensate', asked('note.write', { recordId: 'r1', text: 'x' }), result],
  ['its arguments have another schema now', asked('order.place', { id: 'r1' }), result],
  ['the result is gone', asked('order.place'), undefined],
])(
  'T5 an undo that cannot be made because %s is refused by its form, so that a person reviews it',
  (_why, call, kept) => {
    const undo = undoOf(call, forward, kept);
    expect(undo.refusedByForm).toMatchObject({ kind: 'denied', rule: 'undo_impossible' });
    expect(undo).toMatchObject({ action: 'order.place', callClass: 'write', undoOf: '0.1' });
  },
);
