import { MockActivityEnvironment } from '@temporalio/testing';
import { Context } from '@temporalio/activity';
import { beat, beatWith, seqOfEarlierAttempt } from '../../activities/heartbeat';
import { ToldSequences } from '../../activities/told-sequences';
import { mintScope } from '../../contracts/scope-mint';

const scope = (tenant: string, environment = 'prod') =>
  mintScope(tenant as never, environment as never, 'operator');

test('O8 a host keeps the highest sequence it was told of each tenant and environment, and mixes none up', () => {
  const told = new ToldSequences();
  expect(told.highest(scope('acme'))).toBe(0);
  for (const seq of [3, 9, 4]) told.hear(scope('acme'), seq);
  told.hear(scope('globex'), 5);
  expect(told.highest(scope('acme'))).toBe(9);
  expect(told.highest(scope('globex'))).toBe(5);
  expect(told.highest(scope('acme', 'staging'))).toBe(0);
});

test('O8 a plain heartbeat repeats what the attempt, or else the one before it, has said', async () => {
  const beats: unknown[] = [];
  const environment = new MockActivityEnvironment({ heartbeatDetails: { seq: 7 } });
  environment.on('heartbeat', (details: unknown) => beats.push(details));
  const seen = await environment.run(() => {
    beat(Context.current());
    beatWith({ seq: 12 });
    beat(Context.current());
    return Promise.resolve(seqOfEarlierAttempt());
  });
  expect(seen).toBe(7);
  expect(beats).toEqual([{ seq: 7 }, { seq: 12 }, { seq: 12 }]);
});

test.each([[undefined], ['text'], [{ seq: -1 }], [{ seq: '9' }], [{ claimed: 2 }]])(
  'O8 heartbeats that say no sequence (%j) count as none',
  async (heartbeatDetails) => {
    const environment = new MockActivityEnvironment({ heartbeatDetails });
    expect(await environment.run(() => Promise.resolve(seqOfEarlierAttempt()))).toBe(0);
  },
);
