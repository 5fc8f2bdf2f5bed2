import { Client } from 'pg';
import { SIGNALS } from '../../contracts/workflow-io';
import { createCliWorld, type CliWorld } from './world';

const DOCUMENTS = `
apiVersion: bulkhead/v1
kind: QuotaClass
metadata: { name: small }
limits: { toolCallsPerDay: 100, callsInFlight: 4 }
perAction: { note.write: { callsPerMinute: 6, callsInFlight: 2 } }
---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: acme }
environments: { \${ENV}: { policyProfile: careful, quotaClass: small } }
workspaces: [main]
timeZone: Asia/Tokyo
---
apiVersion: bulkhead/v1
kind: Tenant
metadata: { name: globex }
environments: { \${ENV}: { policyProfile: careful, quotaClass: small } }
workspaces: [main]
`;

let world: CliWorld;
beforeAll(async () => {
  world = await createCliWorld();
  const file = world.file('tenants.yaml', DOCUMENTS);
  expect(await world.run(['tenant', 'create', '-f', file])).toMatchObject({ code: 0 });
});
afterAll(() => world.close());

interface Shown {
  timeZone: string;
  overrides: object;
  layers: { of: string; limit: string; cap: number | null; used: number | null }[];
}
const shown = async (tenant: string): Promise<Shown> => {
  const { code, out } = await world.run(['quota', 'show', tenant, '-o', 'json']);
  expect(code).toBe(0);
  return JSON.parse(out) as Shown;
};
const capOf = async (tenant: string, limit: string, of = ''): Promise<number | null | undefined> =>
  (await shown(tenant)).layers.find((layer) => layer.of === of && layer.limit === limit)?.cap;
const set = (...args: string[]) => world.run(['quota', 'set', ...args]);

describe('U2 Q3 quota show', () => {
  test('U2 every layer is a line; one without a limit has a dash, and days are the tenant’s', async () => {
    const { code, out, said } = await world.run(['quota', 'show', 'acme']);
    expect(code).toBe(0);
    expect(out).toMatch(/OF +LIMIT +VALUE +USED +RESERVED +FREE +FREES AT/);
    expect(out).toMatch(/tenant +toolCallsPerDay +100 +0 +0 +100 +-/);
    expect(out).toMatch(/tenant +modelTokensPerDay +- +0 +0 +- +-/);
    expect(out).toMatch(/tenant +concurrentRuns +50 +0 +- +50 +-/);
    expect(out).toMatch(/action:note\.write +callsInFlight +2 +0 +0 +2/);
    expect(out).toMatch(/each run +steps +50 +- +- +- +-/);
    expect(said).toContain('quota class small; days and times of Asia/Tokyo');
  });

  test('U2 what is used says when it frees, at the tenant’s own time', async () => {
    await world.stack.run('acme', 'go');
    const { out } = await world.run(['quota', 'show', 'acme']);
    expect(out).toMatch(
      /runStartsPerMinute +600 +1 +- +599 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(in 1s\)|runStartsPerMinute +600 +0 +- +600 +-/,
    );
    expect(out).toMatch(/concurrentRuns +50 +1 +- +49/);
  });

  test('U2 E1 with a token it is the token’s own tenant, and no other', async () => {
    const token = (await world.run(['token', '--tenant', 'acme'])).out.trim();
    const own = await world.run(['quota', 'show', '-o', 'json'], { env: { BULKHEAD_TOKEN: token } });
    expect(JSON.parse(own.out)).toMatchObject({ timeZone: 'Asia/Tokyo', quotaClass: 'small' });
    expect(await world.run(['quota', 'show', 'globex', '--token', token])).toMatchObject({
      code: 3,
      out: '',
    });
    // One of the environment counts as much: it is not passed over for the operator's own access.
    const bearer = { env: { BULKHEAD_TOKEN: token } };
    expect(await world.run(['quota', 'show', 'globex'], bearer)).toMatchObject({ code: 3, out: '' });
    expect(await world.run(['quota', 'show', 'acme'], bearer)).toMatchObject({ code: 0 });
    // Limits are set by operators, whatever token stands there.
    expect(await world.run(['quota', 'set', 'globex', 'stepsPerDay=5'], bearer)).toMatchObject({ code: 0 });
    expect(await set('globex', 'stepsPerDay=default')).toMatchObject({ code: 0 });
  });

  test('U2 an unknown tenant is exit code 4, none named is 2', async () => {
    expect(await world.run(['quota', 'show', 'nobody'])).toMatchObject({ code: 4 });
    expect(await world.run(['quota', 'show'])).toMatchObject({ code: 2 });
  });
});

