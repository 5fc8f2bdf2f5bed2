import globalSetup from '/work/main/test/support/global-setup';
import { startSharedTemporal } from '/work/main/test/support/shared-temporal';
export default async function (): Promise<void> {
  await globalSetup();
  if (!process.env['BULKHEAD_TEST_TEMPORAL']) (globalThis as unknown as { endT: unknown }).endT = await startSharedTemporal();
}
