import { canonicalJson } from '../contracts/digest';
import {
  CallCapacityDocument,
  ProviderPoolDocument,
  QuotaClassDocument,
  TenantDocument,
  type TenantRecord,
} from '../contracts/documents';
import { Capability, type Environment } from '../contracts/ids';
import type { NamedByTenants, OperatorStore } from '../contracts/platform-ports';
import type { SealedCredential } from '../contracts/rows';
import { changed, type QuotaOverrides } from '../contracts/quotas';
import type { TenantScope } from '../contracts/scope';
import { isStorageBusy, StorageBusy } from '../contracts/storage-busy';
import { ScopeRefused } from './fault';
import { ClientPool, type Work } from './pool';
import { callsSql } from './sql';

/**
 * Seals a credential under the tenant's data key, making that key where there is none yet (`existing` null). Given by
 * the composition root from `secrets/`: this folder never sees a key.
 */
export type SealCredential = (request: {
  readonly scope: Pick<TenantScope, 'tenantId' | 'environment'>;
  readonly capability: string;
  readonly version: number;
  readonly secret: string;
  readonly existing: { readonly wrappedKey: Buffer; readonly keyId: string } | null;
}) => { readonly ciphertext: Buffer; readonly wrappedKey: Buffer; readonly keyId: string };

/** Whether a sealed credential is this very secret. */
export type HoldsSecret = (
  scope: Pick<TenantScope, 'tenantId' | 'environment'>,
  sealed: SealedCredential,
  secret: string,
) => boolean;

export interface OperatorOptions {
  /** Of the role bulkhead_operator. */
  readonly databaseUrl: string;
  /** The only one whose credentials it puts: keys are apart by environment. */
  readonly environment: Environment;
  /** Without it credentials cannot be put. */
  readonly seal?: SealCredential;
  /** Without it a secret that is in use already becomes a new version all the same. */
  readonly holds?: HoldsSecret;
}

/**
 * What operators change. Throws an Error that says what to do where a document does not fit or names what does not
 * exist, `StorageBusy` where the database is away.
 *
 * A quota class or policy is recorded first, then brought into force tenant by tenant, one transaction each: one
 * transaction for all would hold every tenant's lock until the slowest is done. A tenant is put environment by
 * environment, for the same reason: one statement and transaction each, in which all that the document says of that
 * environment comes into force or nothing does; names that are not known are refused before the first. Whoever dies
 * halfway, or meets a tenant whose row is held, applies the same document again: it changes what is behind and nothing
 * else.
 */
