import { request, type Dispatcher } from 'undici';
import type { HttpAnswer } from '../contracts/action';
import { HttpForbidden, HttpNotSent, HttpRefused, HttpUnavailable } from '../contracts/http-errors';
import type { GrantedHttp, HttpGrant, OpenHttp } from '../contracts/http-port';
import { orAborted } from '../contracts/or-aborted';
import { AtWrite } from './at-write';
import { guardedAgent } from './guarded-agent';
import {
  appliedNothing,
  codeOf,
  neverLeft,
  parseBody,
  readAnswer,
  retryAfter,
  type ReadAnswer,
} from './http-answer';
import { MAX_HOPS, Reach, type Place } from './reach';

const MAX_POOLS = 512;
/** The call's own signal ends a request at its deadline; this ends it where that signal is late. In milliseconds. */
const DEADLINE_MARGIN_MS = 500;

/** Connection pools of a process. */
export interface HttpPools {
  readonly open: OpenHttp;
  close(): Promise<void>;
}

/** Makes what connects: `ownNetwork` for a tenant's own connection, else for an address that somebody else has named. */
export type AgentFor = (ownNetwork: boolean) => Dispatcher;

/**
 * Pools keyed by tenant, environment and system, and by what they may reach; the least recently used one is closed
 * beyond {@link MAX_POOLS}.
 */
export function createHttpPools({ agentFor = guardedAgent }: { agentFor?: AgentFor } = {}): HttpPools {
  const pools = new Map<string, Dispatcher>();
  const poolFor = (poolKey: string, ownNetwork: boolean): Dispatcher => {
    const key = `${ownNetwork ? 'granted' : 'public'} ${poolKey}`;
    const known = pools.get(key);
    if (known) {
      pools.delete(key);
      pools.set(key, known);
      return known;
    }
    const agent = agentFor(ownNetwork);
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
    open: (grant) => openHttp(grant, (ownNetwork) => poolFor(grant.poolKey, ownNetwork)),
    close: async () => {
      await Promise.all([...pools.values()].map((agent) => agent.destroy()));
      pools.clear();
    },
  };
}

interface Sending {
  readonly method: Dispatcher.HttpMethod;
  readonly place: Place;
  readonly headers: Record<string, string>;
  readonly body: string | null;
}

