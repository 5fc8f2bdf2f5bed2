import { once } from 'node:events';
import { createServer } from 'node:net';

const HOST = '127.0.0.1';

/** Whether nobody listens on this port of the loopback address now. */
export async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, HOST);
    await once(server, 'listening');
    return true;
  } catch (error) {
    if (['EADDRINUSE', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  } finally {
    if (server.listening) {
      server.close();
      await once(server, 'close');
    }
  }
}

/** Any free port of the loopback address. Another process may take it before it is used: be ready to try again. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, HOST);
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('the system gave no port');
  return address.port;
}

/** The first free one of `wanted` and the nine after it, not one of `taken`; failing all, any free port. */
export async function freePortFrom(wanted: number, taken: readonly number[] = []): Promise<number> {
  for (let port = wanted; port < wanted + 10; port++) {
    if (!taken.includes(port) && (await isFree(port))) return port;
  }
  return freePort();
}
