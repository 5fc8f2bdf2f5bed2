import { Client } from 'pg';
import type { Run } from '../../client/run';
import { digestOf } from '../../contracts/digest';
import type { StoredPayload } from '../../contracts/calls';
import { controlWorkflowId, followUpWorkflowId } from '../../contracts/workflow-ids';
import type { FollowUp, Resolution } from '../../contracts/reviews';
import { SIGNALS } from '../../contracts/workflow-io';
import { until } from '../support/until';
import { call, closed, failing, note, on, runIdOf, type Case, type Ground } from './ground';

const run = (name: string, play: Case['play']): Case => ({ workflow: 'agentRun', name, play });
const WAITS = { policy: 'onUnknownOutcome: review' };
const bothWrites = call(
  ['order.place', { recordId: 'r1' }],
  ['note.write', { recordId: 'r1', text: 'final' }],
);
const FORBIDS_UNDO = `  - { id: all, effect: allow, actions: ["*"] }
  - { id: no-way-back, effect: forbid, actions: [order.place], when: context.undo }`;

/** Ways of `agentRun` that came with reviews, undos, forks and frozen ledgers; and the workflows of follow-ups. */
export const FOLLOW_CASES: readonly Case[] = [
  run('review-happened', async (ground) => {
    await ground.tenant('happened', WAITS);
    return await decided(ground, 'happened', 'happened');
  }),
  run('review-did-not-happen', async (ground) => {
    await ground.tenant('nothing', WAITS);
    return await decided(ground, 'nothing', 'did_not_happen');
  }),
  run('review-abandoned', async (ground) => {
    await ground.tenant('abandoned', WAITS);
    return await decided(ground, 'abandoned', 'abandon');
  }),
  run('review-too-long', async (ground) => {
    await ground.tenant('nobody', WAITS);
    ground.outside.faults = { dropAfterApply: 1 };
    return await ground.ended('nobody', on('blind.write'));
  }),
  run('frozen', async (ground) => {
    await ground.tenant('rewound');
    ground.model.script = async ({ moves }) => {
      if (moves === 1) await rewind(ground, 'rewound', true);
      return moves < 2 ? note(`${moves}`) : { say: 'done' };
    };
    const started = await ground.stack.run('rewound', 'go');
    await shows(ground, started.workflowId, 'frozen');
    await rewind(ground, 'rewound', false);
    await ground.stack.temporal.workflow.getHandle(started.workflowId).signal(SIGNALS.wakeRun);
    await closed(ground.stack, started.workflowId);
    return { workflowId: started.workflowId };
  }),
  run('undone', async (ground) => {
    await ground.tenant('undone');
    const { workflowId } = await ground.undoing('undone', bothWrites, ...failing);
    await closed(ground.stack, workflowId);
    return { workflowId };
  }),
  run('undo-reviewed', async (ground) => {
    await ground.tenant('strict', { rules: FORBIDS_UNDO });
    const started = await ground.undoing('strict', on('order.place'), ...failing);
    await resolve(ground, 'strict', started, 'abandon');
    await closed(ground.stack, started.workflowId);
    return { workflowId: started.workflowId };
  }),
  run('killed-while-undoing', async (ground) => {
    await ground.tenant('halted', { rules: FORBIDS_UNDO });
    const { workflowId } = await ground.undoing('halted', on('order.place'), ...failing);
    await shows(ground, workflowId, 'review_required');
    await kill(ground, 'halted');
    await closed(ground.stack, workflowId);
    return { workflowId };
  }),
  run('forked', async (ground) => {
    await ground.tenant('forked');
    const { workflowId } = await ground.ended('forked', note('1'), note('2'));
    const fork = await ground.stack.client.forkRun({
      token: await ground.stack.token('forked'),
      runId: runIdOf(workflowId),
      fromStep: 1,
    });
    await closed(ground.stack, fork.workflowId);
    return { workflowId: fork.workflowId };
  }),
  {
    workflow: 'undoRun',
    name: 'undone',
    async play(ground) {
      await ground.tenant('rolled');
      return await rolledBack(ground, 'rolled');
    },
  },
  {
    workflow: 'undoRun',
    name: 'reviewed',
    async play(ground) {
      await ground.tenant('doubtful', { rules: FORBIDS_UNDO });
      return await rolledBack(ground, 'doubtful', (started) =>
        resolve(ground, 'doubtful', started, 'abandon'),
      );
    },
  },
  {
    workflow: 'undoRun',
    name: 'killed',
    async play(ground) {
      await ground.tenant('stopped', { rules: FORBIDS_UNDO });
      return await rolledBack(ground, 'stopped', async (started, followUp) => {
        await shows(ground, followUpWorkflowId(started.workflowId, followUp), 'review_required');
        await kill(ground, 'stopped');
        await resolve(ground, 'stopped', started, 'did_not_happen');
      });
    },
  },
  {
    workflow: 'retryCall',
    name: 'done',
    async play(ground) {
      await ground.tenant('letters');
      return await retried(ground, 'letters', () => {
        ground.outside.faults = {};
      });
    },
  },
  {
    workflow: 'retryCall',
    name: 'dead-again',
    async play(ground) {
      await ground.tenant('deadly');
      return await retried(ground, 'deadly', () => undefined);
    },
  },
];