function openHttp(grant: HttpGrant, agentFor: AgentFor): GrantedHttp {
  let applied = 0;
  const { baseUrl } = grant;
  if (!baseUrl) return CLOSED;
  const reach = new Reach(grant, baseUrl);
  const { host } = reach;
  let change: string | undefined;

  /** One action makes one change: a second one under the same key would be taken for its repetition, and be lost. */
  const oneChange = (method: string, url: URL): void => {
    if (grant.readOnly) throw new HttpForbidden('a look-up or read-back changes nothing; nothing was sent');
    const asked = `${method} ${url.pathname}`;
    if (change !== undefined && change !== asked)
      throw new HttpForbidden('an action makes one change: make two actions of it; the second was not sent');
    change = asked;
  };

  const send = async ({ method, place, headers, body }: Sending): Promise<ReadAnswer> => {
    if (grant.checkpoint) await grant.checkpoint('before_send');
    grant.signal.throwIfAborted();
    const remaining = grant.remainingMs();
    const authorization = place.granted ? grant.authorization?.() : undefined;
    grant.beforeSend();
    const changes = method !== 'GET';
    if (changes) oneChange(method, place.url);
    if (changes) applied += 1;
    const takeBack = (): void => {
      if (changes) applied -= 1;
    };
    const dispatcher = agentFor(place.granted && grant.privateGranted);
    const over = new AbortController();
    const end = (): void => over.abort(grant.signal.reason);
    grant.signal.addEventListener('abort', end);
    const timer = setTimeout(() => over.abort(), remaining + DEADLINE_MARGIN_MS);
    const atWrite = new AtWrite(grant, over.signal);
    try {
      const requested = request(place.url, {
        dispatcher: dispatcher.compose(
          (dispatch) => (options, handler) => dispatch(options, atWrite.before(handler)),
        ),
        method,
        headers: {
          ...headers,
          'accept-encoding': 'identity',
          ...(authorization ? { authorization } : {}),
          ...(grant.idempotencyKey && changes ? { 'idempotency-key': grant.idempotencyKey } : {}),
        },
        body,
        signal: over.signal,
        headersTimeout: remaining,
        bodyTimeout: remaining,
      });
      // undici does not end a request that waits for its connection: that one is given up here, and refused when it gets there.
      const response = await orAborted(requested, over.signal);
      await atWrite.written;
      await grant.checkpoint?.('after_reply');
      const answer = await readAnswer(response, host);
      if (appliedNothing(answer.status)) takeBack();
      return answer;
    } catch (error) {
      if (error === atWrite.refusal) {
        takeBack();
        throw error;
      }
      const unwritten = over.signal.aborted && atWrite.written === undefined;
      if (error instanceof HttpForbidden || unwritten || neverLeft(error)) {
        takeBack();
        throw error instanceof HttpForbidden
          ? error
          : new HttpNotSent(`${host} could not be reached (${codeOf(error)}); nothing was sent`);
      }
      if (error instanceof HttpUnavailable) throw error;
      throw new HttpUnavailable(`${host} gave no usable answer (${codeOf(error)})`);
    } finally {
      clearTimeout(timer);
      grant.signal.removeEventListener('abort', end);
    }
  };

  /** A read, through the redirects that may be followed; each is a request of its own, with every check again. */
  const read = async (first: Place): Promise<ReadAnswer> => {
    let place = first;
    for (let hop = 0; ; hop += 1) {
      const answer = await send({ method: 'GET', place, headers: JSON_WANTED, body: null });
      const next = reach.onward(place, answer.status, answer.headers['location']);
      if (!next) return answer;
      if (hop === MAX_HOPS)
        throw new HttpForbidden(`${host} redirects more than ${MAX_HOPS} times; the last was not followed`);
      place = next;
    }
  };
  const write = (method: Dispatcher.HttpMethod, path: string, body: unknown): Promise<ReadAnswer> =>
    send({
      method,
      place: reach.at(path),
      headers: { ...JSON_WANTED, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      body: body === undefined ? null : JSON.stringify(body),
    });
  const judged = (answer: ReadAnswer): HttpAnswer => {
    const body = parseBody(answer);
    const { status, headers } = answer;
    if (status === 429)
      throw new HttpNotSent(`${host} answered 429; nothing was applied`, retryAfter(answer));
    if (status >= 500) throw new HttpUnavailable(`${host} answered ${status}`, retryAfter(answer));
    if (status >= 300) throw new HttpRefused(`${host} answered ${status}`, status, body);
    return { status, headers, body };
  };

  return {
    mayHaveApplied: () => applied,
    get: async (path) => judged(await read(reach.at(path))),
    post: async (path, body) => judged(await write('POST', path, body)),
    put: async (path, body) => judged(await write('PUT', path, body)),
    patch: async (path, body) => judged(await write('PATCH', path, body)),
    fetch: async (input, init) => {
      const asked = new Request(input, init);
      const answer = await send({
        method: asked.method,
        place: reach.exactly(asked.url),
        headers: {
          ...JSON_WANTED,
          'content-type': asked.headers.get('content-type') ?? 'application/json',
        },
        body: asked.body ? await asked.text() : null,
      });
      const { status, headers } = answer;
      // No other can be told so.
      if (status < 200 || status > 599) throw new HttpUnavailable(`the system answered ${status}`);
      return new Response(WITHOUT_BODY.has(status) ? null : answer.text, { status, headers });
    },
  };
}

const JSON_WANTED = { accept: 'application/json' };
/** A `Response` refuses to be made of these with a body, be it an empty one. */
const WITHOUT_BODY: ReadonlySet<number> = new Set([204, 205, 304]);

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
