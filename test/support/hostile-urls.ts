/** Random numbers that are the same again for the same seed. */
export type Random = (below: number) => number;

/** Mulberry32: small, and good enough to choose among cases. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}

export interface HostileUrl {
  readonly text: string;
  /** How the host was written, and what was put around it: for messages. */
  readonly made: string;
  /** Meant for a server on this machine, so that it may be tried without any guard. */
  readonly here: boolean;
}

type Bytes = readonly [number, number, number, number];
const LOOPBACK: Bytes = [127, 0, 0, 1];

const RANGES: readonly ((random: Random) => Bytes)[] = [
  (r) => [127, r(256), r(256), r(256)],
  (r) => [0, r(256), r(256), r(256)],
  (r) => [10, r(256), r(256), r(256)],
  (r) => [172, 16 + r(16), r(256), r(256)],
  (r) => [192, 168, r(256), r(256)],
  (r) => [169, 254, r(256), r(256)],
  () => [169, 254, 169, 254],
  () => [169, 254, 170, 2],
  (r) => [100, 64 + r(64), r(256), r(256)],
  () => [100, 100, 100, 200],
  () => [168, 63, 129, 16],
  () => [192, 0, 0, 192],
  (r) => [198, 18 + r(2), r(256), r(256)],
  (r) => [224 + r(16), r(256), r(256), r(256)],
  (r) => [240 + r(15), r(256), r(256), r(256)],
  () => [255, 255, 255, 255],
];

const whole = ([a, b, c, d]: Bytes): number => ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
const groups = ([a, b, c, d]: Bytes): string => `${hex((a << 8) | b, 1)}:${hex((c << 8) | d, 1)}`;
const inverted = ([a, b, c, d]: Bytes): Bytes => [a ^ 255, b ^ 255, c ^ 255, d ^ 255];
const wide = (text: string): string =>
  Array.from(text)
    .map((sign) => String.fromCodePoint((sign.codePointAt(0) ?? 0) + 0xfee0))
    .join('');
const circled = (text: string): string =>
  Array.from(text)
    .map((sign) =>
      /[a-z]/.test(sign)
        ? String.fromCodePoint(0x24d0 + sign.charCodeAt(0) - 97)
        : /[1-9]/.test(sign)
          ? String.fromCodePoint(0x2460 + Number(sign) - 1)
          : sign,
    )
    .join('');
const percent = (text: string): string =>
  Array.from(text)
    .map((sign) => `%${hex(sign.charCodeAt(0), 2)}`)
    .join('');

/** Each way to write an IPv4 address into the host of a URL, or to hide it in another address or a name. */
const SPELLINGS: Readonly<Record<string, (address: Bytes, random: Random) => string>> = {
  dotted: (address) => address.join('.'),
  decimal: (address) => String(whole(address)),
  hex: (address) => `0x${whole(address).toString(16)}`,
  hexCapitals: (address) => `0X${whole(address).toString(16).toUpperCase()}`,
  octal: (address) => `0${whole(address).toString(8)}`,
  octalParts: (address) => address.map((part) => `0${part.toString(8)}`).join('.'),
  zeroes: (address) => address.map((part) => `000000${part.toString(8)}`).join('.'),
  hexParts: (address) => address.map((part) => `0x${part.toString(16)}`).join('.'),
  mixed: ([a, b, c, d]) => `0x${a.toString(16)}.0${b.toString(8)}.${(c << 8) | d}`,
  twoParts: ([a, b, c, d]) => `${a}.${(b << 16) | (c << 8) | d}`,
  threeParts: ([a, b, c, d]) => `${a}.${b}.${(c << 8) | d}`,
  dotAtTheEnd: (address) => `${address.join('.')}.`,
  fullWidth: (address) => address.map((part) => wide(String(part))).join('.'),
  fullWidthDots: (address) => address.join('．'),
  ideographicDots: (address) => address.join('。'),
  halfWidthDots: (address) => address.join('｡'),
  circled: (address) => circled(address.join('.')),
  percent: (address) => percent(address.join('.')),
  softHyphen: ([a, ...rest]) => `${String(a)[0]}\u00ad${String(a).slice(1)}.${rest.join('.')}`,
  mapped: (address) => `[::ffff:${address.join('.')}]`,
  mappedHex: (address) => `[::ffff:${groups(address)}]`,
  mappedLong: (address) => `[0:0:0:0:0:ffff:${groups(address)}]`,
  compatible: (address) => `[::${address.join('.')}]`,
  compatibleHex: (address) => `[::${groups(address)}]`,
  translated: (address) => `[::ffff:0:${groups(address)}]`,
  nat64: (address) => `[64:ff9b::${groups(address)}]`,
  nat64Local: (address) => `[64:ff9b:1::${groups(address)}]`,
  sixToFour: (address) => `[2002:${groups(address)}::1]`,
  teredo: (address) => `[2001:0:808:808:0:0:${groups(inverted(address))}]`,
  teredoServer: (address) => `[2001:0:${groups(address)}::]`,
  isatap: (address) => `[2001:470:1:2:0:5efe:${groups(address)}]`,
  name: (address) => `ip4-${hex(whole(address), 8)}.wrap.test`,
  nameCapitals: (address) => `IP4-${hex(whole(address), 8)}.Wrap.TEST`,
  nameDot: (address) => `ip4-${hex(whole(address), 8)}.wrap.test.`,
  nameMapped: (address) => `map-${hex(whole(address), 8)}.wrap.test`,
  nameBoth: (address) => `both-${hex(whole(address), 8)}.wrap.test`,
  nameIdeographic: (address) => `ip4-${hex(whole(address), 8)}。wrap。test`,
};

