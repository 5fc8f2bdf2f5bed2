import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A way to a server that can go silent: connections stay open, and nothing comes through any more. */
export interface SilentWire {
  readonly address: string;
  silence(): void;
  close(): Promise<void>;
}

/** A TCP proxy on a free loopback port before `address` (host:port). */
export async function startSilentWire(address: string): Promise<SilentWire> {
  const at = address.lastIndexOf(':');
  const [host, port] = [address.slice(0, at), Number(address.slice(at + 1))];
  const sockets = new Set<Socket>();
  let silent = false;
  const kept = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    return socket.once('close', () => sockets.delete(socket));
  };
  const server = createServer((client) => {
    const upstream = kept(connect(port, host));
    kept(client).on('data', (chunk) => silent || upstream.write(chunk));
    upstream.on('data', (chunk) => silent || client.write(chunk));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    silence: () => void (silent = true),
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
