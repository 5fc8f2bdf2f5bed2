import { randomUUID } from 'node:crypto';
import { Pool } from 'pg';
import type { RecordRef } from '../../contracts/action';
import { digestOf } from '../../contracts/digest';
import { Envelope, SignedEnvelope } from '../../contracts/envelope';
import { Environment, RunId, TenantId, type Digest } from '../../contracts/ids';
import type { AdmitRequest, DecidedBy, JournalEntry, SettleRequest } from '../../contracts/ledger';
import type { Refusal } from '../../contracts/refusal';
import { mintScope } from '../../contracts/scope-mint';
import { approvalsOf } from '../../storage/approvals';
import { breakersOf } from '../../storage/breakers';
import { callContextOf } from '../../storage/call-context';
import { controlOf } from '../../storage/control';
import { deadLettersOf } from '../../storage/dead-letters';
import { decisionsOf } from '../../storage/decisions';
import { followUpsOf } from '../../storage/follow-ups';
import { verifyJournal, type JournalVerdict } from '../../storage/journal-verify';
import { knowledgeOf } from '../../storage/knowledge';
import { ledgerOf } from '../../storage/ledger';
import { payloadsOf } from '../../storage/payloads';
import { ClientPool } from '../../storage/pool';
import { quotasOf } from '../../storage/quota';
import { recoveryOf } from '../../storage/recover';
import { reviewsOf } from '../../storage/reviews';
import { runsOf } from '../../storage/runs';
import { platformSession, tenantSession } from '../../storage/session';
import { sweepOf } from '../../storage/sweep';
import { Limits, type NamedLimits, type PerRun } from '../../contracts/documents';
import { admissionOf, settlementOf } from '../support/calls';
import { createTestDatabase, type TestDatabase } from '../support/database';
import { bytesOf, type Bytes } from './bytes';

export const ENVIRONMENT = Environment.parse('test');
export { LEASE_MS } from '../support/calls';

export interface LedgerLimits {
  callsInFlight: number;
  toolCallsPerDay: number;
  perRunSteps: number;
  /** Further limits, in the words of the documents. */
  more?: Partial<Limits>;
  perRun?: Partial<PerRun>;
  perAction?: Record<string, NamedLimits>;
  perAgent?: Record<string, NamedLimits>;
  timeZone?: string;
  /** Of the shared capacity that it is put into. */
  guaranteed?: number;
}
export const WIDE: LedgerLimits = {
  callsInFlight: 1_000,
  toolCallsPerDay: 1_000_000,
  perRunSteps: 1_000_000,
};

/** What has a default in the documents, and is no matter of most tests. */
const NEVER_BINDS = {
  concurrentRuns: 100_000,
  queuedRuns: 1_000_000,
  runStartsPerMinute: 1_000_000,
  retriesPerMinute: 1_000_000,
};
const quotaOf = (of: LedgerLimits): string =>
  JSON.stringify({
    limits: Limits.parse({
      ...NEVER_BINDS,
      callsInFlight: of.callsInFlight,
      toolCallsPerDay: of.toolCallsPerDay,
      ...of.more,
    }),
    perRun: { steps: of.perRunSteps, ...of.perRun },
    perAction: of.perAction ?? {},
    perAgent: of.perAgent ?? {},
    timeZone: of.timeZone ?? 'UTC',
    ...(of.guaranteed !== undefined && { guaranteed: { callsInFlight: of.guaranteed } }),
  });

/** A database of its own, the real clock until `setClock` stops it. */
export class LedgerWorld {
  readonly platform;
  #clockStopped = false;
  private constructor(
    readonly database: TestDatabase,
    /** The superuser. */
    readonly admin: Pool,
    /** The application's role, as hosts use it. */
    readonly pool: ClientPool,
  ) {
    this.platform = sweepOf(platformSession(pool, ENVIRONMENT));
  }

  /** In a database of its own, or in this one. */
  static async open(connections = 4, given?: TestDatabase): Promise<LedgerWorld> {
    const database = given ?? (await createTestDatabase());
    const admin = new Pool({ connectionString: database.adminUrl, max: 4, application_name: 'test/witness' });
    // A server that ends under it would end this process, too, and hide why.
    admin.on('error', () => undefined);
    // Dozens of connections are made at once, on a machine that has other things to do.
    const connectTimeoutMs = 20_000;
    const pool = new ClientPool({
      databaseUrl: database.appUrl,
      size: connections,
      name: 'test/ledger',
      connectTimeoutMs,
    });
    return new LedgerWorld(database, admin, pool);
  }

