import { lookup as resolve, type LookupAddress, type LookupOptions } from 'node:dns';
import ipaddr from 'ipaddr.js';
import { HttpForbidden } from '../contracts/http-errors';

/** Whether an address is one of the public internet: not private, loopback, link-local, metadata, mapped, reserved. */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  // `process` unwraps ::ffff:0:0/96, whose IPv4 part is what would be connected to.
  return ipaddr.process(address).range() === 'unicast';
}

type LookupCallback = (
  error: NodeJS.ErrnoException | null,
  address: string | LookupAddress[],
  family?: number,
) => void;

/**
 * A socket's own name lookup: what it answers is what is connected to, so a name that resolves to another address a
 * moment later gains nothing. `*.localhost` is loopback without asking anybody (RFC 6761, 6.3). Without
 * `privateGranted` every address must be public.
 */
export function guardedLookup(privateGranted: boolean) {
  return (hostname: string, options: LookupOptions, callback: LookupCallback): void => {
    const answer = (addresses: LookupAddress[]): void => {
      const refused = privateGranted ? undefined : addresses.find(({ address }) => !isPublicAddress(address));
      const [first] = addresses;
      if (refused || !first) {
        callback(
          new HttpForbidden('the destination resolves to an address that is not public; nothing was sent'),
          [],
        );
      } else if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    };
    if (hostname === 'localhost' || hostname.endsWith('.localhost'))
      return answer([{ address: '127.0.0.1', family: 4 }]);
    resolve(hostname, { ...options, all: true }, (error, addresses) =>
      error ? callback(error, []) : answer(addresses),
    );
  };
}
