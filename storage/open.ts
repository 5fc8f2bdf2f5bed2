import type { Environment } from '../contracts/ids';
import type { Storage, TenantStore } from '../contracts/ports';
import type { TenantScope } from '../contracts/scope';
import { agentPublisher, agentsOf, knownAgents } from './agents';
import { approvalsOf } from './approvals';
import { breakersOf } from './breakers';
import { callContextOf } from './call-context';
import { controlOf } from './control';
import { deadLettersOf } from './dead-letters';
import { decisionsOf } from './decisions';
import { ScopeRefused } from './fault';
import { followUpsOf } from './follow-ups';
import { knowledgeOf } from './knowledge';
import { ledgerOf } from './ledger';
import { payloadsOf } from './payloads';
import { policyOf } from './policies';
import { ClientPool } from './pool';
import { headsOf, recoveryOf } from './recover';
import { poolsOf } from './pools';
import { quotasOf } from './quota';
import { reviewsOf } from './reviews';
import { runsOf } from './runs';
import { platformSession, tenantSession } from './session';
import { sweepOf } from './sweep';
import { placementsOf, recordOf } from './tenants';
import { Turnstile } from './turnstile';

export { openOperator, type OperatorOptions, type SealCredential } from './operator';

type Part = 'tenants' | 'control' | 'platform' | 'sweep';

export interface StorageOptions {
  /** Of the role bulkhead_app. */
  readonly databaseUrl: string;
  readonly environment: Environment;
  /** Named in the connections, so that a database's operator finds the host of a session. */
  readonly hostId?: string;
  /** Connections for tenants together, for control work, for polling, for the sweep. */
  readonly pools?: { readonly [part in Part]?: number };
  /** Statements of one tenant at once on this host: a pool shared without it let a flood hold all of it. */
  readonly perTenant?: number;
  /** How many statements of one tenant may wait here, and how long, milliseconds. */
  readonly queue?: { readonly length?: number; readonly waitMs?: number };
  readonly statementTimeoutMs?: number;
}

/** {@link Storage} with what a host does with it beside. */
export interface OpenStorage extends Storage {
  /** Opens the connections. A host that does this before it polls spares its first calls that wait. Never throws. */
  warm(): Promise<void>;
  /** Connections and waiting work, per pool. */
  load(): Record<Part, ClientPool['load']>;
}

/**
 * Storage of one environment for one host. Connects on first use; throws nothing itself. Four pools: work of tenants
 * can take neither control's connections nor the platform's, nor the sweep those that hosts poll with. A handle made for a control workflow works on control's.
 */
export function openStorage(options: StorageOptions): OpenStorage {
  const { databaseUrl, environment } = options;
  const pool = (part: Part, size: number): ClientPool =>
    new ClientPool({
      databaseUrl,
      name: `bulkhead/${options.hostId ?? process.pid}/${part}`,
      size: options.pools?.[part] ?? size,
      ...(options.statementTimeoutMs !== undefined && { statementTimeoutMs: options.statementTimeoutMs }),
    });
  const pools = {
    tenants: pool('tenants', 10),
    control: pool('control', 4),
    platform: pool('platform', 2),
    // Of the one host that sweeps: others open none of them. Its statements may wait for a tenant's row, one after the other.
    sweep: pool('sweep', 2),
  };
  const turnstile = new Turnstile({
    width: options.perTenant ?? 3,
    queue: options.queue?.length ?? 200,
    waitMs: options.queue?.waitMs ?? 5_000,
  });
  const agents = knownAgents();
  const platform = platformSession(pools.platform, environment);
  const sweep = platformSession(pools.sweep, environment);
  const { controlVersions, heartbeatHost, slotsNotTaken } = sweepOf(platform);

  const handles = new WeakMap<TenantScope, TenantStore>();
  const tenant = (scope: TenantScope): TenantStore => {
    const known = handles.get(scope);
    if (known) return known;
    const handle = handleFor(scope);
    handles.set(scope, handle);
    return handle;
  };
  const handleFor = (scope: TenantScope): TenantStore => {
    if (scope.environment !== environment) {
      throw new ScopeRefused(`this storage serves ${environment}, not ${scope.environment}`);
    }
    const control = tenantSession(pools.control, scope);
    const session = scope.source === 'control' ? control : tenantSession(pools.tenants, scope, turnstile);
    return Object.freeze({
      scope,
      ...ledgerOf(session),
      ...runsOf(session),
      ...quotasOf(session),
      ...reviewsOf(session),
      ...deadLettersOf(session),
      ...breakersOf(session),
      ...followUpsOf(session),
      ...payloadsOf(session),
      ...recordOf(session),
      ...policyOf(session),
      ...agentsOf(session, agents),
      ...knowledgeOf(session),
      ...callContextOf(session),
      ...approvalsOf(session),
      ...decisionsOf(session),
      ...controlOf(control),
      recovery: recoveryOf(control),
    });
  };

  let closed: Promise<void> | undefined;
  return Object.freeze({
    tenant,
    platform: Object.freeze({
      ...placementsOf(platform),
      ...sweepOf(sweep),
      // What hosts poll, and stop sending without, waits for nothing that the sweep does.
      controlVersions,
      heartbeatHost,
      slotsNotTaken,
      ...poolsOf(pools.platform, environment),
      ...headsOf(platform),
      ...agentPublisher(platform),
    }),
    async warm() {
      const statement = `select bulkhead.tenant_record('warm-up', '${environment}')`;
      await Promise.all([pools.tenants, pools.control, pools.platform].map((each) => each.warm(statement)));
    },
    load: () => ({
      tenants: pools.tenants.load,
      control: pools.control.load,
      platform: pools.platform.load,
      sweep: pools.sweep.load,
    }),
    async close() {
      closed ??= Promise.all(Object.values(pools).map((each) => each.close())).then(() => undefined);
      await closed;
    },
  });
}
