import path from 'node:path';
import { bringDatabase } from './bring-database';
import { Children } from './children';
import { inheritedEnvironment, type Config } from './config';
import { findTemporal, locateTemporal, type TemporalBinary } from './embedded/find-temporal';
import { identify, OwnedProcesses } from './embedded/owned-processes';
import { lockStateDir } from './embedded/supervisor-lock';
import { prepareTemporal, startTemporal } from './embedded/temporal';
import { graceOf } from './grace';
import { DEV_ISSUER, ensureKeys, type KeyFiles } from './keys';
import { compiledModule } from './package-paths';
import { removeStack, writeStack, type StackAddresses } from './stack';
import { timed } from './timed';

/** Tells a person of one step that is done: what, what of it, and how long it took in milliseconds. */
export type Step = (what: string, detail: string, tookMs: number) => void;

export interface BringUpOptions {
  readonly config: Config;
  /** Module that exports `app`, for the workers. */
  readonly appModule: string;
  readonly step: Step;
  readonly say: (line: string) => void;
}

/** A stack that runs: what this process started, and where to reach it. */
export interface Stack {
  readonly addresses: StackAddresses;
  readonly children: Children;
  /** The embedded PostgreSQL; `undefined` where another one is configured. */
  readonly database: { pid(): number | undefined } | undefined;
  /** Time spent downloading, milliseconds; in no step's time. */
  readonly downloadMs: number;
  /** Settings for a worker process of an environment, its whole environment. */
  workerEnvironment(environment: string): Record<string, string>;
  /** Rejects when a part that everything needs ends by itself. */
  readonly broken: Promise<never>;
  /** Ends what was started, workers first, and nothing else. Safe to call twice. */
  stop(): Promise<void>;
}

/**
 * Brings everything up, in order: leftovers of a killed start are ended, keys made, Temporal and PostgreSQL started
 * or used where configured, the schema migrated, workers started. On any failure what was started is stopped again
 * and the error thrown.
 */
