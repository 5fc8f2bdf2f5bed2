import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import type { RunBounds } from '../activities/lifecycle';
import type { Environment } from '../contracts/ids';
import { EnvelopeJwks, EnvelopePublicKey, EnvelopeSigningKey } from '../secrets/envelope-keys';
import { PER_TENANT, SETTINGS, settingInfo, type SettingName } from './settings';
import { modelsOf, type ModelSettings } from './model-settings';
import { Secret } from './secret-value';
import { readStack } from './stack';
import type { LaneSettings } from './lane-plan';
import { unknownVariables } from './unknown-settings';

export { Secret } from './secret-value';
export type { ModelSettings } from './model-settings';

/** What the environment says, checked. `null` means: not configured; the embedded stack or a refusal takes its place. */
export interface Config {
  readonly temporal: {
    readonly address: string | null;
    /** Of `environment`; elsewhere a namespace is called as its environment is. */
    readonly namespace: string;
    /** Absolute path of the CLI for the embedded server. */
    readonly binary: string | null;
    readonly cacheDir: string | null;
  };
  /** Directories in which programs are looked for. */
  readonly searchPath: readonly string[];
  /** Connection URLs: `admin` may create roles and schemas (migration alone), `app` is for workers, `operator` for operators. */
  readonly database: {
    readonly admin: Secret<string> | null;
    readonly app: Secret<string> | null;
    readonly operator: Secret<string> | null;
  };
  readonly environment: Environment;
  readonly environments: readonly Environment[];
  /** Absolute. */
  readonly stateDir: string;
  /** Absolute path of the module that exports `app`. */
  readonly app: string | null;
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal';
  /** 32 bytes. */
  readonly masterKey: Secret<Buffer> | null;
  readonly envelope: {
    readonly signingKey: Secret<EnvelopeSigningKey> | null;
    readonly jwks: EnvelopeJwks | null;
  };
  readonly token: {
    readonly issuer: string | null;
    readonly audience: string;
    readonly jwks:
      | { readonly kind: 'url'; readonly url: string }
      | { readonly kind: 'keys'; readonly keys: { readonly keys: readonly unknown[] } }
      | null;
    readonly devIssuerKey: Secret<EnvelopeSigningKey> | null;
    /** What commands present. */
    readonly bearer: Secret<string> | null;
  };
  /** The provider for a tenant: its own settings over the common ones; `undefined` where none is configured. */
  model(tenant: string): ModelSettings | undefined;
  readonly run: RunBounds;
  readonly lanes: LaneSettings;
  /** Milliseconds. */
  readonly timing: {
    readonly fencePollMs: number;
    readonly hostHeartbeatMs: number;
    readonly deadHostAfterMs: number;
    readonly placementPollMs: number;
    readonly sweepEveryMs: number;
    readonly drainGraceMs: number;
    readonly shutdownGraceMs: number;
  };
}

/** All that is wrong with the environment, each with its remedy. Never holds a value. */
export class ConfigError extends Error {
  constructor(readonly problems: readonly string[]) {
    super(
      `the configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${problems.map((p) => `  - ${p}`).join('\n')}`,
    );
    this.name = 'ConfigError';
  }
}

export type Environ = Readonly<Record<string, string | undefined>>;

/**
 * Reads the configuration. Reports every problem together: throws one {@link ConfigError}.
 * A `BULKHEAD_*` variable that does not exist is a problem too, since a mistyped limit would silently not hold.
 */
export function loadConfig(env: Environ = process.env): Config {
  const problems: string[] = [];
  const present = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value !== ''),
  );
  problems.push(...unknownVariables(Object.keys(present)));

  const parsed = z.object(SETTINGS).safeParse(present);
  for (const issue of parsed.error?.issues ?? []) problems.push(`${issue.path.join('.')}: ${issue.message}`);
  if (!parsed.success) {
    // Files and combinations can still be judged for the variables that are well-formed.
    const bad = new Set(parsed.error.issues.map((issue) => String(issue.path[0])));
    const rest = z
      .object(SETTINGS)
      .safeParse(Object.fromEntries(Object.entries(present).filter(([name]) => !bad.has(name))));
    if (rest.success) assemble(rest.data, present, problems);
    throw new ConfigError(problems);
  }
  const config = assemble(parsed.data, present, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/**
 * For commands beside a running embedded stack: what `bulkhead up` wrote to `stack.json` fills in whatever the
 * environment leaves open. Throws {@link ConfigError}.
 */
export function loadConfigOfStack(env: Environ = process.env): Config {
  const stack = readStack(path.resolve(env['BULKHEAD_STATE_DIR'] || '.bulkhead'));
  const given = Object.entries(env).filter(([, value]) => value !== undefined && value !== '');
  return loadConfig({ ...stack?.env, ...Object.fromEntries(given) });
}

/** The operator's environment with some settings over it. Throws {@link ConfigError}. */
export const loadConfigWith = (settings: Readonly<Record<string, string>>): Config =>
  loadConfig({ ...process.env, ...settings });

/**
 * The environment that a process started by us begins with: the operator's own. Without our settings for a program
 * that is not Bulkhead; for a worker without addresses and secrets alone, which it is given one by one.
 */
export function inheritedEnvironment(receiver: 'program' | 'worker' = 'program'): Record<string, string> {
  const kept = (name: string): boolean => {
    const base = PER_TENANT.find((own) => name.startsWith(`${own}__`)) ?? name;
    if (!Object.hasOwn(SETTINGS, base)) return true;
    const { secret, group } = settingInfo(SETTINGS[base as SettingName]);
    return (
      receiver === 'worker' &&
      !secret &&
      group !== 'Models' &&
      base !== 'TEMPORAL_ADDRESS' &&
      !base.startsWith('BULKHEAD_ENVIRONMENT')
    );
  };
  const entries = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && kept(entry[0]),
  );
  return Object.fromEntries(entries);
}

