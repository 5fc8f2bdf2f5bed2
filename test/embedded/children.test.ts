import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Children } from '../../workers/children';
import { identify, OwnedProcesses } from '../../workers/embedded/owned-processes';
import { inheritedEnvironment } from '../../workers/config';
import { compiledModule } from '../../workers/package-paths';
import { until } from '../support/until';

let directory: string;
let said: string[];
let children: Children;
let owned: OwnedProcesses;

beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-children-'));
  said = [];
  owned = new OwnedProcesses(directory);
  children = new Children({
    logDir: path.join(directory, 'logs'),
    owned,
    graceMs: 500,
    say: (line) => said.push(line),
  });
});
afterEach(async () => {
  await children.stopAll();
  rmSync(directory, { recursive: true });
});

function program(code: string): string {
  const file = path.join(directory, `program-${Math.random().toString(36).slice(2)}.js`);
  writeFileSync(file, code);
  return file;
}
const READY = 'console.log(JSON.stringify({ ready: true, pid: process.pid }));';
const STAY = 'setInterval(() => {}, 1000);';
const spec = (name: string, code: string, restart = false) => ({
  name,
  module: program(code),
  env: { PATH: process.env['PATH'] ?? '', OWN: 'yes' },
  ready: (line: string) => (line.includes('"ready"') ? (JSON.parse(line) as { pid: number }) : undefined),
  restart,
  readyWithinMs: 30_000,
});
/** Its file is made while the child starts, and may be there a little later than the child. */
const logOf = (name: string): string => {
  const file = path.join(directory, 'logs', `${name}.log`);
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
};
const pidsIn = (name: string): number[] =>
  [...logOf(name).matchAll(/"pid":(\d+)/g)].map(([, pid]) => Number(pid));

