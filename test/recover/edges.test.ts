import type { RecoveryStore } from '../../contracts/recovery';
import type { Storage, TenantStore } from '../../contracts/ports';
import { commandControl } from '../../client/control';
import { TenantId } from '../../contracts/ids';
import { until } from '../support/until';
import { readyTenant } from '../support/tenants';
import { backUp, type Backup } from './backup';
import { allAtGate, allWritten, createRecoverWorld, record, TENANT, type RecoverWorld } from './world';

jest.setTimeout(180_000);

let world: RecoverWorld;
let backup: Backup | undefined;
beforeEach(async () => {
  world = await createRecoverWorld();
});
afterEach(async () => {
  await world.close();
  await backup?.drop();
  backup = undefined;
});

const rewound = async (): Promise<boolean> =>
  ((await world.stack.store(TENANT).recovery.state())?.rewoundSeq ?? 0) > 0;
const control = (op: 'kill' | 'release') =>
  commandControl(world.stack.temporal, TenantId.parse(TENANT), world.stack.environment, {
    op,
    scope: { kind: 'tenant' },
    reason: 'test',
    actor: 'tester',
  });

test('O8 a tenant at work cannot be recovered, a tenant that is not there even less, and nothing is put back in either', async () => {
  await world.startHosts();
  world.scripts.set('idle', [[['blind.write', record('idle')]]]);
  await (await world.start('idle')).result({ timeoutMs: 60_000 });
  for (const more of [[], ['--dry-run']]) {
    const atWork = await world.cli(['recover', '--tenant', TENANT, ...more]);
    expect(atWork).toMatchObject({ code: 3, out: '', said: expect.stringContaining('nothing to recover') });
  }
  expect(await world.cli(['recover', '--tenant', 'globex'])).toMatchObject({
    code: 4,
    said: expect.stringContaining('there is no tenant globex'),
  });
  const { recovery } = world.stack.store(TENANT);
  const inTheWay: (() => Promise<unknown>)[] = [
    () => recovery.begin({ highestSeq: 1e6, actor: 'x' }),
    () => recovery.finish({ actor: 'x', counts: {} }),
    () =>
      recovery.restoreFence({
        mode: 'killed',
        fenceEpoch: 9,
        fencedAt: null,
        containedAt: null,
        drainedAt: null,
        reason: null,
        actor: null,
      }),
    () => recovery.restoreCall({ runId: 'r', path: '0.1', from: null, to: 'succeeded', call: {} as never }),
  ];
  for (const attempt of inTheWay) await expect(attempt()).rejects.toThrow(/nothing to recover/);
  expect(await rewound()).toBe(false);
});

test('O8 the sweep notices a restore that no run was at work to notice, and only of the tenant that lost something', async () => {
  await readyTenant(world.stack, { name: 'globex', keeper: world.held.url, models: world.model.url });
  await world.startHosts();
  const swept = async () => {
    for await (const { workflowId, runId } of world.stack.temporal.workflow.list({
      query: `WorkflowType = 'platformSweep' and ExecutionStatus = 'Completed'`,
    })) {
      const result = (await world.stack.temporal.workflow.getHandle(workflowId, runId).result()) as {
        heads?: [string, number][];
      };
      return new Map(result.heads?.map(([tenant, seq]) => [tenant, seq]));
    }
    return new Map<string, number>();
  };
  backup = await backUp(world.stack.database);
  world.scripts.set('idle', [[['blind.write', record('idle')]]]);
  const run = await world.start('idle');
  await run.result({ timeoutMs: 60_000 });
  const head = (await world.stack.store(TENANT).recovery.state())?.journalSeq ?? 0;
  await until('a sweep that saw it', async () => ((await swept()).get(TENANT) ?? 0) >= head, 60_000);
  await world.killHosts();
  await backup.restore();
  expect(await rewound()).toBe(false);

  // Without a host: recovery itself finds the witness.
  expect(await world.recover({ dryRun: true })).toMatchObject({
    kind: 'recovered',
    report: { released: false, counts: { runsAccepted: 1, succeeded: 3, runsClosed: 1 } },
  });
  expect(await rewound()).toBe(false);

  await world.startHosts();
  await until('the sweep’s mark', rewound, 60_000);
  const other = await world.stack.store('globex').recovery.state();
  expect(other?.rewoundSeq).toBe(0);
  await expect(world.start('idle')).rejects.toMatchObject({ code: 'refused' });

  expect(await world.recover()).toMatchObject({
    kind: 'recovered',
    report: { released: true, mode: 'normal' },
  });
  expect(await world.recover()).toMatchObject({ kind: 'at_work' });
  expect(await world.stack.store(TENANT).run(run.runId as never)).toMatchObject({
    state: 'closed',
    stopReason: 'completed',
    outputRef: '1.0',
  });
  // It works again, and its next sweeps do not hold the old witness against it.
  world.scripts.set('again', [[['blind.write', record('blind')]]]);
  await (await world.start('again')).result({ timeoutMs: 60_000 });
  expect([await rewound(), world.held.effectsOn('k-idle'), world.held.effectsOn('k-blind')]).toEqual([
    false,
    1,
    1,
  ]);
});