export async function bringUp(options: BringUpOptions): Promise<Stack> {
  const { config, step } = options;
  const graceMs = graceOf(config.timing.shutdownGraceMs).processEndsWithinMs;
  const stopping: (() => Promise<void> | void)[] = [];
  const unlock = lockStateDir(config.stateDir);
  stopping.push(unlock);
  const stop = once(async () => {
    for (const end of stopping.reverse()) await end();
  });
  try {
    const owned = new OwnedProcesses(config.stateDir);
    const leftovers = await timed(() => owned.endLeftovers(graceMs));
    if (leftovers.value.length > 0)
      step('leftovers', `ended ${leftovers.value.join(', ')} of a start that was cut off`, leftovers.ms);

    const keys = await timed(() => ensureKeys(config.stateDir));
    step(
      'keys',
      keys.value.made.length > 0 ? `made in ${path.join(config.stateDir, 'keys')}` : 'as before',
      keys.ms,
    );

    let fail: (reason: Error) => void = () => undefined;
    const broken = new Promise<never>((_, reject) => (fail = reject));
    broken.catch(() => undefined);

    const temporal = await bringTemporal(options, owned, fail, stopping);
    const database = await bringDatabase(options, keys.value.files);
    stopping.push(() => database.server?.stop());
    const children = new Children({
      logDir: path.join(config.stateDir, 'logs'),
      owned,
      graceMs,
      say: options.say,
    });
    stopping.push(() => children.stopAll());

    const settings = settingsFor(config, keys.value.files, options.appModule, {
      temporal: temporal.address,
      app: database.app,
      operator: database.operator,
    });
    const workerEnvironment = (environment: string): Record<string, string> => ({
      ...inheritedEnvironment('worker'),
      ...settings.worker,
      BULKHEAD_ENVIRONMENT: environment,
    });
    const supervisor = identify(process.pid);
    if (!supervisor) throw new Error('this process cannot be identified: is /proc mounted?');
    const addresses: StackAddresses = {
      supervisor,
      startedAt: new Date().toISOString(),
      temporalAddress: temporal.address,
      temporalUiUrl: temporal.uiUrl,
      temporalBinary: temporal.binary?.path ?? null,
      environments: config.environments,
      env: settings.command,
    };
    stopping.push(() => removeStack(config.stateDir));
    writeStack(config.stateDir, addresses);

    for (const environment of config.environments)
      await startWorkers(children, environment, workerEnvironment(environment), step);
    return {
      addresses,
      children,
      database: database.server,
      downloadMs: temporal.binary?.downloadMs ?? 0,
      workerEnvironment,
      broken,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Temporal {
  readonly address: string;
  readonly uiUrl: string | null;
  readonly binary: TemporalBinary | undefined;
}

async function bringTemporal(
  { config, step, say }: BringUpOptions,
  owned: OwnedProcesses,
  fail: (reason: Error) => void,
  stopping: (() => Promise<void> | void)[],
): Promise<Temporal> {
  const namespaces = config.environments.map((environment) =>
    environment === config.environment ? config.temporal.namespace : environment,
  );
  const find = {
    configured: config.temporal.binary,
    searchPath: config.searchPath,
    cacheDirs: cacheDirsOf(config),
  };
  const { address } = config.temporal;
  if (address !== null) {
    const prepared = await timed(() => prepareTemporal(address, namespaces));
    step('Temporal', `${address} (configured), namespaces ${namespaces.join(', ')}`, prepared.ms);
    return { address, uiUrl: null, binary: (await locateTemporal(find)).found };
  }
  const found = await timed(() => findTemporal({ ...find, say }));
  const binary = found.value;
  if (binary.downloadMs > 0)
    step(
      'download',
      `Temporal CLI ${binary.version} (${binary.source}), kept in ${path.dirname(binary.path)}`,
      binary.downloadMs,
    );
  const started = await timed(() =>
    startTemporal({
      binary: binary.path,
      state: { stateDir: config.stateDir },
      namespaces,
      onSpawn: (pid) => owned.record('temporal', pid),
    }),
  );
  const server = started.value;
  stopping.push(async () => {
    await server.stop();
    owned.forget(server.pid);
  });
  void server.ended.then((reason) => reason !== undefined && fail(new Error(reason)));
  step(
    'Temporal',
    `server ${binary.serverVersion}, CLI from ${binary.source}, ${server.address}, namespaces ${namespaces.join(', ')}`,
    started.ms,
  );
  return { address: server.address, uiUrl: server.uiUrl, binary };
}

/** Where a Temporal CLI may be cached: the user's cache directory first, so that clones share it. */
export function cacheDirsOf(config: Config): [string, ...string[]] {
  const own = path.join(config.stateDir, 'cache');
  return config.temporal.cacheDir ? [config.temporal.cacheDir, own] : [own];
}

/**
 * Settings for workers and for commands. A key that the operator gave is handed to workers and never written down:
 * commands have it from the operator too. Ours is named by its file. Workers verify envelopes and sign none, so no
 * signing key goes to them, nor any role of the database but their own.
 */
function settingsFor(
  config: Config,
  files: KeyFiles,
  appModule: string,
  at: { temporal: string; app: string; operator: string },
): {
  worker: Record<string, string>;
  command: Record<string, string>;
} {
  const common = {
    BULKHEAD_STATE_DIR: config.stateDir,
    TEMPORAL_ADDRESS: at.temporal,
    BULKHEAD_DATABASE_APP_URL: at.app,
    BULKHEAD_APP: appModule,
    ...(config.masterKey === null && { BULKHEAD_MASTER_KEY_FILE: files.masterKey }),
    ...(config.envelope.jwks === null && { BULKHEAD_ENVELOPE_JWKS: files.envelopeJwks }),
  };
  return {
    worker: {
      ...common,
      ...(config.masterKey && { BULKHEAD_MASTER_KEY: config.masterKey.reveal().toString('base64') }),
      ...(config.envelope.jwks && { BULKHEAD_ENVELOPE_JWKS: JSON.stringify(config.envelope.jwks) }),
    },
    command: {
      ...common,
      BULKHEAD_ENVIRONMENT: config.environment,
      BULKHEAD_DATABASE_OPERATOR_URL: at.operator,
      ...(config.envelope.jwks === null && { BULKHEAD_ENVELOPE_SIGNING_KEY: files.envelopeSigningKey }),
      ...(config.token.issuer === null && {
        BULKHEAD_TOKEN_ISSUER: DEV_ISSUER,
        BULKHEAD_TOKEN_JWKS: files.devIssuerJwks,
        BULKHEAD_DEV_ISSUER_KEY: files.devIssuerKey,
      }),
    },
  };
}

async function startWorkers(
  children: Children,
  environment: string,
  env: Record<string, string>,
  step: Step,
): Promise<void> {
  for (const role of ['control', 'host']) {
    const name = `${environment}-${role}`;
    const started = await timed(() =>
      children.start({
        name,
        module: compiledModule('workers/main'),
        args: ['worker', '--role', role],
        env,
        ready: workerReady,
        restart: true,
      }),
    );
    step(`worker ${name}`, `process ${started.value.pid}`, started.ms);
  }
}

/** A worker says that it polls with a line of JSON whose `ready` is true. */
export function workerReady(line: string): true | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const said = JSON.parse(line) as { ready?: unknown };
    return said.ready === true ? true : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= work());
}
