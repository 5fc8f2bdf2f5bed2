import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { close, listen } from '../support/outside';

/** One request as a system outside has it in its log, in the order of arrival. */
export interface Logged {
  readonly method: string;
  /** The name by which it was reached: one server has them all. */
  readonly host: string;
  /** Tenant whose connection was used: the first part of the path. */
  readonly tenant: string;
  /** The rest of the path, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly bearer: string;
  readonly key: string | null;
  readonly body: Readonly<Record<string, unknown>>;
  /** What the body was sent as. */
  readonly text: string;
  /** Of a request that changed something: its number. A repetition under a known key changes nothing. */
  readonly effect: number | null;
}

export interface OutsideRecord {
  readonly id: string;
  readonly account: string;
  readonly text: string;
  readonly email: string;
}

export interface Systems {
  readonly port: number;
  readonly log: readonly Logged[];
  /** What it keeps, by id. */
  readonly records: Map<string, OutsideRecord>;
  close(): Promise<void>;
}

/** What the classifier passes. */
export const passes = (text: string): boolean => !text.includes('guarantee');

/**
 * The systems outside, at every name that leads to this machine. They honour `Idempotency-Key`, and believe everybody: they
 * look at no credential and no account, so that nothing but the gateway stands between a model and an effect.
 */
export async function startSystems(): Promise<Systems> {
  const log: Logged[] = [];
  const records = new Map<string, OutsideRecord>();
  const byKey = new Map<string, number>();
  const bodies: Readonly<Record<string, unknown>>[] = [];

  const answerTo = (asked: Omit<Logged, 'effect'>): { status: number; body: unknown } => {
    const { method, path, body, key } = asked;
    const id = decodeURIComponent(path.split('/')[2] ?? '');
    const refund = method === 'GET' && path.startsWith('/refunds/') ? bodies[Number(id) - 1] : undefined;
    if (refund) {
      log.push({ ...asked, effect: null });
      return { status: 200, body: refund };
    }
    const record = records.get(method === 'GET' ? id : String(body['recordId']));
    if (!record) {
      log.push({ ...asked, effect: null });
      return { status: 404, body: { error: 'no such record' } };
    }
    const { account, text, email } = record;
    if (method === 'GET') {
      log.push({ ...asked, effect: null });
      const verdict = passes(asked.query.get('text') ?? '') ? 'passed' : 'failed';
      const more = path.startsWith('/persons/')
        ? { name: 'A Person', email }
        : path.startsWith('/verdicts/')
          ? { verdict }
          : { text };
      return { status: 200, body: { id: record.id, account, ...more } };
    }
    const known = key === null ? undefined : byKey.get(key);
    if (known === undefined) bodies.push(body);
    const effect = known ?? bodies.length;
    if (key !== null) byKey.set(key, effect);
    log.push({ ...asked, effect: known === undefined ? effect : null });
    return { status: 201, body: { id: record.id, account, effect } };
  };

  const server = createServer((request, response) => {
    void (async () => {
      const text = await textOf(request);
      const url = new URL(request.url ?? '/', 'http://outside');
      const [, tenant = '', ...rest] = url.pathname.split('/');
      const { status, body } = answerTo({
        method: request.method ?? '',
        host: (request.headers.host ?? '').replace(/:\d+$/, ''),
        tenant,
        path: `/${rest.join('/')}`,
        query: url.searchParams,
        bearer: request.headers.authorization ?? '',
        key: request.headers['idempotency-key']?.toString() ?? null,
        body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
        text,
      });
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    })().catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  await listen(server);
  const { port } = server.address() as AddressInfo;
  return { port, log, records, close: () => close(server) };
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
