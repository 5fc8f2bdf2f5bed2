import { pino } from 'pino';
import { TenantId } from '../../contracts/ids';
import { startLaneHost } from '../../workers/lane-host';
import type { Host } from '../../workers/parts';
import { FORBIDDEN, startGrpcWire, type GrpcWire } from '../support/grpc-wire';
import { testTemporal } from '../support/shared-temporal';
import { until } from '../support/until';
import { createGround, type Ground } from './ground';

/** Lanes whose worker cannot be made, because Temporal is away just then. */

let wire: GrpcWire;
let ground: Ground;
const hosts: Host[] = [];
beforeAll(async () => {
  wire = await startGrpcWire(testTemporal().address);
});
beforeEach(async () => {
  wire.answer(() => undefined);
  ground = await createGround({ workers: false, temporal: { ...testTemporal(), address: wire.address } });
});
afterEach(async () => {
  wire.answer(() => undefined);
  for (const host of hosts.splice(0)) await host.stop();
  await ground.close();
});
afterAll(() => wire.close());

const DESCRIBE = 'DescribeNamespace';
const FAILED = 'a lane could not be moved';

interface Line {
  readonly msg: string;
  readonly error?: string;
}

/** A host for one tenant, which serves nobody until that tenant is there; answers what it logs. */
async function hostFor(tenant: string): Promise<{ host: Host; lines: (msg: string) => Line[] }> {
  const log: Line[] = [];
  const logger = pino({}, { write: (line: string) => void log.push(JSON.parse(line) as Line) });
  const parts = { ...ground.stack.parts, logger };
  const bundle = { codePath: testTemporal().bundlePath };
  const host = await startLaneHost(parts, { bundle, only: TenantId.parse(tenant) });
  hosts.push(host);
  return { host, lines: (msg) => log.filter((line) => line.msg === msg) };
}

test('N2 lanes that could not be opened while Temporal was away are opened once it is back', async () => {
  const { lines } = await hostFor('late');
  wire.answer((method) => (method === DESCRIBE ? FORBIDDEN : undefined));
  await ground.tenant('late', { lane: 'dedicated' });
  await until('tries that failed', () => Promise.resolve(lines(FAILED).length > 3));
  wire.answer(() => undefined);
  await until('both of its lanes', () => Promise.resolve(lines('lane opened').length === 2), 15_000);
  expect(lines(FAILED).filter(({ error }) => error?.includes('overlapping'))).toEqual([]);
});

test('N2 a host whose lane can never be opened on its connection any more is broken, and can be stopped', async () => {
  const { host, lines } = await hostFor('left');
  // Temporal goes away between our question and the SDK's own.
  let questions = 0;
  wire.answer((method) => (method === DESCRIBE && (questions += 1) > 1 ? FORBIDDEN : undefined));
  await ground.tenant('left', { lane: 'dedicated' });
  await until('a try that failed', () => Promise.resolve(lines(FAILED).length > 0));
  wire.answer(() => undefined);
  expect(String(await host.broken)).toMatch(/overlapping worker task types/);
});
