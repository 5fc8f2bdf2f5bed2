import { app, RULES } from '../client/written-app';
import { plays, startModel, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';
import { createCliWorld, type CliWorld, type Ran } from './world';

let world: CliWorld;
let outside: Outside;
let model: TestModel;
beforeAll(async () => {
  [world, outside, model] = await Promise.all([
    createCliWorld({ app }),
    startOutside('acct'),
    startModel(plays()),
  ]);
  for (const name of ['acme', 'globex'])
    await readyTenant(world.stack, { name, keeper: outside.url, models: model.url, rules: RULES });
}, 120_000);
afterAll(async () => {
  await world.close();
  await Promise.all([outside.close(), model.close()]);
});
beforeEach(() => {
  outside.faults = {};
  outside.effects.length = 0;
});

const acme = (...args: string[]): Promise<Ran> => world.run([...args, '--tenant', 'acme']);
const json = async <T>(...args: string[]): Promise<T> => {
  const { code, out, said } = await acme(...args, '-o', 'json');
  if (code !== 0) throw new Error(`${args.join(' ')} exited ${code}: ${said}`);
  return JSON.parse(out) as T;
};
interface Review {
  reviewNo: number;
  runId: string;
  kind: string;
  action: string;
  path: string;
  idempotencyKey: string;
  resolution: string | null;
  actor: string | null;
}

/** A run whose blind write got no answer, at the moment it waits for a person. */
async function waiting(fault: Outside['faults']): Promise<{ runId: string; review: Review }> {
  model.script = plays({ call: [['blind.write', { recordId: 'r1' }]] });
  outside.faults = fault;
  const { runId } = await world.stack.run('acme', 'write it');
  const review = await until(
    'an open review of the run',
    async () => (await world.stack.store('acme').reviews({ open: true, limit: 1, runId: runId as never }))[0],
    60_000,
  );
  await until(
    'the run to wait for it',
    async () => (await json<{ state: string }>('run', 'explain', runId)).state === 'review_required',
    30_000,
  );
  outside.faults = {};
  return { runId, review };
}
const ended = async (runId: string, timeoutMs = 60_000) =>
  (await world.stack.client.run({ token: await world.stack.token('acme'), runId })).result({ timeoutMs });

describe('T3 a run that waits for a review', () => {
  test('T3 the review is listed, shown and named by explain with what to type; a result that cannot be is refused; the right one lets the run complete, with one effect', async () => {
    const { runId, review } = await waiting({ dropAfterApply: 1 });
    expect(review).toMatchObject({ kind: 'outcome_unknown', action: 'blind.write', path: '0.1', runId });
    const no = String(review.reviewNo);

    const explained = await acme('run', 'explain', runId);
    expect(explained.out).toMatch(/state +review_required/);
    expect(explained.out).toContain(`${no}  outcome_unknown: blind.write at 0.1, open`);
    expect(explained.out).toContain(`bulkhead review resolve ${no} --tenant acme --happened --result`);
    expect((await acme('review', 'list')).out).toMatch(
      new RegExp(`REVIEW +WHY[^]*${no} +outcome_unknown +blind.write +0.1 +${runId}`),
    );
    const shown = await acme('review', 'show', no);
    expect(shown.out).toContain(review.idempotencyKey);
    expect((await acme('run', 'show', runId)).out).toContain(`${no}  outcome_unknown`);

    const say = (text: string, ...more: string[]) =>
      world.run(
        [
          'review',
          'resolve',
          no,
          '--tenant',
          'acme',
          '--happened',
          '--result',
          '-',
          '--note',
          'log',
          ...more,
        ],
        { stdin: text },
      );
    expect(await say('{')).toMatchObject({ code: 2, said: expect.stringContaining('no JSON') });
    expect(await say('{"id":"r1","account":"acct","effect":"one"}')).toMatchObject({
      code: 2,
      said: expect.stringContaining('result.effect'),
    });
    expect(await say('{"id":"r9","account":"globex-1","effect":1}')).toMatchObject({
      code: 3,
      said: expect.stringContaining('not shown to be this tenant’s'),
    });
    expect((await json<Review>('review', 'show', no)).resolution).toBeNull();

    const resolved = await say('{"id":"r1","account":"acct","effect":1}', '--actor', 'alice');
    expect(resolved).toMatchObject({ code: 0, said: '' });
    expect(await ended(runId)).toMatchObject({ stopReason: 'completed', output: 'done' });
    expect(outside.effects).toHaveLength(1);
    expect(model.requests.at(-1)?.messages.at(-1)?.content).toContain('"effect":1');

    // Journaled with who said it, on whose word, and without what the result was.
    const entries = await world.stack.journal('acme');
    const reviewed = entries.find(({ facts }) => {
      const read = JSON.parse(facts) as { kind: string; run: string };
      return read.kind === 'reviewed' && read.run === runId;
    });
    expect(reviewed?.facts).toContain('alice (cli:tester)');
    expect(`${reviewed?.facts}${reviewed?.body}`).not.toContain('"account"');

    const twice = await say('{"id":"r1","account":"acct","effect":1}');
    expect(twice).toMatchObject({
      code: 3,
      said: expect.stringMatching(/resolved before, as happened, by alice/),
    });
    expect(await json<Review[]>('review', 'list', '--run', runId)).toEqual([]);
    expect(await json<Review[]>('review', 'list', '--run', runId, '--all')).toMatchObject([
      { reviewNo: review.reviewNo, resolution: 'happened' },
    ]);
  }, 180_000);

  test('T3 did not happen: the call is made again under its own key, through all of admission', async () => {
    const { runId, review } = await waiting({ status: 502 });
    expect(outside.effects).toHaveLength(0);
    expect(
      await acme('review', 'resolve', String(review.reviewNo), '--did-not-happen', '--note', 'no such key'),
    ).toMatchObject({ code: 0 });
    expect(await ended(runId)).toMatchObject({ stopReason: 'completed' });
    expect(outside.effects).toMatchObject([{ operation: 'POST /blind', key: review.idempotencyKey }]);
  }, 180_000);

  test('T3 abandon: the run ends as review_abandoned and nothing is sent', async () => {
    const { runId, review } = await waiting({ status: 502 });
    expect(
      await acme('review', 'resolve', String(review.reviewNo), '--abandon', '--note', 'not worth it'),
    ).toMatchObject({ code: 0, out: expect.stringMatching(/resolved +abandon/) });
    expect(await ended(runId)).toMatchObject({ stopReason: 'review_abandoned' });
    expect(outside.effects).toHaveLength(0);
  }, 180_000);

  test('T3 without the app a result cannot be checked, and what to set is said', async () => {
    const { runId, review } = await waiting({ dropAfterApply: 1 });
    const resolve = ['review', 'resolve', String(review.reviewNo), '--tenant', 'acme', '--note', 'log'];
    const blind = await world.run([...resolve, '--happened', '--result', '-'], {
      stdin: '{"id":"r1","account":"acct","effect":1}',
      app: null,
    });
    expect(blind).toMatchObject({ code: 2, out: '', said: expect.stringContaining('BULKHEAD_APP') });
    expect(await world.run([...resolve, '--abandon'], { app: null })).toMatchObject({ code: 0 });
    await ended(runId);
  }, 180_000);
});

test('E4 a foreign record in a result is a review, of which only abandoning makes sense where nothing was written', async () => {
  model.script = plays({ call: [['record.read', { recordId: 'r1' }]] });
  outside.faults = { account: 'globex-1' };
  const { runId } = await world.stack.run('acme', 'read it');
  expect(await ended(runId)).toMatchObject({ stopReason: 'scope_ambiguous' });
  const [review] = await json<Review[]>('review', 'list', '--run', runId);
  expect(review).toMatchObject({ kind: 'scope_ambiguous', action: 'record.read' });
  const no = String(review?.reviewNo);
  expect((await acme('run', 'explain', runId)).out).toMatch(
    new RegExp(`resolve with +bulkhead review resolve ${no} --tenant acme --abandon --note`),
  );
  for (const said of [['--did-not-happen'], ['--happened']])
    expect(await acme('review', 'resolve', no, ...said, '--note', 'x')).toMatchObject({
      code: 2,
      said: expect.stringContaining('abandon'),
    });
  expect(await acme('review', 'resolve', no, '--abandon', '--note', 'told the keeper')).toMatchObject({
    code: 0,
  });
  expect(await json<Review[]>('review', 'list', '--run', runId)).toEqual([]);
}, 120_000);

test('E1 another tenant’s review is exit code 4, in the words of one that does not exist, and stays as it is', async () => {
  const { runId, review } = await waiting({ dropAfterApply: 1 });
  const as = (tenant: string, ...args: string[]) => world.run(['review', ...args, '--tenant', tenant]);
  const none = await as('globex', 'show', '999999999');
  expect(none).toMatchObject({ code: 4, out: '' });
  const no = String(review.reviewNo);
  expect(await as('globex', 'show', no)).toEqual(none);
  expect(await as('globex', 'resolve', no, '--abandon', '--note', 'mine now')).toEqual(none);
  expect(await as('globex', 'list', '--run', runId)).toMatchObject({ code: 4 });
  expect(JSON.parse((await as('globex', 'list', '--all', '-o', 'json')).out)).toEqual([]);
  expect((await json<Review>('review', 'show', no)).resolution).toBeNull();
  // Who resolved it is told to the next one: what an issuer lets into a subject cannot steer a terminal.
  const evil = (await acme('token', '--role', 'operator', '--subject', 'mallory\u001b[2J\u202e')).out.trim();
  await world.run(['review', 'resolve', no, '--abandon', '--note', 'end of test', '--token', evil]);
  const twice = await acme('review', 'resolve', no, '--abandon', '--note', 'again');
  expect(twice).toMatchObject({ code: 3, said: expect.stringContaining('mallory') });
  expect(twice.said).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}]/u);
  await ended(runId);
}, 120_000);

