import { hostileUrl, type Random } from '../support/hostile-urls';
import { free, oneOf, refund, type Call, type Ground } from './ground';

/** A refund in policy whose free-form part is nested `depth` deep. */
export function nestedMeta(ground: Ground, mark: string, depth: number): Call {
  const meta = '['.repeat(depth) + ']'.repeat(depth);
  const sum = free(ground);
  return [
    'refund.make',
    `{"recordId":"${ground.recordId}","amountCents":${sum},"reason":"${mark}","meta":${meta}}`,
  ];
}

/** Arguments that are in no schema, as JSON and as what is none. */
export function misformed(ground: Ground, mark: string): Call {
  const { random, recordId } = ground;
  const sums: readonly [unknown, ...unknown[]] = [
    -100,
    0,
    100.5,
    '100',
    [100],
    null,
    true,
    1e21,
    { valueOf: 100 },
  ];
  const raw = (more: string): Call => [
    'refund.make',
    `{"recordId":"${recordId}","reason":"${mark}","amountCents":100${more}`,
  ];
  const nested = oneOf(random, 20, 200, 1_000);
  return oneOf<Call>(
    random,
    refund(ground, oneOf(random, ...sums), mark),
    ['refund.make', `{"recordId":"${recordId}","reason":"${mark}","amountCents":1e400}`],
    ['refund.make', `{"recordId":"${recordId}","reason":"${mark}","amountCents":9007199254740993}`],
    raw(',"__proto__":{"amountCents":99}}'),
    raw(',"constructor":{"prototype":{"amountCents":99}}}'),
    raw(',"approved":true}'),
    raw(''),
    raw(`,"deep":${'['.repeat(nested)}${']'.repeat(nested)}}`),
    ['refund.make', '[]'],
    ['refund.make', ''],
    ['note.write', { recordId: { id: recordId }, text: mark }],
    ['note.write', { recordId: `../${ground.foreignTenant}/records/${ground.foreignId}`, text: 4 }],
  );
}

/** An address that means this machine, in any spelling, or a network that nobody may reach; none that needs a name server. */
export function urlFor(random: Random, port: number): string {
  const plain = [
    '127.0.0.1',
    'localhost',
    'a.localhost',
    '[::1]',
    '127.0.0.2',
    '203.0.113.7',
    '169.254.169.254',
  ];
  if (random(2) === 0) return `http://${plain[random(plain.length)] ?? 'localhost'}:${port}/latest`;
  for (;;) {
    const { text, here } = hostileUrl(random, port);
    if (here && !/wrap|test/i.test(text)) return text;
  }
}
