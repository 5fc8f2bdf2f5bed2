import { createServer, type RequestListener, type Server } from 'node:http';
import { performance } from 'node:perf_hooks';
import { gzipSync } from 'node:zlib';
import type { HttpGrant } from '../../contracts/http-port';
import { HttpNotSent, HttpUnavailable } from '../../contracts/http-errors';
import { plainUrl } from '../../contracts/http-url';
import { canonicalHost, matches } from '../../policy/globs';
import { mayConnect } from '../../tools/addresses';
import { createHttpPools, type HttpPools } from '../../tools/http';
import { startForbidden } from '../support/forbidden';
import { close, listen } from '../support/outside';

let server: Server;
let url: string;
let answer: RequestListener;
let pools: HttpPools;

beforeAll(async () => {
  server = createServer((request, response) => answer(request, response));
  url = await listen(server);
});
beforeEach(() => {
  pools = createHttpPools();
});
afterEach(() => pools.close());
afterAll(() => close(server));

const grant = (more: Partial<HttpGrant> = {}): HttpGrant => ({
  poolKey: 'acme prod keeper',
  baseUrl: new URL(url),
  privateGranted: true,
  authorization: null,
  idempotencyKey: null,
  signal: AbortSignal.timeout(120_000),
  beforeSend: () => undefined,
  remainingMs: () => 120_000,
  ...more,
});

test('T7 an answer of 1 MiB is read, one byte more is not, and nothing compressed is asked for or read', async () => {
  let encodings: unknown;
  const size = 1_048_576;
  answer = ({ headers }, response) => {
    encodings = headers['accept-encoding'];
    response.end('x'.repeat(size));
  };
  expect(String((await pools.open(grant()).get('x')).body)).toHaveLength(size);
  expect(encodings).toBe('identity');
  let written = 0;
  answer = (_request, response) => {
    const more = (): void => {
      if (response.destroyed || written > 200 * size) return;
      written += size;
      response.write('x'.repeat(size), more);
    };
    more();
  };
  await expect(pools.open(grant()).get('x')).rejects.toThrow(/answered more than 1048576 bytes/);
  expect(written).toBeLessThan(50 * size);
  const bomb = gzipSync('x'.repeat(50 * size));
  for (const encoding of ['gzip', 'GZIP', 'br', 'identity, gzip']) {
    answer = (_request, response) => response.writeHead(200, { 'content-encoding': encoding }).end(bomb);
    await expect(pools.open(grant()).get('x')).rejects.toThrow(/encoding that was not asked for/);
  }
});

test('T7 headers are bounded: 16 KiB of them, in one or in many, are no usable answer', async () => {
  for (const [count, length] of [
    [1, 20_000],
    [400, 100],
  ] as const) {
    answer = (_request, response) => {
      for (let n = 0; n < count; n += 1) response.setHeader(`x-${n}`, 'x'.repeat(length));
      response.end('{}');
    };
    await expect(pools.open(grant()).get('x')).rejects.toBeInstanceOf(HttpUnavailable);
  }
});

test('T7 a server that drips, its headers or its body, is left at the deadline of the call, whoever keeps the time', async () => {
  const drips = new Set<NodeJS.Timeout>();
  const dripping: RequestListener[] = [
    ({ socket }) => drips.add(setInterval(() => socket.write('HTTP/1.1 200 OK\r\nx: '.slice(0, 1)), 50)),
    (_request, response) => {
      response.writeHead(200);
      drips.add(setInterval(() => response.write('x'), 50));
    },
  ];
  for (const drip of dripping) {
    answer = drip;
    const bySignal = grant({ signal: AbortSignal.timeout(600) });
    const byTime = grant({ remainingMs: () => 600 });
    for (const bounded of [bySignal, byTime]) {
      const begun = performance.now();
      await expect(pools.open(bounded).get('x')).rejects.toBeInstanceOf(HttpUnavailable);
      // 0.6 s, and half a second more where the signal is late; the rest is for a busy machine.
      expect(performance.now() - begun).toBeLessThan(20_000);
    }
  }
  for (const drip of drips) clearInterval(drip);
});

test('T7 a write that waits for a connection longer than its time has not been sent, and never will be', async () => {
  const asked: string[] = [];
  const held = new Set<() => void>();
  answer = (request, response) => {
    asked.push(`${request.method} ${request.url}`);
    held.add(() => response.end('{}'));
  };
  const busy = Array.from({ length: 16 }, (_, n) => pools.open(grant()).get(`/busy/${n}`));
  while (asked.length < 16) await new Promise((resolve) => setTimeout(resolve, 20));
  const http = pools.open(grant({ signal: AbortSignal.timeout(300) }));
  const begun = performance.now();
  await expect(http.post('/late', {})).rejects.toBeInstanceOf(HttpNotSent);
  expect(performance.now() - begun).toBeLessThan(20_000);
  expect(http.mayHaveApplied()).toBe(0);
  for (const end of held) end();
  await Promise.all(busy);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(asked.filter((one) => one.startsWith('POST'))).toEqual([]);
});

