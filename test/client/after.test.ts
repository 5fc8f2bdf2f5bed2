import { Client, Connection } from '@temporalio/client';
import { BulkheadClient } from '../../client/bulkhead';
import { BulkheadError } from '../../client/errors';
import { RunId } from '../../contracts/ids';
import type { ReviewRow } from '../../contracts/reviews';
import { plays, startModel, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant, tenantYaml } from '../support/tenants';
import { until } from '../support/until';
import { app, RULES } from './written-app';

let stack: TestStack;
let outside: Outside;
let model: TestModel;
let away: Connection;
beforeAll(async () => {
  [stack, outside, model] = await Promise.all([
    createTestStack({ app, timing: { sweepEveryMs: 2_000 } }),
    startOutside('acct'),
    startModel(plays()),
  ]);
  const parts = { name: 'acme', keeper: outside.url, models: `${model.url}/v1`, rules: RULES };
  await readyTenant(stack, parts);
  await stack.apply(tenantYaml(parts).replace('workspaces: [main]', 'workspaces: [main, second]'));
  away = Connection.lazy({ address: '127.0.0.1:1', connectTimeout: '500ms' });
}, 120_000);
afterAll(async () => {
  await away.close();
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});
beforeEach(() => {
  outside.faults = {};
  outside.effects.length = 0;
});

/** The same client, with Temporal out of reach. */
const withoutTemporal = () =>
  new BulkheadClient({
    ...stack.clientPorts,
    temporal: new Client({ connection: away, namespace: stack.environment }),
  });
/** The same client of a process that knows the app. */
const knowing = () =>
  new BulkheadClient({ ...stack.clientPorts, actions: () => Promise.resolve(app.actions) });
const RIGHT = { id: 'r1', account: 'acct', effect: 1 };

async function lost(workspaces: string[] = ['main']): Promise<{ review: ReviewRow; runId: string }> {
  model.script = plays({ call: [['blind.write', { recordId: 'r1' }]] });
  outside.faults = { dropAfterApply: 1 };
  const token = await stack.token('acme', { workspaces });
  const run = await stack.client.startRun({
    token,
    agent: 'test_writer',
    input: 'write it',
    target: { system: 'keeper', recordId: 'r1' },
  });
  const review = await until(
    'an open review',
    async () => (await stack.client.reviews({ token, runId: run.runId }))[0],
    60_000,
  );
  outside.faults = {};
  return { review, runId: run.runId };
}
const ended = async (runId: string, workspaces = ['main']) =>
  (await stack.client.run({ token: await stack.token('acme', { workspaces }), runId })).result({
    timeoutMs: 60_000,
  });
const failed = (step: Promise<unknown>): Promise<string> =>
  step.then(
    () => 'done',
    (error: unknown) =>
      error instanceof BulkheadError ? `${error.code} ${error.reason} ${error.message}` : String(error),
  );

