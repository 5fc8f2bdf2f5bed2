import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import type { HttpGrant } from '../../contracts/http-port';
import { HttpForbidden, HttpRefused } from '../../contracts/http-errors';
import { createHttpPools, type HttpPools } from '../../tools/http';
import { close, listen } from '../support/outside';

let server: Server;
let port: string;
let pools: HttpPools;
/** What arrived, with the network it came through: `own` may reach private addresses, `public` may not. */
let seen: { asked: string; network: string; authorization: string | undefined; key: unknown }[];
/** Where each path of each host redirects to. */
let leads: Record<string, string>;
let status: number;
let asked: string[];

beforeAll(async () => {
  server = createServer((request, response) => {
    const {
      host,
      authorization,
      'x-network': network,
      'idempotency-key': key,
    }: IncomingHttpHeaders = request.headers;
    const name = `${host}${request.url}`;
    seen.push({ asked: `${request.method} ${name}`, network: String(network), authorization, key });
    const location = leads[name];
    if (location === undefined)
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}');
    else response.writeHead(status, { location }).end();
  });
  port = new URL(await listen(server)).port;
});
beforeEach(() => {
  [seen, leads, status, asked] = [[], {}, 302, []];
  pools = createHttpPools({ agentFor: recordingAgent });
});
afterEach(() => pools.close());
afterAll(() => close(server));

/** Brings every connection to the one server, whatever its name, and says which network it would have been made in. */
function recordingAgent(ownNetwork: boolean): Dispatcher {
  const connect = buildConnector({});
  const agent = new Agent({
    connect: (options, done) => connect({ ...options, hostname: '127.0.0.1', protocol: 'http:', port }, done),
  });
  return agent.compose((dispatch) => (options, handler) => {
    const headers = {
      ...(options.headers as Record<string, string>),
      'x-network': ownNetwork ? 'own' : 'public',
    };
    return dispatch({ ...options, headers }, handler);
  });
}

const grant = (more: Partial<HttpGrant> = {}): HttpGrant => ({
  poolKey: 'acme prod helpdesk',
  baseUrl: new URL('https://desk.example/api/'),
  privateGranted: true,
  mayGo: (url) => {
    asked.push(url.href);
    return url.hostname.endsWith('.ok.example');
  },
  authorization: () => 'Bearer secret',
  idempotencyKey: 'key',
  signal: AbortSignal.timeout(20_000),
  beforeSend: () => undefined,
  remainingMs: () => 10_000,
  ...more,
});
const path = (): string[] => seen.map((one) => one.asked);

test('T7 a redirect at the own origin is followed with the credential, below the connection’s own path alone', async () => {
  leads = { 'desk.example/api/a': '/api/b', 'desk.example/api/b': 'c?x=1', 'desk.example/api/out': '/admin' };
  await expect(pools.open(grant()).get('a')).resolves.toMatchObject({ status: 200, body: { ok: true } });
  expect(path()).toEqual(['GET desk.example/api/a', 'GET desk.example/api/b', 'GET desk.example/api/c?x=1']);
  expect(
    seen.every(({ authorization, network }) => authorization === 'Bearer secret' && network === 'own'),
  ).toBe(true);
  expect(asked).toEqual([]);
  for (const out of ['/admin', '/api/../admin', '/api/%2e%2e/admin', '/ap%69/x', '/apix']) {
    leads['desk.example/api/out'] = out;
    await expect(pools.open(grant()).get('out')).rejects.toBeInstanceOf(HttpForbidden);
  }
  expect(path().filter((one) => !one.startsWith('GET desk.example/api/'))).toEqual([]);
});

