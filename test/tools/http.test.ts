import { createServer, type Server } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { HttpGrant } from '../../contracts/http-port';
import { HttpForbidden, HttpNotSent, HttpRefused, HttpUnavailable } from '../../contracts/http-errors';
import { createHttpPools, type HttpPools } from '../../tools/http';
import { close, listen } from '../support/outside';

let server: Server;
let url: string;
let pools: HttpPools;
let seen: string[];
let status = 200;
let holdMs = 0;

beforeAll(async () => {
  server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    setTimeout(
      () =>
        response.writeHead(status, { 'content-type': 'application/json', location: '/elsewhere' }).end('{}'),
      holdMs,
    );
  });
  url = await listen(server);
});
beforeEach(() => {
  [seen, status, holdMs] = [[], 200, 0];
  pools = createHttpPools();
});
afterEach(() => pools.close());
afterAll(() => close(server));

const grant = (more: Partial<HttpGrant> = {}): HttpGrant => ({
  poolKey: 'acme prod keeper',
  baseUrl: new URL(`${url}/api/`),
  privateGranted: true,
  authorization: () => 'Bearer secret',
  idempotencyKey: 'key',
  signal: AbortSignal.timeout(10_000),
  beforeSend: () => undefined,
  remainingMs: () => 5_000,
  ...more,
});

test('T7 no path leaves the connection’s own: dot segments, encoded, with characters that the URL parser drops, absolute', async () => {
  const http = pools.open(grant());
  const paths = [
    '../admin',
    '/tickets/../../admin',
    '.\t./admin',
    '.\n./admin',
    '\t/admin',
    '/tickets/.\t./.\n./admin',
    '%2e%2e/admin',
    '..#',
    '#x',
    'http:/admin',
    'http://other.test/',
    '\\admin',
    'a%2f..%2f..',
    '..%5cadmin',
    'x\u0000',
  ];
  for (const path of paths) {
    const answer = await http.get(path).then(
      () => 'sent',
      (error: unknown) => error,
    );
    expect([path, answer]).toEqual([path, expect.any(HttpForbidden)]);
  }
  expect(seen).toEqual([]);
  await http.get('/tickets/1?q=a..b');
  expect(seen).toEqual(['GET /api/tickets/1?q=a..b']);
});

test('T7 an address that is not public is not connected to without the tenant’s own connection, whatever its spelling', async () => {
  const { port } = new URL(url);
  const spellings = [
    '127.0.0.1',
    '2130706433',
    '0x7f.1',
    '017700000001',
    '127.1',
    '１２７.0.0.1',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '0.0.0.0',
    'localhost',
    'a.localhost',
    '169.254.169.254',
    '[fe80::1]',
    '10.0.0.1',
    '[64:ff9b::7f00:1]',
  ];
  for (const host of spellings) {
    const http = pools.open(
      grant({ baseUrl: new URL(`http://${host}:${port}/`), privateGranted: false, authorization: null }),
    );
    expect([
      host,
      await http.get('x').then(
        () => 'sent',
        (error: unknown) => error,
      ),
    ]).toEqual([host, expect.any(HttpForbidden)]);
  }
  expect(seen).toEqual([]);
});

test('O1 a request that waited for a connection is asked once more before its first byte: what the fence stops then is not sent', async () => {
  holdMs = 600;
  let fenced = false;
  const refusal = new Error('fenced');
  const http = pools.open(
    grant({
      beforeSend: () => {
        if (fenced) throw refusal;
      },
    }),
  );
  const busy = Array.from({ length: 16 }, (_, n) => pools.open(grant()).get(`busy/${n}`));
  await delay(200);
  const queued = http.post('write', {});
  queued.catch(() => undefined);
  fenced = true;
  await Promise.all(busy);
  await expect(queued).rejects.toBe(refusal);
  await delay(100);
  expect(seen.filter((request) => request.startsWith('POST'))).toEqual([]);
  expect(http.mayHaveApplied()).toBe(0);
});

test('T3 what a status says of a write: 4xx applied nothing; a time-out, a redirect, 5xx and a lost answer may have', async () => {
  const outcomes: [number, unknown, number][] = [
    [400, HttpRefused, 0],
    [404, HttpRefused, 0],
    [429, HttpNotSent, 0],
    [408, HttpRefused, 1],
    [303, HttpRefused, 1],
    [500, HttpUnavailable, 1],
  ];
  for (const [answered, type, applied] of outcomes) {
    status = answered;
    const http = pools.open(grant());
    const error = await http.post('write', {}).then(
      () => 'sent',
      (thrown: unknown) => thrown,
    );
    expect([answered, error, http.mayHaveApplied()]).toEqual([answered, expect.any(type), applied]);
  }
  const nobody = pools.open(grant({ baseUrl: new URL('http://127.0.0.1:1/'), poolKey: 'acme prod nobody' }));
  await expect(nobody.post('write', {})).rejects.toBeInstanceOf(HttpNotSent);
  expect(nobody.mayHaveApplied()).toBe(0);
});

test('T2 one action makes one change: a second one under its key is refused, its repetition is not; a look-up changes nothing', async () => {
  const http = pools.open(grant());
  await http.post('one', {});
  await http.post('one', {});
  await expect(http.post('two', {})).rejects.toBeInstanceOf(HttpForbidden);
  await http.get('two');
  const looking = pools.open(grant({ readOnly: true }));
  await expect(looking.post('one', {})).rejects.toBeInstanceOf(HttpForbidden);
  await looking.get('one');
  expect(seen).toEqual(['POST /api/one', 'POST /api/one', 'GET /api/two', 'GET /api/one']);
});
