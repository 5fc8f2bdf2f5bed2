import { Client } from 'pg';
import type { TenantId } from '../../contracts/ids';
import { controlWorkflowId } from '../../contracts/workflow-ids';
import type { ControlState } from '../../contracts/workflow-io';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';

/** What people type into a tenant's control: words and scopes that nobody foresaw. */

let stack: TestStack;
beforeAll(async () => {
  stack = await createTestStack({ workers: false });
  await stack.startControl();
});
afterAll(() => stack.close());

const TENANT = { kind: 'tenant' };
/** Nothing is sent there: these tenants have no runs. */
const NOWHERE = 'http://127.0.0.1:9';
const control = (tenant: string) =>
  stack.temporal.workflow.getHandle(controlWorkflowId(tenant as TenantId, stack.environment));
const state = async (tenant: string): Promise<ControlState> => {
  const found = await stack.store(tenant).control();
  if (!found) throw new Error('no control row');
  return found;
};
const inMode = (tenant: string, mode: string) =>
  until(`${tenant} ${mode}`, async () =>
    (await state(tenant)).mode === mode ? await state(tenant) : undefined,
  );
const shown = (tenant: string) =>
  control(tenant).query<ControlState & { malformed: number; waiting: number }>('controlState');
const malformed = (tenant: string, count: number) =>
  until('a command that is not applied', async () => (await shown(tenant)).malformed === count);
const tenant = (name: string) => readyTenant(stack, { name, keeper: NOWHERE, models: NOWHERE });

test('O1 a kill and a release whose words hold what no database can store are applied, and so is every later one', async () => {
  await tenant('worded');
  const words = { reason: 'run\0away', actor: '\uD800\0' };
  await control('worded').signal('kill', { scope: TENANT, ...words });
  expect(await inMode('worded', 'killed')).toMatchObject({
    reason: 'run\uFFFDaway',
    actor: '\uFFFD\uFFFD',
  });
  await control('worded').signal('release', { scope: TENANT, ...words });
  expect(await inMode('worded', 'normal')).toMatchObject({ reason: 'run\uFFFDaway' });
  await control('worded').executeUpdate('kill', { args: [{ scope: TENANT, reason: 'still works' }] });
  expect(await state('worded')).toMatchObject({ mode: 'killed', reason: 'still works', fenceEpoch: 2 });
});

test('O1 a kill that the database refuses for good is applied without its words; a release is refused, and nothing waits behind it', async () => {
  await tenant('poisoned');
  const admin = new Client({ connectionString: stack.database.adminUrl });
  await admin.connect();
  try {
    await admin.query(`
      create function public.refuse_poison() returns trigger language plpgsql as
        $$ begin raise exception 'no % here', new.actor; end $$;
      create trigger refuse_poison before update on bulkhead.fencings for each row
        when (new.actor = 'poison') execute function public.refuse_poison()`);
    await control('poisoned').signal('kill', { scope: TENANT, reason: 'stop', actor: 'poison' });
    expect(await inMode('poisoned', 'killed')).toMatchObject({
      reason: expect.stringContaining('could not be stored'),
    });
    await control('poisoned').signal('release', { scope: TENANT, actor: 'poison' });
    await malformed('poisoned', 1);
    await expect(
      control('poisoned').executeUpdate('release', { args: [{ scope: TENANT, actor: 'poison' }] }),
    ).rejects.toMatchObject({ cause: { message: expect.stringContaining('the database refuses') } });
    expect(await state('poisoned')).toMatchObject({ mode: 'killed' });
    await control('poisoned').signal('release', { scope: TENANT, actor: 'somebody else' });
    await inMode('poisoned', 'normal');
  } finally {
    await admin.query('drop function if exists public.refuse_poison cascade');
    await admin.end();
  }
});

test('O1 a scope that names another tenant is refused by this one’s control, which obeys its own name', async () => {
  await tenant('mine');
  const others = { kind: 'tenant', id: 'theirs' };
  await control('mine').signal('kill', { scope: others });
  await malformed('mine', 1);
  expect(await state('mine')).toMatchObject({ mode: 'normal', fenceEpoch: 0 });
  await control('mine').signal('kill', { scope: { kind: 'tenant', id: 'mine' } });
  await inMode('mine', 'killed');
  await control('mine').signal('release', { scope: others });
  await malformed('mine', 2);
  await expect(control('mine').executeUpdate('release', { args: [{ scope: others }] })).rejects.toMatchObject(
    { cause: { message: expect.stringMatching(/control of mine.*names theirs/) } },
  );
  expect(await state('mine')).toMatchObject({ mode: 'killed', fenceEpoch: 1 });
  await control('mine').signal('release', { scope: { kind: 'tenant', id: 'mine' } });
  await inMode('mine', 'normal');
});

test('O1 a scope without its name is read as one: what is no tenant kills nobody, and a tenant is killed', async () => {
  await tenant('bare');
  await control('bare').signal('kill', { kind: 'run', id: 'r1' });
  await control('bare').signal('kill', { id: 'bare' });
  await control('bare').signal('kill', { kind: 'tenant', id: 'theirs' });
  await malformed('bare', 3);
  await expect(
    control('bare').executeUpdate('kill', { args: [{ kind: 'run', id: 'r1' }] }),
  ).rejects.toMatchObject({ cause: { message: expect.stringContaining('"scope":{"kind":"tenant"}') } });
  expect(await state('bare')).toMatchObject({ mode: 'normal', fenceEpoch: 0 });
  await control('bare').signal('kill', { kind: 'tenant' });
  await inMode('bare', 'killed');
  await control('bare').signal('release', { kind: 'tenant' });
  await malformed('bare', 4);
  expect(await state('bare')).toMatchObject({ mode: 'killed' });
});

test('O1 `hard`, which is not there yet, weakens no kill and is not passed over in silence', async () => {
  await tenant('hurried');
  const told = { notes: [expect.stringContaining('`hard` is not known yet')] };
  expect(
    await control('hurried').executeUpdate('kill', { args: [{ scope: TENANT, hard: true }] }),
  ).toMatchObject({ mode: 'killed', ...told });
  await until('draining', async () => (await state('hurried')).drainedAt);
  expect(await shown('hurried')).toMatchObject({ mode: 'killed', ...told });
});
