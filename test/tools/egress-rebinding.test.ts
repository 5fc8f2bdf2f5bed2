import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { Agent, request } from 'undici';
import { HttpForbidden } from '../../contracts/http-errors';
import { mayConnect, type Resolve } from '../../tools/addresses';
import { guardedAgent } from '../../tools/guarded-agent';
import { createHttpPools } from '../../tools/http';
import { startDns, type Dns } from '../support/dns';
import { startForbidden, type Forbidden } from '../support/forbidden';
import { seeded, type Random } from '../support/hostile-urls';

const ATTEMPTS = 500;
/** Of a name that is asked again and again: a page, a second page, a retry. */
const ROUNDS = 3;
const AT_ONCE = 125;
/** Public by its range, and nobody's: of a block that was never given out. */
const PUBLIC = '2d00::1';
const PRIVATE = ['127.0.0.1', '::1', '0.0.0.0', '::ffff:127.0.0.1', '::ffff:0.0.0.0'];

let forbidden: Forbidden;
let dns: Dns;
let asked: Map<string, number>;
let random: Random;

beforeAll(async () => {
  forbidden = await startForbidden();
  dns = await startDns(changing);
});
beforeEach(() => {
  [asked, random] = [new Map(), seeded(20_261_122)];
  forbidden.connections = 0;
});
afterAll(() => Promise.all([forbidden.close(), dns.close()]));

/** What a name says when it is asked for the n-th time, by its kind: `flip-12.test`. */
function changing(name: string, family: 4 | 6): string[] {
  const kind = name.split('-')[0];
  const key = `${name} ${family}`;
  const times = (asked.get(key) ?? 0) + 1;
  asked.set(key, times);
  const secret = PRIVATE[random(PRIVATE.length)] ?? '127.0.0.1';
  const all = ((): string[] => {
    switch (kind) {
      case 'flip':
        return times === 1 ? [PUBLIC] : ['127.0.0.1'];
      case 'back':
        return times % 2 === 0 ? [PUBLIC] : [secret];
      case 'both':
        return [PUBLIC, secret];
      case 'reversed':
        return [secret, PUBLIC];
      case 'four':
        return family === 6 ? [PUBLIC] : ['127.0.0.1'];
      default:
        return random(2) === 0 ? [PUBLIC] : [secret];
    }
  })();
  return all.filter((address) => address.includes(':') === (family === 6));
}

const KINDS = ['flip', 'back', 'both', 'reversed', 'four', 'random'];
const names = Array.from({ length: ATTEMPTS }, (_, n) => `${KINDS[n % KINDS.length]}-${n}.test`);

async function eachName(attempt: (name: string) => Promise<void>): Promise<void> {
  for (let from = 0; from < names.length; from += AT_ONCE)
    await Promise.all(names.slice(from, from + AT_ONCE).map(attempt));
}

test('T7 500 names that change their addresses between queries: what was checked is what is connected to', async () => {
  const open = new Map<string, AbortController>();
  // Where a machine has a way to the public internet, nobody answers there: such a connection is soon given up.
  const resolve: Resolve = (hostname, options, callback) =>
    dns.resolve(hostname, options, (error, found) => {
      callback(error, found);
      if (found.every(({ address }) => address === PUBLIC))
        setTimeout(() => open.get(hostname)?.abort(), 100);
    });
  const pools = createHttpPools({ agentFor: (ownNetwork) => guardedAgent(ownNetwork, resolve) });
  const counts = { refused: 0, otherwise: 0, sent: 0 };
  await eachName(async (name) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const over = new AbortController();
      open.set(name, over);
      const http = pools.open({
        poolKey: 'acme prod web',
        baseUrl: new URL(`http://${name}:${forbidden.port}/`),
        privateGranted: false,
        authorization: null,
        idempotencyKey: null,
        signal: over.signal,
        beforeSend: () => undefined,
        remainingMs: () => 60_000,
      });
      await http.get('').then(
        () => (counts.sent += 1),
        (error: unknown) => (counts[error instanceof HttpForbidden ? 'refused' : 'otherwise'] += 1),
      );
    }
  });
  await pools.close();
  expect(forbidden.connections).toBe(0);
  expect(counts.sent).toBe(0);
  // Each name showed the private address at least once, and most showed the public one too, which passed the check.
  expect(counts.refused).toBeGreaterThan(ATTEMPTS);
  expect(counts.otherwise).toBeGreaterThan(100);
  expect(dns.queries).toBeGreaterThan(ATTEMPTS * ROUNDS);
}, 300_000);

test('T7 the control arm: a check before the connection, by a look-up of its own, is passed by the same names', async () => {
  const lookup = ((hostname, options, callback) => {
    dns.resolve(hostname, options, (error, found) => {
      const [first] = found.filter(({ address }) => address !== PUBLIC);
      if (first) callback(null, options.all ? [first] : first.address, first.family);
      else callback(error ?? new Error('nowhere'), '');
    });
  }) as LookupFunction;
  const dispatcher = new Agent({ connect: { lookup, timeout: 2_000 } });
  const isPublic = (name: string): Promise<boolean> =>
    new Promise((done) => {
      dns.resolve(name, {}, (_error, found: LookupAddress[]) =>
        done(found.some(({ address }) => mayConnect(address, false))),
      );
    });
  await eachName(async (name) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      if (!(await isPublic(name))) continue;
      await request(`http://${name}:${forbidden.port}/`, { dispatcher, headersTimeout: 2_000 }).then(
        ({ body }) => body.text(),
        () => undefined,
      );
    }
  });
  await dispatcher.destroy();
  expect(forbidden.connections).toBeGreaterThan(ATTEMPTS / 2);
}, 300_000);
