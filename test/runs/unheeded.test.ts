import { until } from '../support/until';
import { call, openDesk, type Desk } from './desk';

/** An action that goes on though its time is over, on a lane with one slot. */

let desk: Desk;
beforeAll(async () => {
  desk = await openDesk();
  await desk.tenant('acme', { ceiling: 1 });
});
afterAll(() => desk.close());

test('N3 Q5 an action that does not heed its signal is left behind: its attempt ends, and its slot serves another run', async () => {
  const deaf = await desk.begin('acme', [call(['deaf.read', {}])]);
  await until('a call under way', async () => (await desk.journalOf('acme', deaf, '0.1')).length > 0, 20_000);
  const { result, effects } = await desk.play('acme', [
    call(['note.write', { recordId: 'r1', text: 'after it' }]),
  ]);
  expect(result).toMatchObject({ stopReason: 'completed', usage: { toolCalls: 1 } });
  expect(effects.map(({ operation }) => operation)).toContain('POST /notes');
  await deaf.cancel('it never ends');
  await deaf.result({ timeoutMs: 30_000 });
}, 90_000);
