import type { Run } from '../../client/run';
import type { CallAnswer } from '../../contracts/calls';
import { Repeats, type EndedCall } from '../../workflows/repeats';
import { call, on, openDesk, type Desk } from '../runs/desk';

const done = (result: string): CallAnswer<null> => ({
  kind: 'done',
  value: null,
  ref: '0.1',
  digest: result.padEnd(64, '0') as never,
  seq: 1,
});
const denied = (rule: string): CallAnswer<null> => ({
  kind: 'denied',
  refusal: { kind: 'denied', origin: 'policy', rule, rules: [rule], message: 'no' },
  seq: 1,
});
const read = (digest: string, answer: CallAnswer<null>): EndedCall => ({
  action: 'record.read',
  asked: { digest, write: false },
  answer,
});
const times = (repeats: Repeats, ...steps: EndedCall[][]): (number | undefined)[] =>
  steps.map((step) => repeats.ended(step)?.times);

describe('the same call in steps in a row', () => {
  test('N5 counts where arguments and end are the same, whatever is asked beside it', () => {
    const same = read('a', done('x'));
    expect(times(new Repeats(), [same], [same, read('b', done('y'))], [read('c', done('z')), same])).toEqual([
      1, 2, 3,
    ]);
    expect(times(new Repeats(), [same], [read('a', done('y'))], [same])).toEqual([1, 1, 1]);
    expect(times(new Repeats(), [same], [read('b', done('x'))], [same])).toEqual([1, 1, 1]);
    expect(
      times(new Repeats(), [read('a', denied('r'))], [read('a', denied('r'))], [read('a', denied('s'))]),
    ).toEqual([1, 2, 1]);
    // One answer that asks twice is one step.
    expect(times(new Repeats(), [same, same], [same, same])).toEqual([1, 2]);
  });

  test('N5 of a write that was done the result does not matter: it is new each time', () => {
    const write = (result: string): EndedCall[] => [
      { action: 'note.write', asked: { digest: 'w', write: true }, answer: done(result) },
    ];
    expect(times(new Repeats(), write('1'), write('2'), write('3'))).toEqual([1, 2, 3]);
  });

  test('N5 is carried on, and is nothing where nothing was told of it', () => {
    const first = new Repeats();
    times(first, [read('a', done('x'))], [read('a', done('x'))]);
    expect(times(new Repeats(first.carry()), [read('a', done('x'))])).toEqual([3]);
    const silent: EndedCall = { action: 'record.read', asked: undefined, answer: done('x') };
    expect(times(new Repeats(), [silent], [silent])).toEqual([undefined, undefined]);
  });
});

describe('a run', () => {
  let desk: Desk;
  beforeAll(async () => {
    desk = await openDesk({ bounds: { maxRepeats: 4, continueAsNewAfter: 3 } });
    await desk.tenant('acme');
  });
  beforeEach(() => {
    desk.outside.faults = {};
  });
  afterAll(() => desk.close());

  const details = async (run: Run): Promise<string> => {
    const answer = await desk.stack.temporal.workflow
      .getHandle(run.workflowId)
      .query<{ currentDetails?: string }>('__temporal_workflow_metadata');
    return answer.currentDetails ?? '';
  };

  test('N5 whose model asks for the same again and again is stopped as model_misbehaved, and says for what', async () => {
    const { run, result, asked } = await desk.play('acme', () => on('record.read'));
    expect(result.stopReason).toBe('model_misbehaved');
    // Across a continue-as-new.
    expect(asked).toHaveLength(4);
    expect(await details(run)).toContain(
      'stopped, for the model has asked for record.read in 4 steps in a row',
    );
  });

  test('N5 that writes the same again and again is stopped before it does so for ever', async () => {
    const { result, effects } = await desk.play('acme', () =>
      call(['note.write', { text: 'again', recordId: 'r1' }]),
    );
    expect(result.stopReason).toBe('model_misbehaved');
    expect(effects).toHaveLength(4);
  });

  test('N5 that polls what changes, or asks for other things between, is not', async () => {
    desk.outside.faults = { changing: true };
    const polls = await desk.play('acme', ({ moves }) =>
      moves < 6 ? on('record.read') : { say: 'it changed' },
    );
    expect(polls.result.stopReason).toBe('completed');
    desk.outside.faults = {};
    const between = await desk.play('acme', ({ moves }) =>
      moves === 6
        ? { say: 'done' }
        : moves % 3 === 2
          ? call(['text.judge', { text: 'fine' }])
          : on('record.read'),
    );
    expect(between.result.stopReason).toBe('completed');
  });
});