  /** Ends the whole world. Throws if a client was leaked. */
  async close(): Promise<void> {
    await this.pool.close();
    await this.admin.end();
    await this.database.drop();
  }

  /** Stops the ledger's clock at this time; only a superuser can. */
  async setClock(at: Date): Promise<void> {
    if (!this.#clockStopped) {
      await this.admin.query(`
        create table if not exists public.stopped_clock (at timestamptz not null);
        insert into public.stopped_clock select 'epoch' where not exists (select from public.stopped_clock);
        grant select on public.stopped_clock to bulkhead_owner, bulkhead_sweep;
        create or replace function bulkhead.now() returns timestamptz language sql volatile as 'select at from public.stopped_clock'`);
      this.#clockStopped = true;
    }
    await this.admin.query('update public.stopped_clock set at = $1', [at]);
  }

  /** Lets a stopped clock run again. Ledgers that saw a later time stay at it. */
  async useRealClock(): Promise<void> {
    await this.admin.query(
      `create or replace function bulkhead.now() returns timestamptz language sql volatile as 'select pg_catalog.clock_timestamp()'`,
    );
    this.#clockStopped = false;
  }

  async tenant(
    limits: Partial<LedgerLimits> = {},
    name = `t-${randomUUID().slice(0, 8)}`,
  ): Promise<LedgerTenant> {
    const tenantId = TenantId.parse(name);
    const all = { ...WIDE, ...limits };
    await this.admin.query(
      `insert into bulkhead.quota_classes (name, document, updated_by) values ('standard', '{}', 'test') on conflict do nothing`,
    );
    await this.admin.query(
      `insert into bulkhead.tenants (tenant_id, environment, policy_profile, quota_class, lane, worker_ceiling, weight, expensive_ceiling, quota,
         workspaces, connections, scope, models, updated_by)
       values ($1, $2, 'default', 'standard', 'own', 4, 1, 2, '{}', '["main"]', '{}', '[]', '{}', 'test')`,
      [tenantId, ENVIRONMENT],
    );
    await this.admin.query('select bulkhead.open_ledger($1, $2, $3, 1, $4, $5)', [
      tenantId,
      ENVIRONMENT,
      quotaOf(all),
      'test',
      '{}',
    ]);
    return new LedgerTenant(this, tenantId);
  }
}

/** One tenant's ledger, as hosts see it, beside what the superuser sees of it. */
export class LedgerTenant {
  readonly store;
  constructor(
    readonly world: LedgerWorld,
    readonly tenantId: TenantId,
  ) {
    const scope = mintScope(tenantId, ENVIRONMENT, 'envelope');
    const session = tenantSession(world.pool, scope);
    this.store = {
      ...ledgerOf(session),
      ...runsOf(session),
      ...quotasOf(session),
      ...reviewsOf(session),
      ...deadLettersOf(session),
      ...breakersOf(session),
      ...followUpsOf(session),
      ...payloadsOf(session),
      ...knowledgeOf(session),
      ...callContextOf(session),
      ...approvalsOf(session),
      ...decisionsOf(session),
      ...controlOf(session),
      recovery: recoveryOf(session),
    };
  }

  /** Accepts and enters a run; its Temporal run is `<run>/1`. */
  async run(name = `r-${randomUUID().slice(0, 8)}`): Promise<RunId> {
    const runId = RunId.parse(name);
    await this.store.acceptRun(this.acceptance(runId));
    await this.store.enterRun({
      runId,
      temporalRunId: `${runId}/1`,
      previousTemporalRunId: null,
      generation: 0,
    });
    return runId;
  }

  acceptance(runId: RunId, change: { key?: string | null; body?: string } = {}) {
    return {
      signed: signedFor(this.tenantId, runId),
      idempotencyKey: change.key ?? null,
      bodyDigest: digestOf(change.body ?? 'body'),
      input: { question: 'why' },
    };
  }

  admission(runId: string, path: string, change: Partial<AdmitRequest> = {}): AdmitRequest {
    return admissionOf({ runId, path, temporalRunId: `${runId}/1`, decidedBy: decidedBy(1) }, change);
  }

  settlement(of: AdmitRequest, change: Partial<SettleRequest> = {}): SettleRequest {
    return settlementOf(of, change);
  }

