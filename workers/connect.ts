import { Client, Connection } from '@temporalio/client';
import type { JSONWebKeySet, JWK } from 'jose';
import { BulkheadClient } from '../client/bulkhead';
import type { KnownActions } from '../client/caller';
import { createTokenVerifier, type IdentityConfig, type TokenVerifier } from '../client/identity';
import { Environment } from '../contracts/ids';
import type { Storage } from '../contracts/ports';
import type { EnvelopeSigner } from '../contracts/secrets-ports';
import { createEnvelopeSigner } from '../secrets/envelope-signer';
import { openStorage } from '../storage/open';
import type { App } from '../tools/app';
import { loadApp } from './app-module';
import { ConfigError, loadConfigOfStack, type Config } from './config';

/**
 * Where the client finds its parts. Each may be given as an address or as the part itself; what is left out comes from
 * the settings (`BULKHEAD_*`, `TEMPORAL_ADDRESS`), or from the `bulkhead up` that runs on the same state directory.
 */
export interface ConnectOptions {
  /** `host:port`, or a client of the environment's namespace. */
  readonly temporal?: string | Client;
  /** URL of the application's role, or opened storage. What is given open is left open by `close`. */
  readonly database?: string | Storage;
  /** Whose tokens are believed. */
  readonly identity?: IdentityConfig | TokenVerifier;
  /** The Ed25519 private key that signs envelopes, or a signer. */
  readonly signer?: JWK | EnvelopeSigner;
  readonly environment?: string;
  /** The product whose runs these are: what a person says a call has brought is held against its actions (BULKHEAD_APP). */
  readonly app?: Pick<App, 'actions'> | (() => Promise<Pick<App, 'actions'> | undefined>);
}

/** The typed client, connected. `close` lets the process end. */
export class ConnectedBulkhead extends BulkheadClient {
  constructor(
    ports: ConstructorParameters<typeof BulkheadClient>[0],
    private readonly closing: readonly (() => Promise<void>)[],
  ) {
    super(ports);
  }

  async close(): Promise<void> {
    for (const close of this.closing) await close();
  }
}

/**
 * Connects the client. Temporal is reached at the first call that needs it, so that runs are accepted while it is away.
 * Throws a {@link ConfigError} that names every setting that is missing or wrong.
 */
export async function connectBulkhead(options: ConnectOptions = {}): Promise<ConnectedBulkhead> {
  const config = isComplete(options) ? undefined : loadConfigOfStack();
  const named = Environment.safeParse(options.environment ?? config?.environment ?? 'prod');
  if (!named.success)
    throw new ConfigError(named.error.issues.map(({ message }) => `environment: ${message}`));
  const environment = named.data;
  const problems: string[] = [];
  const tokens = tokensOf(options, config, environment, problems);
  const signer = signerOf(options, config, problems);
  const temporal = options.temporal ?? config?.temporal.address ?? undefined;
  if (temporal === undefined)
    problems.push('TEMPORAL_ADDRESS: set it, or give `temporal`, or start `bulkhead up`');
  const database = options.database ?? config?.database.app?.reveal();
  if (database === undefined)
    problems.push('BULKHEAD_DATABASE_APP_URL: set it, or give `database`, or start `bulkhead up`');
  if (!tokens || !signer || temporal === undefined || database === undefined) throw new ConfigError(problems);

  const closing: (() => Promise<void>)[] = [];
  const client =
    typeof temporal === 'string' ? temporalClient(temporal, namespaceOf(config, environment)) : temporal;
  if (typeof temporal === 'string') closing.push(() => client.connection.close());
  const storage =
    typeof database === 'string'
      ? openStorage({ databaseUrl: database, environment, hostId: `client-${process.pid}` })
      : database;
  if (typeof database === 'string') closing.push(() => storage.close());
  const actions = actionsOf(options.app, config?.app ?? null);
  return new ConnectedBulkhead({ storage, temporal: client, tokens, signer, actions }, closing);
}

/** Loaded when first asked for: few programs ever look into a call's result. */
function actionsOf(given: ConnectOptions['app'], configured: string | null): KnownActions {
  let app: Promise<Pick<App, 'actions'> | undefined> | undefined;
  return async () => {
    app ??=
      typeof given === 'function'
        ? given()
        : given === undefined && configured !== null
          ? loadApp(configured)
          : Promise.resolve(given);
    return (await app)?.actions;
  };
}

/** A client that connects when it is first used. */
export function temporalClient(address: string, namespace: string): Client {
  return new Client({ connection: Connection.lazy({ address, connectTimeout: '5s' }), namespace });
}

/** The namespace of an environment is called as the environment is, but for the configured one's own. */
export const namespaceOf = (config: Config | undefined, environment: Environment): string =>
  config?.environment === environment ? config.temporal.namespace : environment;

/** Nothing is left to the settings: of an address alone they say the namespace. */
const isComplete = (options: ConnectOptions): boolean =>
  typeof options.temporal === 'object' &&
  options.app !== undefined &&
  options.database !== undefined &&
  options.identity !== undefined &&
  options.signer !== undefined &&
  options.environment !== undefined;

function tokensOf(
  options: ConnectOptions,
  config: Config | undefined,
  environment: Environment,
  problems: string[],
): TokenVerifier | undefined {
  const { identity } = options;
  if (identity) return 'verify' in identity ? identity : createTokenVerifier({ ...identity, environment });
  const configured = config && identityOf(config);
  if (configured) return createTokenVerifier({ ...configured, environment });
  problems.push(
    'BULKHEAD_TOKEN_ISSUER and BULKHEAD_TOKEN_JWKS: set both, or give `identity`, or start `bulkhead up`',
  );
  return undefined;
}

/** The configured issuer; `undefined` where there is none. */
export function identityOf(config: Config): IdentityConfig | undefined {
  const { issuer, audience, jwks } = config.token;
  if (issuer === null || jwks === null) return undefined;
  return {
    issuer,
    audience,
    keys: jwks.kind === 'url' ? { url: jwks.url } : { jwks: jwks.keys as JSONWebKeySet },
  };
}

function signerOf(
  options: ConnectOptions,
  config: Config | undefined,
  problems: string[],
): EnvelopeSigner | undefined {
  const { signer } = options;
  if (signer) return isSigner(signer) ? signer : createEnvelopeSigner({ signingKey: signer });
  const key = config?.envelope.signingKey?.reveal();
  if (key) return createEnvelopeSigner({ signingKey: key });
  problems.push('BULKHEAD_ENVELOPE_SIGNING_KEY: set it, or give `signer`, or start `bulkhead up`');
  return undefined;
}

const isSigner = (signer: JWK | EnvelopeSigner): signer is EnvelopeSigner =>
  typeof (signer as Partial<EnvelopeSigner>).sign === 'function';