type Parsed = z.output<z.ZodObject<typeof SETTINGS>>;

function assemble(set: Parsed, present: Environ, problems: string[]): Config {
  const environments = set.BULKHEAD_ENVIRONMENTS ?? [set.BULKHEAD_ENVIRONMENT];
  if (!environments.includes(set.BULKHEAD_ENVIRONMENT)) {
    problems.push(
      `BULKHEAD_ENVIRONMENTS: add ${set.BULKHEAD_ENVIRONMENT}, or set BULKHEAD_ENVIRONMENT to one of them`,
    );
  }
  if (set.TEMPORAL_NAMESPACE && environments.length > 1) {
    problems.push('TEMPORAL_NAMESPACE: names one namespace, so set one environment only, or leave it out');
  }
  if (set.BULKHEAD_MASTER_KEY && set.BULKHEAD_MASTER_KEY_FILE) {
    problems.push('BULKHEAD_MASTER_KEY: set it or BULKHEAD_MASTER_KEY_FILE, not both');
  }
  const signingKey = json(
    'BULKHEAD_ENVELOPE_SIGNING_KEY',
    set.BULKHEAD_ENVELOPE_SIGNING_KEY,
    EnvelopeSigningKey,
    PRIVATE_FORM,
    problems,
  );
  const jwks = json(
    'BULKHEAD_ENVELOPE_JWKS',
    set.BULKHEAD_ENVELOPE_JWKS,
    PublicJwks,
    'write a JWKS of Ed25519 public keys alone, each with kid, or the path of a file that holds it',
    problems,
  );
  const devKey = json(
    'BULKHEAD_DEV_ISSUER_KEY',
    set.BULKHEAD_DEV_ISSUER_KEY,
    EnvelopeSigningKey,
    PRIVATE_FORM,
    problems,
  );

  return {
    temporal: {
      address: set.TEMPORAL_ADDRESS ?? null,
      namespace: set.TEMPORAL_NAMESPACE ?? set.BULKHEAD_ENVIRONMENT,
      binary: set.BULKHEAD_TEMPORAL_BIN ?? null,
      cacheDir: set.BULKHEAD_CACHE_DIR ?? xdgCache(present),
    },
    searchPath: (present['PATH'] ?? '')
      .split(path.delimiter)
      .filter((directory) => path.isAbsolute(directory)),
    database: {
      admin: sealed(set.DATABASE_URL),
      app: sealed(set.BULKHEAD_DATABASE_APP_URL),
      operator: sealed(set.BULKHEAD_DATABASE_OPERATOR_URL),
    },
    environment: set.BULKHEAD_ENVIRONMENT,
    environments,
    stateDir: set.BULKHEAD_STATE_DIR,
    app: set.BULKHEAD_APP ?? null,
    logLevel: set.BULKHEAD_LOG_LEVEL,
    masterKey: masterKey(set, problems),
    envelope: {
      signingKey: signingKey ? new Secret(signingKey) : null,
      jwks: jwks ?? (signingKey ? { keys: [publicPart(signingKey)] } : null),
    },
    token: {
      issuer: set.BULKHEAD_TOKEN_ISSUER ?? null,
      audience: set.BULKHEAD_TOKEN_AUDIENCE,
      jwks: tokenKeys(set.BULKHEAD_TOKEN_JWKS, problems),
      devIssuerKey: devKey ? new Secret(devKey) : null,
      bearer: sealed(set.BULKHEAD_TOKEN),
    },
    model: modelsOf(set, present, problems),
    run: {
      continueAsNewAfter: set.BULKHEAD_CONTINUE_AS_NEW_AFTER,
      maxWaitMs: set.BULKHEAD_MAX_WAIT,
      maxMisbehaviour: set.BULKHEAD_MAX_MISBEHAVIOUR,
      maxReviewWaitMs: set.BULKHEAD_MAX_REVIEW_WAIT,
      maxRepeats: set.BULKHEAD_MAX_REPEATS,
      callsAtOnce: set.BULKHEAD_CALLS_AT_ONCE,
      refusalPace: { free: REFUSALS_FREE, pauseMs: set.BULKHEAD_REFUSED_PAUSE },
    },
    lanes: {
      takenWithinMs: set.BULKHEAD_LANE_TAKEN_WITHIN,
      sharedCalls: set.BULKHEAD_SHARED_LANE_CALLS,
      sharedExpensive: set.BULKHEAD_SHARED_LANE_EXPENSIVE,
    },
    timing: {
      fencePollMs: set.BULKHEAD_FENCE_POLL,
      hostHeartbeatMs: set.BULKHEAD_HOST_HEARTBEAT,
      deadHostAfterMs: set.BULKHEAD_DEAD_HOST_AFTER,
      placementPollMs: set.BULKHEAD_PLACEMENT_POLL,
      sweepEveryMs: set.BULKHEAD_SWEEP_EVERY,
      drainGraceMs: set.BULKHEAD_DRAIN_GRACE,
      shutdownGraceMs: set.BULKHEAD_SHUTDOWN_GRACE,
    },
  };
}

