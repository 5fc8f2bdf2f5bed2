import { DefaultLogger, Runtime, type WorkflowBundleOption } from '@temporalio/worker';
import type { CliApp, CliRuntime } from '../client/cli/context';
import { UsageError } from '../client/cli/exit';
import { createDevIssuer } from '../client/dev-issuer';
import { Environment } from '../contracts/ids';
import { parseWorkflowId } from '../contracts/workflow-ids';
import { mintScope } from '../contracts/scope-mint';
import { verifyJournal } from '../storage/journal-verify';
import { migrate, type RolePasswords } from '../storage/migrate';
import { createEnvelopeVerifier } from '../secrets/envelope-verifier';
import { createComparison, createSealer, masterKeyOf, type MasterKey } from '../secrets/seal';
import { openOperator, type HoldsSecret, type SealCredential } from '../storage/operator';
import { openStorage } from '../storage/open';
import { loadApp } from './app-module';
import type { Config } from './config';
import { connectBulkhead, identityOf, namespaceOf, temporalClient } from './connect';
import { recoverTenant } from './recover';
import { replayRun } from './replay';
import { workflowBundle } from './workflow-bundle';

/** A command asks one thing after the other. */
const FEW = { tenants: 2, control: 1, platform: 1 };

/** What a command loads of the product and of this version; a test brings its own. */
export interface CliParts {
  readonly app: () => Promise<CliApp | undefined>;
  /** The workflows that a history is replayed against. */
  readonly bundle: () => Promise<WorkflowBundleOption>;
}

const partsOf = (config: Config): CliParts => ({
  app: async () => (config.app === null ? undefined : loadApp(config.app)),
  bundle: async () => {
    // A replay runs in a worker's runtime, which would tell of itself on the terminal.
    Runtime.install({ logger: new DefaultLogger('ERROR'), shutdownSignals: [] });
    return workflowBundle();
  },
});

/** Opens, when first asked, what a command works on; closes what it opened. */
export function openRuntime(
  config: Config,
  named: string | undefined,
  parts: CliParts = partsOf(config),
): CliRuntime {
  const environment = environmentOf(config, named);
  const namespace = namespaceOf(config, environment);
  const { address } = config.temporal;
  const closing: (() => Promise<void>)[] = [];
  const closed = <T>(part: T, close: (part: T) => Promise<void>): T => {
    closing.push(() => close(part));
    return part;
  };

  const app = once(parts.app);
  const bundle = once(parts.bundle);
  const storage = once(async () => {
    const databaseUrl = required(config.database.app?.reveal(), 'BULKHEAD_DATABASE_APP_URL');
    return closed(
      openStorage({ databaseUrl, environment, hostId: `cli-${process.pid}`, pools: FEW }),
      (opened) => opened.close(),
    );
  });
  const temporal = once(async () =>
    closed(temporalClient(required(address ?? undefined, 'TEMPORAL_ADDRESS'), namespace), (client) =>
      client.connection.close(),
    ),
  );
  return {
    environment,
    temporalHint: `--address ${address ?? 'HOST:PORT'} --namespace ${namespace}`,
    bearer: config.token.bearer?.reveal(),
    storage,
    temporal,
    operator: once(async () => {
      const databaseUrl = required(config.database.operator?.reveal(), 'BULKHEAD_DATABASE_OPERATOR_URL');
      // Asked for when it is needed: an operator who puts no credential needs no master key.
      const masterKeys = (): MasterKey[] => [
        masterKeyOf(required(config.masterKey?.reveal(), 'BULKHEAD_MASTER_KEY_FILE')),
      ];
      const seal: SealCredential = (request) => createSealer(masterKeys())(request);
      const holds: HoldsSecret = (...asked) => createComparison(masterKeys())(...asked);
      return closed(openOperator({ databaseUrl, environment, seal, holds }), (opened) => opened.close());
    }),
    bulkhead: once(async () => {
      const identity = identityOf(config);
      const signer = config.envelope.signingKey?.reveal();
      return connectBulkhead({
        environment,
        temporal: await temporal(),
        database: await storage(),
        identity: required(identity, 'BULKHEAD_TOKEN_ISSUER and BULKHEAD_TOKEN_JWKS'),
        signer: required(signer, 'BULKHEAD_ENVELOPE_SIGNING_KEY'),
        app,
      });
    }),
    app,
    replay: async (run) => {
      const address = parseWorkflowId(run.workflowId);
      if (address?.kind !== 'run') throw new TypeError(`${run.workflowId} is no run's workflow`);
      const store = (await storage()).tenant(mintScope(address.tenantId, environment, 'operator'));
      return replayRun({ client: await temporal(), store, bundle: await bundle(), run });
    },
    recover: async ({ app: loaded, say, ...request }) =>
      recoverTenant(
        {
          storage: await storage(),
          client: await temporal(),
          environment,
          verifier: createEnvelopeVerifier({
            jwks: required(config.envelope.jwks ?? undefined, 'BULKHEAD_ENVELOPE_JWKS'),
            environment,
          }),
          app: loaded,
          say,
        },
        request,
      ),
    devIssuer() {
      const signingKey = config.token.devIssuerKey?.reveal();
      const { issuer, audience } = config.token;
      return signingKey && issuer !== null ? createDevIssuer({ signingKey, issuer, audience }) : undefined;
    },
    operatorScope: (tenantId) => mintScope(tenantId, environment, 'operator'),
    migrate: async (onStep) =>
      migrate(required(config.database.admin?.reveal(), 'DATABASE_URL'), {
        onStep,
        passwords: passwordsOf(config),
      }),
    checkJournal({ tenantId }, entries) {
      const head = entries.at(-1);
      const verdict = verifyJournal(entries, {
        tenantId,
        environment,
        seq: head?.seq ?? 0,
        hash: head?.hash ?? '',
      });
      if (verdict.intact || !head) return { broken: undefined, lost: (verdict.intact && verdict.lost) || [] };
      return { broken: `entry ${verdict.seq}: ${verdict.because}`, lost: [] };
    },
    async close() {
      for (const close of closing.reverse()) await close();
    },
  };
}

function environmentOf(config: Config, named: string | undefined): Environment {
  if (named === undefined) return config.environment;
  const parsed = Environment.safeParse(named);
  if (!parsed.success) throw new UsageError(`--env: ${parsed.error.issues[0]?.message ?? 'is malformed'}`);
  return parsed.data;
}

function required<T>(value: T | undefined, setting: string): T {
  if (value === undefined)
    throw new UsageError(
      `nothing to work on: start \`bulkhead up\` here, or set ${setting} (.env.example says how)`,
    );
  return value;
}

/** The passwords that the addresses of our roles hold, so that a migration gives the roles the same. */
function passwordsOf(config: Config): RolePasswords {
  const password = (url: string | undefined): string =>
    url === undefined ? '' : decodeURIComponent(new URL(url).password);
  const app = password(config.database.app?.reveal());
  const operator = password(config.database.operator?.reveal());
  return { ...(app && { app }), ...(operator && { operator }) };
}

function once<T>(open: () => Promise<T>): () => Promise<T> {
  let opened: Promise<T> | undefined;
  return () => (opened ??= open());
}
