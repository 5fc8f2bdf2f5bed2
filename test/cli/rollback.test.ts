import { setTimeout as sleep } from 'node:timers/promises';
import { TenantId } from '../../contracts/ids';
import { mintScope } from '../../contracts/scope-mint';
import type { ReplayReport } from '../../client/cli/context';
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
const WRITES = plays(
  { call: [['note.write', { recordId: 'r1' }]] },
  { call: [['mail.send', { recordId: 'r1' }]] },
  { call: [['note.write', { recordId: 'r1' }]] },
);

/** A run that wrote a note, sent a mail and wrote another note. */
async function written(): Promise<string> {
  model.script = WRITES;
  const run = await world.stack.run('acme', 'write twice and send');
  expect(await run.result({ timeoutMs: 60_000 })).toMatchObject({ stopReason: 'completed' });
  expect(outside.effects.map(({ operation }) => operation)).toEqual([
    'POST /notes',
    'POST /mails',
    'POST /notes',
  ]);
  return run.runId;
}
const undone = () => outside.effects.filter(({ operation }) => operation === 'POST /notes/undo');

describe('T5 run rollback', () => {
  test('T5 it undoes newest first, each once and under a key of its own, leaves what is final, and says all of it', async () => {
    const runId = await written();
    const forward = new Set(outside.effects.map(({ key }) => key));
    const { code, out, said } = await acme(
      'run',
      'rollback',
      runId,
      '--note',
      'wrong customer',
      '--actor',
      'alice',
    );
    expect({ code, said }).toMatchObject({ code: 0 });
    expect(undone().map(({ body }) => (body as { effect: number }).effect)).toEqual([3, 1]);
    const keys = undone().map(({ key }) => key);
    expect(new Set(keys).size).toBe(2);
    expect(keys.some((key) => forward.has(key))).toBe(false);
    expect(out).toMatch(
      /WRITE +CALL +BECAME +IS[^]*note\.write +2\.1 +undone +compensable[^]*mail\.send +1\.1 +left +final[^]*note\.write +0\.1 +undone +compensable/,
    );
    expect(said).toMatch(/ordered, by alice \(cli:tester\)/);
    expect(said).toContain('2 undone, 1 left as they are, 0 given up in a review');

    const shown = await acme('run', 'show', runId);
    expect(shown.out).toMatch(
      /ordered since +\d+ +undo \(rollback\) by alice \(cli:tester\), done: 2 undone, 1 left, 0 given up/,
    );

    const again = await acme('run', 'rollback', runId);
    expect(again).toMatchObject({ code: 3, said: expect.stringContaining('nothing to undo') });
    expect(undone()).toHaveLength(2);
  }, 180_000);

  test('T5 an undo that keeps failing waits for a person, is shown with what to type, and goes on with the next', async () => {
    const runId = await written();
    outside.faults = { status: 422 };
    const watching = acme('run', 'rollback', runId, '--timeout', '90s', '-o', 'json');
    const review = await until(
      'a review of the undo',
      async () =>
        (await world.stack.store('acme').reviews({ open: true, limit: 1, runId: runId as never }))[0],
      60_000,
    );
    expect(review).toMatchObject({ kind: 'undo_failed', path: '2.1/undo' });
    outside.faults = {};
    expect(undone()).toHaveLength(0);
    // Longer than a look of the command that watches.
    await sleep(1_500);
    expect(
      await acme('review', 'resolve', String(review.reviewNo), '--happened', '--note', 'taken back by hand'),
    ).toMatchObject({ code: 0 });
    const { code, out, said } = await watching;
    expect({ code, said }).toMatchObject({ code: 0 });
    expect(said).toContain(`review ${review.reviewNo}  undo_failed: note.write at 2.1/undo`);
    expect(said).toContain(`bulkhead review resolve ${review.reviewNo} --tenant acme --happened --note`);
    expect(undone().map(({ body }) => (body as { effect: number }).effect)).toEqual([1]);
    expect(JSON.parse(out)).toMatchObject({
      state: 'done',
      outcome: { undone: 2, left: 1, abandoned: 0 },
      calls: [
        { path: '2.1', became: 'undone' },
        { path: '1.1', became: 'left' },
        { path: '0.1', became: 'undone' },
      ],
    });
  }, 180_000);

  test('T5 a run that is open is cancelled first; without a wait the order is said; ordered twice it is the same order', async () => {
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    model.script = async ({ moves }) => {
      if (moves === 1) await gate;
      return moves === 0 ? { call: [['note.write', { recordId: 'r1' }]] } : { say: 'done' };
    };
    const run = await world.stack.run('acme', 'write and think');
    await until('the note', () => Promise.resolve(outside.effects.length === 1), 60_000);
    expect(await acme('run', 'rollback', run.runId)).toMatchObject({
      code: 3,
      out: '',
      said: expect.stringMatching(/still open: cancel it first/),
    });
    release();
    await run.result({ timeoutMs: 60_000 });
    const [one, two] = await Promise.all(
      [1, 2].map(() => acme('run', 'rollback', run.runId, '--no-wait', '-o', 'json')),
    );
    expect(one).toMatchObject({ code: 0 });
    expect(two).toMatchObject({ code: 0 });
    const order = (ran: Ran | undefined) =>
      (JSON.parse(ran?.out ?? '{}') as { followUpNo: number }).followUpNo;
    expect(order(one)).toBe(order(two));
    await until('the undo', () => Promise.resolve(undone().length > 0), 60_000);
    const store = world.stack.store('acme');
    await until(
      'its end',
      async () => (await store.followUps(run.runId as never)).every(({ state }) => state === 'done'),
      60_000,
    );
    expect(undone()).toHaveLength(1);
  }, 180_000);

  test('T5 a killed tenant’s undo is stopped, exit code 1 says so, and after the release it is made', async () => {
    const runId = await written();
    const control = world.stack.storage.tenant(
      mintScope(TenantId.parse('acme'), world.stack.environment, 'control'),
    );
    await control.kill({ reason: 'drill', actor: 'test' });
    const stopped = await acme('run', 'rollback', runId, '--timeout', '60s');
    await control.release({ reason: 'drill over', actor: 'test' });
    expect(stopped).toMatchObject({
      code: 1,
      out: expect.stringMatching(/note\.write +2\.1 +left +compensable/),
      said: expect.stringMatching(/stopped before its end/),
    });
    expect(undone()).toHaveLength(0);
    expect(await acme('run', 'rollback', runId, '--timeout', '60s')).toMatchObject({ code: 0 });
    expect(undone().map(({ body }) => (body as { effect: number }).effect)).toEqual([3, 1]);
  }, 180_000);

  test('T5 what needs no undo is left and no failure; what has one and was not undone, for a kill, is exit code 1', async () => {
    model.script = plays(
      { call: [['label.put', { recordId: 'r1' }]] },
      { call: [['tag.set', { recordId: 'r1' }]] },
    );
    const { runId } = await world.stack.run('acme', 'label and tag');
    await until('both writes', () => Promise.resolve(outside.effects.length === 2), 60_000);
    await (await world.stack.client.run({ token: await world.stack.token('acme'), runId })).result();
    const rollback = (app?: null) =>
      world.run(
        ['run', 'rollback', runId, '--tenant', 'acme', '--timeout', '60s'],
        app === null ? { app } : {},
      );
    const control = world.stack.storage.tenant(
      mintScope(TenantId.parse('acme'), world.stack.environment, 'control'),
    );
    await control.kill({ reason: 'drill', actor: 'test' });
    const stopped = await rollback();
    await control.release({ reason: 'drill over', actor: 'test' });
    expect(stopped).toMatchObject({
      code: 1,
      out: expect.stringMatching(/tag\.set +1\.1 +left +reversible[^]*label\.put +0\.1 +left +reversible/),
      said: expect.stringMatching(/stopped before its end[^]*ask for it again/),
    });
    expect(outside.effects).toHaveLength(2);

    expect(await rollback()).toMatchObject({
      code: 0,
      out: expect.stringMatching(/tag\.set +1\.1 +left +reversible[^]*label\.put +0\.1 +undone +reversible/),
    });
    expect(outside.effects.map(({ operation }) => operation)).toEqual([
      'POST /labels',
      'POST /tags',
      'POST /labels/undo',
    ]);
    // Whether the tag has a way to be undone, the app alone can tell.
    expect(await rollback(null)).toMatchObject({
      code: 1,
      said: expect.stringContaining('set BULKHEAD_APP'),
    });
  }, 180_000);

  test('E1 another tenant’s run is not rolled back, forked or replayed: exit code 4, as one that does not exist', async () => {
    const runId = await written();
    for (const args of [
      ['run', 'rollback', runId],
      ['run', 'fork', runId, '--from-step', '1'],
      ['run', 'replay', runId],
    ]) {
      const none = await world.run(
        [...args, '--tenant', 'globex'].map((part) => (part === runId ? 'no-such-run' : part)),
      );
      expect(none).toMatchObject({ code: 4, out: '' });
      expect(await world.run([...args, '--tenant', 'globex'])).toEqual(none);
    }
    expect(undone()).toHaveLength(0);
    expect(await world.stack.store('acme').followUps(runId as never)).toEqual([]);
  }, 120_000);
});