describe('U2 Q6 quota set', () => {
  test('Q6 sets several at once, for this tenant alone, and returns to the class’s own', async () => {
    expect(await set('acme', 'toolCallsPerDay=7', 'stepsPerDay=9')).toMatchObject({
      code: 0,
      out: expect.stringMatching(/toolCallsPerDay +7[^]*stepsPerDay +9/),
      said: expect.stringContaining('with limits set for this tenant alone'),
    });
    expect(await capOf('acme', 'toolCallsPerDay')).toBe(7);
    expect(await capOf('globex', 'toolCallsPerDay')).toBe(100);
    expect(await set('acme', 'toolCallsPerDay=default')).toMatchObject({ code: 0 });
    expect(await capOf('acme', 'toolCallsPerDay')).toBe(100);
    expect(await capOf('acme', 'stepsPerDay')).toBe(9);
  });

  test('Q6 of one action or agent, and of each run; what the class says of the same action stays', async () => {
    expect(await set('acme', 'callsPerMinute=60', '--action', 'note.write')).toMatchObject({ code: 0 });
    expect(await capOf('acme', 'callsPerMinute', 'action:note.write')).toBe(60);
    expect(await capOf('acme', 'callsInFlight', 'action:note.write')).toBe(2);
    expect(await set('acme', 'spendMicroUsdPerDay=5', '--agent', 'triage')).toMatchObject({ code: 0 });
    expect(await capOf('acme', 'spendMicroUsdPerDay', 'agent:triage')).toBe(5);
    expect(await set('acme', 'seconds=30', '--per-run')).toMatchObject({ code: 0 });
    expect(await capOf('acme', 'seconds', 'run')).toBe(30);
    expect(await set('acme', 'spendMicroUsdPerDay=default', '--agent', 'triage')).toMatchObject({ code: 0 });
    expect(await capOf('acme', 'spendMicroUsdPerDay', 'agent:triage')).toBeUndefined();
  });

  test('Q6 what is set stays when the class or the tenant’s document is applied again', async () => {
    await set('acme', 'callsInFlight=3');
    const file = world.file('again.yaml', DOCUMENTS.replace('toolCallsPerDay: 100', 'toolCallsPerDay: 50'));
    expect(await world.run(['tenant', 'create', '-f', file])).toMatchObject({ code: 0 });
    expect(await capOf('acme', 'callsInFlight')).toBe(3);
    expect(await capOf('acme', 'toolCallsPerDay')).toBe(50);
  });

  test('Q6 what documents have changed before one of them failed is printed, and in force for runs that wait', async () => {
    const { runId, workflowId } = await world.stack.run('acme', 'go');
    const admin = new Client({ connectionString: world.stack.database.adminUrl });
    await admin.connect();
    try {
      await admin.query(`update bulkhead.runs set state = 'throttled' where run_id = '${runId}'`);
      await admin.query(`
        create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'its row is broken'; end $$;
        create trigger refuse before update on bulkhead.tenants for each row
          when (new.tenant_id = 'globex' and new.workspaces is distinct from old.workspaces)
          execute function public.refuse()`);
      const changed = DOCUMENTS.replaceAll('[main]', '[main, second]').replace(
        'callsInFlight: 4',
        'callsInFlight: 5',
      );
      const file = world.file('changed.yaml', changed);
      expect(await world.run(['tenant', 'create', '-f', file])).toEqual({
        code: 1,
        out: expect.stringMatching(/QuotaClass +small +saved\nTenant +acme +updated\n$/),
        said: expect.stringMatching(/its row is broken/),
      });
    } finally {
      await admin.query(
        'drop trigger if exists refuse on bulkhead.tenants; drop function if exists public.refuse',
      );
      await admin.end();
    }
    const { events } = await world.stack.temporal.workflow.getHandle(workflowId).fetchHistory();
    const told = (events ?? []).map((event) => event.workflowExecutionSignaledEventAttributes?.signalName);
    expect(told).toContain(SIGNALS.wakeRun);
  });

  test('O2 who set it is in the tenant’s journal, with the limits in force after it', async () => {
    await set('globex', 'toolCallsPerDay=11', '--actor', 'ada');
    const last = (await world.stack.journal('globex')).at(-1);
    expect(JSON.parse(last?.facts ?? '')).toMatchObject({
      ...{ kind: 'limits', actor: 'ada' },
      quota: { limits: { toolCallsPerDay: 11 } },
    });
    expect(JSON.parse(last?.body ?? '')).toEqual({
      of: { kind: 'tenant' },
      changes: [{ limit: 'toolCallsPerDay', value: 11 }],
    });
  });

  test.each([
    [['toolCallPerDay=5'], 'did you mean toolCallsPerDay?'],
    [['frobs=5'], 'there is toolCallsPerDay'],
    [['steps=5'], 'there is no limit steps'],
    [['runStartsPerMinute=5', '--agent', 'triage'], 'there is no limit runStartsPerMinute of an agent'],
    [['stepsPerDay=5', '--per-run'], 'there is no limit stepsPerDay of a run'],
    [['toolCallsPerDay'], 'write toolCallsPerDay=<number>'],
    [['toolCallsPerDay=-1'], 'a whole number, or default'],
    [['toolCallsPerDay=1.5'], 'a whole number, or default'],
    [['toolCallsPerDay=9999999999999999'], 'toolCallsPerDay: '],
    [['callsInFlight=100001'], 'callsInFlight: '],
    [['queuedSeconds=9999999999999'], 'queuedSeconds: '],
    [['queuedSeconds=31622401'], 'queuedSeconds: '],
    [['steps=0', '--per-run'], 'steps: '],
    [['toolCallsPerDay=1', 'toolCallsPerDay=2'], 'is set twice'],
    [['callsPerMinute=1', '--agent', 'a', '--action', 'b.c'], 'give one of'],
    [['callsPerMinute=1', '--action', 'No Action'], 'callsPerMinute: '],
    [['callsPerMinute=1', '--agent', '../x'], 'callsPerMinute: '],
  ])('U2 %j is a usage error that says what to write, and nothing is set', async (args, said) => {
    const before = await shown('acme');
    const ran = await set('acme', ...args);
    expect(ran).toMatchObject({ code: 2, out: '' });
    expect(ran.said).toContain(said);
    expect((await shown('acme')).overrides).toEqual(before.overrides);
  });

  test('U2 an unknown tenant is exit code 4; the help names every limit and has examples', async () => {
    expect(await set('nobody', 'toolCallsPerDay=1')).toMatchObject({ code: 4 });
    const { out } = await world.run(['quota', 'set', '--help']);
    expect(out).toContain('bulkhead quota set acme callsPerMinute=10 --action web.search');
    expect(out).toContain('highRiskWritesPerDay');
  });
});
