import { createCliWorld, type CliWorld } from './world';

const DOCUMENTS = `
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: acme }
environments: { \${ENV}: { policyProfile: careful, quotaClass: small } }
workspaces: [main]
connections: { keeper: "http://keeper.example" }
scope: [{ system: keeper, account: acme-1 }]
---
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: small }
---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: globex }
environments: { \${ENV}: { policyProfile: careful, quotaClass: small } }
workspaces: [main]
`;
const PROFILE = `
apiVersion: bulkhead/v1
kind: PolicyProfile
metadata: { name: careful }
environments: [\${ENV}]
rules:
  - { id: read, effect: allow, actions: [record.read] }
`;

let world: CliWorld;
let agent: string;
beforeAll(async () => {
  world = await createCliWorld();
  agent = [...world.stack.parts.app.agents.keys()][0] ?? '';
});
afterAll(() => world.close());

describe('U2 tenants, from documents', () => {
  test('U2 a tenant is created with its quota class in any order, its control workflow started, and repeating updates it', async () => {
    const file = world.file('tenants.yaml', DOCUMENTS);
    const first = await world.run(['tenant', 'create', '-f', file, '-o', 'json']);
    expect(first).toMatchObject({ code: 0, said: '' });
    expect(JSON.parse(first.out)).toEqual([
      { kind: 'QuotaClass', name: 'small', done: 'saved' },
      { kind: 'Tenant', name: 'acme', done: 'created' },
      { kind: 'Tenant', name: 'globex', done: 'created' },
    ]);
    const control = world.stack.temporal.workflow.getHandle(`tenant/acme/${world.stack.environment}/control`);
    expect((await control.describe()).status.name).toBe('RUNNING');
    expect((await world.run(['tenant', 'create', '-f', file])).out).toContain('updated');
  });

  test('U2 a document with mistakes changes nothing, and each is told with its line', async () => {
    const file = world.file(
      'wrong.yaml',
      `${DOCUMENTS}---\napiVersion: bulkhead/v1\nkind: Tenant\nmetadata: { name: BAD }\nworkspaces: []\n`,
    );
    const { code, out, said } = await world.run(['tenant', 'create', '-f', file]);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(said).toMatch(/wrong\.yaml:\d+:\d+ {2}metadata\.name/);
    expect(said).toMatch(/environments/);
    expect(said).toMatch(/workspaces/);
  });

  test('U2 where a tenant names what neither exists nor is among the documents, none of them is put', async () => {
    const tenant = (name: string, more: string): string =>
      `---\napiVersion: bulkhead/v1\nkind: Tenant\nmetadata: { name: ${name} }\nworkspaces: [main]\n${more}\n`;
    const inClass = (name: string): string =>
      `environments: { \${ENV}: { policyProfile: careful, quotaClass: ${name} } }`;
    const brought = `
apiVersion: bulkhead/v1
kind: ProviderPool
metadata: { name: brought }
provider: openai
callsInFlight: 4
---
apiVersion: bulkhead/v1
kind: CallCapacity
metadata: { name: brought }
callsInFlight: 4
---
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: brought }
`;
    const first = tenant('first', `${inClass('brought')}\npools: { openai: brought }\ncapacity: brought`);
    const create = (text: string) => world.run(['tenant', 'create', '-f', world.file('several.yaml', text)]);
    for (const [more, unknown] of [
      [inClass('absent'), 'no quota class absent'],
      [`${inClass('brought')}\npools: { openai: absent }`, 'no provider pool absent of openai'],
      [`${inClass('brought')}\npools: { other: brought }`, 'no provider pool brought of other'],
      [`${inClass('brought')}\ncapacity: absent`, 'no shared capacity absent'],
    ] as const) {
      expect(await create(`${brought}${first}${tenant('second', more)}`)).toEqual({
        code: 1,
        out: '',
        said: expect.stringContaining(unknown),
      });
    }
    expect(JSON.parse((await world.run(['tenant', 'list', '-o', 'json'])).out)).toHaveLength(2);
    // None of what it names is there either: alone it is refused, and with them it is put.
    expect(await create(first)).toMatchObject({ code: 1, said: expect.stringContaining('class brought') });
    expect(await create(`${first}---${brought}`)).toMatchObject({ code: 0 });
  });

  test('U2 list and show; an unknown tenant is exit code 4, none named is 2', async () => {
    expect(JSON.parse((await world.run(['tenant', 'list', '-o', 'json'])).out)).toHaveLength(3);
    expect((await world.run(['tenant', 'list'])).out).toMatch(
      /TENANT +POLICY PROFILE[^]*acme +careful +small/,
    );
    expect((await world.run(['tenant', 'show', 'acme'])).out).toMatch(
      /mode +normal[^]*not published: everything is denied/,
    );
    expect(await world.run(['tenant', 'show', 'nobody'])).toMatchObject({
      code: 4,
      said: expect.stringContaining('tenant list'),
    });
    expect(await world.run(['tenant', 'show'])).toMatchObject({ code: 2 });
    expect(await world.run(['tenant', 'show', 'Acme!'])).toMatchObject({ code: 2 });
    expect(await world.run(['tenant', 'show', 'acme', '--env', '../prod'])).toMatchObject({ code: 2 });
  });
});

