import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import type { LookupAddress } from 'node:dns';
import { isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { Resolve } from '../../tools/addresses';

/** What a name has: addresses of both families, asked anew with each query and each family. */
export type Answers = (name: string, family: 4 | 6) => readonly string[];

export interface Dns {
  /** Looks names up at this server, in packets, as a machine would: both families, the newer one first. */
  readonly resolve: Resolve;
  queries: number;
  close(): Promise<void>;
}

/** A real DNS server on loopback that keeps to no answer: what it says is asked of `answers` every time, and lives 0 s. */
export async function startDns(answers: Answers): Promise<Dns> {
  const socket = createSocket('udp4');
  const resolver = new Resolver({ timeout: 3_000, tries: 4 });
  const dns: Dns = {
    queries: 0,
    resolve: (hostname, _options, callback) => {
      void Promise.allSettled([resolver.resolve6(hostname), resolver.resolve4(hostname)]).then((both) => {
        const found = both.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
        const addresses = found.map((address): LookupAddress => ({
          address,
          family: isIPv6(address) ? 6 : 4,
        }));
        if (addresses.length > 0) callback(null, addresses);
        else callback(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' }), []);
      });
    },
    close: async () => {
      resolver.cancel();
      await new Promise<void>((done) => socket.close(done));
    },
  };
  socket.on('message', (packet, { port, address }) => {
    dns.queries += 1;
    socket.send(replyTo(packet, answers), port, address);
  });
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done));
  resolver.setServers([`127.0.0.1:${socket.address().port}`]);
  return dns;
}

const TYPE_A = 1;
const TYPE_AAAA = 28;

function replyTo(packet: Buffer, answers: Answers): Buffer {
  const labels: string[] = [];
  let at = 12;
  for (let length = packet[at] ?? 0; length > 0; length = packet[at] ?? 0) {
    labels.push(packet.toString('latin1', at + 1, at + 1 + length));
    at += length + 1;
  }
  const question = packet.subarray(12, at + 5);
  const type = packet.readUInt16BE(at + 1);
  const family = type === TYPE_A ? 4 : type === TYPE_AAAA ? 6 : undefined;
  const found = family ? answers(labels.join('.').toLowerCase(), family) : [];
  const header = Buffer.alloc(12);
  packet.copy(header, 0, 0, 2);
  // An answer, authoritative, recursion asked for and there; no such name where there is nothing.
  header.writeUInt16BE(found.length > 0 ? 0x8580 : 0x8583, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(found.length, 6);
  const records = found.map((address) => {
    const data = Buffer.from(ipaddr.parse(address).toByteArray());
    const record = Buffer.alloc(12);
    record.writeUInt16BE(0xc00c, 0);
    record.writeUInt16BE(type, 2);
    record.writeUInt16BE(1, 4);
    record.writeUInt16BE(data.length, 10);
    return Buffer.concat([record, data]);
  });
  return Buffer.concat([header, question, ...records]);
}
