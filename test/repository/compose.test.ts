import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
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

describe('U4 the keys of the cluster', () => {
  const volumes = mkdtempSync(path.join(os.tmpdir(), 'bulkhead-compose-'));
  afterAll(() => rmSync(volumes, { recursive: true }));

  /** `name:/where` or `name:/where:ro`, as a service mounts its volumes. */
  const mounts = (service: string): { volume: string; at: string }[] =>
    ((compose.services[service]?.['volumes'] ?? []) as string[]).map((line) => {
      const [volume = '', at = ''] = line.split(':');
      return { volume, at };
    });

  /** The step that makes keys, its volumes directories of this machine and its user ours. */
  function makeKeys(): void {
    const { entrypoint, command } = compose.services['keys'] as { entrypoint: string[]; command: string[] };
    const here = (script: string): string =>
      mounts('keys')
        .reduce(
          (now, { volume, at }) =>
            now.replaceAll(new RegExp(`(?<=[ '])${at}\\b`, 'g'), path.join(volumes, volume)),
          script,
        )
        .replaceAll('/app/', `${root}/`)
        .replaceAll('node:node', `${process.getuid?.()}:${process.getgid?.()}`)
        .replaceAll('--owner node --group node', '');
    const [shell = '', ...options] = entrypoint;
    execFileSync(shell, [...options, ...command.map(here)]);
  }

  test('U4 a worker has the two files that it needs, and nobody else of the cluster has a key', () => {
    for (const { volume } of mounts('keys')) mkdirSync(path.join(volumes, volume));
    makeKeys();
    const files = (volume: string): string[] =>
      readdirSync(path.join(volumes, volume), { recursive: true, encoding: 'utf8' }).sort();
    const keyVolumes = mounts('keys').map(({ volume }) => volume);
    const seenBy = (service: string): string[] =>
      mounts(service)
        .filter(({ volume }) => keyVolumes.includes(volume))
        .flatMap(({ volume }) => files(volume));

    for (const service of Object.keys(compose.services)) {
      if (service === 'keys') continue;
      const isWorker = ['control', 'host'].includes(service);
      expect([service, seenBy(service)]).toEqual([
        service,
        isWorker ? ['envelope.jwks.json', 'master.key'] : [],
      ]);
    }
    const settings = compose.services['host']!['environment'] as Record<string, string>;
    const [{ volume, at } = { volume: '', at: '' }] = mounts('host');
    for (const name of ['BULKHEAD_MASTER_KEY_FILE', 'BULKHEAD_ENVELOPE_JWKS']) {
      const file = path.join(volumes, volume, path.relative(at, settings[name] ?? ''));
      expect([name, statSync(file).mode & 0o777]).toEqual([name, 0o600]);
    }

    // A cluster that is brought up again has the same keys.
    const masterKey = path.join(volumes, volume, 'master.key');
    const before = readFileSync(masterKey, 'utf8');
    makeKeys();
    expect(readFileSync(masterKey, 'utf8')).toBe(before);
  });
});
