import { newRunId } from '../../client/minting';
import type { Environment, TenantId } from '../../contracts/ids';
import { forkRun } from '../../client/acceptance';
import { mintScope } from '../../contracts/scope-mint';
import { call, openDesk, type Desk } from '../runs/desk';

let desk: Desk;

beforeAll(async () => {
  desk = await openDesk();
  for (const name of ['acme', 'globex']) await desk.tenant(name);
});
afterAll(() => desk.close());

const note = (text: string) => call(['note.write', { recordId: 'r1', text }]);
const texts = (since: number): unknown[] =>
  desk.outside.effects.slice(since).map(({ body }) => (body as { text: string }).text);

test('O3 a fork knows what the run knew before the step, and goes on from there with keys of its own', async () => {
  const { run } = await desk.play('acme', [note('one'), note('two'), note('three')]);
  const since = desk.outside.effects.length;
  const before = await desk.stack.store('acme').conversation(run.runId as never);
  desk.model.script = ({ moves }) => (moves < 3 ? note(`other ${moves}`) : { say: 'done otherwise' });
  const token = await desk.stack.token('acme');
  const fork = await desk.stack.client.forkRun({ token, runId: run.runId, fromStep: 1 });
  expect(await fork.result({ timeoutMs: 40_000 })).toMatchObject({ stopReason: 'completed' });
  expect(texts(since)).toEqual(['other 1', 'other 2']);
  // What came before the step is a copy, told to the model as its own; nothing of it was done again.
  const messages = JSON.stringify(desk.model.requests.at(-1)?.messages);
  expect([messages.includes('one'), messages.includes('two'), messages.includes('other 1')]).toEqual([
    true,
    false,
    true,
  ]);
  const keys = desk.outside.effects.map(({ key }) => key);
  expect(new Set(keys).size).toBe(keys.length);
  expect(await desk.stack.store('acme').conversation(run.runId as never)).toEqual(before);
  const { row, of } = { row: await fork.row(), of: await run.row() };
  expect([row.agentVersion, row.workspaceId, row.target]).toEqual([
    of.agentVersion,
    of.workspaceId,
    of.target,
  ]);
});

test('T2 the same fork with the same key is the same run; of another step it is refused', async () => {
  const { run } = await desk.play('acme', [note('a'), note('b')]);
  desk.model.script = () => ({ say: 'done' });
  const who = {
    scope: mintScope('acme' as TenantId, desk.stack.environment, 'token'),
    workspaces: ['main'],
    principal: { kind: 'user', subject: 'tester' },
    roles: [],
  } as never;
  const ask = (fromStep: number) =>
    forkRun(desk.stack.clientPorts, who, { runId: run.runId, fromStep, idempotencyKey: 'fork-1' });
  const first = await ask(1);
  expect(await ask(1)).toMatchObject({ existing: true, run: { runId: first.run.runId } });
  await expect(ask(2)).rejects.toMatchObject({ code: 'conflict' });
});

test('O3 a step that the run never came to, and another tenant’s run, cannot be forked', async () => {
  const { run } = await desk.play('acme', [note('only')]);
  const fork = async (tenant: string, fromStep: number) =>
    desk.stack.client.forkRun({ token: await desk.stack.token(tenant), runId: run.runId, fromStep });
  await expect(fork('acme', 9)).rejects.toMatchObject({ code: 'invalid', reason: 'no_such_step' });
  await expect(fork('acme', -1)).rejects.toMatchObject({ code: 'invalid' });
  await expect(fork('globex', 1)).rejects.toMatchObject({ code: 'not_found' });
});

test('T2 a run’s id follows from the caller’s key, of one tenant and environment; without a key it is random', () => {
  const id = (tenant: string, environment: string, key: string | null): string =>
    newRunId({ tenantId: tenant as TenantId, environment: environment as Environment }, key);
  expect(id('acme', 'prod', 'k')).toBe(id('acme', 'prod', 'k'));
  expect(id('acme', 'prod', 'k')).toMatch(/^[a-z0-9][a-z0-9-]{0,63}$/);
  const others = [
    id('acme', 'prod', 'K'),
    id('globex', 'prod', 'k'),
    id('acme', 'test', 'k'),
    id('acme', 'prod', 'k2'),
  ];
  expect(new Set([id('acme', 'prod', 'k'), ...others]).size).toBe(5);
  expect(id('acme', 'prod', null)).not.toBe(id('acme', 'prod', null));
});
