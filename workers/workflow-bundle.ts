import { existsSync } from 'node:fs';
import path from 'node:path';
import { bundleWorkflowCode, DefaultLogger, type WorkflowBundleOption } from '@temporalio/worker';
import { packageRoot } from './package-paths';

const BUILT = path.join(packageRoot, 'dist', 'workflows.bundle.js');

/** Bundles the workflows from the code beside this file. Throws where they import what the sandbox cannot run. */
export async function bundleWorkflows(): Promise<{ code: string }> {
  // Compiled or, in a test, as written: of the same kind as this file.
  const module = (name: string): string =>
    path.join(__dirname, '..', 'workflows', `${name}${path.extname(__filename)}`);
  return await bundleWorkflowCode({
    workflowsPath: module('index'),
    workflowInterceptorModules: [module('interceptors')],
    payloadConverterPath: module('payload-converter'),
    logger: QUIET,
  });
}

/** The bundle made at build time, so that no process spends seconds on it at start; else one made now. */
export async function workflowBundle(): Promise<WorkflowBundleOption> {
  return existsSync(BUILT) ? { codePath: BUILT } : await bundleWorkflows();
}

/** Where {@link workflowBundle} looks first. */
export const builtBundlePath = BUILT;

/** The bundler tells of each module; only what went wrong matters here. */
const QUIET = new DefaultLogger('WARN', ({ message }) => process.stderr.write(`${message}\n`));
