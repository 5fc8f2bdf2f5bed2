import { Agent, request, type Dispatcher } from 'undici';
import type { HttpAnswer } from '../contracts/action';
import { HttpForbidden, HttpNotSent, HttpRefused, HttpUnavailable } from '../contracts/http-errors';
import type { GrantedHttp, HttpGrant, OpenHttp } from '../contracts/http-port';
import ipaddr from 'ipaddr.js';
import { guardedLookup, isPublicAddress } from './addresses';
import { AtWrite } from './at-write';

const MAX_ANSWER_BYTES = 1_048_576;
/** Below the 5 s at which common servers close idle sockets, so that a reused socket is not one being closed. */
const KEEP_ALIVE_MS = 2_000;
const MAX_POOLS = 512;

/** Connection pools of a process. */
export interface HttpPools {
  readonly open: OpenHttp;
  close(): Promise<void>;
}

/** Pools keyed by tenant, environment and system; the least recently used one is closed beyond {@link MAX_POOLS}. */
export function createHttpPools(): HttpPools {
  const pools = new Map<string, Agent>();
  const poolFor = (grant: HttpGrant): Agent => {
    const key = `${grant.privateGranted ? 'granted' : 'public'} ${grant.poolKey}`;
    const known = pools.get(key);
    if (known) {
      pools.delete(key);
      pools.set(key, known);
      return known;
    }
    const agent = new Agent({
      connections: 16,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connect: { timeout: 5_000, lookup: guardedLookup(grant.privateGranted) } as NonNullable<
        Agent.Options['connect']
      >,
    });
    pools.set(key, agent);
    const oldest = pools.keys().next();
    if (pools.size > MAX_POOLS && !oldest.done) {
      const stale = pools.get(oldest.value);
      pools.delete(oldest.value);
      void stale?.close();
    }
    return agent;
  };
  return {
    open: (grant) => openHttp(grant, poolFor(grant)),
    close: async () => {
      await Promise.all([...pools.values()].map((agent) => agent.destroy()));
      pools.clear();
    },
  };
}

interface Sending {
  readonly method: Dispatcher.HttpMethod;
  readonly url: URL;
  readonly headers: Record<string, string>;
  readonly body: string | null;
}

