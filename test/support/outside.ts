import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One effect at the system outside: what tests count, never our own database. */
export interface OutsideEffect {
  readonly at: number;
  readonly operation: string;
  readonly recordId: string;
  readonly key: string | null;
  readonly bearer: string;
  readonly body: unknown;
}

export interface Outside {
  readonly url: string;
  readonly effects: OutsideEffect[];
  /** Every request that arrived, effect or not. */
  readonly requests: { method: string; path: string; bearer: string }[];
  /** Requests under way now. */
  underWay(): number;
  /** The most requests ever under way at once, since last set. */
  mostAtOnce: number;
  /** Set to change how the next requests are answered. */
  faults: {
    delayMs?: number;
    /** Apply, then drop the connection. */
    dropAfterApply?: number;
    status?: number;
    /** `Retry-After` beside such a status. */
    retryAfter?: string;
    /** The same for requests whose bearer holds this alone: a tenant's broken integration. */
    statusOf?: { readonly bearer: string; readonly status: number };
    /** Answer reads with another text each time. */
    changing?: boolean;
    /** Answer reads with a record of this account. */
    account?: string;
    keyless?: boolean;
    /** Apply only so much later; until then the same key is in flight (409). */
    applyAfterMs?: number;
    /** Take the request, answer nothing, and apply so much later; the connection is dropped at once. */
    dropAndApplyAfterMs?: number;
    /** Drop so many requests that would change something, without applying them. */
    dropBeforeApply?: number;
    /** How look-ups by key are answered instead of with the truth: a status. */
    lookUpStatus?: number;
    /** Drop the connections of so many reads. */
    dropReads?: number;
    /** Answer reads with another record than the one asked for. */
    otherRecord?: boolean;
    /** How requests that take something back are answered: a status. */
    cancelStatus?: number;
  };
  close(): Promise<void>;
}

/** A real HTTP server on loopback that keeps records, honours `Idempotency-Key` and writes down what it did. */
export async function startOutside(account: string): Promise<Outside> {
  const effects: OutsideEffect[] = [];
  const requests: Outside['requests'] = [];
  const byKey = new Map<string, unknown>();
  const inFlight = new Set<string>();
  const outside: Pick<Outside, 'faults' | 'mostAtOnce'> = { faults: {}, mostAtOnce: 0 };
  let atOnce = 0;

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body: unknown = await bodyOf(request);
    const bearer = request.headers.authorization ?? '';
    const path = request.url ?? '';
    requests.push({ method: request.method ?? '', path, bearer });
    const { faults } = outside;
    const answer = (status: number, value: unknown): void => {
      const after = faults.retryAfter === undefined ? {} : { 'retry-after': faults.retryAfter };
      response.writeHead(status, { 'content-type': 'application/json', ...after }).end(JSON.stringify(value));
    };
    if (faults.delayMs) await new Promise((resolve) => setTimeout(resolve, faults.delayMs));
    if (faults.status) {
      answer(faults.status, { error: 'as told' });
      return;
    }
    if (faults.statusOf && bearer.includes(faults.statusOf.bearer)) {
      answer(faults.statusOf.status, { error: 'as told' });
      return;
    }
    const recordId = /^\/(?:records|payments)\/([^/?]+)/.exec(path)?.[1];
    const sought = /^\/by-key\/([^/?]+)/.exec(path)?.[1];
    if (request.method === 'GET' && sought !== undefined) {
      const found = byKey.get(decodeURIComponent(sought));
      answer(faults.lookUpStatus ?? 200, found ? { found: true, result: found } : { found: false });
      return;
    }
    if (request.method === 'GET' && faults.dropReads) {
      faults.dropReads -= 1;
      request.socket.destroy();
      return;
    }
    if (request.method === 'GET' && faults.otherRecord) {
      answer(200, { id: 'another', account: faults.account ?? account, text: 'another' });
      return;
    }
    if (request.method === 'GET') {
      answer(200, {
        id: recordId ?? 'none',
        account: faults.account ?? account,
        text: `about ${recordId}${faults.changing ? `, as of request ${requests.length}` : ''}`,
      });
      return;
    }
    const key = request.headers['idempotency-key']?.toString() ?? null;
    const known = key !== null && !faults.keyless ? byKey.get(key) : undefined;
    if (known) {
      answer(200, known);
      return;
    }
    if (path.endsWith('/cancel') && faults.cancelStatus) {
      answer(faults.cancelStatus, { error: 'as told' });
      return;
    }
    if (faults.dropBeforeApply) {
      faults.dropBeforeApply -= 1;
      request.socket.destroy();
      return;
    }
    const lateMs = faults.dropAndApplyAfterMs;
    if (lateMs) {
      delete faults.dropAndApplyAfterMs;
      request.socket.destroy();
      await new Promise((resolve) => setTimeout(resolve, lateMs));
    }
    if (faults.applyAfterMs) {
      if (key !== null && inFlight.has(key)) {
        answer(409, { error: 'this key is in flight' });
        return;
      }
      if (key !== null) inFlight.add(key);
      await new Promise((resolve) => setTimeout(resolve, faults.applyAfterMs));
    }
    const written = (body as { recordId?: string }).recordId ?? recordId ?? 'none';
    effects.push({
      at: Date.now(),
      operation: `${request.method} ${path.split('?')[0]}`,
      recordId: written,
      key,
      bearer,
      body,
    });
    const result = { id: written, account: faults.account ?? account, effect: effects.length };
    if (key !== null) byKey.set(key, result);
    if (lateMs) return;
    if (faults.dropAfterApply) {
      faults.dropAfterApply -= 1;
      request.socket.destroy();
      return;
    }
    answer(201, result);
  };

  const server = createServer((request, response) => {
    atOnce += 1;
    outside.mostAtOnce = Math.max(outside.mostAtOnce, atOnce);
    response.once('close', () => (atOnce -= 1));
    handle(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  const url = await listen(server);
  return Object.assign(outside, {
    ...{ url, effects, requests, underWay: () => atOnce, close: () => close(server) },
  });
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString('utf8');
  return text === '' ? {} : JSON.parse(text);
}

/** Listens on a free loopback port; answers the base URL. */
export async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}
