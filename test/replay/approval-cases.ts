import { startFollowUp } from '../../client/start';
import type { ApprovalRow } from '../../contracts/approvals';
import { followUpWorkflowId } from '../../contracts/workflow-ids';
import { SIGNALS } from '../../contracts/workflow-io';
import type { Run } from '../../client/run';
import { policyYaml } from '../support/tenants';
import { until } from '../support/until';
import { call, closed, runIdOf, type Case, type Ground } from './ground';

const run = (name: string, play: Case['play']): Case => ({ workflow: 'agentRun', name, play });
const payment = call(['payment.send', { recordId: 'r1', amountCents: 9_900 }]);
const ALL = '  - { id: all, effect: allow, actions: ["*"] }';
const asks = (expiresAfter: string): string =>
  `${ALL}\n  - { id: large, effect: approve, actions: [payment.send], approvers: { roles: [payer], expiresAfter: ${expiresAfter} } }`;
const SUGGESTS = `${ALL}\n  - { id: ideas, effect: suggest, actions: [payment.send], approvers: { roles: [payer] } }`;
const payer = { principal: 'user:payer', roles: ['payer'] };

/** Ways of `agentRun` and `retryCall` that came with approvals and suggestions. */
export const APPROVAL_CASES: readonly Case[] = [
  run('approval-approved', (ground) => decided(ground, 'approved', 'approve')),
  run('approval-denied', (ground) => decided(ground, 'refused', 'deny')),
  run('approval-expired', async (ground) => {
    await ground.tenant('unheard', { rules: asks('2s') });
    return await ground.ended('unheard', payment);
  }),
  run('approval-hinted', async (ground) => {
    await ground.tenant('hinted', { rules: asks('1h') });
    const started = await ground.run('hinted', payment);
    await waits(ground, 'hinted', started);
    // Asked again for nothing, and then by a policy that lets it go.
    await tell(ground, started.workflowId);
    await until('a second look', async () => (await looks(ground, started.workflowId)) >= 2, 40_000);
    await ground.stack.apply(policyYaml('hinted', ALL));
    await tell(ground, started.workflowId);
    await closed(ground.stack, started.workflowId);
    return { workflowId: started.workflowId };
  }),
  run('approval-killed', async (ground) => {
    await ground.tenant('halted-at-it', { rules: asks('1h') });
    const started = await ground.run('halted-at-it', payment);
    await waits(ground, 'halted-at-it', started);
    await ground.stack.temporal.workflow
      .getHandle(`tenant/halted-at-it/${ground.stack.environment}/control`)
      .signal('kill');
    await closed(ground.stack, started.workflowId);
    return { workflowId: started.workflowId };
  }),
  run('suggested', async (ground) => {
    await ground.tenant('ideas', { rules: SUGGESTS });
    // As many as would be a misbehaving model's, were they refusals.
    return await ground.ended('ideas', payment, payment);
  }),
  {
    workflow: 'retryCall',
    name: 'promoted',
    async play(ground) {
      await ground.tenant('chosen', { rules: SUGGESTS });
      return await promoted(ground, 'chosen', () => Promise.resolve());
    },
  },
  {
    workflow: 'retryCall',
    name: 'promoted-in-vain',
    async play(ground) {
      await ground.tenant('stricter', { rules: SUGGESTS });
      return await promoted(ground, 'stricter', () => ground.stack.apply(policyYaml('stricter', asks('1h'))));
    },
  },
];

async function decided(ground: Ground, tenant: string, decision: 'approve' | 'deny') {
  await ground.tenant(tenant, { rules: asks('1h') });
  const started = await ground.run(tenant, payment);
  const { approvalNo } = await waits(ground, tenant, started);
  await ground.stack.store(tenant).approvals.decide({ approvalNo, decision, approver: payer, note: '' });
  await tell(ground, started.workflowId);
  await closed(ground.stack, started.workflowId);
  return { workflowId: started.workflowId };
}

async function promoted(ground: Ground, tenant: string, meanwhile: () => Promise<void>) {
  const { workflowId } = await ground.ended(tenant, payment);
  await meanwhile();
  const answer = await ground.stack.store(tenant).approvals.promote({
    runId: runIdOf(workflowId) as never,
    path: '0.1',
    approver: payer,
    note: 'do it',
  });
  if (answer.kind !== 'ordered') throw new Error(`not ordered: ${JSON.stringify(answer)}`);
  await startFollowUp(ground.stack.temporal, answer.signed, answer.followUp);
  const retry = followUpWorkflowId(workflowId, answer.followUp);
  await closed(ground.stack, retry);
  return { workflowId: retry };
}

const tell = ({ stack }: Ground, workflowId: string): Promise<void> =>
  stack.temporal.workflow.getHandle(workflowId).signal(SIGNALS.approvalDecided);

/** The request that the run waits for, once its workflow shows that. */
async function waits({ stack }: Ground, tenant: string, { workflowId }: Run): Promise<ApprovalRow> {
  return await until(
    'a request for approval',
    async () => {
      const shown = await stack.temporal.workflow
        .getHandle(workflowId)
        .query<{ approvalNo: number | null }>('runState')
        .catch(() => undefined);
      return shown?.approvalNo ? await stack.store(tenant).approvals.get(shown.approvalNo) : undefined;
    },
    40_000,
  );
}

/** How often its tool calls were answered. */
async function looks({ stack }: Ground, workflowId: string): Promise<number> {
  const { events } = await stack.temporal.workflow.getHandle(workflowId).fetchHistory();
  const asked = (events ?? []).filter(
    ({ activityTaskScheduledEventAttributes: of }) => of?.activityType?.name === 'callTool',
  );
  const done = (events ?? []).map(({ activityTaskCompletedEventAttributes: of }) =>
    String(of?.scheduledEventId),
  );
  return asked.filter(({ eventId }) => done.includes(String(eventId))).length;
}
