import type { Run, RunResult } from '../../client/run';
import type { RunId } from '../../contracts/ids';
import type { FollowUp, Resolution, ReviewRow } from '../../contracts/reviews';
import { QUERIES, SIGNALS } from '../../contracts/workflow-io';
import type { StoredPayload } from '../../contracts/calls';
import { digestOf } from '../../contracts/digest';
import { plays, startModel, type Move, type Script, type TestModel } from '../support/model';
import { startOutside, type Outside, type OutsideEffect } from '../support/outside';
import { createTestStack, type TestStack, type TestStackOptions } from '../support/stack';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';

/** One stack with a keeper and a scripted model outside, for tests of what becomes of a run's calls. */
export interface Desk {
  readonly stack: TestStack;
  readonly outside: Outside;
  readonly model: TestModel;
  tenant(
    name: string,
    more?: Partial<
      Pick<
        Parameters<typeof readyTenant>[1],
        | 'rules'
        | 'policy'
        | 'modelRules'
        | 'connections'
        | 'prices'
        | 'pools'
        | 'weight'
        | 'ceiling'
        | 'limits'
        | 'perRun'
      >
    >,
  ): Promise<void>;
  /** Begins a run of the agent, `test_worker` where none is named, with a script or fixed moves. */
  begin(tenant: string, script: Script | Move[], agent?: string): Promise<Run>;
  /** The same to its end. */
  play(
    tenant: string,
    script: Script | Move[],
    agent?: string,
  ): Promise<{ run: Run; result: RunResult; effects: OutsideEffect[]; asked: string[] }>;
  reviews(tenant: string, runId: string): Promise<ReviewRow[]>;
  /** The run's one open review, once there is one. */
  openReview(tenant: string, runId: string): Promise<ReviewRow>;
  resolve(
    tenant: string,
    run: Run,
    review: ReviewRow,
    resolution: Resolution,
    result?: object,
  ): Promise<void>;
  /** Once the run says that it waits for a person. */
  waitsForReview(run: Run): Promise<void>;
  /** Facts of the journal's entries about one call. */
  journalOf(tenant: string, run: Run, path: string): Promise<Record<string, unknown>[]>;
  followUps(tenant: string, run: Run): Promise<FollowUp[]>;
  payload(tenant: string, run: Run, path: string): Promise<StoredPayload | undefined>;
  close(): Promise<void>;
}

/** The client takes and gives run ids as text; the store wants its own. */
export const idOf = (run: Run): RunId => run.runId as RunId;
export const call = (...calls: [string, unknown][]): Move => ({ call: calls });
/** A call of an action on record r1. */
export const on = (action: string): Move => call([action, { recordId: 'r1' }]);
/** Moves that make a run fail: three answers without a usable call. */
export const failing: Move[] = [1, 2, 3].map(() => call(['vault.open', {}]));

export async function openDesk(options: TestStackOptions = {}): Promise<Desk> {
  const [stack, outside, model] = await Promise.all([
    createTestStack(options),
    startOutside('acct'),
    startModel(plays()),
  ]);
  const desk: Desk = {
    stack,
    outside,
    model,
    tenant: (name, more = {}) =>
      readyTenant(stack, { name, keeper: outside.url, models: model.url, ...more }),
    async begin(tenant, script, agent = 'test_worker') {
      model.script = typeof script === 'function' ? script : plays(...script);
      return await stack.client.startRun({
        token: await stack.token(tenant),
        agent: agent,
        input: 'go',
        target: { system: 'keeper', recordId: 'r1' },
      });
    },
    async play(tenant, script, agent) {
      const before = [outside.effects.length, outside.requests.length];
      const run = await desk.begin(tenant, script, agent);
      const result = await run.result({ timeoutMs: 50_000 });
      return {
        run,
        result,
        effects: outside.effects.slice(before[0]),
        asked: outside.requests
          .slice(before[1])
          .map(({ method, path }) => `${method} ${path.replace(/^\/by-key\/.*/, '/by-key')}`),
      };
    },
    reviews: (tenant, runId) =>
      stack.store(tenant).reviews({ open: false, limit: 20, runId: runId as never }),
    openReview: (tenant, runId) =>
      until(
        'an open review',
        async () => (await desk.reviews(tenant, runId)).find(({ resolvedAt }) => resolvedAt === null),
        40_000,
      ),
    async resolve(tenant, run, review, resolution, result) {
      const payload: StoredPayload | null = result
        ? { kind: 'tool', outcome: 'done', action: review.action, result }
        : null;
      const answer = await stack.store(tenant).resolveReview({
        reviewNo: review.reviewNo,
        resolution,
        payload,
        payloadDigest: payload && digestOf(payload),
        shown: null,
        actor: 'tester',
        note: 'looked at it',
      });
      expect(answer.kind).toBe('resolved');
      await stack.temporal.workflow.getHandle(run.workflowId).signal(SIGNALS.reviewDecided);
    },
    async waitsForReview(run) {
      const handle = stack.temporal.workflow.getHandle(run.workflowId);
      const waits = async (): Promise<boolean> =>
        (await handle.query<{ state: string }>(QUERIES.runState)).state === 'review_required';
      await until('a run that waits for a review', waits, 40_000);
    },
    journalOf: async (tenant, run, path) =>
      (await stack.journal(tenant))
        .map(({ facts }) => JSON.parse(facts) as Record<string, unknown>)
        .filter((facts) => facts['run'] === run.runId && facts['path'] === path),
    payload: (tenant, run, path) => stack.store(tenant).payload(idOf(run), path),
    followUps: (tenant, run) => stack.store(tenant).followUps(idOf(run)),
    async close() {
      await stack.close();
      await Promise.all([outside.close(), model.close()]);
    },
  };
  return desk;
}
