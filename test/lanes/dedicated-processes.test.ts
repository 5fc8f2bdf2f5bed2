import { TenantId } from '../../contracts/ids';
import type { Placement } from '../../contracts/platform-ports';
import { followDedicatedLanes, type LaneProcesses } from '../../workers/lanes';
import { until } from '../support/until';

/** Who gets a process of its own, and who keeps whom from it: processes that fail as they are told. */

const placed = (...names: string[]): Placement[] =>
  names.map((name) => ({
    tenantId: TenantId.parse(name),
    lane: 'dedicated' as const,
    workerCeiling: 1,
    expensiveCeiling: 1,
  }));

/** Refuses to start what runs, as `Children` does. */
class Processes implements LaneProcesses {
  readonly running = new Set<string>();
  readonly failStart = new Set<string>();
  readonly failStop = new Set<string>();
  readonly started: string[] = [];

  start(tenantId: string): Promise<void> {
    if (this.running.has(tenantId))
      return Promise.reject(new Error(`a child called ${tenantId} runs already`));
    if (this.failStart.has(tenantId)) return Promise.reject(new Error(`${tenantId} does not start`));
    this.running.add(tenantId);
    this.started.push(tenantId);
    return Promise.resolve();
  }

  stop(tenantId: string): Promise<void> {
    if (this.failStop.has(tenantId)) return Promise.reject(new Error(`${tenantId} does not end`));
    this.running.delete(tenantId);
    return Promise.resolve();
  }
}

function follow(at: { placements: Placement[] }, processes: Processes) {
  const said: string[] = [];
  let polls = 0;
  const { stop } = followDedicatedLanes({
    placements: () => {
      polls += 1;
      return Promise.resolve(at.placements);
    },
    processes,
    everyMs: 5,
    say: (line) => said.push(line),
  });
  /** Once whatever is true now has been polled. */
  const polled = async (): Promise<void> => {
    const before = polls;
    await until('two polls', () => Promise.resolve(polls > before + 1));
  };
  return { said, stop, polled };
}

test('N2 a tenant whose process does not start keeps nobody else from one, and has its own once it can', async () => {
  const processes = new Processes();
  processes.failStart.add('acme');
  const lanes = follow({ placements: placed('acme', 'hooli', 'initech') }, processes);
  await lanes.polled();
  expect([...processes.running]).toEqual(['hooli', 'initech']);
  expect(lanes.said).toEqual(['dedicated lanes: acme does not start']);
  processes.failStart.clear();
  await lanes.polled();
  expect([...processes.running].sort()).toEqual(['acme', 'hooli', 'initech']);
  await lanes.stop();
});

test('N2 a process that does not end is ended before its tenant gets another, and keeps nobody else', async () => {
  const processes = new Processes();
  const at = { placements: placed('acme', 'hooli') };
  const lanes = follow(at, processes);
  await lanes.polled();
  processes.failStop.add('acme');
  at.placements = placed('initech');
  await lanes.polled();
  expect([...processes.running].sort()).toEqual(['acme', 'initech']);
  // It is wanted back: the old process, half ended, is none that serves.
  at.placements = placed('acme', 'initech');
  processes.failStop.clear();
  await lanes.polled();
  expect([...processes.running].sort()).toEqual(['acme', 'initech']);
  expect(processes.started).toEqual(['acme', 'hooli', 'initech', 'acme']);
  expect(lanes.said).toEqual(['dedicated lanes: acme does not end']);
  await lanes.stop();
});