describe('U2 the command line itself', () => {
  test.each([
    [['review', 'show', 'x'], 2],
    [['review', 'show', '0'], 2],
    [['review', 'resolve', '1', '--note', 'x'], 2],
    [['review', 'resolve', '1', '--happened', '--abandon', '--note', 'x'], 2],
    [['review', 'resolve', '1', '--abandon'], 2],
    [['review', 'resolve', '1', '--abandon', '--result', '-', '--note', 'x'], 2],
    [['review', 'resolve', '1', '--happened', '--result', '/nonexistent', '--note', 'x'], 2],
    [['review', 'resolve', '999999', '--abandon', '--note', 'x'], 4],
    [['review', 'list', '--run', 'nobody'], 4],
    [['dead-letter', 'show', '-1'], 2],
    [['dead-letter', 'show', '999999'], 4],
    [['dead-letter', 'retry', '999999'], 4],
    [['dead-letter', 'discard', '999999', '--note', 'x'], 4],
    [['dead-letter', 'discard', '999999'], 2],
    [['run', 'rollback', 'nobody'], 4],
    [['run', 'fork', 'nobody', '--from-step', '0'], 4],
    [['run', 'fork', 'nobody', '--from-step', '-1'], 2],
    [['run', 'fork', 'nobody'], 2],
    [['run', 'replay', 'nobody'], 4],
  ])('U2 %j exits %i', async (args, code) => {
    expect((await acme(...args)).code).toBe(code);
  });

  test('U2 every one of its commands has help with an example', async () => {
    for (const command of [
      'review',
      'review list',
      'review show',
      'review resolve',
      'dead-letter',
      'dead-letter list',
      'dead-letter show',
      'dead-letter retry',
      'dead-letter discard',
      'run rollback',
      'run fork',
      'run replay',
    ]) {
      const { code, out } = await world.run([...command.split(' '), '--help']);
      expect({ command, code, example: /Examples:\n +\$ .*bulkhead/.test(out) }).toEqual({
        command,
        code: 0,
        example: true,
      });
    }
  });
});
