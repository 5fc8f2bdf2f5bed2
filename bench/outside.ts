import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';

const Asked = z.looseObject({ takesMs: z.number(), bytes: z.number(), fails: z.boolean() });

/** The system outside of a load: it waits, and computes nothing. */
export interface Outside {
  readonly url: string;
  /** Requests answered since the last call of this, by the credential that came with them. */
  take(): ReadonlyMap<string, number>;
  close(): Promise<void>;
}

/** Starts it on a free port. It answers each job when and as the job says. */
export async function startOutside(): Promise<Outside> {
  let answered = new Map<string, number>();
  const does = async (text: string, credential: string, response: ServerResponse): Promise<void> => {
    const { takesMs, bytes, fails } = Asked.parse(JSON.parse(text));
    if (takesMs > 0) await new Promise((resolve) => setTimeout(resolve, takesMs));
    answered.set(credential, (answered.get(credential) ?? 0) + 1);
    if (fails) response.writeHead(503).end();
    else
      response.writeHead(200, { 'content-type': 'application/json' }).end(`{"text":"${'x'.repeat(bytes)}"}`);
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const credential = request.headers.authorization?.replace(/^Bearer /, '') ?? 'nobody';
      does(Buffer.concat(chunks).toString('utf8'), credential, response).catch((error: unknown) =>
        response.writeHead(400).end(String(error)),
      );
    });
  });
  // Workers keep connections open for longer than this server would by default, and lose a race when it closes them.
  server.keepAliveTimeout = 120_000;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    take() {
      const taken = answered;
      answered = new Map();
      return taken;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
