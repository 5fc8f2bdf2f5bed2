import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Connection } from '@temporalio/client';
import { SEARCH_ATTRIBUTES } from '../../contracts/states';
import { findTemporal } from '../../workers/embedded/find-temporal';
import { endProcess, identify } from '../../workers/embedded/owned-processes';
import {
  prepareTemporal,
  startTemporal as startServer,
  type RunningTemporal,
  type TemporalOptions,
} from '../../workers/embedded/temporal';
import { rememberFreePorts } from '../support/temporal-ports';

let stateDir: string;
let binary: string;

beforeAll(async () => {
  stateDir = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-temporal-'));
  const cache = path.join(os.homedir(), '.cache', 'bulkhead');
  const searchPath = (process.env['PATH'] ?? '').split(path.delimiter);
  binary = (await findTemporal({ searchPath, cacheDirs: [cache], say: () => undefined })).path;
}, 300_000);
/** Every server that a test started: also one whose test failed before it stopped it is ended. */
const started: RunningTemporal[] = [];
async function startTemporal(options: TemporalOptions): Promise<RunningTemporal> {
  const temporal = await startServer(options);
  started.push(temporal);
  return temporal;
}
afterAll(async () => {
  await Promise.all(started.map((temporal) => temporal.stop()));
  rmSync(stateDir, { recursive: true, force: true });
});

async function attributesOf(address: string, namespace: string): Promise<string[]> {
  const connection = await Connection.connect({ address });
  try {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
    return Object.keys(customAttributes ?? {});
  } finally {
    await connection.close();
  }
}

async function startWorkflow(address: string, workflowId: string): Promise<void> {
  const connection = await Connection.connect({ address });
  await connection.workflowService.startWorkflowExecution({
    namespace: 'prod',
    workflowId,
    workflowType: { name: 'unserved' },
    taskQueue: { name: 'nobody' },
    requestId: workflowId,
  });
  await connection.close();
}

async function isOpen(address: string, workflowId: string): Promise<boolean> {
  const connection = await Connection.connect({ address });
  try {
    const { workflowExecutionInfo } = await connection.workflowService.describeWorkflowExecution({
      namespace: 'prod',
      execution: { workflowId },
    });
    return workflowExecutionInfo?.closeTime == null;
  } finally {
    await connection.close();
  }
}

test('U4 the embedded Temporal has a namespace per environment, each with the search attributes, and ends when stopped', async () => {
  const pids: number[] = [];
  const temporal = await startTemporal({
    binary,
    state: 'inMemory',
    namespaces: ['prod', 'staging'],
    onSpawn: (pid) => pids.push(pid),
  });
  try {
    for (const namespace of ['prod', 'staging']) {
      expect(await attributesOf(temporal.address, namespace)).toEqual(
        expect.arrayContaining([...SEARCH_ATTRIBUTES]),
      );
    }
    expect((await fetch(temporal.uiUrl)).status).toBe(200);
    expect(pids).toEqual([temporal.pid]);

    // The same server, as one that is not ours: namespaces and attributes are made through its API, twice harmlessly.
    await Promise.all([
      prepareTemporal(temporal.address, ['later']),
      prepareTemporal(temporal.address, ['later']),
    ]);
    await prepareTemporal(temporal.address, ['prod', 'later']);
    expect(await attributesOf(temporal.address, 'later')).toEqual(
      expect.arrayContaining([...SEARCH_ATTRIBUTES]),
    );
  } finally {
    await temporal.stop();
  }
  expect(identify(temporal.pid)).toBeUndefined();
  expect(await temporal.ended).toBeUndefined();
});

test('U4 a second start resumes open runs on the same ports, also after the server was killed', async () => {
  await rememberFreePorts(stateDir);
  const first = await startTemporal({ binary, state: { stateDir }, namespaces: ['prod'] });
  await startWorkflow(first.address, 'stopped');
  // https://sqlite.org/fileformat.html#file_format_version_numbers: 2 is a write-ahead log, 1 a rollback journal.
  expect([...readFileSync(path.join(stateDir, 'temporal', 'temporal.db')).subarray(18, 20)]).toEqual([2, 2]);
  await first.stop();

  const second = await startTemporal({ binary, state: { stateDir }, namespaces: ['prod'] });
  expect(second.address).toBe(first.address);
  expect(second.uiUrl).toBe(first.uiUrl);
  expect(await isOpen(second.address, 'stopped')).toBe(true);
  await startWorkflow(second.address, 'killed');
  process.kill(second.pid, 'SIGKILL');
  expect(await second.ended).toMatch(/ended by itself \(SIGKILL\)/);

  const third = await startTemporal({ binary, state: { stateDir }, namespaces: ['prod'] });
  try {
    expect(await isOpen(third.address, 'killed')).toBe(true);
  } finally {
    await third.stop();
  }
});

test('U4 a taken port is stepped around, and its owner is left alone', async () => {
  const own = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-temporal-'));
  await rememberFreePorts(own);
  const first = await startTemporal({ binary, state: { stateDir: own }, namespaces: ['prod'] });
  const other = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-temporal-'));
  mkdirSync(path.join(other, 'temporal'));
  copyFileSync(path.join(own, 'temporal', 'ports.json'), path.join(other, 'temporal', 'ports.json'));
  try {
    const second = await startTemporal({ binary, state: { stateDir: other }, namespaces: ['prod'] });
    expect(second.address).not.toBe(first.address);
    expect(second.uiUrl).not.toBe(first.uiUrl);
    await second.stop();
    expect(identify(first.pid)).toBeDefined();
  } finally {
    await first.stop();
    rmSync(own, { recursive: true });
    rmSync(other, { recursive: true });
  }
});

test('U4 a server that cannot start says why, and an unreachable one names the remedy', async () => {
  await expect(
    startTemporal({ binary: '/nonexistent/temporal', state: 'inMemory', namespaces: ['prod'] }),
  ).rejects.toThrow(/did not start/);
  await expect(
    startTemporal({ binary: '/bin/false', state: 'inMemory', namespaces: ['prod'] }),
  ).rejects.toThrow(/ended by itself \(code 1\)/);
  await expect(prepareTemporal('127.0.0.1:1', ['prod'])).rejects.toThrow(/TEMPORAL_ADDRESS/);
});

test('U4 only the very process is ended: another that has its number is left alone', async () => {
  const temporal = await startTemporal({ binary, state: 'inMemory', namespaces: ['prod'] });
  try {
    const identity = identify(temporal.pid);
    if (!identity) throw new Error('the server should run');
    await endProcess({ ...identity, startedAt: 'another time' }, 100);
    await endProcess({ ...identity, command: '/usr/bin/other' }, 100);
    expect(identify(temporal.pid)).toBeDefined();
  } finally {
    await temporal.stop();
  }
});
