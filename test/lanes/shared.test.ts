import { WorkflowFailedError } from '@temporalio/client';
import { ActivityFailure } from '@temporalio/common';
import { Worker } from '@temporalio/worker';
import type { Run } from '../../client/run';
import { SHARED_QUEUE } from '../../contracts/names';
import type { SignedEnvelope } from '../../contracts/envelope';
import type { StrayInput } from '../envelope/stray';
import { until } from '../support/until';
import { createGround, jobs, LONG_MS, type Ground, type Jobs } from './ground';

/** The shared lane: weighted-fair among the tenants that wait there, and for nobody else. */

const SLOTS = 2;
let ground: Ground;
beforeAll(async () => {
  ground = await createGround({ lanes: { sharedCalls: SLOTS } });
});
afterAll(() => ground.close());

/** A few at a time: what is to be full is the lane, not the way to the database. */
async function flood(tenant: string, runs: number, job: Jobs): Promise<Run[]> {
  const started: Run[] = [];
  while (started.length < runs)
    started.push(...(await Promise.all(Array.from({ length: 5 }, () => ground.run(tenant, job)))));
  return started;
}

/** How many jobs of others came before each job of the run, since the one before it. */
function waits(intents: string): number[] {
  const { effects } = ground.keeper;
  const own = effects.filter(({ intent }) => intent.startsWith(intents)).map(({ no }) => no);
  const all = effects.map(({ no }) => no);
  return own.slice(1).map((no, at) => all.filter((other) => other > (own[at] ?? 0) && other < no).length);
}

test(
  'N2 N6 beside 200 calls of one tenant a small tenant is served in its turn: few calls come before each of its own; a run of the flooding tenant itself waits behind its own flood',
  async () => {
    await ground.tenant('flood', { lane: 'shared' });
    await ground.tenant('small', { lane: 'shared' });
    const flooding = await flood('flood', 50, jobs(4, 150, 'flood-'));
    await until('the flood', async () => ground.intentsOf('flood').length >= 10, LONG_MS);
    const [small, control] = await Promise.all([
      ground.run('small', jobs(6, 20, 'small-')),
      ground.run('flood', jobs(3, 20, 'control-')),
    ]);
    await small.result({ timeoutMs: LONG_MS });
    // The flood was under way all the time.
    expect(ground.intentsOf('flood').length).toBeLessThan(150);
    await Promise.all([control, ...flooding].map((run) => run.result({ timeoutMs: LONG_MS })));
    expect(ground.intentsOf('flood')).toHaveLength(203);
    expect(ground.intentsOf('small')).toHaveLength(6);
    expect(Math.max(...waits('small-'))).toBeLessThanOrEqual(8);
    expect(Math.max(...waits('control-'))).toBeGreaterThan(16);
    // At most so many at once, of all tenants together.
    expect(ground.keeper.mostOf('flood')).toBeLessThanOrEqual(SLOTS);
  },
  2 * LONG_MS,
);

test(
  'N2 weights share the lane: of two tenants that both wait, the one of weight 4 is served several times as often, and the other is not starved',
  async () => {
    await ground.tenant('light', { lane: 'shared' });
    await ground.tenant('heavy', { lane: 'shared', weight: 4 });
    // Long jobs, so that it is the lane that is full, also where everything else is slow.
    const runs = await Promise.all([
      flood('light', 10, jobs(4, 300, 'light-')),
      flood('heavy', 10, jobs(7, 300, 'heavy-')),
    ]);
    await Promise.all(runs.flat().map((run) => run.result({ timeoutMs: LONG_MS })));
    // From where both are at their jobs, until the heavy one has nothing more to do.
    const served = ground.keeper.effects
      .map(({ tenant }) => tenant)
      .filter((tenant) => tenant === 'light' || tenant === 'heavy');
    const both = served.slice(served.indexOf('light'), served.lastIndexOf('heavy') + 1);
    const light = both.filter((tenant) => tenant === 'light').length;
    const ratio = (both.length - light) / light;
    expect(ratio).toBeGreaterThan(2);
    expect(ratio).toBeLessThan(30);
  },
  2 * LONG_MS,
);

describe('E3 who is served on the shared lane', () => {
  let stray: Worker;
  let working: Promise<void>;
  beforeAll(async () => {
    stray = await Worker.create({
      connection: ground.stack.parts.connection,
      namespace: ground.stack.environment,
      taskQueue: 'stray',
      workflowsPath: require.resolve('../envelope/stray'),
      interceptors: { workflowModules: [require.resolve('../../workflows/interceptors')] },
    });
    working = stray.run();
  });
  afterAll(async () => {
    stray.shutdown();
    await working;
  });

  /** Forges a task of the run onto the shared queue; answers the type of the failure, or that there was an answer. */
  async function forged(signed: SignedEnvelope): Promise<string> {
    const args = { position: { step: 0, ordinal: 1 }, source: { step: 0, ordinal: 0 }, index: 0, seq: 0 };
    const input: StrayInput = { signed, queue: SHARED_QUEUE, activity: 'callTool', args };
    const handle = await ground.stack.temporal.workflow.start('agentRun', {
      workflowId: signed.envelope.workflowId,
      taskQueue: 'stray',
      args: [input],
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    });
    return await handle.result().then(
      () => 'answered',
      (error: unknown) => {
        const cause = error instanceof WorkflowFailedError ? error.cause : undefined;
        return cause instanceof ActivityFailure
          ? ((cause.cause as { type?: string }).type ?? 'untyped')
          : String(error);
      },
    );
  }

  async function closedRun(tenant: string): Promise<SignedEnvelope> {
    const run = await ground.run(tenant, jobs(1, 0));
    await run.result({ timeoutMs: LONG_MS });
    if (!run.acceptance) throw new Error('a started run has its acceptance');
    // Its row is closed a moment before its workflow is.
    await ground.stack.temporal.workflow
      .getHandle(run.workflowId)
      .result()
      .catch(() => undefined);
    return run.acceptance.signed;
  }

  test(
    'E3 a task of a tenant on a lane of its own, forged onto the shared queue, is refused; a tenant that moves there is served at once, and no more once it has left',
    async () => {
      // Somebody is placed on it all the time, so that it has a worker.
      await ground.tenant('resident', { lane: 'shared' });
      await ground.tenant('guest');
      const resident = await closedRun('resident');
      const guest = await closedRun('guest');
      expect(await forged(resident)).toBe('answered');
      expect(await forged(guest)).toBe('WrongLane');
      await ground.move('guest', { lane: 'shared' });
      expect(await forged(guest)).toBe('answered');
      await ground.move('guest', { lane: 'own' });
      await until('its leaving', async () => (await forged(guest)) === 'WrongLane', 5_000);
      await ground.move('guest', { lane: 'dedicated' });
      expect(await forged(guest)).toBe('WrongLane');
      expect(ground.intentsOf('guest')).toEqual(['0']);
    },
    LONG_MS,
  );
});
