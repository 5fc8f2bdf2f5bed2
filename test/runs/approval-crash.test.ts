import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { canonicalJson } from '../../contracts/digest';
import { doneKills } from '../support/planned-death';
import { until } from '../support/until';
import { startWorkerProcess } from '../support/worker-process';
import { asksFor, decide, payment, requestsOf, waitsForApproval } from './approving';
import { call, openDesk, type Desk } from './desk';

const LONG_MS = 120_000;

let desk: Desk;
let home: string;
beforeAll(async () => {
  desk = await openDesk({ workers: false });
  home = mkdtempSync(join(tmpdir(), 'bulkhead-approval-'));
});
afterAll(async () => {
  await desk.close();
  rmSync(home, { recursive: true, force: true });
});

test(
  'P4 T3 the worker is killed while a run waits, and again right after the approved call has left: it goes out once, under its one approval',
  async () => {
    await desk.tenant('acme', { rules: asksFor() });
    const planFile = join(home, 'plan.json');
    const doneDir = join(home, 'done');
    mkdirSync(doneDir);
    writeFileSync(planFile, JSON.stringify([{ id: 0, point: 'after_reply', path: '0.1' }]));
    const worker = startWorkerProcess({
      spec: desk.stack.workerSpec,
      hostId: 'approval-1',
      appModule: resolve(__dirname, '../support/app.ts'),
      roles: ['control', 'host'],
      planFile,
      doneDir,
    });
    try {
      await worker.ready();
      const run = await desk.begin('acme', [call(payment(4_200))]);
      const approval = await waitsForApproval(desk, 'acme', run);
      expect(worker.kill()).toBe(true);
      // Decided while nobody is there: Temporal keeps the hint.
      await decide(desk, 'acme', approval, 'approve');
      expect(await run.result({ timeoutMs: LONG_MS })).toMatchObject({ stopReason: 'completed' });
      expect(doneKills(doneDir)).toMatchObject([{ id: 0, call: { path: '0.1', runId: run.runId } }]);
      await until('both ends of the process', () => Promise.resolve(worker.kills >= 2), LONG_MS);
      expect(desk.outside.effects.map(({ body }) => canonicalJson(body))).toEqual([approval.args]);
      expect(await requestsOf(desk, 'acme', run)).toHaveLength(1);
    } finally {
      await worker.stop();
    }
  },
  2 * LONG_MS,
);
