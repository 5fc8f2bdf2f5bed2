import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { QuotaClassDocument, TenantDocument } from '../../contracts/documents';
import { Environment, TenantId } from '../../contracts/ids';
import { mintScope } from '../../contracts/scope-mint';
import type { TenantScope } from '../../contracts/scope';
import { createComparison, createSealer, masterKeyOf } from '../../secrets/seal';
import { openOperator, openStorage, type OpenStorage } from '../../storage/open';
import { createTestDatabase, type TestDatabase } from '../support/database';

export const PROD = Environment.parse('prod');
export const STAGING = Environment.parse('staging');
export const MASTER_KEY = masterKeyOf(randomBytes(32));

export const scopeOf = (
  tenant: string,
  environment: Environment = PROD,
  source: TenantScope['source'] = 'envelope',
): TenantScope => mintScope(TenantId.parse(tenant), environment, source);

export const quotaClass = (over: object = {}): QuotaClassDocument =>
  QuotaClassDocument.parse({
    apiVersion: 'bulkhead/v1',
    kind: 'QuotaClass',
    metadata: { name: 'standard' },
    ...over,
  });

export const tenantDocument = (name: string, over: object = {}): TenantDocument =>
  TenantDocument.parse({
    apiVersion: 'bulkhead/v1',
    kind: 'Tenant',
    metadata: { name },
    environments: {
      prod: { policyProfile: 'careful', quotaClass: 'standard' },
      staging: { policyProfile: 'careful', quotaClass: 'standard' },
    },
    workspaces: ['main'],
    connections: { helpdesk: `https://${name}.helpdesk.example` },
    scope: [{ system: 'helpdesk', account: `${name}-1` }],
    ...over,
  });

/** A database of its own with what opens it; everything it opened is closed with it. */
export class StorageWorld {
  readonly storage: OpenStorage;
  readonly operator;
  private constructor(
    readonly database: TestDatabase,
    readonly admin: Client,
  ) {
    this.storage = this.open(PROD);
    this.operator = openOperator({
      databaseUrl: database.operatorUrl,
      environment: PROD,
      seal: createSealer([MASTER_KEY]),
      holds: createComparison([MASTER_KEY]),
    });
    this.#closing.push(() => this.operator.close());
  }
  readonly #closing: (() => Promise<void>)[] = [];

  static async open(): Promise<StorageWorld> {
    const database = await createTestDatabase();
    const admin = new Client({ connectionString: database.adminUrl, application_name: 'test/witness' });
    await admin.connect();
    return new StorageWorld(database, admin);
  }

  open(environment: Environment, over: Partial<Parameters<typeof openStorage>[0]> = {}): OpenStorage {
    const storage = openStorage({
      databaseUrl: this.database.appUrl,
      environment,
      pools: { tenants: 4, control: 2, platform: 1 },
      ...over,
    });
    this.#closing.push(() => storage.close());
    return storage;
  }

  /** Puts the quota class and these tenants, in `prod` and `staging`. */
  async tenants(...names: string[]): Promise<void> {
    await this.operator.putQuotaClass(quotaClass(), 'test');
    for (const name of names) await this.operator.putTenant(tenantDocument(name), 'test');
  }

  async ask<T extends object>(sql: string, params: unknown[] = []): Promise<T[]> {
    return (await this.admin.query<T>(sql, params)).rows;
  }

  async close(): Promise<void> {
    for (const end of this.#closing.splice(0).reverse()) await end();
    await this.admin.end();
    await this.database.drop();
  }
}