test('U4 a child is ready when it says so, has only the environment it was given, and its lines are kept under its name', async () => {
  const { pid, ready } = await children.start(
    spec('a', `console.error(JSON.stringify(Object.keys(process.env))); ${READY} ${STAY}`),
  );
  expect(ready.pid).toBe(pid);
  // Its two streams arrive in no order.
  await until('both lines in the log', () =>
    Promise.resolve(['OWN', '"ready"'].every((word) => logOf('a').includes(word))),
  );
  const log = logOf('a');
  expect(log).toMatch(/^\[a\] \{"ready":true/m);
  expect(log).not.toMatch(/HOME/);
  await expect(children.start(spec('a', READY))).rejects.toThrow(/runs already/);
  await children.stop('a');
  expect(identify(pid)).toBeUndefined();
  expect(children.names()).toEqual([]);
});

test('U4 a child that ends or stays silent before it is ready is an error with its last words, and leaves no process', async () => {
  await expect(children.start(spec('ends', "console.error('port taken'); process.exit(3)"))).rejects.toThrow(
    /before it was ready \(code 3\)[\s\S]*port taken/,
  );
  await expect(
    children.start({ ...spec('silent', `console.log(process.pid); ${STAY}`), readyWithinMs: 300 }),
  ).rejects.toThrow(/not ready within 0.3 s/);
  expect(children.names()).toEqual([]);
  expect(await new OwnedProcesses(directory).endLeftovers(100)).toEqual([]);
});

test('U4 a worker that ends by itself is started again with a growing wait; a stopped one is not', async () => {
  const { pid } = await children.start(spec('worker', `${READY} ${STAY}`, true));
  process.kill(pid, 'SIGKILL');
  await until('start 2', () => Promise.resolve(pidsIn('worker').length === 2));
  const second = pidsIn('worker')[1] ?? 0;
  expect(identify(second)).toBeDefined();
  process.kill(second, 'SIGKILL');
  await until('start 3', () => Promise.resolve(pidsIn('worker').length === 3));
  expect(said).toEqual([
    expect.stringMatching(/SIGKILL.*in 250 ms/),
    expect.stringMatching(/SIGKILL.*in 500 ms/),
  ]);
  const third = pidsIn('worker')[2] ?? 0;
  await children.stop('worker');
  await sleep(700);
  expect([pid, second, third].filter((one) => identify(one))).toEqual([]);
  expect(pidsIn('worker')).toHaveLength(3);
  expect(said).toHaveLength(2);
});

test('U4 a child that ignores SIGTERM is ended after the grace', async () => {
  const { pid } = await children.start(spec('stubborn', `process.on('SIGTERM', () => {}); ${READY} ${STAY}`));
  const started = performance.now();
  await children.stop('stubborn');
  expect(performance.now() - started).toBeGreaterThan(450);
  expect(identify(pid)).toBeUndefined();
});

test('U4 a child whose supervisor is killed is cut off when the supervisor would have done it', async () => {
  const stubborn = program(`process.on('SIGTERM', () => {}); ${READY} ${STAY}`);
  const supervisor = spawn(process.execPath, [
    program(`
      const { Children } = require(${JSON.stringify(compiledModule('workers/children'))});
      const { OwnedProcesses } = require(${JSON.stringify(compiledModule('workers/embedded/owned-processes'))});
      const home = ${JSON.stringify(path.join(directory, 'killed'))};
      new Children({ logDir: home, owned: new OwnedProcesses(home), graceMs: 700, say: () => {} })
        .start({ name: 'stubborn', module: ${JSON.stringify(stubborn)}, env: { PATH: process.env.PATH }, ready: JSON.parse, restart: false })
        .then(({ pid }) => console.log(pid));
    `),
  ]);
  const [line] = (await once(supervisor.stdout, 'data')) as [Buffer];
  const pid = Number(line.toString());
  expect(identify(pid)).toBeDefined();
  const killed = performance.now();
  supervisor.kill('SIGKILL');
  await until('the end of the child', () => Promise.resolve(identify(pid) === undefined));
  expect(performance.now() - killed).toBeGreaterThan(600);
  expect(performance.now() - killed).toBeLessThan(7_000);
});

// What a full disk does to a log, as Linux has it for tests.
(existsSync('/dev/full') ? test : test.skip)(
  'U4 a disk that is full costs lines of a log, which is said once, and not the child',
  async () => {
    symlinkSync('/dev/full', path.join(directory, 'logs', 'full.log'));
    const { pid } = await children.start(
      spec('full', `${READY} setInterval(() => console.log('more'), 20);`, true),
    );
    await until('words about the log', () => Promise.resolve(said.length > 0));
    await sleep(200);
    expect(said).toEqual([expect.stringMatching(/full.log cannot be written.*ENOSPC/)]);
    expect(children.pidOf('full')).toBe(pid);
  },
);

test('U4 a child is started again, and its name is free after its stop, although nothing can be noted', async () => {
  mkdirSync(path.join(directory, 'processes.json'));
  const { pid } = await children.start(spec('unnoted', `${READY} ${STAY}`, true));
  expect(said).toContainEqual(expect.stringMatching(/what runs could not be noted: EISDIR/));
  process.kill(pid, 'SIGKILL');
  const next = await until('another start', () =>
    Promise.resolve([children.pidOf('unnoted')].find((now) => now !== undefined && now !== pid)),
  );
  await children.stop('unnoted');
  expect(identify(next)).toBeUndefined();
  expect(children.names()).toEqual([]);
});

test('U4 leftovers of a killed start are ended; a process that got a recorded number since is left alone', async () => {
  const stranger = spawn('sleep', ['60']);
  const mine = spawn('sleep', ['60']);
  const identity = identify(stranger.pid ?? 0);
  if (!identity) throw new Error('sleep should run');
  owned.record('mine', mine.pid ?? 0);
  const file = path.join(directory, 'processes.json');
  const entries = JSON.parse(readFileSync(file, 'utf8')) as unknown[];
  writeFileSync(
    file,
    JSON.stringify([
      ...entries,
      { ...identity, startedAt: 'an earlier time', name: 'recycled', stopSignal: 'SIGTERM' },
    ]),
  );
  try {
    const ended = once(mine, 'exit');
    expect(await new OwnedProcesses(directory).endLeftovers(1_000)).toEqual(['mine']);
    await ended;
    expect(identify(stranger.pid ?? 0)).toBeDefined();
  } finally {
    stranger.kill();
  }
});

test('S2 a worker inherits no address and no secret; another program inherits no setting of ours', () => {
  const set = {
    DATABASE_URL: 'postgresql://a:b@h/d',
    BULKHEAD_MASTER_KEY: 'x',
    BULKHEAD_MODEL_API_KEY__ACME: 'sk',
    BULKHEAD_LOG_LEVEL: 'debug',
    TEMPORAL_ADDRESS: 'h:1',
  };
  const before = { ...process.env };
  Object.assign(process.env, set);
  try {
    expect(Object.keys(inheritedEnvironment('worker')).filter((name) => Object.hasOwn(set, name))).toEqual([
      'BULKHEAD_LOG_LEVEL',
    ]);
    expect(Object.keys(inheritedEnvironment('program')).filter((name) => Object.hasOwn(set, name))).toEqual(
      [],
    );
    expect(inheritedEnvironment('program')['PATH']).toBe(process.env['PATH']);
  } finally {
    process.env = before;
  }
});
