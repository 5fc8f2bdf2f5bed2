import globalTeardown from '/work/main/test/support/global-teardown';
export default async function (): Promise<void> {
  const end = (globalThis as unknown as { endT?: () => Promise<void> }).endT;
  if (end) await end();
  await globalTeardown();
}
