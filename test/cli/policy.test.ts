import { Client } from 'pg';
import { app as product } from '../support/app';
import { startModel, plays, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { policyYaml, readyTenant } from '../support/tenants';
import { createCliWorld, type CliWorld, type Ran } from './world';

const RULES = `  - { id: pay, effect: allow, actions: [payment.send] }
  - { id: notes, effect: allow, actions: [note.write], when: context.args.text != "secret" }`;
/** Lets less money through, and judges texts. */
const CANDIDATE = `  - { id: pay-small, effect: allow, actions: [payment.send], when: context.args.amountCents <= 100 }
  - { id: notes, effect: allow, actions: [note.write], when: context.args.text != "secret" }
  - { id: judging, effect: allow, actions: [text.judge] }`;
/** Lets less through, and nothing new. */
const NARROWER = RULES.replace(
  'actions: [payment.send]',
  'actions: [payment.send], when: context.args.amountCents <= 100',
);

const CASES = `
apiVersion: bulkhead/v1
kind: PolicyCases
profile: profile_acme
given: { agent: test_worker, connections: { keeper: keeper.example, models: models.example } }
cases:
  - { name: a note, action: note.write, args: { recordId: r1, text: hello }, expect: { outcome: allow, rules: [notes] } }
  - { name: no secret, action: note.write, args: { recordId: r1, text: secret }, expect: { outcome: deny, rules: [default-deny] } }
`;

let world: CliWorld;
let outside: Outside;
let model: TestModel;
let files: { first: string; candidate: string; narrower: string };
beforeAll(async () => {
  [world, outside, model] = await Promise.all([
    createCliWorld({ app: product }),
    startOutside('acct'),
    startModel(plays()),
  ]);
  await readyTenant(world.stack, { name: 'acme', keeper: outside.url, models: model.url, rules: RULES });
  files = {
    first: world.file('first.yaml', policyYaml('acme', RULES)),
    candidate: world.file('candidate.yaml', policyYaml('acme', CANDIDATE)),
    narrower: world.file('narrower.yaml', policyYaml('acme', NARROWER)),
  };
  // Three payments, of which two are large; a note; and a judgement that the policy does not allow.
  model.script = plays(
    {
      call: [
        ['payment.send', { recordId: 'r1', amountCents: 5_000 }],
        ['text.judge', { text: 'fine' }],
      ],
    },
    { call: [['payment.send', { recordId: 'r1', amountCents: 100 }]] },
    {
      call: [
        ['payment.send', { recordId: 'r1', amountCents: 101 }],
        ['note.write', { recordId: 'r1', text: 'paid' }],
      ],
    },
  );
  const run = await world.stack.run('acme', 'pay');
  expect(await run.result({ timeoutMs: 90_000 })).toMatchObject({ stopReason: 'completed' });
}, 240_000);
afterAll(async () => {
  await world.close();
  await Promise.all([outside.close(), model.close()]);
});

const policy = (...args: string[]): Promise<Ran> => world.run(['policy', ...args]);
const versions = async (): Promise<{ version: number; reason: string; tenants: number }[]> =>
  JSON.parse((await policy('history', 'profile_acme', '-o', 'json')).out) as never;

describe('U2 P12 policy test', () => {
  test('P12 cases that hold: exit code 0 and how many there are', async () => {
    const cases = world.file('acme.cases.yaml', CASES);
    expect(await policy('test', files.first, cases)).toEqual({
      code: 0,
      said: '',
      out: '2 cases, all as expected\n',
    });
    const piped = await world.run(['policy', 'test', '-', cases, '-o', 'json'], {
      stdin: policyYaml('acme', CANDIDATE).replaceAll('${ENV}', world.stack.environment),
    });
    expect(piped).toMatchObject({ code: 0, said: '' });
    expect(JSON.parse(piped.out)).toEqual({ cases: 2, failed: 0, failures: [] });
  });

  test('P12 cases that do not: each with its line, what it expects and what it got; exit code 1', async () => {
    const cases = world.file(
      'wrong.cases.yaml',
      CASES.replace('outcome: deny, rules: [default-deny]', 'outcome: allow, rules: [notes]'),
    );
    const { code, out, said } = await policy('test', files.first, cases);
    expect({ code, said }).toEqual({ code: 1, said: '' });
    expect(out).toMatch(/CASE +NAME +EXPECTED +GOT/);
    expect(out).toMatch(/wrong\.cases\.yaml:8 +no secret +allow notes +deny default-deny/);
    expect(out).toContain('2 cases, 1 not as expected');
    const { failures } = JSON.parse((await policy('test', files.first, cases, '-o', 'json')).out) as {
      failures: object[];
    };
    expect(failures).toMatchObject([
      {
        line: 8,
        name: 'no secret',
        expected: { outcome: 'allow' },
        got: { outcome: 'deny', rules: ['default-deny'] },
      },
    ]);
  });

  test('P12 U3 mistakes of all case files are told with their lines, and nothing is asked', async () => {
    const one = world.file('a.cases.yaml', CASES.replace('note.write', 'note.wriet'));
    const other = world.file('b.cases.yaml', CASES.replace('profile_acme', 'profile_other'));
    const { code, out, said } = await policy('test', files.first, one, other);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(said).toMatch(
      /a\.cases\.yaml:7:\d+ {2}cases\[0\]\.action: .*"note\.wriet"\n +did you mean note\.write\?/,
    );
    expect(said).toMatch(/b\.cases\.yaml:4:\d+ {2}profile: these cases are about the profile profile_other/);
    expect(await world.run(['policy', 'test', files.first, one], { app: null })).toMatchObject({ code: 2 });
    expect(await policy('test', files.first)).toMatchObject({ code: 2 });
  });
});

describe('U2 P12 policy backtest', () => {
  test('P12 the tenant’s recorded decisions are made again: by rule, agent and action, with counts and spend', async () => {
    const { code, out, said } = await policy('backtest', files.candidate, '--tenant', 'acme', '-o', 'json');
    expect({ code, said }).toEqual({ code: 0, said: '' });
    expect(JSON.parse(out)).toMatchObject({
      tenant: 'acme',
      // Four model calls, three payments, a judgement, a note.
      decisions: 9,
      notReplayable: { arguments_gone: 0, schema_changed: 0 },
      cutAt: null,
      changes: [
        {
          from: 'deny',
          to: 'allow',
          rulesThen: ['default-deny'],
          rulesNow: ['judging'],
          agent: 'test_worker',
          action: 'text.judge',
          decisions: 1,
          microUsd: '0',
        },
        {
          from: 'allow',
          to: 'deny',
          rulesThen: ['pay'],
          rulesNow: ['default-deny'],
          action: 'payment.send',
          decisions: 2,
          microUsd: '400',
        },
      ],
    });
    const table = await policy('backtest', files.candidate, '--tenant', 'acme', '--since', '1h');
    expect(table.out).toMatch(
      /^acme: 9 decisions of the last 1h, 3 would be made otherwise, 1 of them would newly be allowed\n/,
    );
    expect(table.out).toMatch(/CHANGE +BY THEN +BY NOW +AGENT +ACTION +CALLS +MICRO-USD/);
    expect(table.out).toMatch(/allow → deny +pay[^\n]* default-deny +test_worker +payment\.send +2 +400/);
  });

  test('P12 the policy in force changes nothing, a bound is told, and what lies before --since is left out', async () => {
    expect((await policy('backtest', files.first, '--tenant', 'acme')).out).toBe(
      'acme: 9 decisions of the last 7d, none would be made otherwise\n',
    );
    const cut = await policy('backtest', files.first, '--tenant', 'acme', '--most', '4');
    expect(cut.out).toMatch(/^acme: 4 decisions[^]*cut after 20[^]*--most takes in more/);
    expect((await policy('backtest', files.first, '--tenant', 'acme', '--since', '1ms')).out).toMatch(
      /^acme: 0 decisions/,
    );
  });

  test('U2 no tenant, an unknown one, a word that is no number: told with exit codes', async () => {
    expect(await policy('backtest', files.candidate)).toMatchObject({ code: 2 });
    expect(await policy('backtest', files.candidate, '--tenant', 'nobody')).toMatchObject({ code: 4 });
    expect(await policy('backtest', files.candidate, '--tenant', 'acme', '--most', 'many')).toMatchObject({
      code: 2,
    });
    expect(await policy('backtest', files.candidate, '--tenant', 'acme', '--since', 'monday')).toMatchObject({
      code: 2,
    });
  });
});

describe('U2 P10 P12 policy publish, history and back', () => {
  const publish = (file: string, ...more: string[]): Promise<Ran> =>
    policy('publish', '-f', file, '--reason', 'a drill', ...more);

  test('P12 with --refuse-new-allows nothing is published where something would newly be allowed, or that is not known', async () => {
    const before = await versions();
    const refused = await publish(files.candidate, '--refuse-new-allows');
    expect(refused.code).toBe(3);
    expect(refused.said).toMatch(
      /^nothing was published:\n {2}acme: text\.judge by test_worker would newly be allowed by judging \(1 of its calls\)\n$/,
    );
    const cut = await publish(files.narrower, '--refuse-new-allows', '--most', '3');
    expect(cut).toMatchObject({ code: 3, said: expect.stringContaining('raise --most') });
    expect(await publish(files.candidate, '--refuse-new-allows', '--no-backtest')).toMatchObject({ code: 2 });
    expect(await versions()).toEqual(before);
  });

  test('P10 P12 publish shows the decisions of the last 7 days first, and then publishes', async () => {
    const { code, out } = await publish(files.candidate);
    expect(code).toBe(0);
    expect(out).toMatch(
      /^acme: 9 decisions of the last 7d,[^]*allow → deny[^]*PROFILE +VERSION +IN FORCE FOR\nprofile_acme +2 +1 tenant/,
    );
    const json = await publish(files.narrower, '-o', 'json', '--refuse-new-allows');
    expect(JSON.parse(json.out)).toMatchObject([
      { profile: 'profile_acme', version: 3, tenants: 1, backtests: [{ tenant: 'acme', decisions: 9 }] },
    ]);
    expect((await publish(files.candidate, '--no-backtest')).out).toMatch(/^PROFILE/);
  });

  test('P10 the history says when, who, why and which version is in force; an unknown profile is exit code 4', async () => {
    const { out } = await policy('history', 'profile_acme');
    expect(out).toMatch(
      /VERSION +PUBLISHED +BY +REASON +ENVIRONMENTS +IN FORCE FOR\n4 +20\S+ +tester +a drill +\S+ +1 tenant\n3 [^\n]*nobody/,
    );
    expect((await versions()).map(({ version, tenants }) => [version, tenants])).toEqual([
      [4, 1],
      [3, 0],
      [2, 0],
      [1, 0],
    ]);
    expect(await policy('history', 'nothing')).toMatchObject({
      code: 4,
      said: expect.stringContaining('never published'),
    });
  });

  test('P10 back publishes what an earlier version says as a new one, after its backtest', async () => {
    const was = await policy('show', '--tenant', 'acme', '--version', '1');
    const back = await policy('back', 'profile_acme', '--to', '1', '--reason', 'too narrow');
    expect(back.code).toBe(0);
    expect(back.out).toMatch(/^acme: 9 decisions[^]*profile_acme +5 +1 tenant/);
    expect((await policy('show', '--tenant', 'acme')).out).toBe(was.out);
    expect((await versions())[0]).toMatchObject({
      version: 5,
      reason: 'back to version 1: too narrow',
      tenants: 1,
    });
    expect(await policy('back', 'profile_acme', '--to', '77', '--reason', 'r')).toMatchObject({ code: 4 });
    expect(await policy('back', 'nothing', '--to', '1', '--reason', 'r')).toMatchObject({ code: 4 });
    expect(await policy('back', 'profile_acme', '--to', 'x', '--reason', 'r')).toMatchObject({ code: 2 });
    expect(await policy('back', 'profile_acme', '--to', '1')).toMatchObject({ code: 2 });
  });

  test('P12 tenants of another environment are not looked at, which is told, and known for no one', async () => {
    await world.run(['tenant', 'create', '-f', world.file('other.yaml', OTHER)]);
    const wide = world.file(
      'wide.yaml',
      policyYaml('acme', RULES).replace('environments: [${ENV}]', 'environments: [${ENV}, elsewhere]'),
    );
    const refused = await publish(wide, '--refuse-new-allows');
    expect(refused).toMatchObject({ code: 3, said: expect.stringContaining('elsewhere') });
    const published = await publish(wide);
    expect(published).toMatchObject({ code: 0, said: expect.stringContaining('--env elsewhere') });
    expect((await versions())[0]).toMatchObject({ version: 6, tenants: 2 });
  });
});

test('P12 arguments that are gone are counted and not guessed; whether such a call would newly be allowed is not known', async () => {
  const admin = new Client({ connectionString: world.stack.database.adminUrl });
  await admin.connect();
  await admin.query(`delete from bulkhead.payloads where tenant_id = 'acme' and ref = '0.0'`);
  await admin.end();
  const { out } = await policy('backtest', files.candidate, '--tenant', 'acme', '-o', 'json');
  expect(JSON.parse(out)).toMatchObject({
    decisions: 9,
    notReplayable: { arguments_gone: 2 },
    unknown: 1,
    changes: [{ from: 'allow', to: 'deny', decisions: 1 }],
  });
  const refused = await policy('publish', '-f', files.first, '--reason', 'r', '--refuse-new-allows');
  expect(refused).toMatchObject({ code: 3, said: expect.stringContaining('could not be asked about again') });
});

const OTHER = `
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: globex }
environments: { elsewhere: { policyProfile: profile_acme, quotaClass: quota_acme } }
workspaces: [main]
`;
