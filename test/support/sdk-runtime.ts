import { IllegalStateError } from '@temporalio/common';
import { DefaultLogger, Runtime, type RuntimeOptions } from '@temporalio/worker';

/**
 * Has the SDK of this process log errors alone. It is loaded once for all test files of a jest worker (`native-packages.js`), and
 * its runtime lives for as long as anything uses it: the file before may have left it.
 */
export function quietly(): void {
  installed({ logger: new DefaultLogger('ERROR'), shutdownSignals: [] });
}

/** A runtime of these options, in the place of one that the file before may have left. */
export async function freshRuntime(options: RuntimeOptions): Promise<void> {
  if (installed(options)) return;
  await Runtime.instance().shutdown();
  Runtime.install(options);
}

function installed(options: RuntimeOptions): boolean {
  try {
    Runtime.install(options);
    return true;
  } catch (error) {
    if (error instanceof IllegalStateError) return false;
    throw error;
  }
}
