import type { LookupAddress } from 'node:dns';
import { createServer } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type LookupFunction } from 'node:net';
import { Agent, request } from 'undici';
import type { HttpGrant } from '../../contracts/http-port';
import { HttpForbidden, HttpNotSent } from '../../contracts/http-errors';
import { plainUrl } from '../../contracts/http-url';
import { guardedAgent } from '../../tools/guarded-agent';
import { createHttpPools, type HttpPools } from '../../tools/http';
import { startDns, type Dns } from '../support/dns';
import { startForbidden, type Forbidden } from '../support/forbidden';
import { hostileUrl, seeded, type HostileUrl } from '../support/hostile-urls';
import { close, listen } from '../support/outside';

const SEED = 20_261_122;
const COUNT = 10_000;
const AT_ONCE = 100;

let forbidden: Forbidden;
let dns: Dns;
let pools: HttpPools;
/** The path says, in hexadecimal, where the redirect leads; written as it is, which Node's own server would refuse to. */
const leading = createTcpServer((socket) => {
  socket.on('error', () => undefined);
  socket.on('data', (asked) => {
    const [, path = ''] = /^GET \/([0-9a-f]*) /.exec(asked.toString('latin1')) ?? [];
    const location = Buffer.from(path, 'hex')
      .toString('latin1')
      .replace(/[\r\n]/g, ' ');
    socket.write(`HTTP/1.1 302 Found\r\nlocation: ${location}\r\ncontent-length: 0\r\n\r\n`, 'latin1');
  });
});
let redirecting: string;
let urls: HostileUrl[];

beforeAll(async () => {
  forbidden = await startForbidden();
  dns = await startDns(wrapped);
  await new Promise<void>((done) => leading.listen(0, '127.0.0.1', done));
  redirecting = `http://127.0.0.1:${(leading.address() as AddressInfo).port}`;
  const random = seeded(SEED);
  urls = Array.from({ length: COUNT }, () => hostileUrl(random, forbidden.port));
});
beforeEach(() => {
  forbidden.connections = 0;
  pools = createHttpPools({ agentFor: (ownNetwork) => guardedAgent(ownNetwork, dns.resolve) });
});
afterEach(() => pools.close());
afterAll(async () => {
  leading.close();
  await Promise.all([forbidden.close(), dns.close()]);
});

/** Names that hold an address: `ip4-7f000001` has it, `map-…` wraps it, `both-…` shows a public one first. */
function wrapped(name: string, family: 4 | 6): string[] {
  const [, kind, digits = ''] = /^(ip4|map|both)-([0-9a-f]{8})\.wrap\.test$/.exec(name) ?? [];
  const address = digits.replace(/../g, (byte) => `${parseInt(byte, 16)}.`).replace(/\.$/, '');
  if (family === 4) return kind === 'ip4' || kind === 'both' ? [address] : [];
  if (name === 'ip6.wrap.test') return ['::1'];
  return kind === 'map' ? [`::ffff:${address}`] : kind === 'both' ? ['2d00::1'] : [];
}

const grant = (baseUrl: URL, more: Partial<HttpGrant> = {}): HttpGrant => ({
  poolKey: 'acme prod web',
  baseUrl,
  privateGranted: false,
  // Whatever policy says, also where it allows everything.
  mayGo: () => true,
  authorization: null,
  idempotencyKey: null,
  signal: AbortSignal.timeout(300_000),
  beforeSend: () => undefined,
  remainingMs: () => 300_000,
  ...more,
});

/** What becomes of each attempt, counted; what was not refused is told by how it was made. */
async function outcomes(attempt: (url: HostileUrl) => Promise<string>): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (let from = 0; from < urls.length; from += AT_ONCE) {
    const some = await Promise.all(
      urls.slice(from, from + AT_ONCE).map(async (url) => {
        const outcome = await attempt(url);
        return outcome === 'sent' ? `sent: ${url.made}` : outcome;
      }),
    );
    for (const outcome of some) counts[outcome] = (counts[outcome] ?? 0) + 1;
  }
  return counts;
}

const ended = (sending: Promise<unknown>): Promise<string> =>
  sending.then(
    () => 'sent',
    (error: unknown) => {
      if (error instanceof HttpForbidden) return 'refused';
      return error instanceof HttpNotSent ? 'no such host' : `other: ${String(error)}`;
    },
  );

