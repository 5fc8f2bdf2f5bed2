import { isIP } from 'node:net';
import { Agent, buildConnector } from 'undici';
import { HttpForbidden } from '../contracts/http-errors';
import { guardedLookup, mayConnect, resolveBySystem, type Resolve } from './addresses';

/** Below the 5 s at which common servers close idle sockets, so that a reused socket is not one being closed. */
const KEEP_ALIVE_MS = 2_000;
/** Name lookup and TLS included. */
const CONNECT_MS = 5_000;
const CONNECTIONS = 16;
const MAX_HEADER_BYTES = 16_384;

/**
 * Connections that are only ever made to addresses that may be connected to; see `mayConnect`. It never heeds a proxy of
 * the environment, which would connect in its place, unseen.
 */
export function guardedAgent(ownNetwork: boolean, resolve: Resolve = resolveBySystem): Agent {
  const connect = buildConnector({
    timeout: CONNECT_MS,
    allowH2: false,
    lookup: guardedLookup(ownNetwork, resolve),
  });
  return new Agent({
    connections: CONNECTIONS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
    connect: (options, done) => {
      // A literal address is connected to without any lookup, so the lookup's guard would not see it.
      const literal = options.hostname.replace(/^\[|\]$/g, '');
      if (isIP(literal) && !mayConnect(literal, ownNetwork))
        done(new HttpForbidden('the destination is not a public address; nothing was sent'), null);
      else connect(options, done);
    },
  });
}
