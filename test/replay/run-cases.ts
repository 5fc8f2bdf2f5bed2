import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { startAccepted } from '../../client/start';
import type { SignedEnvelope } from '../../contracts/envelope';
import { RUNS_QUEUE, WORKFLOW } from '../../contracts/names';
import { admissionOf, settlementOf } from '../support/calls';
import { plays } from '../support/model';
import { until } from '../support/until';
import { call, closed, note, runIdOf, type Case, type Ground } from './ground';

const run = (name: string, play: Case['play']): Case => ({ workflow: 'agentRun', name, play });

/** Waits until a call of the run is on its way. */
const underWay = ({ stack }: Ground, tenant: string, workflowId: string): Promise<unknown> =>
  until(
    'a call under way',
    async () => (await stack.store(tenant).claimedCalls({ runId: runIdOf(workflowId) as never })) > 0,
  );

/** Every way in which `agentRun` went and ended before there were reviews, undos and forks. */
export const RUN_CASES: readonly Case[] = [
  run('completed', async (ground) => {
    await ground.tenant('done');
    return ground.ended(
      'done',
      call(['record.read', { recordId: 'r1' }], ['note.write', { recordId: 'r1', text: 'x', extra: true }]),
      note('amended'),
    );
  }),
  run('continued', async (ground) => {
    await ground.tenant('long');
    const { workflowId } = await ground.ended('long', note('1'), note('2'), note('3'), note('4'));
    const { runId: last } = await ground.stack.temporal.workflow.getHandle(workflowId).describe();
    const { events } = await ground.stack.temporal.workflow.getHandle(workflowId, last).fetchHistory();
    const first = events?.[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId ?? '';
    return [
      { workflowId, runId: first, part: 'first' },
      { workflowId, runId: last, part: 'last' },
    ];
  }),
  run('failed', async (ground) => {
    await ground.tenant('broken');
    return ground.ended('broken', call(['broken.read', { recordId: 'r1' }]));
  }),
  run('forged', async (ground) => {
    await ground.tenant('forged');
    const { signed, workflowId } = await accepted(ground, 'forged');
    await ground.stack.temporal.workflow.start(WORKFLOW.run, {
      workflowId,
      taskQueue: RUNS_QUEUE,
      args: [{ signed: { ...signed, envelope: { ...signed.envelope, tenantId: 'done' } } }],
    });
    await closed(ground.stack, workflowId);
    return { workflowId };
  }),
  run('not-entered', async (ground) => {
    await ground.tenant('reset');
    const { workflowId } = await ground.ended('reset', note('once'));
    const handle = ground.stack.temporal.workflow.getHandle(workflowId);
    const { runId } = await handle.describe();
    await ground.stack.temporal.workflowService.resetWorkflowExecution({
      namespace: ground.stack.environment,
      workflowExecution: { workflowId, runId },
      reason: 'test',
      requestId: randomUUID(),
      workflowTaskFinishEventId: 4 as never,
    });
    await closed(ground.stack, workflowId);
    return { workflowId };
  }),
  run('steps-used-up', async (ground) => {
    await ground.tenant('short', { perRun: '{ steps: 2 }' });
    return ground.ended('short', note('1'), note('2'), note('3'));
  }),
  run('throttled-too-long', async (ground) => {
    await ground.tenant('daily', { limits: '{ toolCallsPerDay: 1 }' });
    return ground.ended('daily', note('1'), note('2'));
  }),
  run('throttled-woken', async (ground) => {
    await ground.tenant('woken', { limits: '{ toolCallsPerDay: 1 }' });
    const { workflowId } = await ground.run('woken', note('1'), note('2'));
    const handle = ground.stack.temporal.workflow.getHandle(workflowId);
    await until(
      'the wait',
      async () => (await handle.query<{ state: string }>('runState')).state === 'throttled',
    );
    await ground.tenant('woken', { limits: '{ toolCallsPerDay: 9 }' });
    await handle.signal('wakeRun');
    await closed(ground.stack, workflowId);
    return { workflowId };
  }),
  run('policy-denied', async (ground) => {
    await ground.tenant('denied', { rules: '  - { id: r, effect: allow, actions: [record.read] }' });
    await ground.stack.apply(NO_MODELS);
    return ground.ended('denied');
  }),
  run('killed', async (ground) => {
    await ground.tenant('killed');
    ground.outside.faults = { delayMs: 1_000 };
    const { workflowId } = await ground.run('killed', note('1'), note('2'));
    await underWay(ground, 'killed', workflowId);
    await ground.stack.temporal.workflow
      .getHandle(`tenant/killed/${ground.stack.environment}/control`)
      .signal('kill');
    await closed(ground.stack, workflowId);
    return { workflowId };
  }),
  run('cancelled', async (ground) => {
    await ground.tenant('cancelled');
    ground.outside.faults = { delayMs: 1_000 };
    const started = await ground.run('cancelled', note('1'), note('2'));
    await underWay(ground, 'cancelled', started.workflowId);
    await started.cancel('not needed');
    await closed(ground.stack, started.workflowId);
    return { workflowId: started.workflowId };
  }),
  run('scope-ambiguous', async (ground) => {
    await ground.tenant('foreign');
    ground.outside.faults = { account: 'acct_of_somebody' };
    return ground.ended('foreign', call(['record.read', { recordId: 'r1' }]));
  }),
  run('provider-degraded', async (ground) => {
    await ground.tenant('down');
    ground.model.failWith = 400;
    return ground.ended('down');
  }),
  run('credential-unavailable', async (ground) => {
    await ground.tenant('nokey', { credentials: ['models:generate'] });
    return ground.ended('nokey', note('x'));
  }),
  run('idempotency-conflict', async (ground) => {
    await ground.tenant('conflict');
    const store = ground.stack.store('conflict');
    const { workflowId } = await accepted(ground, 'conflict');
    const runId = runIdOf(workflowId) as never;
    // While its model thinks, the position of its first tool call is used with other arguments.
    ground.model.script = async ({ moves }) => {
      if (moves > 0) return { say: 'done' };
      const { runId: temporalRunId } = await ground.stack.temporal.workflow.getHandle(workflowId).describe();
      const token = randomUUID();
      const context = await store.callContext({ runId, records: [], capability: null });
      const asked = admissionOf(
        { runId, path: '0.1', temporalRunId, decidedBy: context!.versions },
        { token, action: 'note.write', system: 'keeper', hostId: 'recorder', leaseMs: 60_000 },
      );
      const admitted = await store.admit(asked);
      if (admitted.answer !== 'admitted') throw new Error(`not admitted: ${JSON.stringify(admitted)}`);
      await store.settle(settlementOf(asked));
      return note('other');
    };
    await startAccepted(ground.stack.temporal, (await accepted(ground, 'conflict', workflowId)).signed);
    await closed(ground.stack, workflowId);
    return { workflowId };
  }),
  run('outcome-unknown', async (ground) => {
    await ground.tenant('blind');
    ground.outside.faults = { dropAfterApply: 1 };
    return ground.ended('blind', call(['blind.write', { recordId: 'r1' }]));
  }),
  run('model-misbehaved', async (ground) => {
    await ground.tenant('odd');
    return ground.ended('odd', call(['vault.open', {}]), call(['note.write', '{"recordId":']));
  }),
  run('terminated', async (ground) => {
    await ground.tenant('gone');
    ground.outside.faults = { delayMs: 500 };
    const started = await ground.run('gone', note('1'));
    await underWay(ground, 'gone', started.workflowId);
    await ground.stack.temporal.workflow.getHandle(started.workflowId).terminate('by hand');
    await started.result({ timeoutMs: 30_000 });
    return { workflowId: started.workflowId };
  }),
  run('timed-out', async (ground) => {
    await ground.tenant('slow');
    ground.outside.faults = { delayMs: 2_500 };
    ground.model.script = plays(note('1'));
    const { signed, workflowId } = await accepted(ground, 'slow');
    await ground.stack.temporal.workflow.start(WORKFLOW.run, {
      workflowId,
      taskQueue: RUNS_QUEUE,
      args: [{ signed }],
      workflowExecutionTimeout: '2s',
    });
    await closed(ground.stack, workflowId);
    return { workflowId };
  }),
];

/** An accepted run with its envelope, as storage keeps it; nobody has started it yet. */
async function accepted(
  { stack, accepted: accept }: Ground,
  tenant: string,
  known?: string,
): Promise<{ signed: SignedEnvelope; workflowId: string }> {
  const workflowId = known ?? (await accept(tenant)).workflowId;
  const admin = new Client({ connectionString: stack.database.adminUrl });
  await admin.connect();
  try {
    const { rows } = await admin.query<{ signed: SignedEnvelope }>(
      'select signed from bulkhead.run_acceptances where workflow_id = $1',
      [workflowId],
    );
    return { signed: rows[0]!.signed, workflowId };
  } finally {
    await admin.end();
  }
}

const NO_MODELS = `
apiVersion: bulkhead/v1
kind: PolicyProfile
metadata: { name: profile_denied }
environments: [\${ENV}]
rules:
  - { id: r, effect: allow, actions: [record.read] }
models: { allow: [] }
secrets:
  - { capability: "models:generate", agents: ["test_*"] }`;
