import { Client } from 'pg';
import type { CheckpointCall, CheckpointName } from '../../contracts/checkpoint';
import { failure } from '../../activities/failure';
import { startOutside, type Outside } from '../support/outside';
import { readyTenant } from '../support/tenants';
import { call, on, openDesk, type Desk } from './desk';

let desk: Desk;
let other: Outside;
/** What is done at a place of the call under test. */
let atPoint: (point: CheckpointName, place: CheckpointCall) => Promise<void>;

beforeAll(async () => {
  other = await startOutside('acct');
  desk = await openDesk({
    checkpoint: async (point, place) => {
      if (place.path === '0.1') await atPoint(point, place);
    },
  });
});
beforeEach(() => {
  atPoint = () => Promise.resolve();
  desk.outside.faults = {};
});
afterAll(() => Promise.all([desk.close(), other.close()]));

/** As when the host dies, the attempt ends without a word to the ledger. */
const hostDied = () => failure('PlatformBusy', 'the host died');

/** The host dies where the first attempt has its answer and has told nobody, and an operator moves the tenant's connection. */
const dieAndMove =
  (name: string): typeof atPoint =>
  async (point, { attempt }) => {
    if (point !== 'before_settle' || attempt > 1) return;
    await readyTenant(desk.stack, { name, keeper: other.url, models: desk.model.url });
    throw hostDied();
  };
const writesOf = ({ requests }: Outside): string[] =>
  requests.filter(({ method }) => method === 'POST').map(({ path }) => path);

test.each([
  ['under its key', 'note.write', { recordId: 'r1', text: 'x' }],
  ['because a look-up there finds nothing', 'looked.write', { recordId: 'r1' }],
])(
  'T3 a write that was sent to one account is not made again at another %s: a person has to say',
  async (_why, action, args) => {
    const name = action.replace('.', '-');
    await desk.tenant(name);
    atPoint = dieAndMove(name);
    const { run, result, effects } = await desk.play(name, [call([action, args])]);
    expect(result.stopReason).toBe('outcome_unknown');
    expect(effects).toHaveLength(1);
    expect(writesOf(other)).toEqual([]);
    expect(await desk.reviews(name, run.runId)).toMatchObject([
      { kind: 'outcome_unknown', path: '0.1', resolvedAt: null },
    ]);
  },
);

test('T3 a credential that was changed meanwhile may be another account’s: the same', async () => {
  await desk.tenant('rotated');
  atPoint = async (point, { attempt }) => {
    if (point !== 'before_settle' || attempt > 1) return;
    await desk.stack.credential('rotated', 'keeper:write', 'secret-of-somebody-else');
    throw hostDied();
  };
  const { result, effects } = await desk.play('rotated', [
    call(['note.write', { recordId: 'r1', text: 'x' }]),
  ]);
  expect(result.stopReason).toBe('outcome_unknown');
  expect(effects).toHaveLength(1);
});

test('O8 a refusal whose words the host could not keep any more is kept by the next attempt, and the run goes on', async () => {
  await desk.tenant('wordless');
  const admin = new Client({ connectionString: desk.stack.database.adminUrl });
  await admin.connect();
  // The attempt that used the call up has committed so, and died before it could keep the refusal for the conversation.
  atPoint = async (point, { attempt }) => {
    if (point === 'leased' && attempt === 1) throw hostDied();
    if (point !== 'decided' || attempt !== 2) return;
    const refusal = {
      kind: 'failed',
      origin: 'provider',
      rule: 'attempts_exhausted',
      rules: [],
      message: 'm',
    };
    await admin.query(
      `with used_up as (update bulkhead.calls set state = 'failed', refusal = $2, charged = bulkhead.nothing()
         where tenant_id = $1 and path = '0.1')
       update bulkhead.ledgers set meter.inflight = (meter).inflight - 1 where tenant_id = $1`,
      ['wordless', JSON.stringify(refusal)],
    );
  };
  try {
    const { run, result } = await desk.play('wordless', [on('looked.write')]);
    expect(await desk.payload('wordless', run, '0.1')).toMatchObject({
      outcome: 'failed',
      refusal: { rule: 'attempts_exhausted' },
    });
    expect(result.stopReason).toBe('completed');
    expect(await desk.stack.store('wordless').recovery.state()).toMatchObject({ rewoundSeq: 0 });
  } finally {
    await admin.end();
  }
});