describe('O3 replay and fork', () => {
  test('O3 a run replays against today’s workflows and agrees with its journal, call by call', async () => {
    const runId = await written();
    const { code, out, said } = await acme('run', 'replay', runId);
    expect({ code, said }).toMatchObject({ code: 0 });
    expect(out).toMatch(/CALL +ACTION +HISTORY +JOURNAL[^]*0\.1 +note\.write[^]*agrees/);
    expect(out).not.toContain('DIFFERS');
    const report = JSON.parse((await acme('run', 'replay', runId, '-o', 'json')).out) as {
      replays: boolean;
      calls: { agrees: boolean }[];
    };
    expect(report.replays).toBe(true);
    expect(report.calls.length).toBeGreaterThanOrEqual(7);
    expect(report.calls.every(({ agrees }) => agrees)).toBe(true);
    // Looking changes nothing outside.
    expect(outside.effects).toHaveLength(3);

    await acme('run', 'rollback', runId);
    const after = await acme('run', 'replay', runId);
    expect(after).toMatchObject({ code: 0, said: expect.stringMatching(/^2 histories of \d+ events/) });
    expect(after.out).toMatch(/0\.1\/undo +note\.write[^]*agrees/);
  }, 120_000);

  test('O3 where a call differs, or the history does not replay, it is said and the exit code is 1', async () => {
    const runId = await written();
    const report: ReplayReport = {
      runId,
      replays: true,
      because: null,
      histories: 1,
      events: 9,
      calls: [{ path: '0.1', action: 'note.write', history: 'done', journal: '-', agrees: false }],
    };
    const told = (over: Partial<ReplayReport>) =>
      world.run(['run', 'replay', runId, '--tenant', 'acme'], {
        runtime: { replay: () => Promise.resolve({ ...report, ...over }) },
      });
    expect(await told({})).toMatchObject({ code: 1, out: expect.stringContaining('DIFFERS') });
    expect(await told({ calls: [], replays: false, because: 'no such command' })).toMatchObject({
      code: 1,
      said: expect.stringContaining('does not replay: no such command'),
    });
  }, 60_000);

  test('O3 a fork is a run of its own from the step on, and the first stays as it is', async () => {
    const runId = await written();
    const forked = await acme('run', 'fork', runId, '--from-step', '2', '-o', 'json');
    expect(forked).toMatchObject({ code: 0 });
    const fork = JSON.parse(forked.out) as { runId: string; forkedFrom: string; fromStep: number };
    expect(fork).toMatchObject({ forkedFrom: runId, fromStep: 2 });
    expect(fork.runId).not.toBe(runId);
    expect(await acme('run', 'fork', runId, '--from-step', '99')).toMatchObject({
      code: 2,
      said: expect.stringContaining('cannot be forked from step 99'),
    });
    expect((await acme('run', 'show', runId)).out).toMatch(/stop reason +completed/);
  }, 120_000);
});
