import { Client, Connection } from '@temporalio/client';
import { BulkheadClient } from '../../client/bulkhead';
import { ensureControl } from '../../client/control';
import { isTemporalTrouble } from '../../client/temporal-trouble';
import { TenantId } from '../../contracts/ids';
import { testTemporal } from '../support/shared-temporal';
import { startSilentWire } from '../support/silent-wire';
import { createTestStack, type TestStack } from '../support/stack';
import { PLAIN_ACME } from '../support/tenants';

/** What a caller that waits for a run is told, while no worker serves it. */

let stack: TestStack;
beforeAll(async () => {
  stack = await createTestStack({ workers: false });
  await stack.apply(PLAIN_ACME);
});
afterAll(() => stack.close());

const start = () => stack.run('acme', {});

test('Q5 a run that was terminated from outside has its one stop reason', async () => {
  const run = await start();
  await stack.temporal.workflow.getHandle(run.workflowId).terminate('by hand');
  const waiting = run.result({ timeoutMs: 20_000 });
  await stack.store('acme').leaveRun({
    runId: (await run.row()).runId,
    temporalRunId: null,
    stopReason: 'terminated',
    outputRef: null,
  });
  await expect(waiting).resolves.toMatchObject({
    state: 'closed',
    stopReason: 'terminated',
    output: null,
    usage: { steps: 0, toolCalls: 0 },
  });
  await expect(run.explain()).resolves.toMatchObject({
    state: 'closed',
    stopReason: 'terminated',
    waitsFor: null,
  });
  await expect(run.cancel('too late')).resolves.toBeUndefined();
}, 30_000);

test('Q3 waiting ends in time, and says what the run is doing', async () => {
  const run = await start();
  const error: Error = await run.result({ timeoutMs: 300 }).then(
    () => Promise.reject(new Error('it ended')),
    (caught: unknown) => caught as Error,
  );
  expect(error).toMatchObject({ code: 'timeout' });
  expect(error.message).toContain('accepted');
  await expect(run.explain()).resolves.toMatchObject({
    state: 'accepted',
    stopReason: null,
    waitsFor: null,
    lastRefusal: null,
  });
});

test('Q5 an impatient caller may stop waiting, also one that was so before the wait began', async () => {
  const run = await start();
  await expect(run.result({ signal: AbortSignal.timeout(100) })).rejects.toThrow(/timeout/);
  await expect(run.result({ signal: AbortSignal.abort() })).rejects.toThrow(/aborted/);
  // It is over before the run's row has been read.
  const soon = new AbortController();
  const waiting = run.result({ signal: soon.signal });
  soon.abort(new Error('no longer'));
  await expect(waiting).rejects.toThrow('no longer');
}, 20_000);

test('Q3 a wait may be of any number of milliseconds; what is no number is refused, and waited for by nobody', async () => {
  const run = await start();
  for (const timeoutMs of [0.2, 150.7, -1.5, 0])
    await expect(run.result({ timeoutMs })).rejects.toMatchObject({ code: 'timeout' });
  for (const timeoutMs of [Number.NaN, '1s' as never])
    await expect(run.result({ timeoutMs })).rejects.toMatchObject({
      code: 'invalid',
      message: expect.stringContaining('give milliseconds'),
    });
  // One without an end is left by its signal.
  const endless = run.result({ timeoutMs: Infinity, signal: AbortSignal.timeout(100) });
  await expect(endless).rejects.toThrow(/timeout/);
}, 20_000);

test('U1 a Temporal that has gone silent holds up nobody: in time it is said that the run may not know of its end', async () => {
  const { runId } = await start();
  const wire = await startSilentWire(testTemporal().address);
  const connection = await Connection.connect({ address: wire.address });
  const temporal = new Client({ connection, namespace: stack.environment });
  const bulkhead = new BulkheadClient({ ...stack.clientPorts, temporal });
  const run = await bulkhead.run({ token: await stack.token('acme'), runId });
  wire.silence();
  const outcomes = await Promise.all(
    [run.cancel('never mind'), ensureControl(temporal, TenantId.parse('acme'), stack.environment)].map(
      (step) =>
        step.then(
          () => 'done',
          (error: unknown) => error,
        ),
    ),
  );
  expect(outcomes[0]).toMatchObject({
    code: 'unavailable',
    reason: 'temporal',
    message: expect.stringMatching(/not known that run .* was told to stop: ask again/),
  });
  expect(isTemporalTrouble(outcomes[1])).toBe(true);
  await connection.close();
  await wire.close();
}, 15_000);
