import type { CallAnswer } from '../../contracts/calls';
import { CallsLane, type ToldLane } from '../../workflows/call-lane';
import type { WorkView } from '../../workflows/work-view';

const answered: CallAnswer<null> = { kind: 'done', value: null, seq: 1 } as never;

/** A lane whose calls end when they are told to, in the order of their beginning; none fails to be taken, so it asks its view nothing. */
function laneOf(told: Partial<ToldLane>) {
  const noView: unknown = undefined;
  const lane = new CallsLane(noView as WorkView, { queue: 'q', ...told }, 'acme');
  const open: { name: string; end: (error?: Error) => void }[] = [];
  const begun: string[] = [];
  const under = new Set<string>();
  const call = (name: string) =>
    lane.call(
      null,
      name,
      () =>
        new Promise<CallAnswer<null>>((resolve, reject) => {
          begun.push(name);
          under.add(name);
          const end = (error?: Error): void => {
            under.delete(name);
            if (error) reject(error);
            else resolve(answered);
          };
          open.push({ name, end });
        }),
    );
  /** After everything that was set going has gone as far as it can. */
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  return { call, begun, under, open, settled };
}

test('N6 of a run’s flood so many calls as are told are on the lane at once, the others wait in their order', async () => {
  const { call, begun, under, open, settled } = laneOf({ callsAtOnce: 3 });
  const ends = ['a', 'b', 'c', 'd', 'e', 'f'].map(call);
  await settled();
  expect(begun).toEqual(['a', 'b', 'c']);
  open.find(({ name }) => name === 'b')?.end();
  await settled();
  expect(begun).toEqual(['a', 'b', 'c', 'd']);
  // One that fails frees its place as any other does.
  open.find(({ name }) => name === 'a')?.end(new Error('aborted'));
  await expect(ends[0]).rejects.toThrow('aborted');
  await settled();
  expect(begun).toEqual(['a', 'b', 'c', 'd', 'e']);
  // Nobody overtakes who waits.
  ends.push(call('g'));
  for (let index = 0; index < open.length; index += 1) {
    open[index]?.end();
    await settled();
    expect(under.size).toBe(Math.min(3, 7 - Math.max(2, index + 1)));
  }
  expect(begun).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g']);
  await Promise.all(ends.slice(1));
  // All places are free again, and no more than there were.
  for (const name of ['h', 'i', 'j', 'k']) void call(name);
  await settled();
  expect(begun.slice(7)).toEqual(['h', 'i', 'j']);
});

test('N6 a run of before the bound was told keeps to none: its history replays', async () => {
  const { call, begun, settled } = laneOf({});
  for (let index = 0; index < 100; index += 1) void call(`${index}`);
  await settled();
  expect(begun).toHaveLength(100);
});
