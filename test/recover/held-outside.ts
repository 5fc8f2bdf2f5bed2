import { createServer } from 'node:http';
import { close, listen, startOutside, type Outside } from '../support/outside';

/** A system outside whose answers about single records can be held back. It honours no key of a blind write. */
export interface HeldOutside {
  readonly url: string;
  readonly outside: Outside;
  /** From now on what is asked about the record is applied at once and answered only when the hold ends. */
  hold(recordId: string): void;
  letGo(recordId: string): void;
  effectsOn(recordId: string): number;
  /** Requests to write on the record, effect or not. */
  posts(recordId: string): number;
  close(): Promise<void>;
}

export async function startHeldOutside(account: string): Promise<HeldOutside> {
  const outside = await startOutside(account);
  const posts = new Map<string, number>();
  const holds = new Map<string, { held: Promise<void>; end: () => void }>();
  const server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body = Buffer.concat(chunks).toString('utf8');
      const path = request.url ?? '';
      const recordId =
        body === '' ? path.split('/').at(-1) : (JSON.parse(body) as { recordId?: string }).recordId;
      const headers = Object.fromEntries(
        ['authorization', 'content-type', ...(path === '/blind' ? [] : ['idempotency-key'])].flatMap(
          (name) => {
            const value = request.headers[name];
            return typeof value === 'string' ? [[name, value]] : [];
          },
        ),
      );
      if (request.method === 'POST' && recordId) posts.set(recordId, (posts.get(recordId) ?? 0) + 1);
      const answer = await fetch(outside.url + path, {
        method: request.method ?? 'GET',
        headers,
        ...(body === '' ? {} : { body }),
      });
      const text = await answer.text();
      await holds.get(recordId ?? '')?.held;
      response.writeHead(answer.status, { 'content-type': 'application/json' }).end(text);
    })().catch(() => response.destroy());
  });
  const url = await listen(server);
  const letGo = (recordId: string): void => {
    holds.get(recordId)?.end();
    holds.delete(recordId);
  };
  return {
    url,
    outside,
    hold(recordId) {
      let end = (): void => undefined;
      const held = new Promise<void>((resolve) => (end = resolve));
      holds.set(recordId, { held, end });
    },
    letGo,
    effectsOn: (recordId) => outside.effects.filter((effect) => effect.recordId === recordId).length,
    posts: (recordId) => posts.get(recordId) ?? 0,
    async close() {
      for (const recordId of [...holds.keys()]) letGo(recordId);
      await Promise.all([close(server), outside.close()]);
    },
  };
}