  /** What a call of the run would be judged by. */
  async context(runId: RunId, records: readonly RecordRef[] = [], capability: string | null = null) {
    const context = await this.store.callContext({ runId, records, capability });
    if (!context) throw new Error(`no ledger of ${this.tenantId}`);
    return context;
  }

  async publish(version: number): Promise<void> {
    await this.world.admin.query('select bulkhead.set_policy_version($1, $2, $3, $4, $5)', [
      this.tenantId,
      ENVIRONMENT,
      version,
      'test',
      '{}',
    ]);
  }

  async setLimits(limits: LedgerLimits): Promise<void> {
    await this.world.admin.query('select bulkhead.set_limits($1, $2, $3, $4, $5)', [
      this.tenantId,
      ENVIRONMENT,
      quotaOf(limits),
      'test',
      '{}',
    ]);
  }

  /** The tenant row as it is on disk. */
  async row(): Promise<LedgerRow> {
    const found = await this.world.admin.query<Record<keyof LedgerRow, unknown>>(
      `select mode, fence_epoch, control_version, policy_version, (meter).inflight as inflight,
         (meter).day as tool_day, ((meter).used).tool_calls as tool_day_used, journal_seq,
         durable_seq, rewound_seq, encode(journal_head, 'hex') as journal_head from bulkhead.ledgers where tenant_id = $1`,
      [this.tenantId],
    );
    const row = found.rows[0];
    if (!row) throw new Error(`no ledger of ${this.tenantId}`);
    const numbers = Object.entries(row).map(([key, value]) => [
      key,
      key === 'mode' || key === 'journal_head' ? value : Number(value),
    ]);
    return Object.fromEntries(numbers) as LedgerRow;
  }

  /** What the ledger counts in bytes, beside what there is. */
  async bytes(): Promise<Bytes> {
    return await bytesOf(async (sql) => (await this.world.admin.query<object>(sql)).rows, this.tenantId);
  }

  async claimed(): Promise<number> {
    const found = await this.world.admin.query<{ n: number }>(
      `select count(*)::int as n from bulkhead.calls where tenant_id = $1 and state = 'claimed'`,
      [this.tenantId],
    );
    return found.rows[0]?.n ?? -1;
  }

  async journal(): Promise<JournalEntry[]> {
    const entries: JournalEntry[] = [];
    for (;;) {
      const page = await this.store.journal({ afterSeq: entries.length, limit: 5_000 });
      entries.push(...page);
      if (page.length < 5_000) return entries;
    }
  }

  async verify(): Promise<JournalVerdict> {
    const row = await this.row();
    return verifyJournal(await this.journal(), {
      tenantId: this.tenantId,
      environment: ENVIRONMENT,
      seq: row.journal_seq,
      hash: row.journal_head,
    });
  }
}

export interface LedgerRow {
  mode: string;
  fence_epoch: number;
  control_version: number;
  policy_version: number;
  inflight: number;
  tool_day: number;
  tool_day_used: number;
  journal_seq: number;
  durable_seq: number;
  rewound_seq: number;
  journal_head: string;
}

/** By this policy, a record never changed and no facts. */
export const decidedBy = (policyVersion: number): DecidedBy => ({
  policyVersion,
  recordVersion: 0,
  factsVersion: 0,
});

export const digest = (of: unknown): Digest => digestOf(of);

export function refusal(change: Partial<Refusal> = {}): Refusal {
  return {
    kind: 'denied',
    origin: 'policy',
    rule: 'no-mail',
    rules: ['no-mail'],
    message: 'policy denies this',
    ...change,
  };
}

function signedFor(tenantId: string, runId: string): SignedEnvelope {
  const envelope = Envelope.parse({
    schemaVersion: 1,
    workflowId: `tenant/${tenantId}/${ENVIRONMENT}/run/${runId}`,
    tenantId,
    environment: ENVIRONMENT,
    workspaceId: 'main',
    agentId: 'support_triage',
    agentVersion: '0123456789ab',
    runId,
    parentRunId: null,
    rootRunId: runId,
    policyProfile: 'default',
    quotaClass: 'standard',
    requestedAction: 'run.start',
    target: { system: 'helpdesk', recordId: 'ticket-1' },
    principal: { kind: 'user', subject: 'u-1' },
    inputDigest: digest('input'),
    acceptedAt: '2025-03-10T12:00:00.000Z',
  });
  return SignedEnvelope.parse({ envelope, proof: { protected: 'p', signature: 's' } });
}
