import { commandControl } from '../../client/control';
import type { TenantId } from '../../contracts/ids';
import { idOf, on, openDesk, type Desk } from '../runs/desk';
import { until } from '../support/until';

/** A kill amid runs one of which Temporal refuses to signal, as it does one that has had ten thousand signals. */

const acme = 'acme' as TenantId;
let desk: Desk;
beforeAll(async () => {
  desk = await openDesk();
  await desk.tenant('acme', { policy: 'onUnknownOutcome: review' });
});
afterAll(() => desk.close());

test('O1 a run that cannot be told of the kill keeps no other from its end, and is terminated after the grace', async () => {
  // Parked, they do nothing by which they would hear of the fence.
  const runs = [];
  for (let at = 0; at < 3; at += 1) {
    desk.outside.faults = { dropAfterApply: 1 };
    const run = await desk.begin('acme', [on('blind.write')]);
    await desk.openReview('acme', run.runId);
    await desk.waitsForReview(run);
    runs.push(run);
  }
  const [deaf] = runs;
  const service = desk.stack.temporal.workflowService;
  const signal = service.signalWorkflowExecution.bind(service);
  let refused = 0;
  service.signalWorkflowExecution = ((...args: Parameters<typeof signal>) => {
    if (args[0]?.workflowExecution?.workflowId !== deaf?.workflowId) return signal(...args);
    refused += 1;
    return Promise.reject(
      Object.assign(new Error('exceeded workflow execution limit for signal events'), { code: 3 }),
    );
  }) as typeof signal;
  try {
    await commandControl(desk.stack.temporal, acme, desk.stack.environment, {
      op: 'kill',
      scope: { kind: 'tenant' },
      reason: 'test',
      actor: 'test',
    });
    const drained = async () => (await desk.stack.store('acme').control())?.drainedAt ?? undefined;
    expect(await until('an emptied tenant', drained, 30_000)).toBeTruthy();
  } finally {
    service.signalWorkflowExecution = signal;
  }
  expect(refused).toBeGreaterThan(0);
  for (const run of runs) {
    expect(await desk.stack.store('acme').run(idOf(run))).toMatchObject({
      state: 'closed',
      stopReason: 'killed',
    });
    const { status } = await desk.stack.temporal.workflow.getHandle(run.workflowId).describe();
    expect(status.name).toBe(run === deaf ? 'TERMINATED' : 'FAILED');
  }
}, 120_000);
