import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { FenceUnconfirmed, FenceWatch } from '../../activities/fence-watch';
import type { TenantId } from '../../contracts/ids';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';

let stack: TestStack;
const acme = 'acme' as TenantId;

beforeAll(async () => {
  stack = await createTestStack({ workers: false });
  await readyTenant(stack, { name: 'acme', keeper: 'http://127.0.0.1:1', models: 'http://127.0.0.1:1' });
});
afterAll(() => stack.close());

async function watching(body: (fence: FenceWatch) => Promise<void>): Promise<void> {
  const fence = new FenceWatch(stack.storage.platform, { pollMs: 50 });
  await fence.start();
  try {
    await body(fence);
  } finally {
    await fence.stop();
  }
}

test('O1 a raised fence aborts calls in flight of an older epoch and lets none of them send; a newer admission is spared', async () => {
  await watching(async (fence) => {
    const { fenceEpoch: before } = (await stack.store('acme').control()) ?? { fenceEpoch: -1 };
    fence.assertOpen(acme, before);
    const call = fence.enter(acme, before);
    const { fenceEpoch } = await stack.store('acme').kill({ reason: 'test', actor: 'test' });
    expect(fenceEpoch).toBeGreaterThan(before);
    await until('the abort', async () => call.abort.signal.aborted);
    expect(() => fence.assertOpen(acme, before)).toThrow(FenceUnconfirmed);
    fence.assertOpen(acme, fenceEpoch);
    expect(fence.enter(acme, fenceEpoch).abort.signal.aborted).toBe(false);
    expect(() => fence.assertOpen('nobody' as TenantId, 0)).toThrow(/not known/);
  });
});

test('O1 a host that is cut off from the database sends nothing once a second has passed', async () => {
  await watching(async (fence) => {
    const { fenceEpoch } = (await stack.store('acme').control()) ?? { fenceEpoch: -1 };
    fence.assertOpen(acme, fenceEpoch);
    const admin = new Client({ connectionString: stack.database.adminUrl.replace(/\/[^/]*$/, '/postgres') });
    await admin.connect();
    try {
      await admin.query(`alter database ${stack.database.name} allow_connections false`);
      await admin.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${stack.database.name}'`,
      );
      await delay(1_150);
      expect(() => fence.assertOpen(acme, fenceEpoch)).toThrow(
        /could not be confirmed within the last second/,
      );
    } finally {
      await admin.query(`alter database ${stack.database.name} allow_connections true`);
      await admin.end();
    }
    await until('a poll', async () => {
      try {
        fence.assertOpen(acme, fenceEpoch);
        return true;
      } catch (error) {
        if (error instanceof FenceUnconfirmed) return false;
        throw error;
      }
    });
  });
});

function isOpen(fence: FenceWatch): boolean {
  try {
    fence.assertOpen(acme, 0);
    return true;
  } catch {
    return false;
  }
}

test('T3 a host whose row may have been silent for so long that it was taken for dead never sends again what was in flight', async () => {
  // As a lane host does it: the row is renewed on the way to each look at the fence. First the answer is slow, then the
  // next renewal is, so that both looks begin within the time that counts as cut off.
  const looks = [
    { renewalMs: 0, answerMs: 0 },
    { renewalMs: 0, answerMs: 3_400 },
    { renewalMs: 2_500, answerMs: 0 },
  ];
  let looked = 0;
  let renewedAt = performance.now();
  let silentMs = 0;
  const fence = new FenceWatch(
    {
      async controlVersions() {
        const { renewalMs, answerMs } = looks[looked] ?? { renewalMs: 0, answerMs: 0 };
        looked += 1;
        await delay(renewalMs);
        silentMs = Math.max(silentMs, performance.now() - renewedAt);
        renewedAt = performance.now();
        await delay(answerMs);
        return [{ tenantId: acme, fenceEpoch: 0, controlVersion: 1, mode: 'normal' }];
      },
    },
    { pollMs: 300 },
  );
  await fence.start();
  try {
    const call = fence.enter(acme, 0);
    await until('both slow looks', () => Promise.resolve(looked > looks.length), 15_000);
    expect(silentMs).toBeGreaterThan(5_000);
    // The fence is confirmed again, for calls that are admitted now.
    await until('a confirmed fence', () => Promise.resolve(isOpen(fence)), 10_000);
    expect(call.abort.signal.aborted).toBe(true);
    expect(fence.enter(acme, 0).abort.signal.aborted).toBe(false);
  } finally {
    await fence.stop();
  }
}, 30_000);
