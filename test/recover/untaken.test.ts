import { defaultPayloadConverter } from '@temporalio/common';
import { traceWorkflow, type Execution } from '../../workers/recover-history';

/** Attempts that no worker took in time, as histories have them. */

const payloads = (value: unknown) => ({ payloads: [defaultPayloadConverter.toPayload(value)] });
const input = payloads({
  position: { step: 0, ordinal: 1 },
  source: { step: 0, ordinal: 0 },
  index: 0,
  seq: 3,
});
const eventTime = { seconds: 1_000 };

/** A call whose last attempt nobody took: with what its attempts before had said, and how the last of them had failed. */
function untaken(before: { seq?: number; cause?: object }): Execution {
  const failure = {
    timeoutFailureInfo: {
      timeoutType: 2,
      ...(before.seq !== undefined && { lastHeartbeatDetails: payloads({ seq: before.seq }) }),
    },
    ...(before.cause && { cause: before.cause }),
  };
  const scheduled = { activityId: '1', activityType: { name: 'callTool' }, input };
  const events = [
    { eventId: '1', eventTime, activityTaskScheduledEventAttributes: scheduled },
    { eventId: '2', eventTime, activityTaskTimedOutEventAttributes: { scheduledEventId: '1', failure } },
  ];
  return { runId: 'r', open: true, history: { events } as never, pending: [] };
}
const trace = (execution: Execution) => traceWorkflow('tenant/acme/test/run/r', [execution], new Date(0));
const failedAs = (type: string) => ({ applicationFailureInfo: { type } });

test('O8 N2 an attempt that nobody took was not sent; what attempts before it may have sent is not forgotten, nor what they were told', () => {
  expect(trace(untaken({}))).toMatchObject({ highestSeq: 3, calls: [{ mayBeSent: false }] });
  expect(trace(untaken({ cause: failedAs('Waiting') }))).toMatchObject({ calls: [{ mayBeSent: false }] });
  expect(trace(untaken({ cause: failedAs('OutcomePending') }))).toMatchObject({
    calls: [{ mayBeSent: true }],
  });
  expect(trace(untaken({ cause: { timeoutFailureInfo: { timeoutType: 4 } } }))).toMatchObject({
    calls: [{ mayBeSent: true }],
  });
  // Admitted, then lost, then waited for in place.
  expect(trace(untaken({ seq: 9, cause: failedAs('Waiting') }))).toMatchObject({
    highestSeq: 9,
    calls: [{ mayBeSent: true }],
  });
});
