import { call, idOf, openDesk, type Desk } from '../runs/desk';
import { admissionOf, settlementOf } from '../support/calls';
import { until } from '../support/until';

/** The end of a run one of whose calls may still act, because the host that made it died. */

let desk: Desk;
beforeAll(async () => {
  desk = await openDesk();
  await desk.tenant('acme');
});
afterAll(() => desk.close());

test('N4 Q5 a run that is over waits for the lease of a lost call without a slot of those that all tenants share', async () => {
  const run = await desk.begin('acme', [call(['deaf.read', {}])]);
  const store = desk.stack.store('acme');
  await until('a call under way', async () => (await desk.journalOf('acme', run, '0.1')).length > 0, 20_000);
  const context = await store.callContext({ runId: idOf(run), records: [], capability: null });
  const handle = desk.stack.temporal.workflow.getHandle(run.workflowId);
  const { runId: temporalRunId } = await handle.describe();
  const lost = admissionOf(
    { runId: idOf(run), path: '7.1', temporalRunId, decidedBy: context?.versions ?? fail() },
    { action: 'note.write', system: 'keeper', hostId: 'a-host-that-died', leaseMs: 60_000 },
  );
  expect(await store.admit(lost)).toMatchObject({ answer: 'admitted' });

  await run.cancel('enough');
  const waiting = await until(
    'an end that is waited for outside of a slot',
    async () => {
      const [pending] = (await handle.describe()).raw.pendingActivities ?? [];
      return pending?.activityType?.name === 'leaveRun' && pending.lastFailure ? pending : undefined;
    },
    20_000,
  );
  expect(waiting).toMatchObject({
    activityType: { name: 'leaveRun' },
    lastFailure: {
      message: expect.stringMatching(/may still act.*: 1$/),
      applicationFailureInfo: { type: 'Waiting' },
    },
  });
  expect(await run.state()).not.toBe('closed');
  await store.settle(
    settlementOf(lost, {
      result: 'failed',
      refusal: { kind: 'failed', origin: 'platform', rule: 'lost', rules: ['lost'], message: 'lost' },
    }),
  );
  expect(await run.result({ timeoutMs: 30_000 })).toMatchObject({ stopReason: 'cancelled' });
}, 90_000);

const fail = (): never => {
  throw new Error('there is no such run');
};
