import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { ORDER_VARIABLE, type HostNews, type HostOrder } from './host-spec';
import type { BenchStack } from './stack';

const START_MS = 60_000;
const STOP_MS = 20_000;

/** A host of a benchmark in a process of its own. */
export interface HostProcess {
  readonly pid: number;
  /** Lanes that are open now. */
  readonly lanesOpen: () => number;
  stop(): Promise<void>;
}

/** Starts hosts of a stack, each as told; `stop` ends all that are left. */
export interface Hosts {
  start(order: Omit<HostOrder, 'spec' | 'bundlePath'>): Promise<HostProcess>;
  /** Of those that run. */
  pids(): number[];
  stop(): Promise<void>;
}

let bundle: Promise<string> | undefined;

/** Bundles the workflows of loads once, for all hosts of all stacks. */
export async function createHosts(stack: BenchStack): Promise<Hosts> {
  const bundlePath = path.join(stack.home, 'load-workflows.js');
  await writeFile(bundlePath, await (bundle ??= bundled()));
  const running = new Set<HostProcess>();
  return {
    async start(order) {
      const host = await startProcess({ ...order, spec: stack.hostSpec, bundlePath }, (over) =>
        running.delete(over),
      );
      running.add(host);
      return host;
    },
    pids: () => [...running].map(({ pid }) => pid),
    async stop() {
      await Promise.all([...running].map((host) => host.stop()));
    },
  };
}

async function bundled(): Promise<string> {
  const ours = (name: string): string => path.join(__dirname, `${name}${path.extname(__filename)}`);
  const { code } = await bundleWorkflowCode({
    logger: new DefaultLogger('ERROR'),
    workflowsPath: ours('load-workflows'),
    workflowInterceptorModules: [ours('../workflows/interceptors')],
    payloadConverterPath: ours('../workflows/payload-converter'),
  });
  return code;
}

/** `over` is told when the process has ended that had served. */
async function startProcess(order: HostOrder, over: (host: HostProcess) => void): Promise<HostProcess> {
  // As written, a module is compiled by the script that all TypeScript here is run by.
  const module = path.join(__dirname, `host-process${path.extname(__filename)}`);
  const asWritten = module.endsWith('.ts');
  const child = fork(
    asWritten ? path.join(__dirname, '..', 'scripts', 'run.js') : module,
    asWritten ? [module] : [],
    {
      env: { ...process.env, [ORDER_VARIABLE]: JSON.stringify(order) },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    },
  );
  let lanesOpen = 0;
  child.on('message', (news: HostNews) => {
    if (news.kind === 'lanes') lanesOpen = news.open;
  });
  await serves(child, order.hostId);
  const host: HostProcess = {
    pid: child.pid ?? -1,
    lanesOpen: () => lanesOpen,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      if (child.connected) child.send('stop');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      await gone;
      clearTimeout(timer);
    },
  };
  child.once('exit', () => over(host));
  return host;
}

async function serves(child: ChildProcess, hostId: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`host ${hostId} did not serve within ${START_MS / 1_000} s`));
    }, START_MS);
    child.once('exit', () => reject(new Error(`host ${hostId} ended before it served`)));
    child.on('message', (news: HostNews) => {
      if (news.kind !== 'serves') return;
      clearTimeout(timer);
      resolve();
    });
  });
}