function openHttp(grant: HttpGrant, dispatcher: Agent): GrantedHttp {
  let applied = 0;
  const { baseUrl } = grant;
  if (!baseUrl) return CLOSED;
  // A host out of arguments is the model's own words, which no message repeats.
  const host = grant.privateGranted ? baseUrl.host : 'the destination';
  let change: string | undefined;

  const urlOf = (path: string): URL => {
    // Dot segments, encoded separators and backslashes would leave the connection's own path; so would what the URL
    // parser drops in silence, which is why the parsed path is held against the base once more.
    if (/(^|\/)(\.|%2e){1,2}(\/|\?|$)|[\\#]|%2f|%5c|%00/i.test(path) || /\p{Cc}/u.test(path))
      throw new HttpForbidden(`a path to ${host} is not plain; nothing was sent`);
    const base = withSlash(baseUrl);
    const url = sameOrigin(new URL(path.replace(/^\/+/, ''), base));
    if (!url.pathname.startsWith(base.pathname))
      throw new HttpForbidden(`a path would leave that of ${host}; nothing was sent`);
    return url;
  };
  /** One action makes one change: a second one under the same key would be taken for its repetition, and be lost. */
  const oneChange = (method: string, url: URL): void => {
    if (grant.readOnly) throw new HttpForbidden('a look-up or read-back changes nothing; nothing was sent');
    const asked = `${method} ${url.pathname}`;
    if (change !== undefined && change !== asked)
      throw new HttpForbidden('an action makes one change: make two actions of it; the second was not sent');
    change = asked;
  };
  const sameOrigin = (url: URL): URL => {
    if (url.origin !== baseUrl.origin || url.username || url.password) {
      throw new HttpForbidden(`a request would leave ${host} for another destination; nothing was sent`);
    }
    const literal = url.hostname.replace(/^\[|\]$/g, '');
    // A literal address is connected to without any lookup, so the lookup's guard would not see it.
    if (!grant.privateGranted && ipaddr.isValid(literal) && !isPublicAddress(literal)) {
      throw new HttpForbidden(`${host} is not a public address; nothing was sent`);
    }
    return url;
  };

  const send = async ({
    method,
    url,
    headers,
    body,
  }: Sending): Promise<{ status: number; headers: Record<string, string>; text: string }> => {
    if (grant.checkpoint) await grant.checkpoint('before_send');
    grant.signal.throwIfAborted();
    const remaining = grant.remainingMs();
    const authorization = grant.authorization?.();
    grant.beforeSend();
    const changes = method !== 'GET';
    if (changes) oneChange(method, url);
    if (changes) applied += 1;
    const takeBack = (): void => {
      if (changes) applied -= 1;
    };
    const atWrite = new AtWrite(grant);
    try {
      const response = await request(url, {
        dispatcher: dispatcher.compose(
          (dispatch) => (options, handler) => dispatch(options, atWrite.before(handler)),
        ),
        method,
        headers: {
          ...headers,
          ...(authorization ? { authorization } : {}),
          ...(grant.idempotencyKey && method !== 'GET' ? { 'idempotency-key': grant.idempotencyKey } : {}),
        },
        body,
        signal: grant.signal,
        headersTimeout: remaining,
        bodyTimeout: remaining,
      });
      await atWrite.written;
      await grant.checkpoint?.('after_reply');
      const answer = {
        status: response.statusCode,
        headers: flat(response.headers),
        text: await bounded(response.body, host),
      };
      if (APPLIED_NOTHING(answer.status)) takeBack();
      return answer;
    } catch (error) {
      if (error === atWrite.refusal) {
        takeBack();
        throw error;
      }
      if (error instanceof HttpForbidden || neverLeft(error)) {
        takeBack();
        throw error instanceof HttpForbidden
          ? error
          : new HttpNotSent(`${host} could not be reached (${codeOf(error)}); nothing was sent`);
      }
      throw new HttpUnavailable(`${host} gave no usable answer (${codeOf(error)})`);
    }
  };

  const call = async (method: Dispatcher.HttpMethod, path: string, body?: unknown): Promise<HttpAnswer> => {
    const answer = await send({
      method,
      url: urlOf(path),
      headers: {
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const parsed: unknown = parseBody(answer.text, answer.headers['content-type']);
    if (answer.status === 429)
      throw new HttpNotSent(`${host} answered 429; nothing was applied`, retryAfter(answer.headers));
    if (answer.status >= 500)
      throw new HttpUnavailable(`${host} answered ${answer.status}`, retryAfter(answer.headers));
    if (answer.status >= 300)
      throw new HttpRefused(`${host} answered ${answer.status}`, answer.status, parsed);
    return { status: answer.status, headers: answer.headers, body: parsed };
  };

  return {
    mayHaveApplied: () => applied,
    get: (path) => call('GET', path),
    post: (path, body) => call('POST', path, body),
    put: (path, body) => call('PUT', path, body),
    patch: (path, body) => call('PATCH', path, body),
    fetch: async (input, init) => {
      const asked = new Request(input, init);
      const answer = await send({
        method: asked.method,
        url: sameOrigin(new URL(asked.url)),
        headers: {
          'content-type': asked.headers.get('content-type') ?? 'application/json',
          accept: 'application/json',
        },
        body: asked.body ? await asked.text() : null,
      });
      return new Response(answer.text, { status: answer.status, headers: answer.headers });
    },
  };
}

const nowhere = (): Promise<never> =>
  Promise.reject(new HttpForbidden('this action has no destination; nothing was sent'));
const CLOSED: GrantedHttp = {
  mayHaveApplied: () => 0,
  get: nowhere,
  post: nowhere,
  put: nowhere,
  patch: nowhere,
  fetch: nowhere,
};

/**
 * A 4xx says that nothing was applied, but for a time-out (408), and too early (425). A redirect, never followed, often
 * says that it was (303 after a POST).
 */
const APPLIED_NOTHING = (status: number): boolean =>
  status >= 400 && status < 500 && status !== 408 && status !== 425;

/** Errors of a connection that was never made: no byte of the request can have left. */
function neverLeft(error: unknown): boolean {
  const code = codeOf(error);
  if (['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT'].includes(code)) return true;
  // These come from a broken connection too.
  const connecting = error instanceof Error && 'syscall' in error && error.syscall === 'connect';
  return connecting && ['EHOSTUNREACH', 'ENETUNREACH'].includes(code);
}

function codeOf(error: unknown): string {
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string')
    return error.code;
  return error instanceof Error ? error.name : 'unknown';
}

async function bounded(body: Dispatcher.ResponseData['body'], host: string): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) {
      body.destroy();
      throw new HttpUnavailable(`${host} answered more than ${MAX_ANSWER_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseBody(text: string, contentType: string | undefined): unknown {
  if (!contentType?.includes('json') || text === '') return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function retryAfter(headers: Record<string, string>): number | undefined {
  const seconds = Number(headers['retry-after']);
  return Number.isFinite(seconds) && seconds >= 0 ? Math.round(seconds * 1_000) : undefined;
}

function flat(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, Array.isArray(value) ? value.join(', ') : value]],
    ),
  );
}

const withSlash = (url: URL): URL => (url.pathname.endsWith('/') ? url : new URL(`${url.pathname}/`, url));
