import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { bodyOf, headOf, HttpFrames } from './http-frames';

/** What a network may do to a request. */
export const WIRE_FAULTS = {
  pass: 'nothing',
  drop_reply: 'the request is applied, its reply is lost',
  reset_before: 'the connection is reset before the request reaches anybody',
  stall: 'the request goes nowhere, and the connection stays open',
  duplicate: 'the request arrives twice',
  delay: 'the request arrives so late that nobody waits for it any more',
} as const;
export type WireFault = keyof typeof WIRE_FAULTS;

export interface WireRequest {
  /** `POST /path`. */
  readonly line: string;
  readonly key: string | undefined;
  readonly body: string;
  /** How many requests of this line and key came before. */
  readonly earlier: number;
}

export interface FaultyWire {
  readonly url: string;
  /** Decides for each request. */
  fault: (request: WireRequest) => WireFault;
  /** Every request that came, with what was done to it. */
  readonly passed: (WireRequest & { readonly fault: WireFault; readonly at: number })[];
  /** Requests held back now. */
  readonly held: number;
  close(): Promise<void>;
}

/** A TCP proxy on a free loopback port before an HTTP server, that does to each request what it is told. */
export async function startFaultyWire(
  target: string,
  { delayMs, fault }: { delayMs: number; fault?: FaultyWire['fault'] },
): Promise<FaultyWire> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const timers = new Set<NodeJS.Timeout>();
  const counts = new Map<string, number>();
  const wire: Pick<FaultyWire, 'fault'> = { fault: fault ?? (() => 'pass') };
  const passed: FaultyWire['passed'] = [];

  /** Brings the request to the server on a connection of its own; answers the whole reply. */
  const forward = (message: Buffer): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const upstream = connect(Number(port), hostname);
      const frames = new HttpFrames();
      sockets.add(upstream);
      upstream.once('close', () => {
        sockets.delete(upstream);
        reject(new Error('the server ended the connection'));
      });
      upstream.once('error', reject);
      upstream.on('data', (chunk: Buffer) => {
        const [reply] = frames.push(chunk);
        if (!reply) return;
        resolve(reply);
        upstream.destroy();
      });
      upstream.write(message);
    });

  const treat = async (client: Socket, message: Buffer): Promise<void> => {
    const { start, headers } = headOf(message);
    const line = start.replace(/ HTTP\/1\.1$/, '');
    const key = headers.get('idempotency-key');
    const counted = `${line} ${key}`;
    const earlier = counts.get(counted) ?? 0;
    counts.set(counted, earlier + 1);
    const request: WireRequest = { line, key, body: bodyOf(message), earlier };
    const chosen = wire.fault(request);
    passed.push({ ...request, fault: chosen, at: Date.now() });
    switch (chosen) {
      case 'pass':
        client.write(await forward(message));
        return;
      case 'drop_reply':
        await forward(message);
        client.destroy();
        return;
      case 'reset_before':
        client.resetAndDestroy();
        return;
      case 'stall':
        return;
      case 'duplicate': {
        const [first] = await Promise.all([forward(message), forward(message)]);
        client.write(first);
        return;
      }
      case 'delay': {
        const timer = setTimeout(() => {
          timers.delete(timer);
          forward(message).then(
            () => client.destroy(),
            () => client.destroy(),
          );
        }, delayMs);
        timers.add(timer);
      }
    }
  };

  const server = createServer((client) => {
    const frames = new HttpFrames();
    sockets.add(client);
    client.once('close', () => sockets.delete(client));
    client.on('error', () => undefined);
    client.on('data', (chunk: Buffer) => {
      for (const message of frames.push(chunk)) treat(client, message).catch(() => client.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.defineProperty(
    Object.assign(wire, {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      passed,
      held: 0,
      async close() {
        for (const timer of timers) clearTimeout(timer);
        for (const socket of sockets) socket.destroy();
        await new Promise((resolve) => server.close(resolve));
      },
    }),
    'held',
    { get: () => timers.size },
  );
}