describe('U2 policies', () => {
  test('U2 validate tells every mistake of every file and exits 1; publish refuses the same', async () => {
    const right = world.file('careful.yaml', PROFILE);
    const wrong = world.file(
      'careless.yaml',
      PROFILE.replace('record.read', 'record.raed').replace('careful', 'Careless'),
    );
    expect(await world.run(['policy', 'validate', '-f', right])).toMatchObject({
      code: 0,
      out: expect.stringContaining('no mistakes'),
    });
    for (const args of [
      ['policy', 'validate', '-f', right, wrong],
      ['policy', 'publish', '-f', right, wrong, '--reason', 'drill'],
    ]) {
      const { code, said } = await world.run(args);
      expect(code).toBe(1);
      expect(said).toMatch(/careless\.yaml:\d+:\d+ {2}metadata\.name/);
      expect(said).toMatch(/record\.raed[^]*did you mean record\.read\?/);
    }
    expect(await world.run(['policy', 'show', 'careful'])).toMatchObject({
      code: 4,
      out: '',
      said: expect.stringContaining('never published'),
    });
  });

  test('U2 publish brings it into force, and show reads it and its history', async () => {
    const file = world.file('careful.yaml', PROFILE);
    expect(await world.run(['policy', 'publish', '-f', file])).toMatchObject({ code: 2 });
    const published = await world.run([
      'policy',
      'publish',
      '-f',
      file,
      '--reason',
      'first',
      '-o',
      'json',
      '--actor',
      'release-1',
    ]);
    expect(published.code).toBe(0);
    expect(JSON.parse(published.out)).toMatchObject([{ profile: 'careful', tenants: 3 }]);
    expect((await world.run(['policy', 'show', '--tenant', 'acme'])).out).toContain('record.read');
    expect((await world.run(['policy', 'show', 'careful'])).out).toMatch(/release-1 +first/);
    expect(await world.run(['policy', 'show'])).toMatchObject({ code: 2 });
    expect(
      await world.run(['policy', 'publish', '-f', world.file('t.yaml', DOCUMENTS), '--reason', 'x']),
    ).toMatchObject({ code: 2 });
  });
});

describe('S2 secrets come on standard input and are never printed', () => {
  const SECRET = 'sk-canary-51b2';
  test('S2 put keeps it, says only its version, and nobody finds it in the output', async () => {
    const { code, out, said } = await world.run(
      ['secret', 'put', 'keeper:read', '--tenant', 'acme', '-o', 'json'],
      { stdin: `${SECRET}\n` },
    );
    expect({ code, said }).toEqual({ code: 0, said: '' });
    expect(JSON.parse(out)).toEqual({ tenant: 'acme', capability: 'keeper:read', version: 1 });
    expect(
      (await world.run(['secret', 'put', 'keeper:read', '--tenant', 'acme'], { stdin: 'other' })).out,
    ).toMatch(/version +2/);
  });
  test('S2 none, an argument, an unknown tenant, a line break inside: refused without repeating it', async () => {
    expect(await world.run(['secret', 'put', 'keeper:read', '--tenant', 'acme'])).toMatchObject({ code: 2 });
    expect(
      await world.run(['secret', 'put', 'keeper:read', '--tenant', 'acme'], { stdin: '\n' }),
    ).toMatchObject({ code: 2 });
    expect(await world.run(['secret', 'put', 'keeper', '--tenant', 'acme'], { stdin: SECRET })).toMatchObject(
      { code: 2 },
    );
    for (const [args, stdin] of [
      [['secret', 'put', 'keeper:read', '--tenant', 'nobody'], SECRET],
      [['secret', 'put', 'keeper:read', '--tenant', 'acme'], `${SECRET}\nX: y`],
    ] as const) {
      const { code, out, said } = await world.run([...args], { stdin });
      expect(code).toBeGreaterThan(0);
      expect(out + said).not.toContain(SECRET);
    }
  });
});

