import type { ApprovalRow } from '../../contracts/approvals';
import { ASKING, asking, payment } from '../client/asking-rules';
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
    createCliWorld({}),
    startOutside('acct'),
    startModel(plays()),
  ]);
  for (const name of ['acme', 'globex'])
    await readyTenant(world.stack, { name, keeper: outside.url, models: model.url, rules: ASKING });
}, 120_000);
afterAll(async () => {
  await world.close();
  await Promise.all([outside.close(), model.close()]);
});
beforeEach(() => {
  outside.effects.length = 0;
});

/** The command line as a person of the tenant with these roles, whose token `bulkhead token` made. */
async function as(subject: string, roles: string[], tenant = 'acme') {
  const made = await world.run([
    'token',
    '--tenant',
    tenant,
    '--subject',
    subject,
    ...(roles.length > 0 ? ['--role', ...roles] : []),
  ]);
  if (made.code !== 0) throw new Error(made.said);
  return (...args: string[]): Promise<Ran> => world.run(args, { env: { BULKHEAD_TOKEN: made.out.trim() } });
}
/** Begun beside the test, and over before the next one: also where an expectation fails. */
const begun: Promise<unknown>[] = [];
const meanwhile = <T>(step: Promise<T>): Promise<T> => {
  begun.push(step);
  return step;
};
afterEach(async () => {
  await Promise.allSettled(begun.splice(0));
}, 120_000);
const acme = (...args: string[]): Promise<Ran> => world.run([...args, '--tenant', 'acme']);
const explained = async (runId: string) =>
  JSON.parse((await acme('run', 'explain', runId, '-o', 'json')).out) as { state: string };
const waits = (runId: string) =>
  until('the run to wait', async () => (await explained(runId)).state === 'approval_required', 60_000);