/** A run that waits for the review of a write whose answer was lost, until a person has spoken. */
async function decided(ground: Ground, tenant: string, resolution: Resolution) {
  ground.outside.faults = { dropAfterApply: 1 };
  const started = await ground.run(tenant, on('blind.write'));
  await shows(ground, started.workflowId, 'review_required');
  await resolve(ground, tenant, started, resolution);
  await closed(ground.stack, started.workflowId);
  return { workflowId: started.workflowId };
}

/** The undo that a person ordered of a run that failed. */
async function rolledBack(
  ground: Ground,
  tenant: string,
  meanwhile: (started: Run, followUp: FollowUp) => Promise<void> = () => Promise.resolve(),
) {
  const started = await ground.run(tenant, bothWrites, ...failing);
  await started.result({ timeoutMs: 60_000 });
  const { order } = await started.rollback({ note: 'not wanted' });
  await meanwhile(started, order);
  const workflowId = followUpWorkflowId(started.workflowId, order);
  await closed(ground.stack, workflowId);
  return { workflowId };
}

/** The retry of a call that used up its attempts. */
async function retried(ground: Ground, tenant: string, mended: () => void) {
  ground.outside.faults = { status: 503 };
  const started = await ground.run(tenant, on('record.read'));
  await started.result({ timeoutMs: 60_000 });
  mended();
  const store = ground.stack.store(tenant);
  const [letter] = await store.deadLetters({ open: true, limit: 1 });
  const retry = await ground.stack.client.retryDeadLetter({
    token: await ground.stack.token(tenant),
    letterNo: letter!.letterNo,
    note: 'again',
  });
  const workflowId = followUpWorkflowId(started.workflowId, retry.order);
  await closed(ground.stack, workflowId);
  return { workflowId };
}

const shows = ({ stack }: Ground, workflowId: string, wanted: string): Promise<unknown> =>
  until(
    `${workflowId} to be ${wanted}`,
    async () =>
      (
        await stack.temporal.workflow
          .getHandle(workflowId)
          .query<{ state: string }>('runState')
          .catch(() => undefined)
      )?.state === wanted,
    40_000,
  );

async function resolve(ground: Ground, tenant: string, started: Run, resolution: Resolution): Promise<void> {
  const store = ground.stack.store(tenant);
  const runId = runIdOf(started.workflowId) as never;
  const review = await until(
    'a review',
    async () => (await store.reviews({ open: true, limit: 1, runId }))[0],
    40_000,
  );
  const result: StoredPayload = {
    kind: 'tool',
    outcome: 'done',
    action: review.action,
    result: { id: 'r1', account: 'acct', effect: 1 },
  };
  const payload = resolution === 'happened' ? result : null;
  await store.resolveReview({
    reviewNo: review.reviewNo,
    resolution,
    payload,
    payloadDigest: payload && digestOf(payload),
    shown: null,
    actor: 'recorder',
    note: 'as the case wants it',
  });
  const ids = [
    started.workflowId,
    ...(await store.followUps(runId)).map((each) => followUpWorkflowId(started.workflowId, each)),
  ];
  for (const id of ids)
    await ground.stack.temporal.workflow
      .getHandle(id)
      .signal(SIGNALS.reviewDecided)
      .catch(() => undefined);
}

const kill = async ({ stack }: Ground, tenant: string): Promise<void> => {
  await stack.temporal.workflow
    .getHandle(controlWorkflowId(tenant as never, stack.environment))
    .signal('kill');
  await until('the fence', async () => (await stack.store(tenant).control())?.mode === 'killed');
};

/** Marks the tenant's ledger as one that lost entries, or takes the mark away. */
async function rewind({ stack }: Ground, tenant: string, lost: boolean): Promise<void> {
  const admin = new Client({ connectionString: stack.database.adminUrl });
  await admin.connect();
  try {
    await admin.query(
      `update bulkhead.ledgers set rewound_seq = case when $1 then journal_seq else 0 end where tenant_id = $2`,
      [lost, tenant],
    );
  } finally {
    await admin.end();
  }
}