export function openOperator(options: OperatorOptions): OperatorStore & { close(): Promise<void> } {
  const pool = new ClientPool({
    databaseUrl: options.databaseUrl,
    name: `bulkhead/operator/${process.pid}`,
    size: 2,
    statementTimeoutMs: 15_000,
  });
  const inTransaction = <T>(work: Work<T>): Promise<T> =>
    pool.use(async (client) => {
      await client.query('begin');
      const result = await work(client);
      await client.query('commit');
      return result;
    });
  const ask = <T extends object>(sql: string, params: unknown[]): Promise<T[]> =>
    pool.use(async (client) => (await client.query<T>(sql, params)).rows);

  const bringToForce = async (
    names: { quotaClass?: string; profile?: string },
    actor: string,
    body: object,
  ): Promise<number> => {
    const tenants = await ask<{ tenant_id: string; environment: string }>(callsSql('tenants_naming', 2), [
      names.quotaClass ?? null,
      names.profile ?? null,
    ]);
    const behind: string[] = [];
    for (const { tenant_id: tenant, environment } of tenants) {
      try {
        await ask(callsSql('apply_tenant', 4), [tenant, environment, actor, canonicalJson(body)]);
      } catch (error) {
        if (!isStorageBusy(error)) throw error;
        behind.push(`${tenant} in ${environment}`);
      }
    }
    if (behind.length > 0) {
      throw new StorageBusy(
        `recorded, but not yet in force for ${behind.join(', ')}: apply the same document again`,
      );
    }
    return tenants.length;
  };

  const mustKnow = async (
    tenant: TenantDocument,
    isBeside: (kind: NamedByTenants['kind'], name: string, provider?: string) => boolean = () => false,
  ): Promise<void> => {
    const classes = Object.values(tenant.environments).map(({ quotaClass }) => quotaClass);
    const pools = Object.entries(poolsOf(tenant)).filter(([provider, name]) =>
      provider === CAPACITY ? !isBeside('CallCapacity', name) : !isBeside('ProviderPool', name, provider),
    );
    await ask(callsSql('must_know', 2), [
      classes.filter((name) => !isBeside('QuotaClass', name)),
      JSON.stringify(Object.fromEntries(pools)),
    ]);
  };

  return {
    async putQuotaClass(document, actor) {
      const parsed = QuotaClassDocument.parse(document);
      const { name } = parsed.metadata;
      await ask(callsSql('put_quota_class', 3), [name, JSON.stringify(parsed), actor]);
      await bringToForce({ quotaClass: name }, actor, { quotaClass: name });
    },

    async putProviderPool(document, actor) {
      const { metadata, provider, callsInFlight, modelTokensPerMinute } =
        ProviderPoolDocument.parse(document);
      await ask(callsSql('put_provider_pool', 5), [
        metadata.name,
        provider,
        callsInFlight,
        modelTokensPerMinute ?? null,
        actor,
      ]);
    },

    async putCallCapacity(document, actor) {
      const { metadata, callsInFlight } = CallCapacityDocument.parse(document);
      await ask(callsSql('put_call_capacity', 3), [metadata.name, callsInFlight, actor]);
    },

    async checkTenant(document, beside) {
      await mustKnow(TenantDocument.parse(document), (kind, name, provider) =>
        beside.some(
          (one) =>
            one.kind === kind &&
            one.metadata.name === name &&
            (one.kind !== 'ProviderPool' || one.provider === provider),
        ),
      );
    },

    async putTenant(document, actor) {
      const parsed = TenantDocument.parse(document);
      const { name } = parsed.metadata;
      const body = canonicalJson({ tenant: name });
      const { workspaces, connections, scope, models, prices, timeZone } = parsed;
      const own = JSON.stringify({ workspaces, connections, scope, models, prices, timeZone });
      const pools = JSON.stringify(poolsOf(parsed));
      const environments = Object.entries(parsed.environments).sort(([a], [b]) => (a < b ? -1 : 1));
      await mustKnow(parsed);
      let created = false;
      for (const [environment, { policyProfile, quotaClass }] of environments) {
        const [row] = await ask<{ created: boolean }>(callsSql('put_tenant_document', 8, 'created'), [
          name,
          environment,
          policyProfile,
          quotaClass,
          own,
          pools,
          actor,
          body,
        ]);
        created ||= row?.created ?? false;
      }
      return { created };
    },

    async publishPolicy({ name, environments, text }, actor, reason) {
      const sorted = [...new Set(environments)].sort();
      const [row] = await ask<{ version: number }>(callsSql('publish_policy', 5, 'version'), [
        name,
        sorted,
        text,
        actor,
        reason,
      ]);
      if (!row) throw new Error('publish_policy answered nothing');
      const tenants = await bringToForce({ profile: name }, actor, {
        profile: name,
        reason,
        version: row.version,
      });
      return { version: row.version, tenants };
    },

    async policyHistory(profile) {
      const rows = await ask<{
        version: number;
        published_at: Date;
        actor: string;
        reason: string;
        environments: Environment[];
        tenants: string;
      }>(callsSql('policy_history', 1), [profile]);
      return rows.map(({ published_at, tenants, ...row }) => ({
        ...row,
        publishedAt: published_at.toISOString(),
        tenants: Number(tenants),
      }));
    },

    async policyPublished(profile, version) {
      const [row] = await ask<{ environments: Environment[]; text: string }>(
        callsSql('policy_published', 2),
        [profile, version],
      );
      return row;
    },

    async putCredential(scope, capability, secret, actor) {
      if (scope.environment !== options.environment) {
        throw new ScopeRefused(`this operator works in ${options.environment}, not in ${scope.environment}`);
      }
      const { seal } = options;
      if (!seal) throw new Error('a credential is sealed before it is stored: give BULKHEAD_MASTER_KEY');
      const { tenantId, environment } = scope;
      const named = Capability.parse(capability);
      return inTransaction(async (client) => {
        const { rows } = await client.query<{
          version: number;
          wrapped_key: Buffer | null;
          key_id: string | null;
          newest: Buffer | null;
        }>(callsSql('next_credential', 3), [tenantId, environment, named]);
        const [next] = rows;
        if (!next) throw new Error('next_credential answered nothing');
        const { version, wrapped_key: wrappedKey, key_id: keyId, newest } = next;
        const existing = wrappedKey && keyId ? { wrappedKey, keyId } : null;
        if (existing && newest) {
          // Whoever puts it again has changed nothing: a new version would be another account to calls that are being recovered.
          const inUse = { capability: named, version: version - 1, ciphertext: newest, ...existing };
          if (options.holds?.(scope, inUse, secret)) return { version: inUse.version };
        }
        const sealed = seal({ scope, capability: named, version, secret, existing });
        await client.query(callsSql('put_credential', 8), [
          tenantId,
          environment,
          named,
          version,
          sealed.ciphertext,
          sealed.wrappedKey,
          sealed.keyId,
          actor,
        ]);
        return { version };
      });
    },

    async setQuota(scope, of, changes, actor) {
      if (scope.environment !== options.environment) {
        throw new ScopeRefused(`this operator works in ${options.environment}, not in ${scope.environment}`);
      }
      const { tenantId, environment } = scope;
      await inTransaction(async (client) => {
        const { rows } = await client.query<{ overrides: QuotaOverrides }>(callsSql('begin_quota', 2), [
          tenantId,
          environment,
        ]);
        const overrides = changed(rows[0]?.overrides ?? {}, of, changes);
        await client.query(callsSql('set_quota', 4), [
          tenantId,
          environment,
          JSON.stringify(overrides),
          actor,
        ]);
        await client.query(callsSql('apply_tenant', 4), [
          tenantId,
          environment,
          actor,
          canonicalJson({ of: { ...of }, changes: changes.map((change) => ({ ...change })) }),
        ]);
      });
    },

    async tenants() {
      const rows = await ask<{ tenant: TenantRecord }>(
        'select tenant from bulkhead.tenant_records() as tenant',
        [],
      );
      return rows.map((row) => row.tenant);
    },

    close: () => pool.close(),
  };
}

/** Where a pool is named by its provider, the name of the shared capacity stands. */
const CAPACITY = '';

const poolsOf = ({ pools, capacity }: TenantDocument): Record<string, string> => ({
  ...pools,
  ...(capacity !== undefined && { [CAPACITY]: capacity }),
});