describe('P4 bulkhead approval', () => {
  test('P4 what waits is listed, explained and shown with exactly what will be sent; only a person with the role lets it be made, once', async () => {
    const { runId, approval } = await asking(world.stack, model, {
      call: [
        ['payment.send', { recordId: 'r1', amountCents: 5_000, meta: { memo: 'a\u001b[2J\u202eb', n: 1 } }],
      ],
    });
    const no = String(approval.approvalNo);
    await waits(runId);

    const why = await acme('run', 'explain', runId);
    expect(why.out).toMatch(/state +approval_required/);
    expect(why.out).toMatch(new RegExp(`until +${approval.expiresAt}`));
    expect(why.out).toMatch(/since +20\d\d-/);
    expect(why.out).toContain(`${no}  payment.send at 0.1, waits for finance or lead until`);
    expect(why.out).toContain(
      'export BULKHEAD_TOKEN=$(bulkhead token --tenant acme --role finance --subject',
    );
    expect((await acme('run', 'show', runId)).out).toContain(`${no}  payment.send at 0.1, waits for`);
    expect((await acme('approval', 'list')).out).toMatch(
      new RegExp(
        `APPROVAL +ACTION[^]*${no} +payment\\.send +127\\.0\\.0\\.1 +${runId} +0\\.1 +user:tester +finance or lead`,
      ),
    );

    const shown = await acme('approval', 'show', no);
    expect(shown.code).toBe(0);
    for (const line of [
      /state +pending \(waits for a person\)/,
      /destination +127\.0\.0\.1/,
      /asked by +user:tester/,
      /rules +large_payment \(policy version \d+\)/,
      /needs +a person with the role finance or lead, other than user:tester/,
      /"amountCents": 5000/,
      // What could deceive a terminal is shown as what it is.
      /"memo": "a\\u001b\[2J\\u202eb"/,
    ])
      expect(shown.out).toMatch(line);
    expect(shown.out).not.toMatch(/secret-acme/);
    const asJson = JSON.parse((await acme('approval', 'show', no, '-o', 'json')).out) as ApprovalRow & {
      argsDigest: string;
    };
    expect(asJson).toMatchObject({ ...approval });
    expect(shown.out).toMatch(new RegExp(`sha256 +${asJson.argsDigest}`));

    // A wrong role, nobody's role, and who asked: refused with what to do. Another tenant, and none: not found.
    const operator = await acme('approval', 'approve', no);
    expect(operator).toMatchObject({ code: 3, out: '', said: expect.stringContaining('finance or lead') });
    for (const verb of ['approve', 'deny']) {
      expect(await (await as('ann', ['support']))('approval', verb, no)).toMatchObject({ code: 3, out: '' });
      expect(await (await as('ann', []))('approval', verb, no)).toMatchObject({ code: 3, out: '' });
      const own = await (await as('tester', ['finance']))('approval', verb, no);
      expect(own).toMatchObject({
        code: 3,
        said: expect.stringMatching(/who asked.*other than user:tester/),
      });
      const gus = await as('gus', ['finance'], 'globex');
      const none = await gus('approval', verb, '999999999');
      expect(none).toMatchObject({ code: 4, out: '' });
      expect(await gus('approval', verb, no)).toEqual(none);
      expect(await gus('approval', 'show', no)).toEqual(none);
    }
    expect((await (await as('gus', ['finance'], 'globex'))('approval', 'list', '--all')).out).toBe('');
    expect(outside.effects).toEqual([]);

    const fay = await as('fay', ['finance']);
    const waiting = meanwhile(acme('run', 'wait', runId, '--timeout', '90s'));
    const approved = await fay('approval', 'approve', no, '--note', 'order 7');
    expect(approved).toMatchObject({ code: 0, said: '', out: expect.stringMatching(/state +approved/) });
    expect(approved.out).toMatch(/decided +\S+, by user:fay\nnote +order 7/);
    expect(await waiting).toMatchObject({ code: 0, out: expect.stringMatching(/stop reason +completed/) });
    expect(outside.effects.map(({ body }) => body)).toEqual([JSON.parse(approval.args)]);

    const twice = await (await as('lee', ['lead']))('approval', 'approve', no);
    expect(twice).toMatchObject({ code: 0, said: expect.stringMatching(/approved already, by user:fay/) });
    expect(await fay('approval', 'deny', no)).toMatchObject({
      code: 3,
      said: expect.stringContaining('was approved before, by user:fay'),
    });
    expect((await acme('approval', 'list', '--run', runId)).said).toContain('nothing waits for approval');
    expect((await acme('approval', 'list', '--run', runId, '--all')).out).toMatch(/approved$/m);
    expect((await acme('run', 'show', runId)).out).toMatch(/approved by user:fay at \S+, used/);
    expect(outside.effects).toHaveLength(1);
  }, 240_000);

  test('P4 whoever waits for a run is told that it waits for a person; denied, it ends as approval_denied', async () => {
    const { runId, approval } = await asking(world.stack, model, payment());
    await waits(runId);
    const waiting = meanwhile(acme('run', 'wait', runId, '--timeout', '90s'));
    const timedOut = await acme('run', 'wait', runId, '--timeout', '1s');
    expect(timedOut).toMatchObject({ code: 1, out: '' });
    expect(timedOut.said).toMatch(
      new RegExp(
        `^needs approval +${approval.approvalNo} +payment\\.send at 0\\.1, waits for finance or lead`,
      ),
    );
    expect(timedOut.said).toContain(`approval ${approval.approvalNo} of payment.send is open`);
    const fay = await as('fay', ['finance']);
    const denied = await fay(
      'approval',
      'deny',
      String(approval.approvalNo),
      '--note',
      'never paid',
      '-o',
      'json',
    );
    expect(denied.code).toBe(0);
    expect(JSON.parse(denied.out)).toMatchObject({
      state: 'denied',
      approver: 'user:fay',
      note: 'never paid',
    });
    const closed = await waiting;
    expect(closed).toMatchObject({ code: 3, out: expect.stringMatching(/stop reason +approval_denied/) });
    expect(closed.said.match(/needs approval/g)).toHaveLength(1);
    expect(outside.effects).toEqual([]);
  }, 180_000);

  test('P4 one that expired is refused, and its run ends as approval_expired', async () => {
    const { runId, approval } = await asking(world.stack, model, {
      call: [['order.place', { recordId: 'r1' }]],
    });
    const closed = await acme('run', 'wait', runId, '--timeout', '90s');
    expect(closed).toMatchObject({ code: 3, out: expect.stringMatching(/stop reason +approval_expired/) });
    const fay = await as('fay', ['finance']);
    for (const verb of ['approve', 'deny'])
      expect(await fay('approval', verb, String(approval.approvalNo))).toMatchObject({
        code: 3,
        said: expect.stringContaining('in time'),
      });
    expect((await fay('approval', 'show', String(approval.approvalNo))).out).toMatch(/state +expired/);
    expect(outside.effects).toEqual([]);
  }, 180_000);

  test('P8 a suggestion is listed with what would have been sent, and promoted by who may, once', async () => {
    model.script = plays({ call: [['note.write', { recordId: 'r1', text: 'call back' }]] });
    const { runId } = await world.stack.run('acme', 'note it');
    expect((await acme('run', 'wait', runId, '--timeout', '90s')).code).toBe(0);
    const listed = await acme('run', 'show', runId);
    expect(listed.out).toMatch(
      /suggestions +0\.1 +note\.write to 127\.0\.0\.1 \(drafts[^)]*\)\n +\{"recordId":"r1","text":"call back"\}/,
    );
    expect(listed.out).toContain(`bulkhead approval promote ${runId} 0.1 --tenant acme --note`);
    expect(await acme('approval', 'promote', runId, '0.1')).toMatchObject({ code: 3, out: '' });
    const sam = await as('sam', ['support']);
    expect(await sam('approval', 'promote', runId, '0.7')).toMatchObject({ code: 4, out: '' });
    const gus = await as('gus', ['support'], 'globex');
    expect(await gus('approval', 'promote', runId, '0.1')).toMatchObject({ code: 4, out: '' });
    expect(outside.effects).toEqual([]);

    const made = await sam('approval', 'promote', runId, '0.1', '--note', 'right', '--timeout', '90s');
    expect(made).toMatchObject({ code: 0, out: expect.stringMatching(/state +done[^]*the call +succeeded/) });
    expect(outside.effects.map(({ body }) => body)).toEqual([{ recordId: 'r1', text: 'call back' }]);
    expect(await sam('approval', 'promote', runId, '0.1')).toMatchObject({
      code: 0,
      said: expect.stringContaining('ordered before'),
    });
    const after = await acme('run', 'show', runId);
    expect(after.out).toMatch(/made a call by approval \d+/);
    expect(after.out).not.toContain('approval promote');
    expect(outside.effects).toHaveLength(1);
  }, 180_000);

  test('U2 numbers, roles and verbs that cannot be are exit code 2, and every verb has examples', async () => {
    for (const args of [
      ['approval', 'show', 'seven'],
      ['approval', 'approve', '0'],
      ['approval', 'list', '--limit', '501'],
      ['approval', 'promote', 'only-a-run'],
      ['token', '--tenant', 'acme', '--role', 'No Role'],
    ])
      expect(await world.run([...args, ...(args[0] === 'token' ? [] : ['--tenant', 'acme'])])).toMatchObject({
        code: 2,
        out: '',
      });
    for (const verb of ['list', 'show', 'approve', 'deny', 'promote'])
      expect((await world.run(['approval', verb, '--help'])).out).toMatch(
        new RegExp(`Examples:[^]*bulkhead approval ${verb}`),
      );
  }, 60_000);
});
