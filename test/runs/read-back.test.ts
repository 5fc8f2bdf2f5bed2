import { call, openDesk, type Desk } from './desk';

let desk: Desk;

beforeAll(async () => {
  desk = await openDesk();
  await desk.tenant('acme');
});
afterAll(() => desk.close());

const SENT = [call(['payment.send', { recordId: 'r1', amountCents: 100 }])];

test.each([
  ['by the same attempt', 2, ['admitted', 'settled']],
  ['by the next one, under the same key', 5, ['admitted', 'recovering', 'settled']],
])(
  'T4 a read-back that nobody answered is made again %s: no person is asked for a moment’s outage',
  async (_who, dropReads, kinds) => {
    desk.outside.faults = { dropReads };
    const { run, result, effects } = await desk.play('acme', SENT);
    expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1 } });
    expect(effects).toHaveLength(1);
    expect(desk.outside.faults.dropReads).toBe(0);
    expect((await desk.journalOf('acme', run, '0.1')).map(({ kind }) => kind)).toEqual(kinds);
    expect(await desk.reviews('acme', run.runId)).toEqual([]);
  },
);
