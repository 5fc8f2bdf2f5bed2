import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parse } from 'yaml';
import { SEARCH_ATTRIBUTES } from '../../contracts/states';
import { SERVER_SETTINGS } from '../../workers/embedded/server-settings';

const root = path.join(__dirname, '..', '..');
const text = readFileSync(path.join(root, 'docker-compose.yml'), 'utf8');
const compose = parse(text, { merge: true }) as {
  services: Record<string, Record<string, unknown>>;
  configs: Record<string, { content: string }>;
};

interface Validate {
  (data: unknown): boolean;
  errors?: unknown;
}

/** Ajv for draft 2020-12. It comes with webpack's schema-utils, from where it is resolved. */
function validator(): Validate {
  const from = require.resolve('ajv/dist/2020', {
    paths: [path.dirname(require.resolve('schema-utils')), root],
  });
  const { default: Ajv } = createRequire(__filename)(from) as {
    default: new (options: object) => { compile(schema: unknown): Validate };
  };
  const schema = JSON.parse(
    readFileSync(path.join(root, 'test/fixtures/compose/compose-spec.schema.json'), 'utf8'),
  ) as unknown;
  return new Ajv({ strict: false, validateFormats: false, allErrors: true }).compile(schema);
}

test('U4 docker-compose.yml is valid by the Compose specification, and a wrong one would be found', () => {
  const validate = validator();
  validate(compose);
  expect(validate.errors ?? []).toEqual([]);
  const wrong = structuredClone(compose);
  wrong.services['host'] = { ...wrong.services['host'], healthchek: {} };
  expect(validate(wrong)).toBe(false);
});

test('U4 docker-compose.yml pins every image and checks the health of everything that keeps running', () => {
  for (const [name, service] of Object.entries(compose.services)) {
    expect([name, service['image']]).toEqual([name, expect.stringMatching(/^[a-z0-9/-]+:\d+(\.\d+)+(-|$)/)]);
    const keepsRunning = service['restart'] === 'unless-stopped';
    expect([name, Object.hasOwn(service, 'healthcheck')]).toEqual([name, keepsRunning]);
  }
});

test('U4 the cluster’s Temporal has the embedded one’s settings and search attributes', () => {
  const content = parse(compose.configs['temporal-dynamic-config']!.content) as Record<
    string,
    { value: unknown }[]
  >;
  const settings = Object.fromEntries(Object.entries(content).map(([key, [only]]) => [key, only?.value]));
  expect(settings).toEqual(SERVER_SETTINGS);
  expect(text).toContain(`for attribute in ${SEARCH_ATTRIBUTES.join(' ')}; do`);
});
