import type { Client } from '@temporalio/client';
import { RunId } from '../contracts/ids';
import type { JournalEntry } from '../contracts/ledger';
import type { EnvelopeSigner, RunRow, Storage, TenantStore } from '../contracts/ports';
import type { RunState, StopReason } from '../contracts/states';
import { acceptRun, type RunRequest } from './acceptance';
import { BulkheadError, reachDatabase, scopeAmbiguous } from './errors';
import type { TokenVerifier, VerifiedPrincipal } from './identity';
import { Run } from './run';

/** Who asks. `tenantId` is only ever compared with the token, never believed. */
export interface Asking {
  readonly token: string | undefined;
  readonly tenantId?: string;
}

/** What the client works on. `workers/connect.ts` opens them from a configuration. */
export interface BulkheadPorts {
  readonly storage: Storage;
  readonly temporal: Client;
  readonly tokens: TokenVerifier;
  readonly signer: EnvelopeSigner;
}

/**
 * The typed client of one environment. Every call brings its bearer token, and the token alone says for which tenant
 * and workspaces it is; another tenant's run is not found, as one that does not exist. Methods throw `BulkheadError`.
 */
export class BulkheadClient {
  constructor(private readonly ports: BulkheadPorts) {}

  /** Accepts a run and starts it. Resolves once it is recorded, not once it has run. */
  async startRun({ token, ...request }: RunRequest & { token: string | undefined }): Promise<Run> {
    const who = await this.ports.tokens.verify(token);
    const { run, ...acceptance } = await acceptRun(this.ports, who, request);
    return this.handle(who, run, acceptance);
  }

  /** A run of the token's tenant and workspaces. Throws `not_found` for any other. */
  async run({ runId, ...asking }: Asking & { runId: string }): Promise<Run> {
    const who = await this.identify(asking);
    return this.handle(who, await this.visibleRow(who, runId));
  }

  /** Newest first; `limit` is 50 by default and 500 at most. `before` is the `acceptedAt` of the last row seen. */
  async runs(
    request: Asking & { limit?: number; before?: string; state?: RunState; stopReason?: StopReason },
  ): Promise<RunRow[]> {
    const { token, tenantId, limit = 50, ...filter } = request;
    const who = await this.identify({ token, ...(tenantId === undefined ? {} : { tenantId }) });
    const rows = await reachDatabase(() =>
      this.storeOf(who).runs({ limit: Math.min(Math.max(limit, 1), 500), ...filter }),
    );
    return rows.filter((row) => maySee(who, row));
  }

  /** A run's journal in order of sequence, from after `afterSeq`; 500 entries a page. */
  async journal({
    runId,
    afterSeq = 0,
    ...asking
  }: Asking & { runId: string; afterSeq?: number }): Promise<JournalEntry[]> {
    const who = await this.identify(asking);
    const row = await this.visibleRow(who, runId);
    return reachDatabase(() => this.storeOf(who).journal({ afterSeq, limit: 500, runId: row.runId }));
  }

  private async identify({ token, tenantId }: Asking): Promise<VerifiedPrincipal> {
    const who = await this.ports.tokens.verify(token);
    if (tenantId !== undefined && tenantId !== who.scope.tenantId) {
      throw scopeAmbiguous(
        `another tenant is named than the token’s, ${who.scope.tenantId}: leave it out, or bring that tenant’s token`,
      );
    }
    return who;
  }

  private storeOf(who: VerifiedPrincipal): TenantStore {
    return this.ports.storage.tenant(who.scope);
  }

  private handle(who: VerifiedPrincipal, row: RunRow, acceptance?: Run['acceptance']): Run {
    return new Run({ temporal: this.ports.temporal, store: this.storeOf(who) }, row, acceptance);
  }

  private async visibleRow(who: VerifiedPrincipal, runId: string): Promise<RunRow> {
    const id = RunId.safeParse(runId);
    const row = id.success ? await reachDatabase(() => this.storeOf(who).run(id.data)) : undefined;
    if (row && maySee(who, row)) return row;
    // The same words for a run of another tenant, of another workspace, and for none.
    throw new BulkheadError(
      'not_found',
      'there is no such run in your tenant and workspaces: `bulkhead run list` shows those there are',
      { reason: 'unknown_run' },
    );
  }
}

const maySee = (who: VerifiedPrincipal, row: RunRow): boolean =>
  who.workspaces.some((workspace) => workspace === row.workspaceId);