describe('T3 reviews', () => {
  test('E1 a review of another workspace’s run is not found, in the words of one that does not exist', async () => {
    const { review, runId } = await lost(['second']);
    const { reviewNo } = review;
    const main = await stack.token('acme');
    const none = await failed(stack.client.review({ token: main, reviewNo: 999_999_999 }));
    expect(none).toMatch(/^not_found unknown_review/);
    expect(await failed(stack.client.review({ token: main, reviewNo }))).toBe(none);
    expect(
      await failed(
        stack.client.resolveReview({ token: main, reviewNo, resolution: 'abandon', note: 'mine now' }),
      ),
    ).toBe(none);
    for (const wrong of [0, -1, 1.5, Number.NaN, 2 ** 60])
      expect(await failed(stack.client.review({ token: main, reviewNo: wrong }))).toBe(none);
    const listed = await stack.client.reviews({ token: main, open: false, limit: 500 });
    expect(listed.map((row) => row.reviewNo)).not.toContain(reviewNo);
    expect(await failed(stack.client.reviews({ token: main, runId }))).toMatch(/^not_found unknown_run/);
    expect(await failed(stack.client.review({ token: undefined, reviewNo }))).toMatch(/^unauthenticated/);

    const second = await stack.token('acme', { workspaces: ['second'] });
    await stack.client.resolveReview({ token: second, reviewNo, resolution: 'abandon', note: 'over' });
    expect(await ended(runId, ['second'])).toMatchObject({ stopReason: 'review_abandoned' });
  }, 120_000);

  test('T3 what is said is checked before anything is recorded, and who says it is the token’s to say', async () => {
    const { review, runId } = await lost();
    const token = await stack.token('acme', { subject: 'carol' });
    const { reviewNo } = review;
    const say = (more: object, client = knowing()) =>
      failed(
        client.resolveReview({ token, reviewNo, resolution: 'happened', note: 'log', ...more } as never),
      );
    expect(await say({})).toMatch(/^invalid result_missing/);
    expect(await say({ result: RIGHT }, stack.client)).toMatch(/^invalid no_app .*BULKHEAD_APP/);
    expect(await say({ result: { ...RIGHT, effect: 1.5 } })).toMatch(
      /^invalid result_out_of_schema .*result\.effect/,
    );
    expect(await say({ result: { ...RIGHT, account: 'globex-1' } })).toMatch(/^refused scope_ambiguous/);
    expect(await say({ result: { ...RIGHT, effect: -1 } })).toMatch(/^invalid records_failed .*facts/);
    expect(await say({ result: new Date() })).toMatch(/^invalid invalid result is not JSON/);
    expect(await say({ result: RIGHT, resolution: 'abandon' })).toMatch(/^invalid/);
    expect(await say({ result: RIGHT, note: ' ' })).toMatch(/^invalid .*note/);
    expect(await say({ result: RIGHT, actor: 'a\u001b[2J' })).toMatch(/^invalid .*actor/);
    expect((await stack.client.review({ token, reviewNo })).resolvedAt).toBeNull();

    const { review: resolved, told } = await knowing().resolveReview({
      token,
      reviewNo,
      resolution: 'happened',
      // What the schema does not know is not kept: the agent sees what it would have seen.
      result: { ...RIGHT, secret: 'canary-4410' },
      note: 'in the provider’s log',
    });
    expect({ told, ...resolved }).toMatchObject({
      told: true,
      resolution: 'happened',
      actor: 'carol',
      note: 'in the provider’s log',
    });
    expect(await ended(runId)).toMatchObject({ stopReason: 'completed' });
    // What it brought taints the run as if it had come by itself.
    const known = await stack
      .store('acme')
      .callContext({ runId: RunId.parse(runId), records: [], capability: null });
    expect(known).toMatchObject({ dataClasses: ['pii'], facts: { lastEffect: 1 } });
    expect(JSON.stringify(model.requests.at(-1)?.messages)).not.toContain('canary-4410');
    expect(outside.effects).toHaveLength(1);
    expect(await say({ result: RIGHT })).toMatch(/^conflict already_resolved .*by carol/);
  }, 120_000);

  test('E1 who may start runs may not decide what a run cannot: that needs the role of an operator', async () => {
    const { review, runId } = await lost();
    const service = await stack.token('acme', { roles: [] });
    const decide = { token: service, note: 'it did, trust me' };
    const denied = /^refused denied .*role operator/;
    const { reviewNo } = review;
    expect(await stack.client.review({ token: service, reviewNo })).toMatchObject({ resolution: null });
    expect(
      await failed(stack.client.resolveReview({ ...decide, reviewNo, resolution: 'did_not_happen' })),
    ).toMatch(denied);
    const handle = await stack.client.run({ token: service, runId });
    expect(await failed(handle.rollback(decide))).toMatch(denied);
    expect((await stack.client.review({ token: service, reviewNo })).resolution).toBeNull();
    await stack.client.resolveReview({
      token: await stack.token('acme'),
      reviewNo,
      resolution: 'abandon',
      note: 'end of test',
    });
    await ended(runId);
  }, 120_000);

  test('T3 with Temporal away a resolution is recorded all the same, and says that nobody was told', async () => {
    const { review, runId } = await lost();
    const token = await stack.token('acme');
    const answer = await withoutTemporal().resolveReview({
      token,
      reviewNo: review.reviewNo,
      resolution: 'abandon',
      note: 'over',
    });
    expect(answer).toMatchObject({ told: false, review: { resolution: 'abandon' } });
    // Resolving it again changes nothing, and tells the run.
    expect(
      await failed(
        stack.client.resolveReview({
          token,
          reviewNo: review.reviewNo,
          resolution: 'did_not_happen',
          note: 'again',
        }),
      ),
    ).toMatch(/^conflict already_resolved .*as abandon/);
    expect(await ended(runId)).toMatchObject({ stopReason: 'review_abandoned' });
  }, 120_000);
});

describe('T5 rollback from a program', () => {
  test('T5 with Temporal away the order stands, says so, and the sweep starts it', async () => {
    model.script = plays({ call: [['note.write', { recordId: 'r1' }]] });
    const run = await stack.run('acme', 'write it');
    await run.result({ timeoutMs: 60_000 });
    const token = await stack.token('acme');
    const handle = await withoutTemporal().run({ token, runId: run.runId });
    // Until it was seen to be under way, it is: the sweep may be quicker than this test.
    outside.faults = { dropBeforeApply: 1_000 };
    await expect(handle.rollback({ note: 'wrong\0' })).rejects.toMatchObject({ code: 'invalid' });
    const ordered = await handle.rollback({ note: 'wrong customer' });
    expect(ordered.notice).toMatch(/sweep/);
    expect(ordered.order).toMatchObject({ kind: 'undo', reason: 'rollback', actor: 'tester' });
    await expect(ordered.result({ timeoutMs: 0.5 })).rejects.toMatchObject({ code: 'timeout' });
    await expect(ordered.result({ timeoutMs: Number.NaN })).rejects.toMatchObject({ code: 'invalid' });
    outside.faults = {};
    const done = await ordered.result({ timeoutMs: 60_000 });
    expect(done).toMatchObject({ state: 'done', outcome: { undone: 1, left: 0, abandoned: 0 } });
    expect(outside.effects.map(({ operation }) => operation)).toEqual(['POST /notes', 'POST /notes/undo']);
    expect(await ordered.calls()).toEqual([
      { path: '0.1', action: 'note.write', became: 'undone', reversible: 'compensable', undoable: true },
    ]);
  }, 120_000);
});

describe('O3 fork', () => {
  test('O3 a fork goes on from its step with keys of its own, and repeats nothing before it', async () => {
    model.script = plays(
      { call: [['note.write', { recordId: 'r1' }]] },
      { call: [['mail.send', { recordId: 'r1' }]] },
    );
    const run = await stack.run('acme', 'write and send');
    await run.result({ timeoutMs: 60_000 });
    const token = await stack.token('acme');
    const fork = await stack.client.forkRun({ token, runId: run.runId, fromStep: 1 });
    expect(fork.runId).not.toBe(run.runId);
    expect(await fork.result({ timeoutMs: 60_000 })).toMatchObject({ stopReason: 'completed' });
    expect(outside.effects.map(({ operation }) => operation)).toEqual([
      'POST /notes',
      'POST /mails',
      'POST /mails',
    ]);
    expect(new Set(outside.effects.map(({ key }) => key)).size).toBe(3);
  }, 120_000);
});
