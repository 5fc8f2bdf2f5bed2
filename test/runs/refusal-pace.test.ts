import type { CallAnswer } from '../../contracts/calls';
import type { ToldPace } from '../../contracts/workflow-io';
import { RefusalPace } from '../../workflows/refusal-pace';
import { call, idOf, openDesk, type Desk } from './desk';

const PAUSE_MS = 300;

describe('what a run asks for after many refusals', () => {
  /** A pace whose pauses end when they are told to; calls go by their numbers. */
  function paced(told: ToldPace = { free: 8, pauseMs: PAUSE_MS }) {
    const pauses: { ms: number; inARow: number; end: (error?: Error) => void }[] = [];
    const pause = (ms: number, inARow: number) =>
      new Promise<void>((resolve, reject) =>
        pauses.push({ ms, inARow, end: (error) => (error ? reject(error) : resolve()) }),
      );
    const pace = new RefusalPace(told, pause);
    const gone: number[] = [];
    const ask = async (no: number): Promise<void> => {
      await pace.turn();
      gone.push(no);
    };
    const ended = (
      times: number,
      kind: CallAnswer<unknown>['kind'],
      action: string | null = 'note',
    ): void => {
      for (let each = 0; each < times; each += 1) pace.ended(action, kind);
    };
    const settled = () => new Promise((resolve) => setImmediate(resolve));
    return { ask, ended, pauses, gone, settled };
  }

  test('N6 P9 goes a pause apart after eight in a row, in its order, and at once when one was not refused', async () => {
    const { ask, ended, pauses, gone, settled } = paced();
    ended(7, 'denied');
    await ask(0);
    expect(pauses).toEqual([]);
    ended(1, 'denied');
    for (const no of [1, 2, 3, 4]) void ask(no);
    await settled();
    expect(pauses).toMatchObject([{ ms: PAUSE_MS, inARow: 8 }]);
    pauses[0]?.end();
    await settled();
    expect(gone).toEqual([0, 1]);
    expect(pauses).toHaveLength(2);
    ended(1, 'done');
    pauses[1]?.end();
    await settled();
    expect(gone).toEqual([0, 1, 2, 3, 4]);
    expect(pauses).toHaveLength(2);
  });

  test('N6 a call that is cancelled in its pause takes nobody with it', async () => {
    const { ask, ended, pauses, gone, settled } = paced();
    ended(8, 'denied');
    const cancelled = ask(1);
    void ask(2);
    await settled();
    pauses[0]?.end(new Error('cancelled'));
    await expect(cancelled).rejects.toThrow('cancelled');
    await settled();
    pauses[1]?.end();
    await settled();
    expect(gone).toEqual([2]);
  });

  test('N6 only what policy refuses counts, what the model answers in between does not, and before it was told there is no pause', async () => {
    const others = paced();
    others.ended(20, 'throttled');
    await others.ask(1);
    const asking = paced();
    for (let step = 0; step < 8; step += 1) {
      asking.ended(1, 'denied');
      asking.ended(1, 'done', null);
    }
    void asking.ask(1);
    await asking.settled();
    const untold = new RefusalPace(undefined, () => Promise.reject(new Error('a pause')));
    for (let times = 0; times < 20; times += 1) untold.ended('note', 'denied');
    await untold.turn();
    expect([others.gone, asking.gone, asking.pauses.length]).toEqual([[1], [], 1]);
  });
});

describe('a run', () => {
  let desk: Desk;
  beforeAll(async () => {
    desk = await openDesk({ bounds: { refusalPace: { free: 8, pauseMs: PAUSE_MS } } });
    await desk.tenant('acme', {
      rules: `  - { id: all, effect: allow, actions: ["*"] }
  - { id: no-notes, effect: forbid, actions: [note.write] }`,
    });
  }, 120_000);
  afterAll(() => desk.close());

  test('N6 P9 whose calls policy refuses one after the other slows down, and ends as it would have', async () => {
    const note = (no: number): [string, object] => ['note.write', { recordId: 'r1', text: `n${no}` }];
    const twelve = Array.from({ length: 12 }, (_, no) => note(no));
    const { run, result, effects } = await desk.play('acme', [
      call(...twelve),
      call(note(12), ['record.read', { recordId: 'r1' }], note(13)),
      { say: 'well' },
    ]);
    expect(result.stopReason).toBe('completed');
    expect(effects).toEqual([]);
    expect(await desk.stack.store('acme').run(idOf(run))).toMatchObject({ refusals: 14 });
    const history = await desk.stack.temporal.workflow.getHandle(run.workflowId).fetchHistory();
    const timers = (history.events ?? []).filter(({ timerStartedEventAttributes: timer }) => timer);
    const pauses = timers.map(({ timerStartedEventAttributes: timer }) => {
      const { seconds, nanos } = timer?.startToFireTimeout ?? {};
      return Number(seconds ?? 0) * 1_000 + (nanos ?? 0) / 1e6;
    });
    // Before the last four of the twelve, the model that was asked after them, the thirteenth, and the read that was allowed.
    expect(pauses).toEqual(Array.from({ length: 7 }, () => PAUSE_MS));
    // Temporal's UI shows it at the timer.
    const shown = Buffer.from(timers[0]?.userMetadata?.summary?.data ?? []).toString();
    expect(shown).toContain('policy refused 8 calls in a row');
  });
});
