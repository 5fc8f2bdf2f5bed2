import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { FenceWatch } from '../../activities/fence-watch';
import type { TenantId } from '../../contracts/ids';
import type { ControlVersion } from '../../contracts/platform-ports';
import { until } from '../support/until';

const acme = 'acme' as TenantId;

test('T3 a host that was cut off so long that it may be taken for dead sends nothing for what it had in flight, also once it is back', async () => {
  let away = false;
  const versions: ControlVersion[] = [{ tenantId: acme, fenceEpoch: 0, controlVersion: 0, mode: 'normal' }];
  const fence = new FenceWatch(
    { controlVersions: async () => (away ? Promise.reject(new Error('away')) : Promise.resolve(versions)) },
    { pollMs: 20 },
  );
  await fence.start();
  try {
    const call = fence.enter(acme, 0);
    const cutOff = async (ms: number) => {
      away = true;
      const since = performance.now();
      while (performance.now() - since < ms) await sleep(20);
      away = false;
      await until('a confirmation', async () => {
        try {
          fence.assertOpen(acme, 0);
          return true;
        } catch {
          return false;
        }
      });
    };
    // A short cut stops it only while it lasts.
    await cutOff(1_500);
    expect(call.abort.signal.aborted).toBe(false);
    await cutOff(4_100);
    expect(call.abort.signal.aborted).toBe(true);
    expect(fence.enter(acme, 0).abort.signal.aborted).toBe(false);
  } finally {
    await fence.stop();
  }
}, 30_000);