test('T7 a redirect to another origin is asked of policy, gets no credential and no private network, and does not win them back', async () => {
  leads = {
    'desk.example/api/a': 'https://files.ok.example/f',
    'files.ok.example/f': '/g',
    'files.ok.example/g': 'https://files.ok.example:8443/h',
    'files.ok.example:8443/h': 'http://files.ok.example/i',
    'files.ok.example/i': 'https://desk.example/api/b',
  };
  await expect(pools.open(grant()).get('a')).rejects.toBeInstanceOf(HttpForbidden);
  expect(asked).toEqual([
    'https://files.ok.example/f',
    'https://files.ok.example:8443/h',
    'http://files.ok.example/i',
    'https://desk.example/api/b',
  ]);
  const [first, ...others] = seen;
  expect(first).toMatchObject({ network: 'own', authorization: 'Bearer secret' });
  expect(others).toHaveLength(4);
  for (const hop of others)
    expect(hop).toMatchObject({ network: 'public', authorization: undefined, key: undefined });

  leads['files.ok.example/f'] = 'https://desk.example/api/b';
  const everywhere = grant({ mayGo: () => true });
  await pools.open(everywhere).get('a');
  expect(seen.at(-1)).toMatchObject({
    asked: 'GET desk.example/api/b',
    network: 'public',
    authorization: undefined,
  });
});

test('T7 an address out of arguments: redirects stay at public addresses, and each other origin is asked of policy', async () => {
  leads = { 'web.ok.example/page?q=1': '/moved', 'web.ok.example/moved': 'https://evil.example/collect' };
  const web = grant({
    baseUrl: new URL('https://web.ok.example/page?q=1'),
    privateGranted: false,
    authorization: null,
  });
  await expect(pools.open(web).get('')).rejects.toBeInstanceOf(HttpForbidden);
  expect(path()).toEqual(['GET web.ok.example/page?q=1', 'GET web.ok.example/moved']);
  expect(seen.every(({ network }) => network === 'public')).toBe(true);
  expect(asked).toEqual(['https://evil.example/collect']);
});

test('T7 five redirects are followed and no sixth; what is no redirect with a plain URL is the answer, or refused', async () => {
  for (let n = 0; n < 6; n += 1) leads[`desk.example/api/${n}`] = `/api/${n + 1}`;
  await expect(pools.open(grant()).get('1')).resolves.toMatchObject({ status: 200 });
  await expect(pools.open(grant()).get('0')).rejects.toBeInstanceOf(HttpForbidden);
  expect(path().filter((one) => one.endsWith('/6'))).toHaveLength(1);
  const odd = [
    'javascript:1',
    'https://',
    'ftp://files.ok.example/',
    'https://a@files.ok.example/',
    '\\\\files.ok.example/',
  ];
  for (const location of odd) {
    leads['desk.example/api/odd'] = location;
    await expect(pools.open(grant()).get('odd')).rejects.toBeInstanceOf(HttpForbidden);
  }
  status = 304;
  await expect(pools.open(grant()).get('0')).rejects.toMatchObject({ status: 304 });
});

test('T7 no write follows a redirect, nor a read of a call that was not allowed to', async () => {
  leads = { 'desk.example/api/a': '/api/b' };
  for (const redirect of [301, 302, 303, 307, 308]) {
    status = redirect;
    await expect(pools.open(grant()).post('a', {})).rejects.toBeInstanceOf(HttpRefused);
    const { mayGo: _none, ...still } = grant();
    await expect(pools.open(still).get('a')).rejects.toMatchObject({ status: redirect });
    await pools.open(grant()).fetch('https://desk.example/api/a', { method: 'POST', body: '{}' });
  }
  expect(path().filter((one) => one.endsWith('/b'))).toEqual([]);
});

test('T7 each hop passes the fence and the deadline again', async () => {
  leads = { 'desk.example/api/a': '/api/b' };
  const fenced = new Error('fenced');
  const http = pools.open(
    grant({
      beforeSend: () => {
        if (seen.length > 0) throw fenced;
      },
    }),
  );
  await expect(http.get('a')).rejects.toBe(fenced);
  expect(path()).toEqual(['GET desk.example/api/a']);
});