describe('U2 runs, with a token or on a development stack', () => {
  test('U2 start, show, list, explain; the same key is the same run, another body exit code 3', async () => {
    const args = [
      'run',
      'start',
      '--tenant',
      'acme',
      '--agent',
      agent,
      '--target',
      'keeper:r1',
      '--key',
      'k1',
      '-o',
      'json',
    ];
    const first = await world.run([...args, '--input', '{"n":1}']);
    expect(first).toMatchObject({ code: 0, said: '' });
    const { runId, existing } = JSON.parse(first.out) as { runId: string; existing: boolean };
    expect(existing).toBe(false);
    expect(JSON.parse((await world.run([...args, '--input', '-'], { stdin: '{"n":1}' })).out)).toMatchObject({
      runId,
      existing: true,
    });
    expect(await world.run([...args, '--input', '{"n":2}'])).toMatchObject({
      code: 3,
      said: expect.stringContaining('new key'),
    });

    expect((await world.run(['run', 'show', runId, '--tenant', 'acme'])).out).toMatch(/state +accepted/);
    expect((await world.run(['run', 'list', '--tenant', 'acme'])).out).toContain(runId);
    expect((await world.run(['run', 'explain', runId, '--tenant', 'acme'])).out).toMatch(
      /means +recorded, its workflow not started yet/,
    );
    expect(await world.run(['run', 'wait', runId, '--tenant', 'acme', '--timeout', '200ms'])).toMatchObject({
      code: 1,
      said: expect.stringContaining('goes on'),
    });
    expect(await world.run(['run', 'show', runId, '--tenant', 'globex'])).toMatchObject({ code: 4 });
    expect(
      await world.run(['run', 'cancel', runId, '--tenant', 'globex', '--reason', 'mine now']),
    ).toMatchObject({ code: 4 });
    const cancel = ['run', 'cancel', runId, '--tenant', 'acme', '--reason', 'by mistake', '-o', 'json'];
    const cancelled = await world.run(cancel);
    expect(cancelled).toMatchObject({ code: 0, said: expect.stringContaining('was told to stop') });
    expect(JSON.parse(cancelled.out)).toMatchObject({ runId, state: 'accepted' });
  }, 30_000);

  test('E1 a tenant named against the token is refused; without token and issuer the remedy is said', async () => {
    const token = (await world.run(['token', '--tenant', 'acme', '--ttl', '5m'])).out.trim();
    expect(token.split('.')).toHaveLength(3);
    expect(await world.run(['run', 'list', '--tenant', 'globex', '--token', token])).toMatchObject({
      code: 3,
    });
    expect(
      await world.run(['run', 'list', '--tenant', 'globex'], { env: { BULKHEAD_TOKEN: token } }),
    ).toMatchObject({ code: 3 });
    expect(
      await world.run(['run', 'start', '--tenant', 'globex', '--agent', agent, '--token', token]),
    ).toMatchObject({ code: 3 });
    expect(await world.run(['run', 'list'], { env: { BULKHEAD_TOKEN: token } })).toMatchObject({ code: 0 });
    const none = { env: { BULKHEAD_DEV_ISSUER_KEY: '' } };
    expect(await world.run(['run', 'list', '--tenant', 'acme'], none)).toMatchObject({
      code: 3,
      said: expect.stringContaining('BULKHEAD_TOKEN'),
    });
    expect(await world.run(['token', '--tenant', 'acme'], none)).toMatchObject({ code: 3 });
    expect(await world.run(['token', '--tenant', 'nobody'])).toMatchObject({ code: 4 });
    expect(await world.run(['run', 'list'])).toMatchObject({
      code: 2,
      said: expect.stringContaining('--tenant'),
    });
  });

  test.each([
    [['run', 'start', '--tenant', 'acme'], 2],
    [['run', 'start', '--tenant', 'acme', '--agent', 'nobody_knows'], 4],
    [['run', 'start', '--tenant', 'acme', '--agent', 'x', '--input', '{'], 2],
    [['run', 'start', '--tenant', 'acme', '--agent', 'x', '--input', '@/nonexistent'], 2],
    [['run', 'start', '--tenant', 'acme', '--agent', 'x', '--target', 'keeper'], 2],
    [['run', 'list', '--tenant', 'acme', '--limit', '0'], 2],
    [['run', 'list', '--tenant', 'acme', '--state', 'asleep'], 2],
    [['run', 'wait', 'x', '--tenant', 'acme', '--timeout', 'soon'], 2],
    [['run', 'watch'], 2],
    [['nonsense'], 2],
    [['journal', 'verify'], 2],
    [['--help'], 0],
    [['run', 'start', '--help'], 0],
  ])('U2 %j exits %i', async (args, code) => {
    expect((await world.run(args)).code).toBe(code);
  });

  test('U2 every command has help with an example', async () => {
    const commands = [
      'migrate',
      'token',
      'tenant create',
      'tenant list',
      'tenant show',
      'run start',
      'run list',
      'run show',
      'run wait',
      'run explain',
      'run cancel',
      'policy validate',
      'policy publish',
      'policy show',
      'kill',
      'release',
      'journal show',
      'journal verify',
      'secret put',
      'agent list',
      'tenant',
      'run',
      'policy',
      'journal',
      'secret',
      'agent',
    ];
    for (const command of commands) {
      const { code, out } = await world.run([...command.split(' '), '--help']);
      expect({ command, code, example: /Examples:\n +\$ .*bulkhead/.test(out) }).toEqual({
        command,
        code: 0,
        example: true,
      });
    }
  });

  test('S2 what tenants write cannot steer a terminal, and JSON keeps its value', async () => {
    const evil = 'r\u001b[2Jx\u009b31m\u202e';
    const started = await world.run([
      'run',
      'start',
      '--tenant',
      'acme',
      '--agent',
      agent,
      '--target',
      `keeper:${evil}`,
      '-o',
      'json',
    ]);
    expect(JSON.parse(started.out)).toMatchObject({ target: { recordId: evil } });
    const { out } = await world.run(['run', 'list', '--tenant', 'acme']);
    for (const text of [out, started.out]) expect(text).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}]/u);
  });
});