test('T7 10,000 hostile URLs out of arguments: no connection, neither with the check of their form nor with the socket’s alone', async () => {
  const counts = await outcomes(async ({ text }) => {
    const plain = plainUrl(text);
    if (plain) return await ended(pools.open(grant(plain)).get(''));
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (!url || !/^https?:$/.test(url.protocol)) return 'no URL';
    const outcome = await ended(pools.open(grant(url)).get(''));
    return outcome === 'sent' ? 'sent' : `not plain, ${outcome}`;
  });
  expect(forbidden.connections).toBe(0);
  expect(Object.keys(counts).sort()).toEqual([
    'no URL',
    'no such host',
    'not plain, no such host',
    'not plain, refused',
    'refused',
  ]);
  expect(counts['refused']).toBeGreaterThan(500);
  expect(counts['not plain, refused']).toBeGreaterThan(2_000);
}, 400_000);

test('T7 10,000 hostile URLs as redirects of the tenant’s own connection: every hop is checked again, and none connects', async () => {
  const counts = await outcomes(async ({ text }) => {
    const path = Buffer.from(text, 'utf8').toString('hex');
    const base = grant(new URL(redirecting), { privateGranted: true, poolKey: 'acme prod helpdesk' });
    const outcome = await ended(pools.open(base).get(`/${path}`));
    return outcome;
  });
  expect(forbidden.connections).toBe(0);
  expect(Object.keys(counts).filter((outcome) => /^(sent|other)/.test(outcome))).toEqual([]);
  expect(counts['refused']).toBeGreaterThan(5_000);
}, 400_000);

test('T7 10,000 hostile URLs as paths below the tenant’s own connection: nothing goes anywhere else', async () => {
  let elsewhere = 0;
  const own = createServer((asked, response) => {
    if (!asked.url?.startsWith('/api/') || asked.headers.host !== new URL(ownUrl).host) elsewhere += 1;
    response.end();
  });
  const ownUrl = await listen(own);
  await outcomes(async ({ text }) => {
    const base = grant(new URL(`${ownUrl}/api/`), { privateGranted: true, poolKey: 'acme prod helpdesk' });
    const outcome = await ended(pools.open(base).get(text));
    return outcome === 'sent' ? 'below' : outcome;
  });
  expect([forbidden.connections, elsewhere]).toEqual([0, 0]);
  await close(own);
}, 400_000);

test('T7 the control arm: without the guards the same URLs do connect', async () => {
  const here = urls.filter((url) => url.here).slice(0, 3_000);
  const unguarded = ((hostname, options, callback) => {
    const answer = (error: Error | null, found: LookupAddress[]): void => {
      const first = found.find(({ family }) => family === 4);
      if (first) callback(null, options.all ? [first] : first.address, first.family);
      else callback(error ?? new Error('no such name'), '');
    };
    if (/(^|\.)localhost\.?$/i.test(hostname)) answer(null, [{ address: '127.0.0.1', family: 4 }]);
    else dns.resolve(hostname, options, answer);
  }) as LookupFunction;
  const dispatcher = new Agent({ connect: { lookup: unguarded, timeout: 2_000 } });
  for (let from = 0; from < here.length; from += AT_ONCE) {
    await Promise.all(
      here.slice(from, from + AT_ONCE).map(async ({ text }) => {
        const url = URL.canParse(text) ? new URL(text) : undefined;
        if (!url || !/^https?:$/.test(url.protocol) || !isHere(url)) return;
        await request(url, { dispatcher, headersTimeout: 2_000 }).then(
          ({ body }) => body.text(),
          () => undefined,
        );
      }),
    );
  }
  await dispatcher.destroy();
  expect(forbidden.connections).toBeGreaterThan(500);
}, 400_000);

/** So that the arm without guards sends nothing to other machines. */
const isHere = (url: URL): boolean =>
  /^(127\.0\.0\.1|0\.0\.0\.0|\[::1?\]|.*localhost\.?|\[::ffff:7f00:1\]|ip[46].*\.wrap\.test\.?)$/.test(
    url.hostname,
  );
