import { lookup, type LookupAddress, type LookupOptions } from 'node:dns';
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { HttpForbidden } from '../contracts/http-errors';

/** Where clouds answer their machines with credentials, outside the link-local range that holds the others. */
const METADATA: ReadonlySet<string> = new Set([
  '100.100.100.200',
  '168.63.129.16',
  'fd00:ec2::254',
  'fd20:ce::254',
]);
/** Of addresses in private networks: what a tenant's own connection may name. */
const OWN_NETWORK: ReadonlySet<string> = new Set(['private', 'uniqueLocal', 'loopback', 'carrierGradeNat']);
/** All that is allocated for the public internet; outside it lies `::/96`, which wraps any IPv4 address. */
const PUBLIC_IPV6 = ipaddr.IPv6.parseCIDR('2000::/3');

/**
 * Whether an address may be connected to. Public ones may, but for those of clouds' metadata and those that wrap another
 * address (6to4, Teredo, NAT64, ISATAP). With `ownNetwork` private and loopback ones may as well; link-local, metadata,
 * multicast, unspecified, reserved and wrapping ones never may. What is no address may not.
 */
export function mayConnect(address: string, ownNetwork: boolean): boolean {
  if (!isIP(address)) return false;
  // `process` unwraps ::ffff:0:0/96, whose IPv4 part is what would be connected to.
  const parsed = ipaddr.process(address);
  if (METADATA.has(parsed.toString())) return false;
  const range = parsed.range();
  if (OWN_NETWORK.has(range)) return ownNetwork;
  return range === 'unicast' && (parsed instanceof ipaddr.IPv4 || isPublicIpv6(parsed));
}

function isPublicIpv6(address: ipaddr.IPv6): boolean {
  // ISATAP: the last 32 bits are an IPv4 address, and a host with such an interface connects to that one.
  const [, , , , high, low] = address.parts;
  const isatap = low === 0x5efe && (high === 0 || high === 0x200);
  return address.match(PUBLIC_IPV6) && !isatap;
}

/** Asks for the addresses of a name: all of them, in the order in which they are to be tried. */
export type Resolve = (
  hostname: string,
  options: LookupOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** As the machine resolves names. */
export const resolveBySystem: Resolve = (hostname, options, callback) =>
  lookup(hostname, { ...options, all: true }, callback);

type LookupCallback = (
  error: NodeJS.ErrnoException | null,
  address: string | LookupAddress[],
  family?: number,
) => void;

/**
 * A socket's own name lookup: what it answers is what is connected to, so a name that resolves to another address a
 * moment later gains nothing. Every address of a name must be one that may be connected to, because the socket tries one
 * after the other. `*.localhost` is loopback without asking anybody (RFC 6761, 6.3).
 */
export function guardedLookup(ownNetwork: boolean, resolve: Resolve) {
  return (hostname: string, options: LookupOptions, callback: LookupCallback): void => {
    const answer = (addresses: LookupAddress[]): void => {
      const [first] = addresses;
      if (!first || !addresses.every(({ address }) => mayConnect(address, ownNetwork))) {
        callback(
          new HttpForbidden('the destination resolves to an address that is not public; nothing was sent'),
          [],
        );
      } else if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    };
    if (/(^|\.)localhost\.?$/i.test(hostname)) return answer([{ address: '127.0.0.1', family: 4 }]);
    resolve(hostname, options, (error, addresses) => (error ? callback(error, []) : answer(addresses)));
  };
}
