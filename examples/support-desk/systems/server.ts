import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import canonicalize from 'canonicalize';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { FaultSwitches, Faults } from './faults';
import type { SystemSettings } from './settings';
import { openStore, type EffectRow, type Put, type Store, type Stored } from './store';
import { tokenBook, type Token } from './tokens';

/** What a route answers: a status and a body, or a change to make durable first. */
export type Reply =
  | { readonly status: number; readonly body: unknown }
  | {
      readonly effect: {
        readonly operation: string;
        readonly recordId: string;
        /** Owner of the record that changes. */
        readonly account: string;
        readonly puts: readonly Put[];
        readonly answer: { readonly status: number; readonly body: unknown };
      };
    };

/** Thrown by routes: an answer of its own, nothing changed. */
export class Problem extends Error {
  override readonly name = 'Problem';
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** What a route sees of a request. */
export interface Asked {
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly body: unknown;
  readonly token: Token;
  readonly store: Store;
  /** For logs of the system's own. */
  readonly stateDir: string;
  /** The number of the change about to be made, for ids that a restart does not repeat. */
  readonly nextSeq: number;
  /** The caller's own record, or `Problem` 404, which is also the answer for another account's. */
  owned(collection: string, id: string): Stored;
  /** Records of a collection that the caller may see. */
  visible(collection: string): Stored[];
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'PATCH';
  /** `/tickets/:id`. */
  readonly path: string;
  /** Any one of them will do. */
  readonly needs: readonly string[];
  handle(asked: Asked): Reply;
}

export interface SystemDefinition {
  readonly name: string;
  /** How long a repeated `Idempotency-Key` is answered with the first outcome; `null` for ever. */
  readonly keysHonouredForMs: number | null;
  readonly routes: readonly Route[];
}

const MAX_BODY_BYTES = 1_048_576;

const Intake = z.strictObject({
  puts: z.array(
    z.strictObject({
      collection: z.string(),
      record: z.looseObject({ id: z.string().min(1), account: z.string().min(1) }),
    }),
  ),
});

/** An answer to write; `cut` ends the connection in its place. */
type Served =
  { readonly status: number; readonly body: unknown; readonly headers?: Record<string, string> } | 'cut';

/** The HTTP face of an outside system: tokens, accounts, idempotency keys, the effect log, faults. Not yet listening. */
export function systemServer(
  definition: SystemDefinition,
  settings: SystemSettings,
): { server: Server; store: Store } {
  const store = openStore(settings.stateDir, definition.name);
  const tokenOf = tokenBook(settings.tokenFile);
  const faults = new FaultSwitches();
  let replays = 0;

  const serve = async (request: IncomingMessage): Promise<Served> => {
    const url = URL.parse(request.url ?? '/', 'http://system.invalid');
    if (!url) throw new Problem(400, 'the path cannot be read');
    if (url.pathname === '/healthz')
      return { status: 200, body: { system: definition.name, pid: process.pid } };
    if (settings.faults && url.pathname === '/_admin/faults') {
      if (request.method === 'POST') faults.set(parsed(Faults, await bodyOf(request)));
      return { status: 200, body: { faults: faults.current, effects: store.effects, replays } };
    }
    const token = tokenOf(request.headers.authorization);
    if (!token) throw new Problem(401, 'a bearer token of an account is needed');
    if (faults.slowMs(token.account) > 0) await sleep(faults.slowMs(token.account));
    if (faults.down(token.account)) throw new Problem(503, `${definition.name} is down`);
    if (request.method === 'POST' && url.pathname === '/intake') {
      needs(token, ['intake']);
      return { status: 200, body: { added: store.intake(parsed(Intake, await bodyOf(request)).puts) } };
    }
    const { route, params } = routeOf(definition.routes, request.method ?? '', url.pathname);
    needs(token, route.needs);
    const body = route.method === 'GET' ? null : await bodyOf(request);
    // From here to the end nothing is awaited: no other request can come between the look at a key and its effect.
    return decide(route, keyOf(request), {
      params,
      query: url.searchParams,
      body,
      token,
      store,
      stateDir: settings.stateDir,
      nextSeq: store.effects + 1,
      ...sightOf(route, token),
    });
  };

  const sightOf = (route: Route, token: Token): Pick<Asked, 'owned' | 'visible'> => {
    const mayTouch = (record: Stored): boolean => settings.overbroad || record.account === token.account;
    return {
      owned: (collection, id) => {
        if (route.method === 'GET' && faults.takes('foreignRecords', token.account)) {
          const foreign = store.list(collection).find((record) => record.account !== token.account);
          if (foreign) return foreign;
        }
        const record = store.get(collection, id);
        if (!record || !mayTouch(record)) throw new Problem(404, `no such record: ${id}`);
        return record;
      },
      visible: (collection) => store.list(collection).filter(mayTouch),
    };
  };

  const decide = (route: Route, key: string | null, asked: Asked): Served => {
    const { token, body, params } = asked;
    const digest = sha256(canonicalize({ method: route.method, path: route.path, params, body }) ?? '');
    const prior = key === null || route.method === 'GET' ? undefined : store.byKey(token.account, key);
    if (prior && stillHonoured(prior, definition.keysHonouredForMs)) {
      if (prior.digest !== digest) {
        throw new Problem(409, 'this Idempotency-Key was used with another request');
      }
      replays += 1;
      return { ...prior.answer, headers: { 'idempotent-replayed': 'true' } };
    }
    const reply = route.handle(asked);
    if (!('effect' in reply)) return reply;
    const { operation, recordId, account, puts, answer } = reply.effect;
    store.commit({
      account,
      caller: token.account,
      operation,
      recordId,
      reference: referenceOf(body),
      idempotencyKey: key,
      digest,
      token: token.name,
      body,
      puts: [...puts],
      answer,
    });
    return faults.takes('dropReplies', token.account) ? 'cut' : answer;
  };

  const server = createServer((request, response) => {
    serve(request)
      .catch(problemOf)
      .then((answer) => {
        if (answer === 'cut') request.socket.destroy();
        else write(response, answer);
      }, reportDefect);
  });
  return { server, store };
}

function problemOf(error: unknown): Exclude<Served, 'cut'> {
  const status = error instanceof Problem ? error.status : 500;
  return { status, body: { error: { status, message: error instanceof Error ? error.message : 'unknown' } } };
}

function reportDefect(error: unknown): void {
  process.stderr.write(`an answer could not be written: ${String(error)}\n`);
}

/** Parses, or answers 422 with every mistake. */
export function parsed<T>(form: z.ZodType<T>, value: unknown): T {
  const read = form.safeParse(value);
  if (read.success) return read.data;
  throw new Problem(
    422,
    read.error.issues.map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`).join('; '),
  );
}

function needs(token: Token, any: readonly string[]): void {
  if (!any.some((capability) => token.may.includes(capability)))
    throw new Problem(403, `this token may not ${any.join(' or ')}`);
}

function routeOf(
  routes: readonly Route[],
  method: string,
  pathname: string,
): { route: Route; params: Record<string, string> } {
  let path: string[];
  try {
    path = pathname.split('/').map(decodeURIComponent);
  } catch (error) {
    throw new Problem(
      400,
      error instanceof URIError ? 'the path is not well encoded' : 'the path cannot be read',
    );
  }
  for (const route of routes) {
    const wanted = route.path.split('/');
    if (route.method !== method || wanted.length !== path.length) continue;
    if (!wanted.every((part, index) => part.startsWith(':') || part === path[index])) continue;
    const params = wanted.flatMap((part, index) =>
      part.startsWith(':') ? [[part.slice(1), path[index] ?? '']] : [],
    );
    return { route, params: Object.fromEntries(params) as Record<string, string> };
  }
  throw new Problem(404, 'no such path');
}

function keyOf(request: IncomingMessage): string | null {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return null;
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,200}$/.test(key))
    throw new Problem(422, 'an Idempotency-Key is 1 to 200 visible characters');
  return key;
}

function stillHonoured(row: EffectRow, forMs: number | null): boolean {
  return forMs === null || Date.now() - Date.parse(row.at) < forMs;
}

function referenceOf(body: unknown): string | null {
  const read = z.looseObject({ reference: z.string() }).safeParse(body);
  return read.success ? read.data.reference : null;
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new Problem(413, `a body is at most ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown;
  } catch (error) {
    throw new Problem(400, error instanceof SyntaxError ? 'the body is not JSON' : 'the body cannot be read');
  }
}

function write(response: ServerResponse, { status, body, headers }: Exclude<Served, 'cut'>): void {
  if (response.destroyed) return;
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

const sha256 = (text: string): string => createHash('sha256').update(text, 'utf8').digest('hex');