test('O8 a recovery that was killed halfway is run again, and a run asked for again by its key is the one put back', async () => {
  await world.startHosts();
  backup = await backUp(world.stack.database);
  world.scripts.set('keyed', [[['note.write', { ...record('keyed'), text: 'x' }]]]);
  world.gate('keyed', 1);
  const run = await world.stack.run(TENANT, 'keyed', { idempotencyKey: 'order-7' });
  await allWritten(world, ['keyed']);
  await allAtGate(world, ['keyed']);
  await world.killHosts();
  await backup.restore();
  world.open('keyed');

  let left = 1;
  const storage = breaking(world.stack.storage, () => {
    left -= 1;
    if (left < 0) throw new Error('killed halfway');
  });
  await expect(world.recover({ parts: { storage } })).rejects.toThrow('killed halfway');
  expect(await rewound()).toBe(true);
  const again = await world.recover();
  expect(again).toMatchObject({ kind: 'recovered', report: { released: true, counts: { succeeded: 1 } } });

  const same = await world.stack.run(TENANT, 'keyed', { idempotencyKey: 'order-7' });
  expect(same.runId).toBe(run.runId);
  await expect(world.stack.run(TENANT, 'other', { idempotencyKey: 'order-7' })).rejects.toMatchObject({
    code: 'conflict',
  });
  await world.startHosts();
  expect(await run.result({ timeoutMs: 60_000 })).toMatchObject({ stopReason: 'completed' });
  expect(world.held.posts('k-keyed')).toBe(1);
  // Its input came back with the caller's key.
  expect(JSON.stringify(world.model.requests.at(-1)?.messages)).toContain('"keyed"');
});

test('O8 a kill that was lost with the database is raised again: the tenant stays stopped until it is released', async () => {
  await world.startHosts();
  backup = await backUp(world.stack.database);
  await control('kill');
  await world.killHosts();
  await backup.restore();
  await world.stack
    .store(TENANT)
    .recovery.markRewound({ seq: 1e6, hash: null, acknowledged: 0, by: 'the test' });
  const { code, said } = await world.cli(['recover', '--tenant', TENANT]);
  expect([code, said]).toEqual([0, expect.stringContaining('stays so until `bulkhead release`')]);
  expect(await world.stack.store(TENANT).control()).toMatchObject({ mode: 'killed', fenceEpoch: 1 });
  await expect(world.start('idle')).rejects.toMatchObject({ code: 'refused' });
});

/** The same storage, whose recovery meets `step` before each call that it puts back. */
function breaking(storage: Storage, step: () => void): Storage {
  const broken = (recovery: RecoveryStore): RecoveryStore => ({
    ...recovery,
    restoreCall: (request) => {
      step();
      return recovery.restoreCall(request);
    },
  });
  return {
    ...storage,
    tenant: (scope): TenantStore => {
      const store = storage.tenant(scope);
      return { ...store, recovery: broken(store.recovery) };
    },
  };
}
