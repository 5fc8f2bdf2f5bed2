import type { PolicyRequest } from '../../contracts/policy-decision';
import { compiled, mistakesOf, profile, question } from './sample';

/** A call to `scheme://host:port`, out of arguments or to the tenant's own connection. */
function to(address: string, connection = false): PolicyRequest {
  const [, scheme, destination, port] = /^(https?):\/\/(.+):(\d+)$/.exec(address) ?? [];
  return question({
    action: 'web.fetch',
    args: { url: 'https://x.example/' },
    destination: destination ?? '',
    endpoint: { scheme: scheme === 'http' ? 'http' : 'https', port: Number(port), connection },
  });
}
const rule = (effect: string, rest: string): string =>
  `{ id: r, effect: ${effect}, actions: [web.fetch], ${rest} }`;

const WAYS = [
  'https://a.ok.example:443',
  'https://a.ok.example:8443',
  'http://a.ok.example:80',
  'http://a.ok.example:8080',
];
/** For each way to write it: which of the four ways it means, out of arguments and to a connection. */
const MEANINGS: [string, string, string][] = [
  ['*.ok.example', '1000', '1111'],
  ['https://*.ok.example', '1000', '1100'],
  ['http://*.ok.example', '0010', '0011'],
  ['*.ok.example:8443', '0100', '0100'],
  ['*.ok.example:8080', '0000', '0001'],
  ['*.ok.example:443', '1000', '1000'],
  ['http://*.ok.example:8080', '0001', '0001'],
  ['https://*.ok.example:8443', '0100', '0100'],
  ['https://*.ok.example:80', '0000', '0000'],
  ['*', '1000', '1111'],
  ['HTTP://*:8080', '0001', '0001'],
  ['other.example', '0000', '0000'],
];
const bits = (holds: (address: string) => boolean): string =>
  WAYS.map((way) => (holds(way) ? '1' : '0')).join('');

test.each(MEANINGS)(
  'T7 a rule that permits %s means %s of https, https:8443, http, http:8080; of a connection %s',
  (written, out, own) => {
    const approvers = 'approvers: { roles: [lead] }';
    for (const [effect, more] of [
      ['allow', ''],
      ['approve', `, ${approvers}`],
    ] as const) {
      const policy = compiled(profile([rule(effect, `destinations: ["${written}"]${more}`)]));
      expect(bits((way) => policy.decide(to(way)).effect === effect)).toBe(out);
      expect(bits((way) => policy.decide(to(way, true)).effect === effect)).toBe(own);
    }
  },
);

test.each([
  ['*.ok.example', '1111'],
  ['https://*.ok.example', '1100'],
  ['*.ok.example:8443', '0100'],
  ['http://*.ok.example:8080', '0001'],
])('T7 a rule that forbids %s means %s, whoever named the address', (written, holds) => {
  const all = rule('allow', 'destinations: ["*", "http://*", "http://*:8080", "*:8443"]').replace(
    'id: r',
    'id: all',
  );
  const policy = compiled(profile([all, rule('forbid', `destinations: ["${written}"]`)]));
  for (const own of [false, true])
    expect(bits((way) => policy.decide(to(way, own)).rules.includes('r'))).toBe(holds);
});

test('T7 an exception is no wider than what would be allowed by the same words', () => {
  const all =
    '{ id: all, effect: allow, actions: [web.fetch], destinations: ["*", "http://*", "http://*:8080", "*:8443"] }';
  const policy = compiled(profile([all, rule('forbid', 'exceptDestinations: ["*.ok.example"]')]));
  expect(bits((way) => policy.decide(to(way)).effect === 'allow')).toBe('1000');
  expect(bits((way) => policy.decide(to(way, true)).effect === 'allow')).toBe('1111');
});

test('T7 a rule that names no destinations permits https at 443, connections, and what stays inside', () => {
  const policy = compiled(profile([rule('allow', 'agents: ["support_*"]')]));
  expect(bits((way) => policy.decide(to(way)).effect === 'allow')).toBe('1000');
  expect(bits((way) => policy.decide(to(way, true)).effect === 'allow')).toBe('1111');
  const inside = question({ action: 'web.fetch', args: { url: 'https://x.example/' }, destination: null });
  expect(policy.decide(inside).effect).toBe('allow');
  const { endpoint: _none, ...unsaid } = to('https://a.ok.example:8443');
  expect(policy.decide(unsaid).effect).toBe('allow');
});

test('T7 expressions may read the way, and a way that is none is denied', () => {
  const policy = compiled(
    profile([
      rule(
        'allow',
        'destinations: ["*:8443", "http://*:8080"], when: context.destinationPort > 8100 && !context.connection',
      ),
    ]),
  );
  expect(bits((way) => policy.decide(to(way)).effect === 'allow')).toBe('0100');
  for (const port of [Number.NaN, 8443.5, Number.MAX_VALUE]) {
    const odd = {
      ...to('https://a.ok.example:8443'),
      endpoint: { scheme: 'https', port, connection: false } as const,
    };
    expect(policy.decide(odd)).toMatchObject({ effect: 'deny', rules: ['evaluation-error'] });
  }
});

test('U3 a scheme or port that no call can have is refused, and one that is covered is told', () => {
  for (const wrong of [
    'ftp://x.example',
    'x.example:0',
    'x.example:65536',
    'x.example:080',
    '//x.example',
    'https://x.example/p',
    'a@x.example:443',
    'x.example:*',
  ])
    expect(mistakesOf(profile([rule('allow', `destinations: ["${wrong}"]`)]))).toMatchObject([
      { path: 'rules[0].destinations[0]', message: expect.stringContaining('a destination is a host') },
    ]);
  const second = (destination: string): string =>
    `{ id: s, effect: allow, actions: [web.fetch], destinations: ["${destination}"] }`;
  const wide = rule('allow', 'destinations: ["*.ok.example", "*:8443"]');
  expect(
    compiled(profile([wide, second('a.ok.example:9000')])).decide(to('https://a.ok.example:9000')).rules,
  ).toEqual(['s']);
  expect(
    compiled(profile([wide, second('http://a.ok.example')])).decide(to('http://a.ok.example:80')).rules,
  ).toEqual(['s']);
  for (const covered of ['a.ok.example', 'b.example:8443'])
    expect(mistakesOf(profile([wide, second(covered)]))).toMatchObject([{ path: 'rules[1]' }]);
});
