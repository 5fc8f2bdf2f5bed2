import type { ApprovalRow, SuggestionRow } from '../contracts/approvals';
import type { RunId } from '../contracts/ids';
import type { TenantStore } from '../contracts/ports';
import type { DeadLetter, FollowUp, ReviewRow } from '../contracts/reviews';
import { reachDatabase } from './errors';

/** What of a run waits for a person, the newest first. */
export interface WaitingForPeople {
  readonly approvals: readonly ApprovalRow[];
  readonly reviews: readonly ReviewRow[];
}

/** What is kept beside a run, open or not. */
export interface BesideRun extends WaitingForPeople {
  /** What its calls would have done, in their order. */
  readonly suggestions: readonly SuggestionRow[];
  readonly deadLetters: readonly DeadLetter[];
  readonly followUps: readonly FollowUp[];
}

/** The open requests and reviews of a run. Throws `unavailable` where the database is away. */
export async function waitingForPeople(store: TenantStore, runId: RunId): Promise<WaitingForPeople> {
  const open = { open: true, limit: 100, runId };
  return reachDatabase(async () => ({
    approvals: await store.approvals.list(open),
    reviews: await store.reviews(open),
  }));
}

/** All that is kept beside a run; of requests, reviews and dead letters, the newest 500. Throws `unavailable` as above. */
export async function besideRun(store: TenantStore, runId: RunId): Promise<BesideRun> {
  const all = { open: false, limit: 500, runId };
  return reachDatabase(async () => ({
    approvals: await store.approvals.list(all),
    suggestions: await store.approvals.suggestions(runId),
    reviews: await store.reviews(all),
    deadLetters: await store.deadLetters(all),
    followUps: await store.followUps(runId),
  }));
}