describe('O2 the journal', () => {
  test('O2 it is shown, and its chain recomputed; a head kept elsewhere has to be in it', async () => {
    const shown = await world.run(['journal', 'show', '--tenant', 'acme', '-o', 'json']);
    const entries = JSON.parse(shown.out) as { seq: number; hash: string }[];
    expect(entries.length).toBeGreaterThan(1);
    expect((await world.run(['journal', 'show', '--tenant', 'acme'])).out).toMatch(/SEQ +AT +KIND/);
    const head = `${entries.at(-1)?.seq}:${entries.at(-1)?.hash}`;
    expect(await world.run(['journal', 'verify', '--tenant', 'acme', '--head', head])).toMatchObject({
      code: 0,
      out: expect.stringContaining('every link holds'),
    });
    const lost = `${(entries.at(-1)?.seq ?? 0) + 1}:${'0'.repeat(64)}`;
    expect(await world.run(['journal', 'verify', '--tenant', 'acme', '--head', lost])).toMatchObject({
      code: 1,
    });
    expect(await world.run(['journal', 'verify', '--tenant', 'acme', '--head', 'x'])).toMatchObject({
      code: 2,
    });
  });

  test('O2 a run’s journal is its tenant’s alone', async () => {
    const runs = JSON.parse((await world.run(['run', 'list', '--tenant', 'acme', '-o', 'json'])).out) as {
      runId: string;
    }[];
    const run = runs.at(-1)?.runId ?? '';
    expect(await world.run(['journal', 'show', '--tenant', 'acme', '--run', run])).toMatchObject({ code: 0 });
    expect(await world.run(['journal', 'show', '--tenant', 'globex', '--run', run])).toMatchObject({
      code: 4,
    });
  });
});

describe('O1 kill and release', () => {
  test('O1 kill says each stage as it is reached, and release lets new runs in', async () => {
    const control = await world.stack.startControl();
    const killed = await world.run([
      'kill',
      '--tenant',
      'globex',
      '--reason',
      'drill',
      '--actor',
      'ops',
      '-o',
      'json',
      '--timeout',
      '30s',
    ]);
    expect(killed).toMatchObject({ code: 0 });
    expect(killed.said).toMatch(/fenced[^]*effects stopped[^]*contained[^]*drained/);
    expect(JSON.parse(killed.out)).toMatchObject({
      mode: 'killed',
      reason: 'drill',
      actor: 'ops',
      drainedAt: expect.stringMatching(/^\d{4}-/),
    });
    expect(await world.run(['run', 'start', '--tenant', 'globex', '--agent', agent])).toMatchObject({
      code: 3,
    });
    expect(await world.run(['run', 'list', '--tenant', 'acme'])).toMatchObject({ code: 0 });

    const released = await world.run(['release', '--tenant', 'globex', '--reason', 'over', '-o', 'json']);
    expect(JSON.parse(released.out)).toMatchObject({ mode: 'normal' });
    expect(await world.run(['run', 'start', '--tenant', 'globex', '--agent', agent])).toMatchObject({
      code: 0,
    });
    await control.stop();
  }, 60_000);

  test('O1 without a control worker nothing is claimed, and what to type by hand is said', async () => {
    const { code, said } = await world.run([
      'kill',
      '--tenant',
      'acme',
      '--reason',
      'drill',
      '--timeout',
      '1s',
    ]);
    expect(code).toBe(1);
    expect(said).toContain(`--workflow-id tenant/acme/${world.stack.environment}/control --name kill`);
    expect(said).toMatch(/may still be applied/);
  }, 30_000);

  test('O1 a kill names a tenant that exists, and a reason', async () => {
    expect(await world.run(['kill', '--tenant', 'nobody', '--reason', 'x'])).toMatchObject({ code: 4 });
    expect(await world.run(['kill', '--tenant', 'acme'])).toMatchObject({ code: 2 });
    expect(await world.run(['kill', '--reason', 'x'])).toMatchObject({ code: 2 });
  });
});