/** So many refusals by policy in a row are an agent that finds out what it may. More are spam. */
const REFUSALS_FREE = 8;

const sealed = (value: string | undefined): Secret<string> | null =>
  value === undefined ? null : new Secret(value);

const PRIVATE_FORM = 'write an Ed25519 private key as JWK with kid, or the path of a file that holds it';

// Checked before the schema drops what it does not know: a private key here would reach every worker.
const PublicJwks = z
  .unknown()
  .refine((value) => !JSON.stringify(value).includes('"d":'))
  .pipe(EnvelopeJwks);

const publicPart = (key: EnvelopeSigningKey): EnvelopeJwks['keys'][number] => EnvelopePublicKey.parse(key);

function masterKey(set: Parsed, problems: string[]): Secret<Buffer> | null {
  const name: SettingName = set.BULKHEAD_MASTER_KEY_FILE ? 'BULKHEAD_MASTER_KEY_FILE' : 'BULKHEAD_MASTER_KEY';
  const text = set.BULKHEAD_MASTER_KEY_FILE
    ? readText(name, set.BULKHEAD_MASTER_KEY_FILE, problems)
    : set.BULKHEAD_MASTER_KEY;
  if (text === undefined) return null;
  const key = Buffer.from(text.trim(), 'base64');
  if (key.length !== 32 || !/^[A-Za-z0-9+/]{43}=$/.test(text.trim())) {
    problems.push(`${name}: the key is 32 bytes in base64, as \`openssl rand -base64 32\` makes it`);
    return null;
  }
  return new Secret(key);
}

function tokenKeys(value: string | undefined, problems: string[]): Config['token']['jwks'] {
  if (value === undefined) return null;
  if (/^https?:\/\//.test(value)) {
    if (URL.canParse(value)) return { kind: 'url', url: value };
    problems.push('BULKHEAD_TOKEN_JWKS: this URL cannot be read');
    return null;
  }
  // An issuer of one's own may use other kinds of key than we do for envelopes.
  const keys = json(
    'BULKHEAD_TOKEN_JWKS',
    value,
    z.object({ keys: z.array(z.unknown()).min(1) }),
    'write a URL, a JWKS, or the path of a JWKS file',
    problems,
  );
  return keys ? { kind: 'keys', keys } : null;
}

function json<T>(
  name: SettingName,
  value: string | undefined,
  schema: z.ZodType<T>,
  form: string,
  problems: string[],
): T | undefined {
  if (value === undefined) return undefined;
  const text = value.startsWith('{') ? value : readText(name, path.resolve(value), problems);
  if (text === undefined) return undefined;
  try {
    const parsed = schema.safeParse(JSON.parse(text));
    if (parsed.success) return parsed.data;
  } catch (error) {
    // The parser's message may quote the text, which may be a key.
    if (!(error instanceof SyntaxError)) throw error;
  }
  problems.push(`${name}: ${form}`);
  return undefined;
}

function readText(name: string, file: string, problems: string[]): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    problems.push(
      `${name}: the file ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'error'}); give its path and the right to read it`,
    );
    return undefined;
  }
}

function xdgCache(present: Environ): string | null {
  const base = present['XDG_CACHE_HOME'] ?? (present['HOME'] && path.join(present['HOME'], '.cache'));
  return base ? path.join(base, 'bulkhead') : null;
}
