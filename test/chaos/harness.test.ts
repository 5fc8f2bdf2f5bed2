import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KEEPS, app } from './app';
import { inputOf, chaosScript } from './script';
import { startSystems, type ChaosSystems } from './systems';
import { readyChaosTenant } from './tenants';
import { startEngine } from '../support/engine';
import { startFaultyWire, WIRE_FAULTS, type WireFault } from '../support/faulty-wire';
import { startModel, type TestModel } from '../support/model';
import { doneKills } from '../support/planned-death';
import { testTemporal } from '../support/shared-temporal';
import { createTestStack, type TestStack } from '../support/stack';
import { until } from '../support/until';
import { startWorkerProcess } from '../support/worker-process';
import type { PlannedRun } from './plan';

/** That the harnesses do what they are believed to do. */
const LONG_MS = 120_000;

let systems: ChaosSystems;
let model: TestModel;
let home: string;
beforeAll(async () => {
  [systems, model] = await Promise.all([startSystems(), startModel(chaosScript)]);
  home = mkdtempSync(join(tmpdir(), 'bulkhead-harness-'));
});
afterAll(async () => {
  await Promise.all([systems.close(), model.close()]);
  rmSync(home, { recursive: true, force: true });
});

const fourWrites = (tenant: string): PlannedRun => ({
  tenant,
  undone: false,
  steps: [0, 1, 2, 3].map((no) => [{ intent: `${tenant}-${no}`, kind: 'keyed' }]),
});

async function startRun(stack: TestStack, tenant: string) {
  await readyChaosTenant(stack, { name: tenant, keeper: systems.url, models: model.url });
  return await stack.client.startRun({
    token: await stack.token(tenant),
    agent: KEEPS,
    input: inputOf(0, fourWrites(tenant)),
    target: { system: 'keeper', recordId: 'r1' },
  });
}
const effectsOf = (tenant: string): string[] =>
  systems.effects.filter((effect) => effect.tenant === tenant).map(({ intent }) => intent);
const allFour = (tenant: string): string[] => [0, 1, 2, 3].map((no) => `${tenant}-${no}`);

test(
  'T3 a worker process dies where it is told to, once, is started again, stalls for longer than a lease, and each write is made once',
  async () => {
    const stack = await createTestStack({ app, workers: false });
    const planFile = join(home, 'plan.json');
    const doneDir = join(home, 'done');
    mkdirSync(doneDir);
    const run = await startRun(stack, 'killed');
    writeFileSync(
      planFile,
      JSON.stringify([
        { id: 0, point: 'after_reply', path: '0.1', runId: run.runId },
        { id: 1, point: 'decided', passing: 3 },
      ]),
    );
    const worker = startWorkerProcess({
      spec: stack.workerSpec,
      hostId: 'harness-1',
      appModule: resolve(__dirname, 'app.ts'),
      roles: ['control', 'host'],
      planFile,
      doneDir,
    });
    try {
      await until('a second write', () => Promise.resolve(effectsOf('killed').length >= 2), LONG_MS);
      await worker.freeze(4_000);
      expect(await run.result({ timeoutMs: LONG_MS })).toMatchObject({ stopReason: 'completed' });
      expect(effectsOf('killed')).toEqual(allFour('killed'));
      expect(doneKills(doneDir).map(({ id, point }) => [id, point])).toEqual([
        [0, 'after_reply'],
        [1, 'decided'],
      ]);
      expect([worker.kills, worker.starts, worker.ownEnds]).toEqual([2, 3, []]);
    } finally {
      await worker.stop();
      await stack.close();
    }
  },
  2 * LONG_MS,
);

test(
  'T3 the engine is killed and started again on its file: the run goes on, and each write is made once',
  async () => {
    const { binary, bundlePath } = testTemporal();
    const engine = await startEngine(binary);
    try {
      const stack = await createTestStack({ app, temporal: { address: engine.address, bundlePath } });
      try {
        const run = await startRun(stack, 'engine');
        await until('a first write', () => Promise.resolve(effectsOf('engine').length >= 1), LONG_MS);
        await engine.kill();
        await sleep(300);
        await engine.restart();
        const row = await until(
          'the end',
          async () => {
            const found = await stack.store('engine').run(run.runId as never);
            return found?.state === 'closed' && found;
          },
          LONG_MS,
        );
        expect(row.stopReason).toBe('completed');
        expect(effectsOf('engine')).toEqual(allFour('engine'));
      } finally {
        await stack.close();
      }
    } finally {
      await engine.stop();
    }
  },
  2 * LONG_MS,
);

test.each(Object.keys(WIRE_FAULTS) as WireFault[])(
  'T3 the wire does to a request what it is told: %s',
  async (fault) => {
    const wire = await startFaultyWire(systems.url, { delayMs: 300, fault: () => fault });
    const intent = `wire-${fault}`;
    const asked = fetch(`${wire.url}/wire/keyed`, {
      method: 'POST',
      headers: { 'idempotency-key': intent },
      body: JSON.stringify({ intent }),
      signal: AbortSignal.timeout(fault === 'delay' ? 100 : 500),
    }).then(
      ({ status }) => status,
      () => 'no answer' as const,
    );
    try {
      const answered = fault === 'pass' || fault === 'duplicate';
      const answer = await asked;
      expect(answer === 'no answer').toBe(!answered);
      await until('nothing held', () => Promise.resolve(wire.held === 0));
      await sleep(200);
      const applied = systems.effects.filter((effect) => effect.intent === intent).length;
      expect(applied).toBe(fault === 'reset_before' || fault === 'stall' ? 0 : 1);
      expect(wire.passed).toMatchObject([{ line: 'POST /wire/keyed', key: intent, fault, earlier: 0 }]);
    } finally {
      await wire.close();
    }
  },
);
