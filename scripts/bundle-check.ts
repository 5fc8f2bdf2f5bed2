import { bundleWorkflows } from '../workers/workflow-bundle';
import { strangersIn } from './bundle-packages';

/**
 * Bundles the workflows as a worker does. Types cannot see a forbidden import that comes in through another one, the
 * bundler can. Prints the size; ends 1 with the bundler's words where it does not pass, and with the names of packages that
 * have no business there.
 */
async function check(): Promise<void> {
  const { code } = await bundleWorkflows();
  const mib = (Buffer.byteLength(code) / 1_048_576).toFixed(2);
  process.stdout.write(`workflow bundle: ${mib} MiB\n`);
  const strangers = strangersIn(code);
  if (strangers.length === 0) return;
  throw new Error(
    `it holds ${strangers.join(', ')}: see which module of workflows/ or contracts/ brings it in`,
  );
}

check().catch((error: unknown) => {
  process.stderr.write(
    `the workflow bundle does not pass: ${error instanceof Error ? error.message : String(error)}\n`,
  );
  process.exitCode = 1;
});
