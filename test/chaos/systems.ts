import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { close, listen } from '../support/outside';

/** One effect at the systems outside, in the order in which they were applied. */
export interface ChaosEffect {
  /** From 1. */
  readonly no: number;
  readonly at: number;
  readonly tenant: string;
  readonly kind: 'keyed' | 'looked' | 'blind' | 'undo';
  readonly intent: string;
  readonly key: string | null;
  readonly bearer: string;
}

export interface ChaosSystems {
  /** Base address; `/<tenant>` behind it is the tenant's own. */
  readonly url: string;
  readonly effects: readonly ChaosEffect[];
  /** Tenants whose writes are turned away (429), surely not applied. */
  readonly busyFor: Set<string>;
  /** Tenants whose writes take so much longer, milliseconds. */
  readonly slowFor: Map<string, number>;
  effectOf(tenant: string, kind: ChaosEffect['kind'], intent: string): ChaosEffect | undefined;
  close(): Promise<void>;
}

/** Long enough that a kill often falls between the effect and its answer. */
const WORK_MS = 4;

/**
 * The systems of all tenants in one server of the harness's own process, which no planned kill touches: its log is the
 * truth that everything else is held against. `keyed` and `undo` run a key once; `looked` and `blind` run whatever comes.
 *
 * @param keysHonoured `false`: keys are written down and mean nothing, so that no system can tell a repetition.
 */
export async function startSystems({ keysHonoured = true } = {}): Promise<ChaosSystems> {
  const effects: ChaosEffect[] = [];
  const byKey = new Map<string, ChaosEffect>();
  const byIntent = new Map<string, ChaosEffect>();
  const busyFor = new Set<string>();
  const slowFor = new Map<string, number>();
  const nameOf = (tenant: string, kind: string, intent: string): string => `${tenant} ${kind} ${intent}`;

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? '', 'http://outside');
    const [, tenant = '', operation = ''] = url.pathname.split('/');
    const kind = operation as ChaosEffect['kind'];
    const text: Buffer[] = [];
    for await (const chunk of request) text.push(chunk as Buffer);
    const answer = (status: number, body: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    await sleep(WORK_MS);
    if (request.method === 'GET') {
      const found = byIntent.get(nameOf(tenant, kind, url.searchParams.get('intent') ?? ''));
      answer(200, { found: found ? resultOf(found) : null });
      return;
    }
    await sleep(slowFor.get(tenant) ?? 0);
    if (busyFor.has(tenant)) {
      answer(429, { error: 'busy' });
      return;
    }
    const { intent } = JSON.parse(Buffer.concat(text).toString('utf8')) as { intent: string };
    const key = request.headers['idempotency-key']?.toString() ?? null;
    const honoursKeys = keysHonoured && (kind === 'keyed' || kind === 'undo');
    const known = honoursKeys && key !== null ? byKey.get(`${tenant} ${key}`) : undefined;
    const effect: ChaosEffect = known ?? {
      no: effects.length + 1,
      at: Date.now(),
      tenant,
      kind,
      intent,
      key,
      bearer: request.headers.authorization ?? '',
    };
    if (!known) {
      effects.push(effect);
      if (key !== null) byKey.set(`${tenant} ${key}`, effect);
      byIntent.set(nameOf(tenant, kind, intent), effect);
    }
    await sleep(WORK_MS);
    answer(known ? 200 : 201, resultOf(effect));
  };

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  const url = await listen(server);
  return {
    url,
    effects,
    busyFor,
    slowFor,
    effectOf: (tenant, kind, intent) => byIntent.get(nameOf(tenant, kind, intent)),
    close: () => close(server),
  };
}

/** What the systems answer to a write. */
export const resultOf = ({ intent, no }: ChaosEffect): { intent: string; effect: number } => ({
  intent,
  effect: no,
});
