import path from 'node:path';
import { z } from 'zod';
import { milliseconds } from '../contracts/duration';
import { Environment } from '../contracts/ids';

/**
 * Every setting of Bulkhead: its variable, what it means, its default. `.env.example` is generated from here, and
 * `loadConfig` in `config.ts` reads the environment through it. No message here repeats a value: it may be a secret.
 */
export interface SettingInfo {
  /** Heading of `.env.example` under which the variable stands. */
  readonly group: string;
  readonly about: string;
  /** What to write, as an example; the default where there is one. */
  readonly example: string;
  readonly secret: boolean;
}

const info = new Map<z.ZodType, SettingInfo>();
type Described = Omit<SettingInfo, 'secret'> & { secret?: boolean };

function setting<T extends z.ZodType>(schema: T, described: Described): T {
  info.set(schema, { secret: false, ...described });
  return schema;
}

/** Facts about a setting's schema; throws a TypeError for a schema that is not one of {@link SETTINGS}. */
export function settingInfo(schema: z.ZodType): SettingInfo {
  const found = info.get(schema);
  if (!found) throw new TypeError('every setting is made with setting()');
  return found;
}

const text = z.string().trim().min(1, 'write a value, or leave the variable out');
const duration = (
  min: string,
  max: string,
  fallback: string,
): z.ZodDefault<z.ZodPipe<z.ZodString, z.ZodTransform<number, string>>> =>
  z
    .string()
    .transform((value, context) => {
      if (!/^\d{1,9}(ms|s|m|h|d)$/.test(value)) {
        context.addIssue('write a number and one of ms, s, m, h, d, as in 300ms or 10s');
        return z.NEVER;
      }
      const ms = milliseconds(value);
      if (ms < milliseconds(min) || ms > milliseconds(max))
        context.addIssue(`write a duration from ${min} to ${max}`);
      return ms;
    })
    .default(milliseconds(fallback));
const whole = (
  min: number,
  max: number,
  fallback: number,
): z.ZodDefault<z.ZodPipe<z.ZodString, z.ZodTransform<number, string>>> =>
  z
    .string()
    .transform((value, context) => {
      const number = /^\d{1,9}$/.test(value) ? Number(value) : NaN;
      if (!(number >= min && number <= max)) context.addIssue(`write a whole number from ${min} to ${max}`);
      return number;
    })
    .default(fallback);

const hostPort = text.regex(
  /^[A-Za-z0-9.-]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$/,
  'write host:port, as in temporal.internal:7233',
);
const httpUrl = z.url({ protocol: /^https?$/, error: 'write an http or https URL' });
const postgresUrl = z
  .url({ protocol: /^postgres(ql)?$/, error: 'write postgresql://user:password@host:5432/database' })
  .refine(
    (url) => !URL.canParse(url) || isDecodable(new URL(url)),
    'a % in it begins an escape: write one of a password, or of a name, as %25',
  );
// Whoever connects decodes these, and would only say that some URI is malformed.
const isDecodable = ({ username, password, hostname, pathname }: URL): boolean => {
  try {
    [username, password, hostname, pathname].forEach(decodeURIComponent);
    return true;
  } catch (error) {
    if (error instanceof URIError) return false;
    throw error;
  }
};
const absolute = text.transform((value) => path.resolve(value));

