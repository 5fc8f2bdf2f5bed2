import type { SignedEnvelope } from '../../contracts/envelope';
import { RUNS_QUEUE, WORKFLOW } from '../../contracts/names';
import { until } from '../support/until';
import { createRecoverWorld, TENANT, type RecoverWorld } from './world';

jest.setTimeout(120_000);

/** Whose journal numbers recovery believes: whoever may start workflows is not thereby believed. No host runs here. */

let world: RecoverWorld;
beforeAll(async () => {
  world = await createRecoverWorld();
});
afterAll(() => world.close());

const ledger = () => world.stack.store(TENANT).recovery;

/** A workflow of a run's id whose input says that it was told of entry `seq`. */
async function claiming(workflowId: string, signed: unknown, seq: number): Promise<void> {
  const { workflow } = world.stack.temporal;
  await workflow.start(WORKFLOW.run, {
    workflowId,
    taskQueue: RUNS_QUEUE,
    args: [{ signed, carry: { step: 0, seq, generation: 0, usage: {} } }],
  });
  await until(
    'it is listed',
    async () => {
      for await (const { status } of workflow.list({ query: `WorkflowId = '${workflowId}'` }))
        if (status.name === 'RUNNING') return true;
      return false;
    },
    30_000,
  );
}

/** The envelope of a run of the tenant's own, whose workflow is gone. */
async function ownEnvelope(): Promise<{ workflowId: string; signed: SignedEnvelope }> {
  const { workflowId } = await world.start('idle');
  const handle = world.stack.temporal.workflow.getHandle(workflowId);
  const { events } = await handle.fetchHistory();
  const payload = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads?.[0]?.data;
  await handle.terminate('for the test');
  return { workflowId, ...(JSON.parse(Buffer.from(payload!).toString()) as { signed: SignedEnvelope }) };
}

test('O8 a workflow whose envelope does not hold moves no journal number, and fences no tenant that is at work', async () => {
  const id = `tenant/${TENANT}/${world.stack.environment}/run/forged`;
  await claiming(id, { envelope: { tenantId: TENANT }, signature: 'none' }, 5_000);
  expect(await world.recover({ dryRun: true })).toEqual({ kind: 'at_work' });
  expect(await world.recover()).toEqual({ kind: 'at_work' });
  expect((await ledger().state())?.rewoundSeq).toBe(0);

  await ledger().markRewound({ seq: 1_000, hash: null, acknowledged: 0, by: 'the test' });
  const answer = await world.recover();
  expect(answer).toMatchObject({
    report: { seenSeq: 1_000, refused: [{ workflowId: id }], released: true },
  });
  expect((await ledger().state())?.journalSeq).toBeLessThan(2_000);
});

test('O8 a number that the tenant cannot have come to is not believed either, whoever names it', async () => {
  const { workflowId, signed } = await ownEnvelope();
  await claiming(workflowId, signed, 4e15);
  expect(await world.recover()).toEqual({ kind: 'at_work' });

  await ledger().markRewound({ seq: 3_000, hash: null, acknowledged: 0, by: 'the test' });
  expect(await world.recover()).toMatchObject({
    report: {
      seenSeq: 3_000,
      refused: expect.arrayContaining([
        { workflowId, because: expect.stringContaining('journal entry 4000000000000000') },
      ]) as unknown,
    },
  });
  expect((await ledger().state())?.journalSeq).toBeLessThan(4_000);
});
