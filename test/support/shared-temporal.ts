import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findTemporal } from '../../workers/embedded/find-temporal';
import { startTemporal } from '../../workers/embedded/temporal';
import { bundleWorkflows } from '../../workers/workflow-bundle';
import { keepNamespacesReady } from './ready-namespaces';

/** What the run's setup hands to the test files. */
export interface TestTemporal {
  readonly address: string;
  readonly uiUrl: string;
  readonly binary: string;
  /** The workflow bundle, made once a run. */
  readonly bundlePath: string;
  /** A folder of namespaces that are ready; see `ready-namespaces.ts`. */
  readonly namespaces: string;
}

/** Starts the one Temporal of a run, bundles the workflows once, and answers how to end both. */
export async function startSharedTemporal(): Promise<() => Promise<void>> {
  const home = await mkdtemp(join(tmpdir(), 'bulkhead-bundle-'));
  const bundlePath = join(home, 'workflows.js');
  const cache = join(
    process.env['XDG_CACHE_HOME'] ?? join(process.env['HOME'] ?? tmpdir(), '.cache'),
    'bulkhead',
  );
  const [{ code }, binary] = await Promise.all([
    bundleWorkflows(),
    findTemporal({
      configured: process.env['BULKHEAD_TEMPORAL_BIN'] ?? null,
      searchPath: (process.env['PATH'] ?? '').split(':').filter(Boolean),
      cacheDirs: [cache],
      say: (line) => process.stderr.write(`${line}\n`),
    }),
  ]);
  await writeFile(bundlePath, process.env['BULKHEAD_TEST_LOG'] ? code : withoutMap(code));
  const temporal = await startTemporal({ binary: binary.path, state: 'inMemory', namespaces: ['prod'] });
  const namespaces = join(home, 'namespaces');
  const endKeeping = await keepNamespacesReady(temporal.address, namespaces);
  const shared: TestTemporal = {
    address: temporal.address,
    uiUrl: temporal.uiUrl,
    binary: binary.path,
    bundlePath,
    namespaces,
  };
  process.env['BULKHEAD_TEST_TEMPORAL'] = JSON.stringify(shared);
  return async () => {
    await endKeeping();
    await temporal.stop();
    await rm(home, { recursive: true, force: true });
  };
}

/** The Temporal of this run. */
export function testTemporal(): TestTemporal {
  const shared = process.env['BULKHEAD_TEST_TEMPORAL'];
  if (!shared) throw new Error('no test Temporal: run the tests through jest, whose global setup starts one');
  return JSON.parse(shared) as TestTemporal;
}

/**
 * Each worker of each test file decodes the bundle's source map and hands it to its workflow thread: a fifth of what its start
 * costs. With `BULKHEAD_TEST_LOG` it is left in, so that stacks of workflow code name the lines as written.
 */
function withoutMap(code: string): string {
  const comment = '//# sourceMappingURL=data:application/json;charset=utf-8;base64,';
  const at = code.lastIndexOf(comment);
  const none = { version: 3, file: 'workflows.js', sources: [], names: [], mappings: '' };
  return at < 0 ? code : code.slice(0, at) + comment + Buffer.from(JSON.stringify(none)).toString('base64');
}
