import { recorded } from '../../activities/answers';
import type { Attempt } from '../../activities/attempt';
import type { RecordedOutcome } from '../../contracts/ledger';
import type { Refusal } from '../../contracts/refusal';

const refusal: Refusal = {
  kind: 'suggested',
  origin: 'policy',
  rule: 'only-ideas',
  rules: ['only-ideas'],
  message: 'in words',
};
const outcome: RecordedOutcome = {
  state: 'suggested',
  ref: null,
  digest: null,
  refusal,
  reviewNo: null,
  value: null,
};

test('P8 T2 a suggestion that is asked for again, its words not kept yet, answers the same, and its model sees it', async () => {
  const kept: unknown[] = [];
  const attempt = {
    call: {
      undoOf: null,
      refusalPayload: (of: Refusal) => ({ kind: 'tool', outcome: of.kind, refusal: of }),
    },
    envelope: { rootRunId: 'run-1' },
    path: '0.1',
    waitsForReview: true,
    store: {
      putPayload: (...put: unknown[]) => {
        kept.push(put);
        return Promise.resolve();
      },
    },
  } as unknown as Attempt;
  expect(await recorded(attempt, outcome, 9)).toEqual({ kind: 'suggested', refusal, seq: 9 });
  expect(kept).toEqual([['run-1', '0.1', { kind: 'tool', outcome: 'suggested', refusal }]]);
});
