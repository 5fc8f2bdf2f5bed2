import { app, RULES } from '../client/written-app';
import { atLastAttempt } from '../support/last-attempt';
import { neverOpen } from '../support/breaker-terms';
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
  // Two runs fail at once here, and each is to use up its attempts.
  await neverOpen(world.stack.database);
  for (const name of ['acme', 'globex'])
    await readyTenant(world.stack, { name, keeper: outside.url, models: model.url, rules: RULES });
}, 120_000);
afterAll(async () => {
  await world.close();
  await Promise.all([outside.close(), model.close()]);
});

/** Nobody listens there: surely nothing was sent, again and again. */
const NOWHERE = 'http://127.0.0.1:9';
const point = (keeper: string, models = model.url) =>
  readyTenant(world.stack, { name: 'acme', keeper, models, rules: RULES, credentials: [] });

const acme = (...args: string[]): Promise<Ran> => world.run([...args, '--tenant', 'acme']);
interface Letter {
  letterNo: number;
  runId: string;
  action: string;
  path: string;
  attempts: number;
  state: string;
}
const letters = async (...more: string[]): Promise<Letter[]> => {
  const { code, out, said } = await acme('dead-letter', 'list', '-o', 'json', ...more);
  if (code !== 0) throw new Error(`exit code ${code}: ${said}`);
  return JSON.parse(out) as Letter[];
};

/** Two runs whose call used up its attempts: all of them one after the other, or with the rest `taken` after the first. */
async function dead(prepare: () => Promise<void>, { taken = true } = {}): Promise<[Letter, Letter]> {
  model.script = plays({ call: [['note.write', { recordId: 'r1' }]] });
  await prepare();
  const runs = await Promise.all([world.stack.run('acme', 'write it'), world.stack.run('acme', 'write it')]);
  const store = world.stack.store('acme');
  const found = await Promise.all(
    runs.map((run) =>
      until(
        'a dead letter of the run',
        async () => {
          if (taken) await atLastAttempt(world.stack.database, 'acme');
          return (await store.deadLetters({ open: true, limit: 50 })).find(
            ({ runId }) => runId === run.runId,
          );
        },
        120_000,
      ),
    ),
  );
  await point(outside.url);
  for (const run of runs) await run.result({ timeoutMs: 60_000 });
  const [one, two] = found;
  if (!one || !two) throw new Error('two letters were waited for');
  return [one, two];
}

describe('N5 dead letters', () => {
  test('N5 a call that used up its attempts is listed and shown; retried it is made once, under its own key, and the letter is over', async () => {
    const [letter, other] = await dead(() => point(NOWHERE), { taken: false });
    expect(letter).toMatchObject({ action: 'note.write', path: '0.1', state: 'dead' });
    const no = String(letter.letterNo);
    expect(outside.effects).toHaveLength(0);
    expect((await acme('dead-letter', 'list')).out).toMatch(
      new RegExp(`LETTER +ACTION[^]*${no} +note\\.write`),
    );
    expect((await acme('dead-letter', 'show', no)).out).toMatch(/told +attempts_exhausted/);
    expect((await acme('run', 'show', letter.runId)).out).toMatch(
      new RegExp(`dead letters +${no} +note\\.write at 0\\.1`),
    );

    // Foreign, it is as one that does not exist; nothing is ordered.
    const none = await world.run(['dead-letter', 'show', '999999999', '--tenant', 'globex']);
    for (const args of [['show'], ['retry'], ['discard', '--note', 'mine now']]) {
      const [verb = '', ...rest] = args;
      expect(await world.run(['dead-letter', verb, no, ...rest, '--tenant', 'globex'])).toEqual(none);
    }
    expect(none).toMatchObject({ code: 4, out: '' });
    // So it is for a token of another workspace of the same tenant.
    const elsewhere = (await acme('token', '--workspace', 'elsewhere')).out.trim();
    expect(await world.run(['dead-letter', 'show', no, '--token', elsewhere])).toEqual(none);
    const listed = await world.run(['dead-letter', 'list', '--all', '--token', elsewhere, '-o', 'json']);
    expect(JSON.parse(listed.out)).toEqual([]);

    const retried = await acme(
      'dead-letter',
      'retry',
      no,
      '--note',
      'the keeper is back',
      '--timeout',
      '60s',
    );
    expect(retried).toMatchObject({
      code: 0,
      out: expect.stringMatching(/state +retried[^]*the call +succeeded/),
    });
    expect(outside.effects).toMatchObject([{ operation: 'POST /notes', recordId: 'r1' }]);
    expect(outside.effects[0]?.key).toMatch(/^bh-/);

    // One that fails again is no success of the command, and says why.
    outside.faults = { status: 422 };
    const failing = ['dead-letter', 'retry', String(other.letterNo), '--timeout', '60s', '-o', 'json'];
    const failed = await acme(...failing);
    outside.faults = {};
    expect(failed.code).toBe(1);
    expect(JSON.parse(failed.out)).toMatchObject({ state: 'retried', call: { state: 'failed' } });
    expect(outside.effects).toHaveLength(1);

    const again = await acme('dead-letter', 'retry', no, '--timeout', '60s');
    expect(outside.effects).toHaveLength(1);
    expect([0, 3]).toContain(again.code);
    expect(await acme('dead-letter', 'discard', no, '--note', 'late')).toMatchObject({
      code: 3,
      said: expect.stringContaining('was retried before'),
    });
    expect((await letters()).map(({ letterNo }) => letterNo)).not.toContain(letter.letterNo);
    expect((await letters('--all')).find(({ letterNo }) => letterNo === letter.letterNo)?.state).toBe(
      'retried',
    );
  }, 300_000);

  test('N5 a discarded letter is over; a retry of it is refused', async () => {
    const before = outside.effects.length;
    const [letter] = await dead(() => point(NOWHERE));
    const no = String(letter.letterNo);
    expect(
      await acme('dead-letter', 'discard', no, '--note', 'ticket closed', '--actor', 'alice'),
    ).toMatchObject({
      code: 0,
      out: expect.stringMatching(/state +discarded[^]*alice \(cli:tester\)/),
    });
    expect(await acme('dead-letter', 'discard', no, '--note', 'again')).toMatchObject({ code: 3 });
    expect(await acme('dead-letter', 'retry', no)).toMatchObject({ code: 3, out: '' });
    expect(outside.effects.length).toBe(before);
  }, 300_000);

  test('N5 a model call belongs to its run: its retry is refused, and what to do instead is said', async () => {
    const [letter] = await dead(() => point(outside.url, NOWHERE));
    expect(letter).toMatchObject({ action: 'model.generate', path: '0.0' });
    const refused = await acme('dead-letter', 'retry', String(letter.letterNo));
    expect(refused).toMatchObject({ code: 3, out: '', said: expect.stringMatching(/fork/) });
    expect((await letters()).map(({ letterNo }) => letterNo)).toContain(letter.letterNo);
  }, 300_000);
});
