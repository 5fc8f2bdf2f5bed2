import type { Client } from '@temporalio/client';
import type { ApprovalRow, SuggestionRow } from '../contracts/approvals';
import type { JournalEntry } from '../contracts/ledger';
import type { Storage } from '../contracts/ports';
import type { RunRow } from '../contracts/rows';
import type { EnvelopeSigner } from '../contracts/secrets-ports';
import type { QuotaState } from '../contracts/quotas';
import type { DeadLetter, ReviewRow } from '../contracts/reviews';
import { acceptRun, forkRun, type RunRequest } from './acceptance';
import {
  decideApproval,
  findApproval,
  listApprovals,
  listSuggestions,
  promoteSuggestion,
  type ApprovalVerdict,
  type DecidedApproval,
  type Promotion,
} from './approvals';
import { seenRun, unknownRun, type Caller, type KnownActions } from './caller';
import {
  discardDeadLetter,
  findDeadLetter,
  listDeadLetters,
  retryDeadLetter,
  type LetterDecision,
} from './dead-letters';
import { BulkheadError, reachDatabase, scopeAmbiguous } from './errors';
import type { OrderedFollowUp } from './follow-ups';
import type { TokenVerifier, VerifiedPrincipal } from './identity';
import { listRuns, type EntryFilter, type RunFilter } from './lists';
import { findReview, listReviews, resolveReview, type ResolvedReview, type ReviewVerdict } from './reviews';
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
  /** The actions of the app, to check what a person says a call has brought; without them `happened` cannot be said. */
  readonly actions?: KnownActions;
}

/**
 * The typed client of one environment. Every call brings its bearer token, and the token alone says for which tenant
 * and workspaces it is; another tenant's run is not found, as one that does not exist. Methods throw `BulkheadError`.
 */
export class BulkheadClient {
  constructor(private readonly ports: BulkheadPorts) {}

  /** Accepts a run and starts it. Resolves once it is recorded, not once it has run. */
  async startRun({ token, ...request }: RunRequest & { token: string | undefined }): Promise<Run> {
    const caller = this.callerOf(await this.ports.tokens.verify(token));
    const { run, ...acceptance } = await acceptRun(this.ports, caller.who, request);
    return new Run(caller, run, acceptance);
  }

  /** A run of the token's tenant and workspaces. Throws `not_found` for any other. */
  async run({ runId, ...asking }: Asking & { runId: string }): Promise<Run> {
    const caller = await this.identify(asking);
    return new Run(caller, await visibleRow(caller, runId));
  }

  /**
   * A new run that knows what another one of the tenant knew before a step, and goes on from there by itself: with keys of
   * its own, so that its writes are new ones. The other run stays as it is.
   */
  async forkRun({
    runId,
    fromStep,
    idempotencyKey,
    ...asking
  }: Asking & { runId: string; fromStep: number; idempotencyKey?: string }): Promise<Run> {
    const caller = await this.identify(asking);
    const row = await visibleRow(caller, runId);
    const { run, ...acceptance } = await forkRun(this.ports, caller.who, {
      runId: row.runId,
      fromStep,
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    });
    return new Run(caller, run, acceptance);
  }

  /** The newest first. A page with fewer rows than its `limit` is the last; else `before`, the id of its last run, goes on. */
  async runs(request: Asking & RunFilter): Promise<RunRow[]> {
    return listRuns(await this.identify(request), request);
  }

  /** A run's journal in order of sequence, from after `afterSeq`; 500 entries a page. */
  async journal({
    runId,
    afterSeq = 0,
    ...asking
  }: Asking & { runId: string; afterSeq?: number }): Promise<JournalEntry[]> {
    const caller = await this.identify(asking);
    const row = await visibleRow(caller, runId);
    return reachDatabase(() => caller.store.journal({ afterSeq, limit: 500, runId: row.runId }));
  }

