import { DefaultLogger, Runtime } from '@temporalio/worker';
import { callOverhead } from './call-overhead';
import { fairShares } from './fair-shares';
import { noisyNeighbour } from './noisy-neighbour';
import { policyBench } from './policy';
import { tenantsBench } from './tenants';

/** Benchmarks by name. Each prints ratios against a baseline measured in the same run, and gates nothing. */
const BENCHES: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  'call-overhead': callOverhead,
  'fair-shares': fairShares,
  'noisy-neighbour': noisyNeighbour,
  policy: policyBench,
  tenants: tenantsBench,
};

const [name, ...args] = process.argv.slice(2);
const bench = name === undefined ? undefined : BENCHES[name];
if (!bench) {
  process.stderr.write(
    `which bench? npm run bench -- <name>\n${Object.keys(BENCHES)
      .map((known) => `  ${known}\n`)
      .join('')}`,
  );
  process.exitCode = 2;
} else {
  // Once a process, before the first connection, however many stacks a benchmark starts.
  Runtime.install({ logger: new DefaultLogger('ERROR'), shutdownSignals: [] });
  // Without a listener a signal would end this process with no word to its servers. A bench may have its own.
  process.once('SIGINT', () => process.listenerCount('SIGINT') > 0 || process.exit(130));
  bench(args).catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    // Also where something still listens: what was started ends with this process.
    process.exit(1);
  });
}
