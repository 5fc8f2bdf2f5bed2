import { defaultPayloadConverter } from '@temporalio/common';
import type { CallAnswer } from '../../contracts/calls';
import type { LedgerCall } from '../../contracts/recovery';
import { declaredClasses, planCall } from '../../workers/recover-plan';
import { traceWorkflow, type CallTrace, type Execution } from '../../workers/recover-history';
import { app } from '../support/app';

/** What recovery makes of calls that a person has to say something of, and of what a run had read. */

const refused = (kind: 'approval_required' | 'suggested'): CallAnswer<null> => ({
  kind,
  refusal: { kind, origin: 'policy', rule: 'large', rules: ['large'], message: 'as the test has it' },
  ...(kind === 'approval_required' && { approval: { no: 7, expiresInMs: 60_000 } }),
  seq: 9,
});
const done: CallAnswer<null> = {
  kind: 'done',
  value: null,
  ref: '0.1',
  digest: 'd'.repeat(64) as never,
  seq: 9,
};

function plan(answer: CallAnswer<null> | null, name: string, state?: LedgerCall['state'], mayBeSent = false) {
  const trace: CallTrace = {
    path: '0.1',
    kind: 'tool',
    source: '0.0',
    index: 0,
    firstAt: new Date(0),
    answer,
    mayBeSent,
  };
  const row = { path: '0.1', state, action: name, class: 'write', reviewNo: null } as LedgerCall;
  return planCall(trace, {
    agent: undefined,
    actions: app.actions,
    ledger: new Map(state ? [['0.1', row]] : []),
    calls: new Map(),
    asked: () => [name],
  }).restore;
}

test('O8 P8 a suggestion that the ledger knows is left as it is, also where a person has made a call of it', () => {
  for (const state of ['suggested', 'open', 'claimed'] as const)
    expect(plan(refused('suggested'), 'order.place', state)).toBeNull();
  expect(plan(refused('suggested'), 'order.place')).toMatchObject({ to: 'failed', call: { toolCalls: 0 } });
});

test('O8 P3 what is put back brings the classes that its action declares; of an unknown action, all of them', () => {
  const [known] = [...app.actions.values()].filter(({ resultClasses }) => resultClasses.length > 0);
  if (known) expect(plan(done, known.name)?.call.dataClasses).toEqual(known.resultClasses);
  expect(plan(done, 'gone.action')?.call.dataClasses).toEqual(declaredClasses(app.actions));
});

/** A history of one position, asked once per answer; `null` is under way. */
function history(answers: readonly (CallAnswer<null> | null)[]): Execution {
  const payloads = (value: unknown) => ({ payloads: [defaultPayloadConverter.toPayload(value)] });
  const input = payloads({ position: { step: 0, ordinal: 1 }, source: { step: 0, ordinal: 0 }, index: 0 });
  const events = answers.flatMap((answer, index) => {
    const eventId = String(index * 3 + 1);
    const eventTime = { seconds: 1_000 + index };
    return [
      {
        eventId,
        eventTime,
        activityTaskScheduledEventAttributes: {
          activityId: eventId,
          activityType: { name: 'callTool' },
          input,
        },
      },
      ...(answer
        ? [
            { eventTime, activityTaskStartedEventAttributes: { scheduledEventId: eventId, attempt: 1 } },
            {
              eventTime,
              activityTaskCompletedEventAttributes: { scheduledEventId: eventId, result: payloads(answer) },
            },
          ]
        : []),
    ];
  });
  return { runId: 'r', open: true, history: { events } as never, pending: [] };
}

test('O8 P4 a call that waited for approval is no refusal: what was asked after it may have been sent', () => {
  const trace = (...answers: (CallAnswer<null> | null)[]) =>
    traceWorkflow('tenant/acme/test/run/r', [history(answers)], new Date(0)).calls[0];
  const waits = refused('approval_required');
  expect(trace(waits, waits)).toMatchObject({ answer: null, mayBeSent: false });
  const approved = trace(waits, null);
  expect(approved).toMatchObject({ answer: null, mayBeSent: true });
  expect(plan(approved?.answer as null, 'order.place', undefined, true)).toMatchObject({ to: 'claimed' });
  expect(trace(waits, done)).toMatchObject({ answer: { kind: 'done' } });
});