/** Hosts that stand for this machine, or for a private one, without an IPv4 address in them. */
const HOSTS: readonly { host: string; here: boolean }[] = [
  ...[
    'localhost',
    'LOCALHOST',
    'localhost.',
    'a.localhost',
    'ok.example.localhost',
    'ｌｏｃａｌｈｏｓｔ',
  ].map((host) => ({ host, here: true })),
  ...['ⓛⓞⓒⓐⓛⓗⓞⓢⓣ', 'loc\u00adalhost', 'local%68ost', 'ip6.wrap.test'].map((host) => ({ host, here: true })),
  ...['[::1]', '[0:0:0:0:0:0:0:1]', '[::0001]', '[0000::1]', '0', '[::]', '0x0'].map((host) => ({
    host,
    here: true,
  })),
  ...['[fe80::1]', '[fec0::1]', '[fc00::1]', '[fd00:ec2::254]', '[fd20:ce::254]', '[ff02::1]'].map(
    (host) => ({
      host,
      here: false,
    }),
  ),
  ...['[2001:db8::1]', '[100::1]', '[3fff::1]', '[4000::1]', '[2001:20::1]', 'xn--lcalhost-8cf.test'].map(
    (host) => ({ host, here: false }),
  ),
];

/** What is put around a host to make a reader take another one for it. */
const DRESSES: readonly string[] = [
  'http://HOST:PORT/',
  'http://HOST:PORT/',
  'https://HOST:PORT/',
  'HTTP://HOST:PORT/latest',
  'http://HOST:0PORT/',
  'http://HOST:PORT/..//ok.example/',
  'http://HOST:PORT/@ok.example/',
  'http://HOST:PORT#@ok.example/',
  'http://HOST:PORT?@ok.example/',
  'http://HOST:PORT\\@ok.example/',
  'http://ok.example%40HOST:PORT/',
  'http://ok.example@HOST:PORT/',
  'http://ok.example:443@HOST:PORT/',
  'http://user:word@HOST:PORT/',
  'http://ok.example\\@HOST:PORT/',
  'http:\\\\HOST:PORT/',
  'http:/HOST:PORT/',
  'http:HOST:PORT/',
  'http:///HOST:PORT/',
  ' http://HOST:PORT/',
  'ht\ntp://HOST:PORT/',
  'http://HOST\t:PORT/',
  'http://\r\nHOST:PORT/',
  '//HOST:PORT/',
  '\\\\HOST:PORT/',
  'ftp://HOST:PORT/',
  'ws://HOST:PORT/',
  'file://HOST:PORT/etc/passwd',
  'gopher://HOST:PORT/_GET%20/',
];

/** One URL out of the attack table, meant for `port`. */
export function hostileUrl(random: Random, port: number): HostileUrl {
  const { host, here, how } = hostileHost(random);
  const dress = DRESSES[random(DRESSES.length)] ?? '';
  const text = dress.replace('PORT', String(port)).replace('HOST', () => host);
  return { text, made: `${how} in ${JSON.stringify(dress)}`, here };
}

function hostileHost(random: Random): { host: string; here: boolean; how: string } {
  if (random(8) === 0) {
    const chosen = HOSTS[random(HOSTS.length)];
    if (chosen) return { ...chosen, how: chosen.host };
  }
  const range = RANGES[random(RANGES.length)];
  const here = random(2) === 0 || range === undefined;
  const spellings = Object.entries(SPELLINGS);
  const [how, spell] = spellings[random(spellings.length)] ?? [
    'dotted',
    (address: Bytes) => address.join('.'),
  ];
  return { host: spell(here ? LOOPBACK : range(random), random), here, how };
}
