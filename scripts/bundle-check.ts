import { bundleWorkflows } from '../workers/workflow-bundle';

/** Temporal's own, and what it brings. Each workflow evaluates all of its bundle anew: with zod in it a short history took a third more to replay. */
const MAY_BE_THERE = ['@temporalio/common', '@temporalio/workflow', 'long', 'ms', 'nexus-rpc'];

/**
 * Bundles the workflows as a worker does. Types cannot see a forbidden import that comes in through another one, the
 * bundler can. Prints the size; ends 1 with the bundler's words where it does not pass, and with the names of packages that
 * have no business there.
 */
bundleWorkflows().then(
  ({ code }) => {
    const mib = (Buffer.byteLength(code) / 1_048_576).toFixed(2);
    process.stdout.write(`workflow bundle: ${mib} MiB\n`);
    const packages = packagesIn(code);
    const strangers = packages.filter((name) => !MAY_BE_THERE.includes(name));
    if (strangers.length === 0 && packages.includes('@temporalio/workflow')) return;
    process.stderr.write(
      strangers.length > 0
        ? `the workflow bundle holds ${strangers.join(', ')}: see which module of workflows/ or contracts/ brings it in\n`
        : 'the headings of the bundle’s modules do not read as they did: what it holds is not known\n',
    );
    process.exitCode = 1;
  },
  (error: unknown) => {
    process.stderr.write(
      `the workflows do not bundle: ${error instanceof Error ? error.message : String(error)}\n`,
    );
    process.exitCode = 1;
  },
);

/** By webpack's own heading of each module. */
function packagesIn(code: string): string[] {
  const found = code.matchAll(/^\/\*{3}\/ "[^"]*node_modules\/((?:@[^/"]+\/)?[^/"]+)/gm);
  return [...new Set([...found].map(([, name = '']) => name))].sort();
}