  /** What the token's tenant may use, and what it has used. */
  async quotas(asking: Asking): Promise<QuotaState> {
    const { who, store } = await this.identify(asking);
    const state = await reachDatabase(() => store.quotas());
    if (state) return state;
    throw new BulkheadError('not_found', `there is no tenant ${who.scope.tenantId} in this environment`, {
      reason: 'unknown_tenant',
    });
  }

  /** What waits for a person, the newest first; with `open: false`, also what was resolved. */
  async reviews(request: Asking & EntryFilter): Promise<ReviewRow[]> {
    return listReviews(await this.identify(request), request);
  }

  async review({ reviewNo, ...asking }: Asking & { reviewNo: number }): Promise<ReviewRow> {
    return findReview(await this.identify(asking), reviewNo);
  }

  /** Says what became of a call whose outcome was not known, and lets what waits for it go on. */
  async resolveReview(request: Asking & ReviewVerdict): Promise<ResolvedReview> {
    return resolveReview(await this.identify(request), request);
  }

  /** Calls that used up their attempts, the newest first; with `open: false`, also those decided. */
  async deadLetters(request: Asking & EntryFilter): Promise<DeadLetter[]> {
    return listDeadLetters(await this.identify(request), request);
  }

  async deadLetter({ letterNo, ...asking }: Asking & { letterNo: number }): Promise<DeadLetter> {
    return findDeadLetter(await this.identify(asking), letterNo);
  }

  /** Makes the call once more, under its own key. Resolves once that is ordered; its `result()` once it is done. */
  async retryDeadLetter(request: Asking & LetterDecision): Promise<OrderedFollowUp> {
    return retryDeadLetter(await this.identify(request), request);
  }

  async discardDeadLetter(request: Asking & LetterDecision): Promise<DeadLetter> {
    return discardDeadLetter(await this.identify(request), request);
  }

  /** Calls that wait for a person, the newest first; with `open: false`, also those decided, expired and superseded. */
  async approvals(request: Asking & EntryFilter): Promise<ApprovalRow[]> {
    return listApprovals(await this.identify(request), request);
  }

  async approval({ approvalNo, ...asking }: Asking & { approvalNo: number }): Promise<ApprovalRow> {
    return findApproval(await this.identify(asking), approvalNo);
  }

  /** Lets a call be made that waits for approval: exactly the one that was asked for, once. */
  async approve(request: Asking & ApprovalVerdict): Promise<DecidedApproval> {
    return decideApproval(await this.identify(request), 'approve', request);
  }

  /** Refuses a call that waits for approval; its run ends as `approval_denied`. */
  async deny(request: Asking & ApprovalVerdict): Promise<DecidedApproval> {
    return decideApproval(await this.identify(request), 'deny', request);
  }

  /** Calls of a run that were recorded and not performed, in their order. */
  async suggestions({ runId, ...asking }: Asking & { runId: string }): Promise<SuggestionRow[]> {
    return listSuggestions(await this.identify(asking), runId);
  }

  /** Has a suggested call made. Resolves once that is ordered; its `result()` once it is done. */
  async promoteSuggestion(request: Asking & Promotion): Promise<OrderedFollowUp> {
    return promoteSuggestion(await this.identify(request), request);
  }

  private async identify({ token, tenantId }: Asking): Promise<Caller> {
    const who = await this.ports.tokens.verify(token);
    if (tenantId !== undefined && tenantId !== who.scope.tenantId) {
      throw scopeAmbiguous(
        `another tenant is named than the token’s, ${who.scope.tenantId}: leave it out, or bring that tenant’s token`,
      );
    }
    return this.callerOf(who);
  }

  private callerOf(who: VerifiedPrincipal): Caller {
    const { storage, temporal, actions = () => Promise.resolve(undefined) } = this.ports;
    return { who, store: storage.tenant(who.scope), temporal, actions };
  }
}

async function visibleRow(caller: Caller, runId: string): Promise<RunRow> {
  const row = await seenRun(caller, runId);
  if (row) return row;
  throw unknownRun();
}