test('T7 a proxy of the environment is not heeded: the connection is made where it was checked', async () => {
  const proxy = await startForbidden();
  const names = [
    'HTTP_PROXY',
    'HTTPS_PROXY',
    'ALL_PROXY',
    'http_proxy',
    'https_proxy',
    'all_proxy',
    'NODE_USE_ENV_PROXY',
  ];
  const before = names.map((name) => [name, process.env[name]] as const);
  try {
    for (const name of names)
      process.env[name] = name === 'NODE_USE_ENV_PROXY' ? '1' : `http://127.0.0.1:${proxy.port}`;
    answer = (_request, response) => response.end('direct');
    const own = createHttpPools();
    await expect(own.open(grant()).get('x')).resolves.toMatchObject({ body: 'direct' });
    const secure = grant({ baseUrl: new URL(url.replace('http:', 'https:')) });
    await expect(own.open(secure).get('x')).rejects.toThrow();
    await own.close();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
  }
  expect(proxy.connections).toBe(0);
  await proxy.close();
});

test.each([
  [
    'the internet',
    ['1.1.1.1', '93.184.216.34', '2606:2800:220:1::1', '2a00::1', '::ffff:1.1.1.1'],
    true,
    true,
  ],
  [
    'a private network',
    [
      '127.0.0.1',
      '10.0.0.1',
      '172.31.255.255',
      '192.168.1.1',
      '100.64.0.1',
      '::1',
      'fd00::1',
      '::ffff:10.0.0.1',
    ],
    false,
    true,
  ],
  [
    'metadata, link-local and nobody',
    [
      '169.254.169.254',
      '169.254.170.2',
      '100.100.100.200',
      '168.63.129.16',
      'fd00:ec2::254',
      'fd20:ce::254',
      'fe80::1',
      'fe80::1%lo',
    ],
    false,
    false,
  ],
  [
    'no single host',
    [
      '0.0.0.0',
      '0.1.2.3',
      '224.0.0.1',
      '255.255.255.255',
      '240.0.0.1',
      '192.0.2.1',
      '198.18.0.1',
      '::',
      'ff02::1',
    ],
    false,
    false,
  ],
  [
    'an address within an address',
    [
      '64:ff9b::7f00:1',
      '64:ff9b:1::7f00:1',
      '2002:7f00:1::1',
      '2001:0:7f00:1::',
      '::ffff:0:7f00:1',
      '::7f00:1',
      '2001:470::5efe:7f00:1',
      '2001:470::200:5efe:7f00:1',
    ],
    false,
    false,
  ],
  [
    'no address',
    ['', 'localhost', '127.1', '2130706433', '1.1.1.1 ', '[::1]', 'fec0::1', '4000::1'],
    false,
    false,
  ],
] as const)(
  'T7 %s: whether an address out of arguments, and a connection, may reach it',
  (_what, addresses, out, own) => {
    for (const address of addresses)
      expect([address, mayConnect(address, false), mayConnect(address, true)]).toEqual([address, out, own]);
  },
);

test('T7 judging takes time linear in the text: of eight times the size it takes about eight times as long', () => {
  const sizes = [1, 2, 4, 8].map((times) => times * 1_000);
  const hostile: Record<string, (size: number) => unknown> = {
    'a long path': (size) => plainUrl(`https://ok.example/${'a/../'.repeat(size / 5)}`),
    'many labels': (size) => plainUrl(`https://${'a.'.repeat(size / 2 - 10)}example/`),
    punycode: (size) => plainUrl(`https://xn--${'z9'.repeat(size / 2 - 10)}.example/`),
    'folded letters': (size) => plainUrl(`https://${'ａ'.repeat(size - 20)}.example/`),
    'many @': (size) => plainUrl(`https://${'@'.repeat(size - 20)}ok.example/`),
    'a query of escapes': (size) => plainUrl(`https://ok.example/?${'%'.repeat(size - 30)}`),
    'a host': (size) => canonicalHost('a.'.repeat(size / 2)),
    'a pattern of eight stars': (size) => matches('*a*a*a*a*a*a*a*b', 'a'.repeat(size)),
  };
  const costs = (of: (size: number) => unknown): number[] =>
    sizes.map((size) => {
      const begun = process.cpuUsage();
      for (let n = 0; n < 400; n += 1) of(size);
      const { user, system } = process.cpuUsage(begun);
      // What a call costs at least, so that noise on next to nothing is no ratio.
      return Math.max((user + system) / 400, 20);
    });
  for (const [what, of] of Object.entries(hostile)) {
    // Other work on the machine only ever adds: the best of a few tries counts.
    const tries = Array.from({ length: 5 }, () => costs(of));
    const best = sizes.map((_, at) => Math.min(...tries.map((one) => one[at] ?? 0)));
    const ratio = (best.at(-1) ?? 0) / (best[0] ?? 1);
    // Linear is 8, quadratic 64.
    expect([what, ratio < 24]).toEqual([what, true]);
  }
  // Beyond what is judged at all, the size is looked at and nothing else.
  expect(plainUrl(`https://ok.example/${'a'.repeat(5_000_000)}`)).toBeUndefined();
  expect(canonicalHost('a'.repeat(5_000_000))).toBeUndefined();
});