/** The variables, in the order of `.env.example`. An empty variable counts as absent. */
export const SETTINGS = {
  TEMPORAL_ADDRESS: setting(hostPort.optional(), {
    group: 'Temporal',
    about: 'An existing Temporal server. Unset, `bulkhead up` starts an embedded one.',
    example: '127.0.0.1:7233',
  }),
  TEMPORAL_NAMESPACE: setting(text.max(255).optional(), {
    group: 'Temporal',
    about: 'The namespace of BULKHEAD_ENVIRONMENT, where it is not called as the environment is.',
    example: 'prod.a1b2c',
  }),
  BULKHEAD_TEMPORAL_BIN: setting(absolute.optional(), {
    group: 'Temporal',
    about:
      'The Temporal CLI for the embedded server. Unset, it is found on PATH, in the cache, or downloaded.',
    example: '/usr/local/bin/temporal',
  }),
  BULKHEAD_CACHE_DIR: setting(absolute.optional(), {
    group: 'Temporal',
    about: 'Where a downloaded Temporal CLI is kept. Default: bulkhead in the user’s cache directory.',
    example: '/var/cache/bulkhead',
  }),
  DATABASE_URL: setting(postgresUrl.optional(), {
    group: 'PostgreSQL',
    about:
      'An existing PostgreSQL, as a role that may create roles and schemas. Unset, `bulkhead up` starts one. Only `up` and `migrate` need it.',
    example: 'postgresql://admin:secret@127.0.0.1:5432/bulkhead',
    secret: true,
  }),
  BULKHEAD_DATABASE_APP_URL: setting(postgresUrl.optional(), {
    group: 'PostgreSQL',
    about:
      'The same database as bulkhead_app: what workers use. `migrate` gives the role the password that stands here.',
    example: 'postgresql://bulkhead_app:secret@127.0.0.1:5432/bulkhead',
    secret: true,
  }),
  BULKHEAD_DATABASE_OPERATOR_URL: setting(postgresUrl.optional(), {
    group: 'PostgreSQL',
    about:
      'The same database as bulkhead_operator: what operators’ commands use. `migrate` sets its password too.',
    example: 'postgresql://bulkhead_operator:secret@127.0.0.1:5432/bulkhead',
    secret: true,
  }),
  BULKHEAD_ENVIRONMENT: setting(Environment.default(Environment.parse('prod')), {
    group: 'Environment and state',
    about: 'The environment that a worker or a command serves. Each is a Temporal namespace of its own.',
    example: 'prod',
  }),
  BULKHEAD_ENVIRONMENTS: setting(
    text
      .transform((value) => [...new Set(value.split(',').map((name) => name.trim()))])
      .pipe(z.array(Environment))
      .optional(),
    {
      group: 'Environment and state',
      about: 'All environments that `bulkhead up` brings up, by comma. Default: BULKHEAD_ENVIRONMENT alone.',
      example: 'prod,staging',
    },
  ),
  BULKHEAD_STATE_DIR: setting(
    absolute.default(() => path.resolve('.bulkhead')),
    {
      group: 'Environment and state',
      about: 'Where the embedded stack keeps databases, keys and logs.',
      example: '.bulkhead',
    },
  ),
  BULKHEAD_APP: setting(absolute.optional(), {
    group: 'Environment and state',
    about: 'Module that exports `app`: the actions and agents that workers serve.',
    example: 'dist/examples/support-desk/app.js',
  }),
  BULKHEAD_LOG_LEVEL: setting(
    z
      .enum(
        ['trace', 'debug', 'info', 'warn', 'error', 'fatal'],
        'write one of trace, debug, info, warn, error, fatal',
      )
      .default('info'),
    { group: 'Environment and state', about: 'The least severe log line that is written.', example: 'info' },
  ),
  BULKHEAD_MASTER_KEY: setting(text.optional(), {
    group: 'Keys',
    about:
      'Key encryption key for tenants’ data keys: 32 bytes, base64. Or name a file with BULKHEAD_MASTER_KEY_FILE.',
    example: 'output of: openssl rand -base64 32',
    secret: true,
  }),
  BULKHEAD_MASTER_KEY_FILE: setting(absolute.optional(), {
    group: 'Keys',
    about: 'File that holds the master key, base64.',
    example: '/run/secrets/bulkhead-master-key',
  }),
  BULKHEAD_ENVELOPE_SIGNING_KEY: setting(text.optional(), {
    group: 'Keys',
    about:
      'Ed25519 private key (JWK with kid, or a file of it) that signs envelopes. Only acceptance needs it.',
    example: '/run/secrets/bulkhead-envelope.jwk.json',
    secret: true,
  }),
  BULKHEAD_ENVELOPE_JWKS: setting(text.optional(), {
    group: 'Keys',
    about:
      'Public keys (JWKS or a file of it) that verify envelopes; keep a rotated key until its runs have closed.',
    example: '/etc/bulkhead/envelope.jwks.json',
  }),
  BULKHEAD_TOKEN_ISSUER: setting(text.optional(), {
    group: 'Tokens',
    about: 'The issuer whose tokens are accepted.',
    example: 'https://login.example.com/',
  }),
  BULKHEAD_TOKEN_AUDIENCE: setting(text.default('bulkhead'), {
    group: 'Tokens',
    about: 'The audience that a token must name.',
    example: 'bulkhead',
  }),
  BULKHEAD_TOKEN_JWKS: setting(text.optional(), {
    group: 'Tokens',
    about: 'The issuer’s public keys: a URL, or a file.',
    example: 'https://login.example.com/.well-known/jwks.json',
  }),
  BULKHEAD_TOKEN: setting(text.optional(), {
    group: 'Tokens',
    about: 'The bearer token with which commands speak. Unset, commands on a development stack make one.',
    example: 'eyJ…',
    secret: true,
  }),
  BULKHEAD_DEV_ISSUER_KEY: setting(text.optional(), {
    group: 'Tokens',
    about:
      'Private key (JWK or file) with which `bulkhead token` signs development tokens. Never set it in production.',
    example: '.bulkhead/keys/token-issuer.jwk.json',
    secret: true,
  }),
  BULKHEAD_MODEL_BASE_URL: setting(httpUrl.optional(), {
    group: 'Models',
    about:
      'OpenAI-compatible endpoint. Unset, the example uses its scripted model. Per tenant: append __ACME.',
    example: 'https://models.example.com/v1',
  }),
  BULKHEAD_MODEL_API_KEY: setting(text.optional(), {
    group: 'Models',
    about: 'Its key. Per tenant: append __ACME.',
    example: 'sk-…',
    secret: true,
  }),
  BULKHEAD_MODEL_MODEL: setting(text.max(200).optional(), {
    group: 'Models',
    about: 'The model’s name there. Per tenant: append __ACME.',
    example: 'small-1',
  }),
  BULKHEAD_CONTINUE_AS_NEW_AFTER: setting(whole(1, 10_000, 20), {
    group: 'Runs and timing',
    about: 'Steps after which a run continues as new, so that its history stays short.',
    example: '20',
  }),
  BULKHEAD_MAX_WAIT: setting(duration('1s', '30d', '1h'), {
    group: 'Runs and timing',
    about: 'How long a run waits on a limit before it ends as budget_exceeded.',
    example: '1h',
  }),
  BULKHEAD_MAX_REVIEW_WAIT: setting(duration('1m', '90d', '7d'), {
    group: 'Runs and timing',
    about: 'How long a run waits for a person to resolve a review before it ends.',
    example: '7d',
  }),
  BULKHEAD_MAX_MISBEHAVIOUR: setting(whole(1, 100, 3), {
    group: 'Runs and timing',
    about: 'Unusable model answers in a row after which a run ends as model_misbehaved.',
    example: '3',
  }),
  BULKHEAD_MAX_REPEATS: setting(whole(2, 1_000, 10), {
    group: 'Runs and timing',
    about:
      'Steps in a row that ask for the same call to the same end, after which a run ends as model_misbehaved.',
    example: '10',
  }),
  BULKHEAD_CALLS_AT_ONCE: setting(whole(1, 1_000, 16), {
    group: 'Runs and timing',
    about:
      'Calls of one run that are handed to Temporal at a time, where its workflow asks for many at once: the load of the benchmarks does, agents make one at a time. The others wait in the workflow, and cost nothing.',
    example: '16',
  }),
  BULKHEAD_REFUSED_PAUSE: setting(duration('10ms', '1m', '1s'), {
    group: 'Runs and timing',
    about:
      'Pause before each further call of a run whose actions policy has refused eight times in a row, until one is not refused.',
    example: '1s',
  }),
  BULKHEAD_FENCE_POLL: setting(duration('50ms', '900ms', '300ms'), {
    group: 'Runs and timing',
    about:
      'How often hosts read control versions. Nothing is sent unless a poll of the last second confirmed it.',
    example: '300ms',
  }),
  // Well below the shortest BULKHEAD_DEAD_HOST_AFTER: a host that works must not be taken for dead.
  BULKHEAD_HOST_HEARTBEAT: setting(duration('100ms', '3s', '1s'), {
    group: 'Runs and timing',
    about: 'How often a host renews its row, on the way to its look at the fence.',
    example: '1s',
  }),
  BULKHEAD_DEAD_HOST_AFTER: setting(duration('10s', '10m', '30s'), {
    group: 'Runs and timing',
    about: 'A host that has not renewed its row for so long is dead: its calls are recovered.',
    example: '30s',
  }),
  BULKHEAD_LANE_TAKEN_WITHIN: setting(duration('1s', '10m', '10s'), {
    group: 'Runs and timing',
    about:
      'A call that no worker has taken after so long says so, and is scheduled again where its tenant then is.',
    example: '10s',
  }),
  BULKHEAD_SHARED_LANE_CALLS: setting(whole(1, 1_000, 40), {
    group: 'Runs and timing',
    about: 'Calls at once of all tenants on the shared lane, per host.',
    example: '40',
  }),
  BULKHEAD_SHARED_LANE_EXPENSIVE: setting(whole(1, 1_000, 4), {
    group: 'Runs and timing',
    about: 'Calls at once of expensive actions of all tenants on the shared lane, per host.',
    example: '4',
  }),
  BULKHEAD_PLACEMENT_POLL: setting(duration('100ms', '60s', '1s'), {
    group: 'Runs and timing',
    about: 'How often hosts look for new tenants and changed lanes.',
    example: '1s',
  }),
  BULKHEAD_SWEEP_EVERY: setting(duration('1s', '1h', '10s'), {
    group: 'Runs and timing',
    about: 'How often the sweep mends what was lost.',
    example: '10s',
  }),
  BULKHEAD_DRAIN_GRACE: setting(duration('100ms', '10m', '5s'), {
    group: 'Runs and timing',
    about: 'After a kill, how long runs may take to close before they are terminated.',
    example: '5s',
  }),
  BULKHEAD_SHUTDOWN_GRACE: setting(duration('100ms', '10m', '5s'), {
    group: 'Runs and timing',
    about:
      'After a stop, how long calls under way may go on before they are cancelled. A process that still runs 5 s later is ended.',
    example: '5s',
  }),
} as const;

export type SettingName = keyof typeof SETTINGS;

/** Settings that a tenant may have of its own, with `__` and the tenant’s id in capitals (`-` as `_`) appended. */
export const PER_TENANT = [
  'BULKHEAD_MODEL_BASE_URL',
  'BULKHEAD_MODEL_API_KEY',
  'BULKHEAD_MODEL_MODEL',
] as const satisfies SettingName[];

/** The text of `.env.example`. */
export function envExample(): string {
  const lines = [
    '# Generated from workers/settings.ts by `npm run env:example`. Every setting is optional for `npm start`.',
  ];
  let group = '';
  for (const [name, schema] of Object.entries(SETTINGS)) {
    const about = settingInfo(schema);
    if (about.group !== group) lines.push('', `# ${about.group}`);
    group = about.group;
    lines.push(`# ${about.about}${about.secret ? ' Secret.' : ''}`, `# ${name}=${about.example}`);
  }
  return `${lines.join('\n')}\n`;
}
