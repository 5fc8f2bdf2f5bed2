import { createServer, type AddressInfo, type Server } from 'node:net';

/** A server on loopback that nobody is meant to reach. */
export interface Forbidden {
  readonly port: number;
  /** Whether `::1` listens too; not every machine has it. */
  readonly ipv6: boolean;
  /** Connections that it has seen. */
  connections: number;
  close(): Promise<void>;
}

/** Listens on 127.0.0.1 and ::1 at one port, answers whatever it is asked with 200, and counts connections, not requests. */
export async function startForbidden(): Promise<Forbidden> {
  const forbidden = { connections: 0 };
  const serve = (): Server =>
    createServer((socket) => {
      forbidden.connections += 1;
      socket.on('error', () => undefined);
      socket.once('data', () =>
        socket.end('HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nsecret'),
      );
    });
  const listen = (server: Server, port: number, host: string): Promise<boolean> =>
    new Promise((done) => {
      server.once('error', () => done(false));
      server.listen(port, host, () => done(true));
    });
  const four = serve();
  await listen(four, 0, '127.0.0.1');
  const { port } = four.address() as AddressInfo;
  const six = serve();
  const ipv6 = await listen(six, port, '::1');
  const close = (server: Server): Promise<void> => new Promise((done) => server.close(() => done()));
  return Object.assign(forbidden, {
    port,
    ipv6,
    close: async () => {
      await close(four);
      if (ipv6) await close(six);
    },
  });
}
