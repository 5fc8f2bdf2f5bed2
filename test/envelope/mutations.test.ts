import fc from 'fast-check';
import { SignedEnvelope } from '../../contracts/envelope';
import { generateEnvelopeKeys, type EnvelopeKeys } from '../../secrets/envelope-keys';
import { EnvelopeRejected } from '../../secrets/envelope-rejected';
import { createEnvelopeSigner } from '../../secrets/envelope-signer';
import { createEnvelopeVerifier } from '../../secrets/envelope-verifier';
import { sampleEnvelope } from './sample';

const ID = 'tenant/acme/prod/run/run-1';
let keys: EnvelopeKeys;
let signed: SignedEnvelope;
beforeAll(async () => {
  keys = await generateEnvelopeKeys();
  signed = await createEnvelopeSigner(keys).sign(sampleEnvelope());
});

/** Every value that a mutation may touch, by path. */
const LEAVES = [
  ...Object.keys(sampleEnvelope()).filter((key) => key !== 'target' && key !== 'principal'),
  'target.system',
  'target.recordId',
  'principal.kind',
  'principal.subject',
].map((path) => `envelope.${path}`);
const PROOF = ['proof.protected', 'proof.signature'];

/** Values that keep the schema content, so that only the signature can tell. */
const PLAUSIBLE: Record<string, string[]> = {
  'envelope.agentVersion': ['fedcba987654'],
  'envelope.principal.kind': ['user', 'schedule'],
  'envelope.inputDigest': ['0'.repeat(64)],
  'envelope.acceptedAt': ['2027-01-01T00:00:00.000Z'],
};

const text = fc.oneof(
  fc.constantFrom('globex', 'run-2', 'admin', 'payments'),
  fc.stringMatching(/^[a-z][a-z0-9]{2,12}$/),
);
const mutation = fc.oneof(
  fc.record({ kind: fc.constant('replace' as const), path: fc.constantFrom(...LEAVES), value: text }),
  fc.record({
    kind: fc.constant('character' as const),
    path: fc.constantFrom(...LEAVES, ...PROOF),
    at: fc.nat(400),
    by: fc.integer({ min: 1, max: 61 }),
  }),
  fc.record({ kind: fc.constant('remove' as const), path: fc.constantFrom(...LEAVES, ...PROOF) }),
  fc.record({
    kind: fc.constant('add' as const),
    path: fc.constantFrom('', 'envelope', 'envelope.target', 'envelope.principal', 'proof'),
    name: fc.constantFrom('extra', '__proto__', 'constructor', 'header', 'payload'),
    value: text,
  }),
  fc.record({
    kind: fc.constant('null' as const),
    path: fc.constantFrom(
      'envelope.target',
      'envelope',
      'proof',
      ...LEAVES.filter((leaf) => leaf !== 'envelope.parentRunId'),
    ),
  }),
);
type Mutation = typeof mutation extends fc.Arbitrary<infer M> ? M : never;

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ';

function mutate(m: Mutation): unknown {
  const copy = JSON.parse(JSON.stringify(signed)) as Record<string, unknown>;
  const names = m.path.split('.').filter(Boolean);
  const last = m.kind === 'add' ? m.name : (names.pop() ?? '');
  let at = copy;
  for (const name of names) at = at[name] as Record<string, unknown>;
  const before = at[last];
  const set = (value: unknown): void => {
    Object.defineProperty(at, last, { value, enumerable: true, configurable: true, writable: true });
  };
  if (m.kind === 'remove') Reflect.deleteProperty(at, last);
  else if (m.kind === 'null') set(null);
  else if (m.kind === 'add') set(m.value);
  else if (m.kind === 'replace')
    set(PLAUSIBLE[m.path]?.[m.value.length % (PLAUSIBLE[m.path]?.length ?? 1)] ?? m.value);
  else {
    const chars = Array.from(typeof before === 'string' || typeof before === 'number' ? `${before}` : 'null');
    const index = m.at % chars.length;
    const from = ALPHABET.indexOf(chars[index] ?? '');
    chars[index] = ALPHABET[(Math.max(from, 0) + m.by) % ALPHABET.length] ?? 'x';
    set(typeof before === 'number' ? before + m.by : chars.join(''));
  }
  return copy;
}

test('E2 of 2,000 random alterations of a true envelope, none is believed', async () => {
  const verifier = createEnvelopeVerifier({ jwks: keys.jwks, environment: 'prod' });
  await expect(verifier.verify(signed, ID)).resolves.toBeDefined();
  const reasons: Record<string, number> = {};
  let tried = 0;
  await fc.assert(
    fc.asyncProperty(mutation, async (m) => {
      const altered = mutate(m);
      fc.pre(JSON.stringify(altered) !== JSON.stringify(signed));
      tried += 1;
      const answer = await verifier.verify(altered, ID).then(
        () => 'believed',
        (error: unknown) => (error instanceof EnvelopeRejected ? error.reason : 'crashed'),
      );
      reasons[answer] = (reasons[answer] ?? 0) + 1;
      return answer !== 'believed' && !answer.startsWith('crashed');
    }),
    { numRuns: 2_000 },
  );
  expect(tried).toBeGreaterThanOrEqual(2_000);
  // Each defence had its share, so none is there by accident of the generator.
  expect(reasons['bad_signature']).toBeGreaterThan(100);
  expect(reasons['malformed']).toBeGreaterThan(100);
});

test('E2 control arm: without the signature, the same alterations pass as envelopes', () => {
  const passed = fc
    .sample(mutation, 2_000)
    .map((m) => mutate(m))
    .filter(
      (altered) =>
        JSON.stringify(altered) !== JSON.stringify(signed) && SignedEnvelope.safeParse(altered).success,
    );
  expect(passed.length).toBeGreaterThan(500);
});
